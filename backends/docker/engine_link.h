// Whether an engine can be reached, which version it speaks, and what it says by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/docker/config.h"
#include "backends/docker/engine_client.h"
#include "backends/docker/inspected.h"

namespace orch::docker {

// On the thread of its client alone; nothing is called back from within Connect or Wake.
class EngineLink {
 public:
  struct Calls {
    // It listens, and events are on their way: what they did not tell is to be listed now, then Settled or
    // Disconnected.
    std::function<void()> reached;
    // Steps that run may be ended by an engine that goes away.
    std::function<void()> broken_off;
    // Something has become of one of the containers.
    std::function<void(const ContainerEvent& event)> happened;
    // News: it can (not) be reached, and why.
    std::function<void(bool healthy, const std::string& why)> told;
  };
  // `labels`: `name=value`, of the containers whose events are wanted.
  EngineLink(EngineClient* client, const Config* config, std::vector<std::string> labels, Calls calls);

  void Connect();
  // An answer was not what it should be: it is asked again after a wait that grows.
  void Disconnected(const std::string& why);
  void Disconnected(const Answer& answer) { Disconnected(Words(answer)); }
  // What was to be listed has been.
  void Settled();
  // Connects if it is time to; the time (mono) of the next try, 0: none is due.
  int64_t Wake(int64_t now);

  bool settled() const { return settled_; }
  // How often it has broken off by itself, or over a network was made anew: between equal numbers the engine was the
  // same process all the time.
  int64_t breaks() const { return breaks_; }
  // Of the engine's process, as far as its socket tells: an engine that starts makes another. Empty: nothing tells.
  std::string Identity() const;
  // A call's path with the version in front.
  std::string Path(absl::string_view path) const;
  // The filters of a query for our own containers, escaped.
  std::string Filters() const;
  // What is wrong and what to do about it.
  std::string Words(const Answer& answer) const;

 private:
  void Watch();

  EngineClient* const client_;
  const Config* const config_;
  const std::vector<std::string> labels_;
  const Calls calls_;
  std::string event_text_;
  uint64_t events_ = 0;  // their stream
  int64_t breaks_ = 0;
  int api_;
  bool connecting_ = false;
  bool settled_ = false;
  bool healthy_ = false;  // as it has been told
  bool told_ = false;     // anything yet
  int64_t retry_at_ = 0;  // mono; 0: no try is due
  int64_t backoff_;
};

}  // namespace orch::docker
