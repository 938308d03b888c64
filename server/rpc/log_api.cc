#include "server/rpc/log_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/checks.h"

namespace orch::rpc {
namespace {
constexpr int64_t kUsualPiece = 1 << 20;
constexpr int64_t kMaxPiece = 4 << 20;
}  // namespace

absl::StatusOr<std::optional<AttemptRow>> FindAttempt(const ApiContext& api, const FoundRun& run, StepIx ix,
                                                      int32_t number) {
  if (number < 0) {
    return InvalidInput("REQUEST_INVALID", "attempt is negative",
                        {{"request.attempt", "attempts count from 1; 0 means the newest", "OUT_OF_RANGE"}});
  }
  ASSIGN_OR_RETURN(std::vector<AttemptRow> attempts, api.engine->queries().ListAttempts(run.record.header.key, ix));
  if (number == 0) {
    if (attempts.empty()) return std::optional<AttemptRow>();
    return std::optional<AttemptRow>(std::move(attempts.back()));
  }
  for (AttemptRow& attempt : attempts) {
    if (attempt.number == static_cast<uint32_t>(number)) return std::optional<AttemptRow>(std::move(attempt));
  }
  return Error(
      absl::StatusCode::kNotFound, "ATTEMPT_NOT_FOUND",
      absl::StrCat("step `", run.graph().StepName(ix), "` has ", attempts.size(), " attempts, no number ", number));
}

absl::StatusOr<bool> StepHasEnded(const ApiContext& api, const FoundRun& run, StepIx ix) {
  ASSIGN_OR_RETURN(const std::optional<StepRow> row, api.engine->queries().GetStep(run.record.header.key, ix));
  if (row) return IsTerminal(row->state);
  ASSIGN_OR_RETURN(const store::RunRecord record, api.engine->queries().GetRun(run.record.header.key));
  return IsTerminal(record.row.state);
}

void LogApi::Register(MethodTable* table) { table->Add("orch.v1.LogService/ReadLogs", {}, this, &LogApi::ReadLogs); }

absl::Status LogApi::ReadLogs(const CallContext& context, const v1::ReadLogsRequest& request,
                              v1::ReadLogsResponse* response) {
  Checks checks;
  if (request.max_bytes() < 0) checks.Add("request.max_bytes", "OUT_OF_RANGE", "it is negative");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no log was read"));
  const int64_t want = request.max_bytes() == 0 ? kUsualPiece : std::min<int64_t>(request.max_bytes(), kMaxPiece);
  if (!request.hook().empty()) return ReadHookLog(context, request, want, response);
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
  // Whether it has ended is asked before the bytes: what is written in between is read by the next call.
  ASSIGN_OR_RETURN(const std::optional<AttemptRow> attempt, FindAttempt(api_, found, ix, request.attempt()));
  if (!attempt) {
    ASSIGN_OR_RETURN(const bool ended, StepHasEnded(api_, found, ix));
    response->set_end(ended);
    return absl::OkStatus();
  }
  const LogStreamName stream =
      request.stream() == v1::LogStream::STDERR ? LogStreamName::kStderr : LogStreamName::kStdout;
  ASSIGN_OR_RETURN(const auto reader, api_.engine->OpenLog(found.record, ix, *attempt, stream));
  ASSIGN_OR_RETURN(const int64_t size, reader->Size());
  const int64_t offset = request.offset() < 0 ? std::max<int64_t>(0, size + request.offset()) : request.offset();
  ASSIGN_OR_RETURN(*response->mutable_data(), reader->Read(offset, want));
  response->set_next_offset(offset + static_cast<int64_t>(response->data().size()));
  response->set_end(IsTerminal(attempt->state) && response->next_offset() >= size);
  return absl::OkStatus();
}

absl::Status LogApi::ReadHookLog(const CallContext& context, const v1::ReadLogsRequest& request, int64_t want,
                                 v1::ReadLogsResponse* response) {
  ASSIGN_OR_RETURN(const store::RunRecord run, FindRun(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const HookRow hook, api_.engine->queries().FindHook(run.header.key, request.hook()));
  if (hook.tries == 0) return absl::OkStatus();
  const LogStreamName stream =
      request.stream() == v1::LogStream::STDERR ? LogStreamName::kStderr : LogStreamName::kStdout;
  ASSIGN_OR_RETURN(const auto reader, api_.engine->OpenHookLog(run, hook, stream));
  ASSIGN_OR_RETURN(const int64_t size, reader->Size());
  const int64_t offset = request.offset() < 0 ? std::max<int64_t>(0, size + request.offset()) : request.offset();
  ASSIGN_OR_RETURN(*response->mutable_data(), reader->Read(offset, want));
  response->set_next_offset(offset + static_cast<int64_t>(response->data().size()));
  response->set_end(IsTerminal(hook.state) && response->next_offset() >= size);
  return absl::OkStatus();
}

}  // namespace orch::rpc
