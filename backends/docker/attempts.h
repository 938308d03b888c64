// The attempts that an engine has containers of, or will have: the hands to what ContainerLife decides.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/docker/attempt_place.h"
#include "backends/docker/config.h"
#include "backends/docker/container_life.h"
#include "backends/docker/engine_client.h"
#include "backends/docker/engine_link.h"
#include "backends/docker/images.h"
#include "backends/docker/log_stream.h"

namespace orch::docker {

// On one thread, but for Wake and places. What becomes of an attempt is told to the listener, as backends/api/backend.h
// says it.
class Attempts {
 public:
  // All of them outlive it.
  Attempts(const BackendContext* context, const Config* config);

  // Before anything else.
  void Connect(Listener* listener);
  void Begin(AttemptWork& work);
  void Cancel(const std::string& key, bool forced);
  void Forget(const std::string& key);
  // The engine has removed what was forgotten.
  bool CleanedUp() const { return going_.empty(); }
  void Adopt(const std::vector<KnownAttempt>& attempts);
  // Does what there is to do; waits for that for at most as long as nothing is due.
  void Poll();
  // Any thread: Poll returns.
  void Wake() { client_.Wake(); }

  const AttemptPlaces& places() const { return places_; }  // its paths: any thread

 private:
  // Of a container that the engine did not want to remove.
  struct Removal {
    int tries = 0;
    int64_t at = 0;  // mono, of the next one; 0: it is on its way
  };
  struct Job {
    Job(const std::string& key, bool adopted, bool cancelled) : life(ContainerName(key), adopted, cancelled) {}

    ContainerLife life;
    AttemptWork work;  // of one that was submitted in this life of the daemon
    std::string log_prefix;
    int64_t grace_micros = 10'000'000;
    int64_t log_limit_bytes = 0;
    bool forced = false;        // it is killed instead of stopped
    bool stop_sent = false;     // or a kill; whether it has been heard or not
    bool stop_taken = false;    // it is on its way, or has been answered
    bool kill_taken = false;    // so is the kill
    int64_t stop_at = 0;        // mono; one that was lost or refused is sent again then
    int stop_tries = 0;         // that were
    bool stop_unknown = false;  // an earlier life of the daemon may have sent one of them
    bool put_off = false;       // its start, and that has been said
    int64_t start_breaks = -1;  // of the link, when it was asked to start; -1: not by this life of the daemon
    std::string path;           // PATH of its image
    uint64_t image = 0;         // what is waited for of `images_`
    int64_t due_at = 0;         // mono; `life` is told then
    std::unique_ptr<docker::LogStream> log;
    std::optional<AttemptEnd> end;
  };

  std::string Path(absl::string_view path) const { return link_.Path(path); }
  Job* Find(const std::string& key);
  std::vector<std::string> Keys() const;

  void CheckAt(int64_t when);
  void Check(int64_t now);
  void Happened(const ContainerEvent& event);
  void BreakOff();
  void List();
  void Reconcile(const nlohmann::json& list);
  void Remove(const std::string& container);
  void RemoveAgain(int64_t now);

  // `answer`: what led to it.
  void Do(const std::string& key, const Move& move, const Answer& answer = {});
  std::string ImageOf(const Job& job) const;
  void LookForImage(const std::string& key);
  void Create(const std::string& key);
  Asked AskedOf(const std::string& key, const Job& job) const;
  void StartContainer(const std::string& key);
  void Inspect(const std::string& key);
  LogStream& LogOf(const std::string& key);
  void Refuse(const std::string& key, bool transient, Reason reason, const std::string& message);
  void End(const std::string& key, AttemptEnd end);
  void EndUnstarted(const std::string& key);
  void Tell(const std::string& key);
  void StopContainer(const std::string& key);
  void StopAgain(Job& job);

  const BackendContext* const context_;
  const Config* const config_;
  Listener* listener_ = nullptr;
  AttemptPlaces places_;
  EngineClient client_;
  EngineLink link_;
  Images images_;
  std::unordered_map<std::string, Job> jobs_;                  // by key
  std::unordered_map<std::string, Removal> refused_removals_;  // by container
  std::set<std::string> going_;                                // containers whose removal has had no good answer
  bool adopted_ = false;
  int64_t check_at_ = 0;  // mono, of Check; 0: it is not due
};

}  // namespace orch::docker
