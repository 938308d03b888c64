// The images of an engine: there, or fetched from their registry, each by one pull however many wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/docker/config.h"
#include "backends/docker/engine_client.h"
#include "backends/docker/image.h"

namespace orch::docker {

struct ImageOutcome {
  enum class What { kThere, kAway, kRefused };
  What what = What::kRefused;
  std::string path;  // kThere: PATH in the image
  Answer answer;     // kAway: the engine cannot be reached, and has been asked nothing that would have to be undone
  bool transient = false;  // kRefused: it may be there when asked again
  std::string message;     // kRefused
};

// On the thread of its client alone.
class Images {
 public:
  using Done = std::function<void(ImageOutcome)>;
  // The value of a secret, by its name.
  using ReadSecret = std::function<absl::StatusOr<std::string>(const std::string& name)>;
  // A call's path with the version of the API in front.
  using Path = std::function<std::string(absl::string_view path)>;

  Images(EngineClient* client, Path path, const Config* config, ReadSecret read_secret);

  // `fresh`: it is fetched though it is there. The number is for Leave. `done` comes later, or from
  // within if nothing need be asked.
  uint64_t Ensure(const std::string& image, bool fresh, Done done);
  // Its `done` is not called any more; a pull that nobody waits for ends.
  void Leave(uint64_t number);

 private:
  struct Pull {
    uint64_t transfer = 0;
    PullProgress progress;
    int64_t said = 0;  // mono
    std::map<uint64_t, Done> waiting;
  };

  void Look(uint64_t number, const std::string& image, bool pulled, Done done);
  void Join(uint64_t number, const std::string& image, Done done);
  void Ended(const std::string& image, Answer answer);
  // The header with which a registry is told who asks; empty: nobody does.
  absl::StatusOr<std::string> AuthHeader(const std::string& registry) const;

  EngineClient* const client_;
  const Path path_;
  const Config* const config_;
  const ReadSecret read_secret_;
  uint64_t next_ = 1;
  std::map<uint64_t, uint64_t> looking_;  // by number: the call
  std::map<std::string, Pull> pulls_;     // by image
};

}  // namespace orch::docker
