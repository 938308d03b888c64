// What the outbox needs made: the unit a platform gets, stored outputs, the answer of the cache. These look at files
// and at the database, which the outbox itself never does.
//
// Any thread; may block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "server/core/messages.h"
#include "server/engine/run_context.h"

namespace orch {

// A unit ready for its backend, or why there is none.
struct Rendered {
  Unit unit;
  Reason failure = Reason::kNone;
  std::string message;
  bool again = false;  // of a failure: it may be tried again with nothing changed; else it is final for the attempt
};

using WholeRun = std::function<absl::StatusOr<RunOutline>()>;

class Workshop {
 public:
  virtual ~Workshop() = default;
  // The attempt's command with everything filled in. `flavor` is the backend's, where the step has settings for one.
  virtual Rendered Render(const RunContext& run, const Intent& intent, const std::string& flavor, Backend* backend) = 0;
  // The same for a hook, which knows its run itself.
  virtual Rendered RenderHook(const HookRow& hook, Backend* backend) {
    (void)hook, (void)backend;
    return {{}, Reason::kSubmitRefused, "no hooks here"};
  }
  virtual OutputsStored Store(const RunContext& run, const Intent& intent) = 0;
  // Of one run, in the order of the intents. With `again` in what could not be found out now.
  virtual StepsResolved Resolve(const RunContext& run, const std::vector<Intent>& intents) = 0;
  // Reads the lists and makes the instances' items and links of them; with `again` if that could not be done now.
  virtual FanoutResolved ResolveFanout(const RunContext& run, const Intent& intent) = 0;
  // True if Render or Store of this takes well under a millisecond and waits for nothing.
  virtual bool IsQuick(const RunContext& run, const Intent& intent) = 0;
  // Where the daemon finds the outputs of an attempt: in its workspace, or where its launcher delivers them.
  virtual std::string OutputDirOf(const std::string& key, const Workspace& workspace) {
    (void)key;
    return workspace.output_dir;
  }
  // True if Judge would have to look for what a launcher left behind, which may take a while.
  virtual bool MayBeLeft(const std::string& key) {
    (void)key;
    return false;
  }
  // The end of an attempt whose launcher delivers: completes what its platform said by what was delivered, of which
  // nothing more is taken from now on. With kAskAgain, which is no answer to the `last` question, nothing has changed:
  // where its launcher may have left its word is away.
  enum class Judged : uint8_t {
    kTold = 1,     // by the launcher, how it ended
    kNotTold = 2,  // it did not
    kAskAgain = 3,
  };
  virtual Judged Judge(const std::string& key, bool last, AttemptEnd* end) {
    (void)key, (void)last, (void)end;
    return Judged::kNotTold;
  }
  // The attempt with this key is over: what was made for it alone goes.
  virtual void Discard(const std::string& key) = 0;

  // What makes the outline of a run that is on its platform as a whole; null: it is not.
  virtual WholeRun WholeRunOf(std::shared_ptr<const RunContext> /*run*/, const std::string& /*flavor*/,
                              Backend* /*backend*/, const Workspace& /*workspace*/) {
    return nullptr;
  }
  // True if no launcher has begun it, and none will.
  virtual bool Withdraw(const std::string& /*key*/) { return false; }
  // Where its launcher has begun it, as that said; empty: nobody has, or it did not say.
  virtual std::string BegunAt(const std::string& /*key*/) { return ""; }
  // Its launcher has told how it ended.
  virtual bool HasEnd(const std::string& /*key*/) { return false; }
  // And it ended well by itself, which nothing changes that its platform may know.
  virtual bool EndedWell(const std::string& /*key*/) { return false; }
};

}  // namespace orch
