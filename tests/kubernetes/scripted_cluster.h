// A cluster that is a script, with what a daemon's backend needs around it: a kubeconfig, a clock, a listener that
// notes what it is told.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/kubernetes/cluster_link.h"
#include "tests/kubernetes/scripted_transport.h"

namespace orch::kubernetes {

class NotingListener : public Listener {
 public:
  void Accepted(absl::string_view, std::string handle, std::string, std::string) override { Note("accepted", handle); }
  void Refused(absl::string_view, bool, Reason, std::string message) override { Note("refused", message); }
  void Unknown(absl::string_view, std::string message) override { Note("unknown", message); }
  void Pending(absl::string_view, Reason, std::string message) override { Note("pending", message); }
  void Started(absl::string_view, std::string id, std::string, int64_t) override { Note("started", id); }
  void Ended(absl::string_view, AttemptEnd end) override {
    Note("ended", end.message);
    ends.push_back(std::move(end));
  }
  void NotFound(absl::string_view) override { Note("not found", ""); }
  void Lost(absl::string_view, std::string message) override { Note("lost", message); }
  void HealthChanged(bool, std::string) override {}

  std::vector<std::string> told;  // `WORD: …`
  std::vector<AttemptEnd> ends;

 private:
  void Note(const std::string& word, const std::string& rest) { told.push_back(word + ": " + rest); }
};

class ScriptedCluster {
 public:
  ScriptedCluster();
  ~ScriptedCluster();

  // Clients of it. The first one's script begins with the lists of `kinds` (`/jobs`), which are empty, and streams of
  // their changes that do not end; so does that of each further one.
  ClusterLink::Dial dial(std::vector<std::string> kinds);
  // Another token: whoever looks makes another client.
  void Renew(const std::string& token);
  // What a list of that kind says when the next client asks.
  void Lists(const std::string& kind, nlohmann::json items) { items_[kind] = std::move(items); }
  // All that is there of that kind is listed anew by the client that is there; then the link is back.
  void Relist(ClusterLink* link, const std::string& kind);
  void Tell(const std::string& kind, const std::string& type, const nlohmann::json& object);
  // Works off what can be answered; time stands.
  void Settle(ClusterLink* link);
  void Pass(ClusterLink* link, int64_t micros);

  ScriptedTransport& script() { return *transport_; }
  // Requests so far, `METHOD PATH`, that have this in them.
  std::vector<std::string> Asked(const std::string& part) const;
  // The last request that has this in it.
  size_t Last(const std::string& part) const;
  std::string file() const { return folder_ + "/config"; }

  BackendContext context;
  NotingListener listener;
  ScriptedClock clock;

 private:
  void Watched(const std::string& kind);

  std::string folder_;
  std::vector<std::string> kinds_;
  std::map<std::string, nlohmann::json> items_;
  ScriptedTransport* transport_ = nullptr;
};

}  // namespace orch::kubernetes
