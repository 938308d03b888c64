// What clients ask of runs that exist already.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/engine/engine_impl.h"

namespace orch {

std::shared_ptr<const void> EngineImpl::Hold(std::string word) {
  return std::make_shared<Reservations::Handle>(reservations_.Hold(std::move(word)));
}

std::shared_ptr<const void> EngineImpl::HoldRequest(const RequestRow& request) {
  if (request.request_id.empty()) return nullptr;
  return Hold(absl::StrCat("request/", request.method, "/", request.project, "/", request.request_id));
}

absl::StatusOr<std::optional<std::string>> EngineImpl::FindAnswer(const RequestRow& request) {
  if (request.request_id.empty()) return std::optional<std::string>();
  ASSIGN_OR_RETURN(const std::optional<RequestRow> known,
                   queries_->FindRequest(request.method, request.project, request.request_id));
  if (!known.has_value()) return std::optional<std::string>();
  if (known->fingerprint == request.fingerprint) return std::optional<std::string>(known->answer);
  return Error(absl::StatusCode::kInvalidArgument, "REQUEST_ID_REUSED",
               absl::StrCat("request_id `", request.request_id, "` was used for another ", request.method));
}

absl::Status EngineImpl::CancelRun(RunKey run, std::vector<StepIx> steps, bool force, int64_t deadline_micros) {
  Post post;
  post.event = CancelRequested{run, std::move(steps), force};
  return PostAndWait(std::move(post), deadline_micros);
}

absl::Status EngineImpl::DeleteRuns(std::vector<RunKey> runs, RequestRow request, int64_t deadline_micros) {
  // In one order, so that two callers do not wait for each other.
  std::sort(runs.begin(), runs.end());
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
  auto holds = std::make_shared<std::vector<std::shared_ptr<const void>>>();
  holds->push_back(HoldRequest(request));
  for (const RunKey run : runs) holds->push_back(HoldRun(run));
  ASSIGN_OR_RETURN(const std::optional<std::string> answer, FindAnswer(request));
  if (answer.has_value()) return absl::OkStatus();
  Post post;
  RunsDeleted event;
  for (const RunKey run : runs) {
    const auto record = queries_->GetRun(run);
    if (record.status().code() == absl::StatusCode::kNotFound) continue;
    RETURN_IF_ERROR(record.status());
    event.runs.push_back({run, record->header.id, record->header.name, record->header.pipeline,
                          record->row.last_sequence, /*deleted=*/0});
  }
  if (event.runs.empty()) return absl::OkStatus();
  post.event = std::move(event);
  if (!request.request_id.empty()) {
    request.created = Clock::Real().Now().wall;
    post.rows = std::make_unique<Batch>();
    post.rows->requests.push_back(std::move(request));
  }
  post.hold = std::move(holds);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  ORCH_FAULT("delete.committed");
  cleaner_->Wake();
  return absl::OkStatus();
}

}  // namespace orch
