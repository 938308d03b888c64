// The outbox: performs what the core decided, after the commit that records it, and brings the results back as events.
//
// One thread talks to the backends, in the order of the decisions; a small pool does what may block (storing outputs,
// asking the cache). Nothing here decides anything.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backends/api/backend.h"
#include "server/base/mutex.h"
#include "server/core/messages.h"
#include "server/engine/blob_store.h"
#include "server/engine/engine.h"
#include "server/engine/inputs.h"
#include "server/engine/mailbox.h"
#include "server/engine/run_context.h"
#include "server/engine/worker_pool.h"
#include "server/store/queries.h"

namespace orch {

class Effects {
 public:
  Effects(const EngineOptions& options, std::string token_key, store::Queries* queries, BlobStore* blobs,
          FileDigests* files, Inputs* inputs, Mailbox* mailbox);
  ~Effects();
  // Stops the backends (their jobs go on) and waits for what is under way.
  void Stop();

  void AddRun(std::shared_ptr<const RunContext> run);
  void RemoveRun(RunKey run);
  std::shared_ptr<const RunContext> FindRun(RunKey run);

  // Takes a backend into service; replaces one of the same name, which is stopped.
  absl::Status AddBackend(const std::string& name, std::unique_ptr<Backend> backend);
  void RemoveBackend(const std::string& name);
  void SetFlavor(const std::string& orchestrator, const std::string& flavor);
  std::string FlavorOf(const std::string& orchestrator);
  // True while attempts on it have not been released.
  bool HasAttempts(const std::string& orchestrator);
  std::shared_ptr<Backend> FindBackend(const std::string& name);

  // Once, after the start's backends are in service: where are these?
  void Adopt(const std::vector<std::pair<AttemptRow, std::string>>& live);

  // On the outbox's thread, behind what is there.
  void Later(std::function<void()> work) { outbox_.Add(kOwnLane, std::move(work)); }

  // From the loop's thread.
  void Start(std::vector<Intent> intents);

  // A live attempt by its key.
  struct Attempt {
    AttemptRef ref;
    std::string orchestrator;
    std::string output_dir;
  };
  std::optional<Attempt> FindAttempt(const std::string& key);
  // The token of a step: its key and a signature over it.
  std::string TokenOf(const std::string& key) const;
  absl::StatusOr<Attempt> Authenticate(absl::string_view token);

 private:
  class Reports;

  void Perform(Intent intent);
  void Submit(const Intent& intent);
  void Store(const Intent& intent);
  void Resolve(const Intent& intent);
  void SetOutputDir(const std::string& key, const std::string& dir);
  void Refuse(const AttemptRef& ref, Reason reason, absl::string_view message);

  const EngineOptions& options_;
  const std::string token_key_;
  store::Queries* const queries_;
  BlobStore* const blobs_;
  FileDigests* const files_;
  Inputs* const inputs_;
  Mailbox* const mailbox_;

  Mutex mutex_;
  std::unordered_map<RunKey, std::shared_ptr<const RunContext>> runs_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
  struct Service {
    std::shared_ptr<Reports> reports;
    std::shared_ptr<Backend> backend;
  };
  std::map<std::string, Service> backends_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> flavors_ ABSL_GUARDED_BY(mutex_);
  static constexpr int64_t kOwnLane = 0;  // the others are runs
  WorkerPool outbox_{1};
  WorkerPool workers_{2};
};

}  // namespace orch
