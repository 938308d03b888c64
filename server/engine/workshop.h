// What the outbox needs made: the unit a platform gets, stored outputs, the answer of the cache. These look at files
// and at the database, which the outbox itself never does.
//
// Any thread; may block.
#pragma once

#include <string>
#include <vector>

#include "backends/api/backend.h"
#include "server/core/messages.h"
#include "server/engine/run_context.h"

namespace orch {

// A unit ready for its backend, or why there is none; that is final for the attempt.
struct Rendered {
  Unit unit;
  Reason failure = Reason::kNone;
  std::string message;
};

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
  // Of one run, in the order of the intents.
  virtual StepsResolved Resolve(const RunContext& run, const std::vector<Intent>& intents) = 0;
  // Reads the lists and makes the instances' items and links of them.
  virtual FanoutResolved ResolveFanout(const RunContext& run, const Intent& intent) = 0;
  // True if Render or Store of this takes well under a millisecond and waits for nothing.
  virtual bool IsQuick(const RunContext& run, const Intent& intent) = 0;
  // The attempt with this key is over: what was made for it alone goes.
  virtual void Discard(const std::string& key) = 0;
};

}  // namespace orch
