// The calls of handlers that concern the cache, and the question why.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

constexpr size_t kKeysPerCommit = 1'000;

}  // namespace

absl::StatusOr<int64_t> EngineImpl::InvalidateCache(const std::string& project, const std::string& pipeline,
                                                    const std::string& step, bool validate_only,
                                                    const std::string& request_id, int64_t deadline_micros) {
  const Now now = Clock::Real().Now();
  ASSIGN_OR_RETURN(Asked asked, Ask({"InvalidateCache", project, validate_only ? "" : request_id,
                                     Sha256Of(absl::StrCat(pipeline, "\n", step)), "", now.wall}));
  if (asked.answer.has_value()) {
    int64_t answer = 0;
    (void)absl::SimpleAtoi(*asked.answer, &answer);
    return answer;
  }
  ASSIGN_OR_RETURN(std::vector<std::string> keys, queries_->ListCacheKeys(project, pipeline, step, now.wall));
  const auto count = static_cast<int64_t>(keys.size());
  if (validate_only) return count;
  // In slices, so that no commit is large. One that is interrupted has taken some out: a repeat takes the rest.
  for (size_t at = 0; at < keys.size() || (at == 0 && !request_id.empty()); at += kKeysPerCommit) {
    CacheEntriesRemoved event;
    event.project = project;
    const size_t end = std::min(keys.size(), at + kKeysPerCommit);
    for (size_t k = at; k < end; ++k) event.keys.push_back(std::move(keys[k]));
    Post post;
    post.event = std::move(event);
    post.hold = asked.hold;
    if (end == keys.size()) Remember(asked, absl::StrCat(count), &post);
    const int64_t left = deadline_micros - (Clock::Real().Now().mono - now.mono);
    RETURN_IF_ERROR(PostAndWait(std::move(post), std::max<int64_t>(left, 1)));
  }
  cleaner_->Wake();  // artifacts of deleted runs that only the cache kept
  return count;
}

absl::StatusOr<std::optional<Explained>> EngineImpl::Explain(RunKey run, std::optional<StepIx> ix,
                                                             int64_t deadline_micros) {
  struct Answer {
    Receipt seen;
    std::optional<Explained> explained;
  };
  const auto answer = std::make_shared<Answer>();
  Post post;
  post.look = [answer, run, ix](const Dispatcher& core) {
    answer->explained = ix.has_value() ? core.Explain(run, *ix) : core.Explain(run);
    answer->seen.Complete(absl::OkStatus(), 0);
  };
  RETURN_IF_ERROR(mailbox_.Offer(std::move(post)));
  RETURN_IF_ERROR(answer->seen.Wait(deadline_micros));
  return std::move(answer->explained);
}

}  // namespace orch
