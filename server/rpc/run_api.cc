#include "server/rpc/run_api.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/core/cache_warnings.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/step_pages.h"
#include "server/rpc/step_text.h"
#include "server/rpc/submit.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {
namespace {

constexpr int64_t kMaxWaitMicros = 60'000'000;
constexpr int64_t kUsualWaitMicros = 30'000'000;
// Each holds a handler thread; the others must stay free.
constexpr int64_t kMaxWaiters = 64;
// Events looked at for one page: some milliseconds.
constexpr int kMaxEventsLookedAt = 4'000;
constexpr int kEventChunk = 1'000;

// Sleeps until the run's own row may have changed, `until_mono`, or the caller is gone. False if the hub is closed.
bool WaitForRunEvent(Hub& hub, RunKey run, int64_t* after, int64_t until_mono, const CallContext& context) {
  struct Bell {
    Mutex mutex;
    CondVar rung;
    bool ringing ABSL_GUARDED_BY(mutex) = false;
  };
  const auto bell = std::make_shared<Bell>();
  const auto ring = [bell] {
    MutexLock lock(&bell->mutex);
    bell->ringing = true;
    bell->rung.NotifyAll();
  };
  const uint64_t id = hub.WakeAfter(run, *after, ring, Hub::Scope::kRunsOnly);
  {
    MutexLock lock(&bell->mutex);
    while (!bell->ringing) {
      const int64_t left = until_mono - Clock::Real().Now().mono;
      if (left <= 0 || (context.cancelled && context.cancelled())) break;
      bell->rung.WaitFor(&bell->mutex, std::chrono::microseconds(std::min<int64_t>(left, 500'000)));
    }
  }
  hub.Forget(id);
  *after = hub.last_sequence();  // the caller reads the run after this
  return !hub.closed();
}

// The run as it was when this generation had ended; its steps have gone on.
void SetGeneration(const GenerationRow& row, store::RunRecord* record) {
  record->header.pipeline_version = row.pipeline_version;
  record->header.parameters_json = row.parameters_json;
  record->row.generation = row.generation;
  record->row.state = row.state;
  record->row.reason = row.reason;
  record->row.message = row.message;
  record->row.ended = row.ended;
}

}  // namespace

void RunApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  const MethodTraits read_by_steps{/*mutates=*/false, /*for_steps=*/true, /*waits=*/false};
  table->Add("orch.v1.RunService/SubmitRun", mutation, this, &RunApi::SubmitRun);
  table->Add("orch.v1.RunService/GetRun", read_by_steps, this, &RunApi::GetRun);
  table->Add("orch.v1.RunService/ListRuns", {}, this, &RunApi::ListRuns);
  table->Add("orch.v1.RunService/WaitRun", {false, false, /*waits=*/true}, this, &RunApi::WaitRun);
  table->Add("orch.v1.RunService/ListSteps", {}, this, &RunApi::ListSteps);
  table->Add("orch.v1.RunService/GetStep", read_by_steps, this, &RunApi::GetStep);
  table->Add("orch.v1.RunService/ListEvents", {}, this, &RunApi::ListEvents);
}

absl::Status RunApi::SubmitRun(const CallContext& context, const v1::SubmitRunRequest& request, v1::Run* run) {
  ASSIGN_OR_RETURN(SubmitCommand command, ToSubmitCommand(api_, request));
  context.let_go();
  if (command.validate_only) {
    ASSIGN_OR_RETURN(const CheckedPipeline checked, api_.engine->CheckPipeline(command));
    if (!checked.violations.empty()) {
      Checks all;
      for (const Violation& v : checked.violations) all.Add(v.field, v.reason, v.description);
      return all.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used");
    }
    run->set_name(command.name);
    run->set_project("default");
    run->set_pipeline(command.pipeline().name);
    run->set_orchestrator(command.orchestrator);
    run->set_step_count(checked.step_count);
    return absl::OkStatus();
  }
  const std::vector<Violation> warnings = CacheWarnings(command.pipeline());
  ASSIGN_OR_RETURN(const store::RunRecord record, api_.engine->SubmitRun(std::move(command), context.deadline_micros));
  *run = ToRun(record, api_.facts->pages());
  for (const Violation& v : warnings) {
    v1::Violation* warning = run->add_warnings();
    warning->set_field(v.field);
    warning->set_description(v.description);
    warning->set_reason(v.reason);
  }
  return absl::OkStatus();
}

absl::Status RunApi::GetRun(const CallContext& context, const v1::GetRunRequest& request, v1::Run* run) {
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  *run = ToRun(record, api_.facts->pages());
  ASSIGN_OR_RETURN(const auto hooks, api_.engine->queries().ListHooks(record.header.key, -1));
  for (const HookRow& hook : hooks) *run->add_hooks() = ToHookRun(hook);
  if (record.row.generation > 1) {
    ASSIGN_OR_RETURN(const auto earlier, api_.engine->queries().ListGenerations(record.header.key));
    for (const GenerationRow& row : earlier) *run->add_earlier_generations() = ToGeneration(row);
  }
  return absl::OkStatus();
}

absl::Status RunApi::ListRuns(const CallContext&, const v1::ListRunsRequest& request, v1::ListRunsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  ASSIGN_OR_RETURN(store::RunFilter filter, ParseRunFilter(request.filter()));
  ASSIGN_OR_RETURN(const store::RunOrder order, ParseRunOrder(request.order_by()));
  filter.project = project;
  const std::string bound = absl::StrCat("runs|", project, "|", static_cast<int>(order), "|", request.filter());
  const bool by_name = order == store::RunOrder::kByName || order == store::RunOrder::kByNameDescending;
  store::RunPlace after;
  if (by_name) {
    ASSIGN_OR_RETURN(after.name, ReadPageToken(request.page_token(), bound));
  } else {
    ASSIGN_OR_RETURN(after.key, ReadPageNumber(request.page_token(), bound));
  }
  ASSIGN_OR_RETURN(const store::RunPage page, api_.engine->queries().PageOfRuns(filter, order, after, limit));
  const std::string pages = api_.facts->pages();
  for (const store::RunRecord& record : page.runs) *response->add_runs() = ToRun(record, pages);
  if (page.next) {
    response->set_next_page_token(MakePageToken(by_name ? page.next->name : absl::StrCat(page.next->key), bound));
  }
  return absl::OkStatus();
}

absl::Status RunApi::WaitRun(const CallContext& context, const v1::WaitRunRequest& request, v1::Run* run) {
  int64_t timeout = kUsualWaitMicros;
  if (request.has_timeout()) {
    Checks checks;
    timeout = std::min(checks.Duration("request.timeout", request.timeout(), 0), kMaxWaitMicros);
    RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the wait cannot begin"));
  }
  const int64_t until = Clock::Real().Now().mono + timeout;
  Hub& hub = api_.engine->hub();
  int64_t after = hub.last_sequence();  // before the read, so that no change falls between
  ASSIGN_OR_RETURN(store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  // What has ended stays ended for who waits for it, whoever retries it.
  const int generation = request.generation() != 0 ? request.generation() : record.row.generation;
  if (generation < 1 || generation > record.row.generation) {
    return InvalidInput(
        "REQUEST_INVALID", "the wait cannot begin",
        {{"request.generation", absl::StrCat("the run is at generation ", record.row.generation), "OUT_OF_RANGE"}});
  }
  const auto ended = [&] { return IsTerminal(record.row.state) || record.row.generation != generation; };
  if (!ended() && timeout > 0) {
    const int64_t waiters = metrics_.waiters.fetch_add(1) + 1;
    const auto leave = absl::MakeCleanup([this] { metrics_.waiters.fetch_sub(1); });
    if (waiters > kMaxWaiters) {
      return WithRetryDelay(
          Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_WAITERS",
                absl::StrCat("more than ", kMaxWaiters, " callers wait; use WatchRuns, or try again")),
          1000);
    }
    while (!ended() && Clock::Real().Now().mono < until) {
      if (context.cancelled && context.cancelled()) {
        return Error(absl::StatusCode::kCancelled, "CANCELLED", "the caller is gone");
      }
      if (!WaitForRunEvent(hub, record.header.key, &after, until, context)) {
        return WithRetryDelay(
            Error(absl::StatusCode::kUnavailable, "DRAINING", "orchd is stopping; wait again when it is back"), 1000);
      }
      ASSIGN_OR_RETURN(record, api_.engine->queries().GetRun(record.header.key));
    }
  }
  if (record.row.generation != generation) {
    ASSIGN_OR_RETURN(const auto earlier, api_.engine->queries().ListGenerations(record.header.key));
    for (const GenerationRow& row : earlier) {
      if (row.generation == generation) SetGeneration(row, &record);
    }
  }
  *run = ToRun(record, api_.facts->pages());
  return absl::OkStatus();
}

absl::Status RunApi::ListSteps(const CallContext& context, const v1::ListStepsRequest& request,
                               v1::ListStepsResponse* response) {
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 100));
  ASSIGN_OR_RETURN(const StepTerms terms, ParseStepFilter(request.filter()));
  ASSIGN_OR_RETURN(const bool descending, ParseStepOrder(request.order_by()));
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  const std::string bound =
      absl::StrCat("steps|", found.record.header.id, "|", descending ? "desc" : "asc", "|", request.filter());
  // Counted from 1, since 0 is no page token's number.
  ASSIGN_OR_RETURN(const int64_t position, ReadPageNumber(request.page_token(), bound));
  std::optional<StepIx> from;
  if (position > 0) from = static_cast<StepIx>(std::min<int64_t>(position - 1, UINT32_MAX));
  ASSIGN_OR_RETURN(StepPage page, ReadSteps(*api_.engine, found.record, found.graph(), terms, descending, from, limit));
  for (v1::Step& step : page.steps) *response->add_steps() = std::move(step);
  if (page.next) response->set_next_page_token(MakePageToken(absl::StrCat(int64_t{*page.next} + 1), bound));
  return absl::OkStatus();
}

