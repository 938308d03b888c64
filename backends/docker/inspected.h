// What an engine says of a container, when it is asked and by itself: pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace orch::docker {

// A text of a JSON object; empty if it is not there or no text.
std::string TextField(const nlohmann::json& object, const char* name);

// Microseconds UTC of the engine's times; 0 for its "never", and for what is no time.
int64_t WallOf(const std::string& text);

struct ContainerState {
  int exit_code = -1;          // -1: none was said
  bool out_of_memory = false;  // the kernel ended one of its processes
  int64_t memory = 0;          // bytes it may use; 0: all there is, or not known
  std::string error;           // why it could not be started
  int64_t started_wall = 0;    // microseconds UTC; 0: never
  int64_t ended_wall = 0;
};

struct Inspected {
  std::string id;
  bool ours = false;   // its labels say so
  bool alive = false;  // it runs, or is paused
  bool fresh = false;  // as it was made: to the engine's knowledge nobody has tried to start it
  ContainerState state;
};
// The answer to `GET /containers/NAME/json`; nothing if it is none. `ours`: of this attempt of this instance.
std::optional<Inspected> ReadInspected(const std::string& body, absl::string_view key, absl::string_view instance);

struct ContainerEvent {
  std::string key;  // the attempt's, by its label
  std::string id;
  std::optional<int> exit_code;  // of a `die`
  int64_t wall = 0;
};
// A line of `GET /events`; nothing if it is none of a container.
std::optional<ContainerEvent> ReadEvent(const std::string& line);

}  // namespace orch::docker
