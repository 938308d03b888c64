#include "server/rpc/run_api.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
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
  if (request.validate_only()) {
    ASSIGN_OR_RETURN(const CheckedPipeline checked, api_.engine->CheckPipeline(command));
    if (!checked.violations.empty()) {
      Checks all;
      for (const Violation& v : checked.violations) all.Add(v.field, v.reason, v.description);
      return all.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used");
    }
    run->set_name(command.name);
    run->set_project("default");
    run->set_pipeline(command.spec.name);
    run->set_orchestrator(command.orchestrator);
    run->set_step_count(checked.step_count);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string id, api_.engine->SubmitRun(std::move(command), context.deadline_micros));
  ASSIGN_OR_RETURN(const store::RunRecord record, api_.engine->queries().FindRun("default", id));
  *run = ToRun(record, api_.facts->pages());
  return absl::OkStatus();
}

absl::Status RunApi::GetRun(const CallContext& context, const v1::GetRunRequest& request, v1::Run* run) {
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  *run = ToRun(record, api_.facts->pages());
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
  filter.project = project;
  const std::string bound = absl::StrCat("runs|", project, "|", request.filter());
  ASSIGN_OR_RETURN(const int64_t before, ReadPageNumber(request.page_token(), bound));
  // One more than asked for tells whether a page follows.
  ASSIGN_OR_RETURN(const auto records, api_.engine->queries().ListRuns(filter, before, limit + 1));
  const std::string pages = api_.facts->pages();
  for (const store::RunRecord& record : records) {
    if (response->runs_size() == limit) {
      response->set_next_page_token(
          MakePageToken(absl::StrCat(records[static_cast<size_t>(limit) - 1].header.key), bound));
      break;
    }
    *response->add_runs() = ToRun(record, pages);
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
  const int generation = record.row.generation;
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
  *run = ToRun(record, api_.facts->pages());
  return absl::OkStatus();
}

absl::Status RunApi::ListSteps(const CallContext& context, const v1::ListStepsRequest& request,
                               v1::ListStepsResponse* response) {
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 100));
  ASSIGN_OR_RETURN(const StepTerms terms, ParseStepFilter(request.filter()));
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  const std::string bound = absl::StrCat("steps|", found.record.header.id, "|", request.filter());
  ASSIGN_OR_RETURN(const int64_t from, ReadPageNumber(request.page_token(), bound));
  ASSIGN_OR_RETURN(StepPage page, ReadSteps(*api_.engine, found.record, found.graph(), terms,
                                            static_cast<StepIx>(std::min<int64_t>(from, UINT32_MAX)), limit));
  for (v1::Step& step : page.steps) *response->add_steps() = std::move(step);
  if (page.more) response->set_next_page_token(MakePageToken(absl::StrCat(page.next), bound));
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
  AddCommand(found.record, found.graph(), ix, step);
  return absl::OkStatus();
}

absl::Status RunApi::ListEvents(const CallContext& context, const v1::ListEventsRequest& request,
                                v1::ListEventsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 100));
  Checks checks;
  if (request.after_sequence() < 0) checks.Add("request.after_sequence", "OUT_OF_RANGE", "it is negative");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no events"));
  RunKey key = 0;
  if (!request.run().empty()) {
    ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, project, request.run()));
    key = record.header.key;
  }
  const std::string bound = absl::StrCat("events|", key, "|", request.after_sequence());
  ASSIGN_OR_RETURN(const int64_t position, ReadPageNumber(request.page_token(), bound));
  ASSIGN_OR_RETURN(const auto rows,
                   api_.engine->queries().ListEvents(key, std::max(position, request.after_sequence()), limit + 1));
  for (const EventRow& row : rows) {
    if (response->events_size() == limit) {
      response->set_next_page_token(MakePageToken(absl::StrCat(response->events(limit - 1).sequence()), bound));
      break;
    }
    *response->add_events() = api_.names->Describe(row);
  }
  return absl::OkStatus();
}

}  // namespace orch::rpc