absl::Status RunApi::GetStep(const CallContext& context, const v1::GetStepRequest& request, v1::Step* step) {
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
  const RunKey key = found.record.header.key;
  ASSIGN_OR_RETURN(const std::optional<StepRow> row, api_.engine->queries().GetStep(key, ix));
  *step = row ? ToStep(found.record, found.graph(), *row) : ToWaitingStep(found.record, found.graph(), ix);
  RETURN_IF_ERROR(AddOutputs(*api_.engine, found.record, found.graph(), step));
  ASSIGN_OR_RETURN(const std::vector<AttemptRow> attempts, api_.engine->queries().ListAttempts(key, ix));
  for (const AttemptRow& attempt : attempts) *step->add_attempts() = ToAttempt(attempt);
  if (!attempts.empty() && attempts.back().state == AttemptState::kStoring) step->set_phase("STORING");
  AddCommand(found.record, found.graph(), ix, api_.engine->HasOwnEnvironment(step->orchestrator()), step);
  ASSIGN_OR_RETURN(const auto hooks, api_.engine->queries().ListHooks(key, ix));
  for (const HookRow& hook : hooks) *step->add_hooks() = ToHookRun(hook);
  return absl::OkStatus();
}

absl::Status RunApi::ListEvents(const CallContext& context, const v1::ListEventsRequest& request,
                                v1::ListEventsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 100));
  Checks checks;
  if (request.after_sequence() < 0) checks.Add("request.after_sequence", "OUT_OF_RANGE", "it is negative");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no events"));
  ASSIGN_OR_RETURN(const EventTerms terms, ParseEventFilter(request.filter()));
  RunKey key = 0;
  int64_t ix = -1;
  if (!request.run().empty()) {
    ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, project, request.run()));
    key = found.record.header.key;
    if (!terms.step.empty()) {
      ASSIGN_OR_RETURN(const StepIx number, FindStep(found, terms.step));
      ix = number;
    }
  } else if (!terms.step.empty()) {
    return InvalidInput("FILTER_INVALID", "filter: `step` needs a run",
                        {{"request.run", "name the run whose step is meant", "REQUIRED"}});
  }
  const std::string bound = absl::StrCat("events|", key, "|", request.after_sequence(), "|", request.filter());
  ASSIGN_OR_RETURN(const int64_t position, ReadPageNumber(request.page_token(), bound));
  int64_t after = std::max(position, request.after_sequence());
  if (after > 0) {
    ASSIGN_OR_RETURN(const int64_t compacted, api_.engine->queries().CompactedSequence());
    if (after < compacted) {
      return Error(absl::StatusCode::kOutOfRange, "EVENTS_COMPACTED",
                   absl::StrCat("events up to ", compacted, " are gone; list from there, or without after_sequence"));
    }
  }
  const auto passes = [&](const EventRow& row) {
    return (ix < 0 || row.ix == ix) &&
           (terms.types.empty() || std::find(terms.types.begin(), terms.types.end(), row.type) != terms.types.end());
  };
  bool more = true;
  for (int looked_at = 0; more && looked_at < kMaxEventsLookedAt && response->events_size() < limit;) {
    const int chunk = request.filter().empty() ? limit : kEventChunk;
    ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListEvents(key, after, chunk + 1));
    more = static_cast<int>(rows.size()) > chunk;
    for (const EventRow& row : rows) {
      if (response->events_size() == limit || &row - rows.data() == chunk) {
        more = true;
        break;
      }
      after = row.sequence;
      ++looked_at;
      if (passes(row)) *response->add_events() = api_.names->Describe(row);
    }
  }
  if (more) response->set_next_page_token(MakePageToken(absl::StrCat(after), bound));
  return absl::OkStatus();
}

}  // namespace orch::rpc
