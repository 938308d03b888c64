// The outbox: performs what the core decided, after the commit that records it, and brings the results back as events.
//
// What talks to backends runs in the order of the decisions; what may block (storing outputs, asking the cache) runs
// aside. Nothing here decides anything, and nothing here reads a clock or a file.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "server/base/mutex.h"
#include "server/core/messages.h"
#include "server/engine/executor.h"
#include "server/engine/judgements.h"
#include "server/engine/launcher_words.h"
#include "server/engine/mailbox.h"
#include "server/engine/run_context.h"
#include "server/engine/workshop.h"

namespace orch {

class Outbox {
 public:
  // All three outlive it.
  Outbox(Workshop* workshop, Executor* executor, Mailbox* mailbox);
  ~Outbox();
  // What fails from now on fails because the daemon stops: it is not told, and the next life does it again.
  void Abandon() { abandoned_ = true; }
  // Stops the executor and the backends (their jobs go on) and waits for what is under way.
  void Stop();

  void AddRun(std::shared_ptr<const RunContext> run);
  void ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph);
  void RemoveRun(RunKey run);
  std::shared_ptr<const RunContext> FindRun(RunKey run);

  // Takes a backend into service; replaces one of the same name, which is stopped.
  absl::Status AddBackend(const std::string& name, std::unique_ptr<Backend> backend);
  void RemoveBackend(const std::string& name);
  // True while attempts on it have not been released.
  bool HasAttempts(const std::string& orchestrator);
  // Nothing is submitted to it from now on: what comes is refused for now, in these words, until Open. False, and
  // nothing was done, if its backend still has something to do for an attempt or a run, after it was waited for that
  // long; without a backend in service there is nothing to wait for. Any thread but the executor's and the loop's.
  bool CloseWhenIdle(const std::string& name, std::string why, std::chrono::milliseconds patience);
  void Open(const std::string& name);
  void SetFlavor(const std::string& orchestrator, const std::string& flavor);
  std::string FlavorOf(const std::string& orchestrator);
  std::shared_ptr<Backend> FindBackend(const std::string& name);
  std::vector<std::shared_ptr<Backend>> Backends();

  // Once, after the start's backends are in service: where are these?
  // `grace_micros`, `log_limit_bytes`: of every attempt.
  void Adopt(const std::vector<std::pair<AttemptRow, std::string>>& live, int64_t grace_micros,
             int64_t log_limit_bytes);
  // The same of a backend that has come into service after that, closed, before it is open: of those that could not be
  // asked after then, which is all that the platform may have of ours.
  void AdoptLate(const std::string& name);

  // What makes the backend that runs hooks, once one is needed.
  using MakeBackend = std::function<absl::StatusOr<std::unique_ptr<Backend>>()>;
  void SetHookBackend(MakeBackend make) { make_hook_backend_ = std::move(make); }
  // Made now if it is not there yet. Any thread.
  absl::StatusOr<std::shared_ptr<Backend>> HookBackend();
  // Once, after Adopt: where are these? Also with none, if there may be some that nobody waits for any more.
  absl::Status AdoptHooks(const std::vector<HookRow>& running, int64_t grace_micros, int64_t log_limit_bytes);

  // How long it is asked for what a launcher may have left while that cannot be said. Before any other call.
  void SetLeftPatience(std::chrono::seconds patience) { judgements_.SetPatience(patience); }

  // Behind what is in order.
  void Later(std::function<void()> work) { executor_->InOrder(kOwnLane, std::move(work)); }

  // How long it is waited for what a platform says of the place of a launcher that did not end well (LauncherEnded).
  // Before any other call.
  void SetPlacePatience(std::chrono::seconds patience) { place_patience_ = patience; }

  // From the loop's thread. A few that are quickly done are done at once.
  void Start(std::vector<Intent> intents);

  // A live attempt by its key.
  struct Attempt {
    AttemptRef ref;
    std::string orchestrator;
    std::string output_dir;
    bool hook = false;
    bool delivers = false;            // it shares no files with the daemon: its launcher delivers
    bool whole = false;               // of a whole run: its launcher comes for it
    StopAsked stop = StopAsked::kNo;  // of one of these
  };
  // Not of hooks.
  std::optional<Attempt> FindAttempt(absl::string_view key);

  // What the launcher of an attempt says. Of one that is not of a whole run its platform tells; so it does of an end
  // that was neither good nor asked for: who ended it, or that memory ran out, is not for a launcher to know.
  void LauncherBegan(absl::string_view key, absl::string_view place);
  void LauncherEnded(absl::string_view key);

 private:
  class Reports;

  bool MayDoHere(const Intent& intent);
  void Perform(Intent intent);
  void Submit(const Intent& intent);
  void Store(const Intent& intent);
  // `asked`: how often before.
  void Resolve(const std::vector<Intent>& intents, int asked = 0);
  void ResolveFanout(const Intent& intent, int asked = 0);
  void AskAgain(RunKey run, int asked, const std::string& why, std::function<void()> ask);
  void Probe(const std::string& orchestrator);
  void RunHook(const Intent& intent);
  void PutHook(RunKey run, HookReported event);
  struct Known {
    AttemptRef ref;
    bool hook = false;
    bool delivers = false;
  };
  std::optional<Known> FindKnown(absl::string_view key);
  void StopWhole(const Intent& intent);
  void TakeWord(const std::string& key);
  void AdoptWhole(const std::string& orchestrator, Backend* backend, const Workspace& workspace, KnownAttempt* known);
  void SetWhole(const std::string& key);
  KnownAttempt Any();
  void AdoptOn(const std::string& name, std::vector<KnownAttempt> attempts);
  // Of a backend, while it is told of something that is no attempt of ours any more.
  void BeginCall(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndCall(const std::string& name);
  bool IsIdle(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetOutputDir(absl::string_view key, const std::string& dir);
  void SetWorkspace(const std::string& key, const Workspace& workspace);
  // `again`: for now.
  void Refuse(const AttemptRef& ref, Reason reason, absl::string_view message, bool again);

  Workshop* const workshop_;
  Executor* const executor_;
  Mailbox* const mailbox_;
  std::atomic<bool> abandoned_{false};
  Judgements judgements_;
  std::chrono::milliseconds place_patience_ = std::chrono::minutes(1);

  Mutex mutex_;
  std::unordered_map<RunKey, std::shared_ptr<const RunContext>> runs_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
  struct Service {
    std::shared_ptr<Reports> reports;
    std::shared_ptr<Backend> backend;
  };
  std::map<std::string, Service> backends_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> closed_ ABSL_GUARDED_BY(mutex_);                 // why
  std::map<std::string, int> calls_ ABSL_GUARDED_BY(mutex_);                          // BeginCall without its EndCall
  std::map<std::string, std::vector<KnownAttempt>> unasked_ ABSL_GUARDED_BY(mutex_);  // for AdoptLate
  CondVar idle_changed_;
  std::map<std::string, std::string> flavors_ ABSL_GUARDED_BY(mutex_);
  KnownAttempt any_ ABSL_GUARDED_BY(mutex_);  // what is the same for all
  MakeBackend make_hook_backend_;
  Mutex hook_backend_mutex_;              // one is made at a time
  bool adopted_hooks_ = false;            // of what runs in order, and of the start before it
  static constexpr int64_t kOwnLane = 0;  // the others are runs
};

}  // namespace orch
