#include "server/rpc/watch_feed.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/step_pages.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {
namespace {
constexpr int kRunsPerMessage = 500;
constexpr int kStepsPerMessage = 1000;
constexpr int kEventsPerRead = 256;
}  // namespace

WatchFeed::WatchFeed(const ApiContext* api, CallContext context, v1::WatchRunsRequest request)
    : api_(*api), context_(std::move(context)), request_(std::move(request)) {}

void WatchFeed::SetToken(int64_t sequence, v1::WatchRunsResponse* message) const {
  message->set_resume_token(MakeResumeToken(api_.engine->instance(), sequence, filter_));
}

absl::Status WatchFeed::Begin() {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request_.project()));
  // Before any state is read: what changes meanwhile is sent again as an event.
  const int64_t now = api_.engine->hub().last_sequence();
  if (request_.snapshot() && !request_.resume_token().empty()) {
    return InvalidInput("REQUEST_INVALID", "a snapshot and a resume token exclude each other",
                        {{"request.snapshot", "leave it out with a resume token", "WRONG_TYPE"}});
  }
  if (request_.run().empty() && request_.until_done()) {
    return InvalidInput("REQUEST_INVALID", "until_done needs a run",
                        {{"request.run", "name the run whose end is meant", "REQUIRED"}});
  }
  if (!request_.run().empty()) {
    ASSIGN_OR_RETURN(found_, FindRunWithGraph(api_, context_, project, request_.run()));
    run_ = found_.record.header.key;
    ended_ = IsTerminal(found_.record.row.state);
    end_is_known_at_ = now;
  }
  filter_ = absl::StrCat("watch|", project, "|", found_.record.header.id);
  after_ = now;
  if (!request_.resume_token().empty()) {
    ASSIGN_OR_RETURN(after_, ReadResumeToken(request_.resume_token(), api_.engine->instance(), filter_));
    if (after_ > now) {
      return Error(absl::StatusCode::kFailedPrecondition, "RESUME_TOKEN_FOREIGN",
                   "resume_token is ahead of this daemon; its data may have been restored: list again, then watch");
    }
    ASSIGN_OR_RETURN(const int64_t compacted, api_.engine->queries().CompactedSequence());
    if (after_ < compacted) {
      return Error(absl::StatusCode::kOutOfRange, "RESUME_TOKEN_COMPACTED",
                   absl::StrCat("events up to ", compacted, " are gone; list again, then watch from there"));
    }
  }
  sent_ = after_;
  phase_ = request_.snapshot() ? Phase::kRunsSnapshot : Phase::kLive;
  return absl::OkStatus();
}

absl::StatusOr<WatchFeed::Next> WatchFeed::Fill(v1::WatchRunsResponse* message, int64_t now_mono) {
  message->Clear();
  if (phase_ == Phase::kNew) RETURN_IF_ERROR(Begin());
  const auto bookmark = [&] {
    message->mutable_bookmark();
    sent_ = after_;
    SetToken(sent_, message);
    greeted_ = true;
    last_sent_mono_ = now_mono;
    return Next::kMessage;
  };
  if (phase_ == Phase::kRunsSnapshot || phase_ == Phase::kStepsSnapshot) {
    RETURN_IF_ERROR(phase_ == Phase::kRunsSnapshot ? FillRuns(message) : FillSteps(message));
    SetToken(sent_, message);
    greeted_ = true;
    last_sent_mono_ = now_mono;
    return Next::kMessage;
  }
  // At once, also if there is something to catch up with: it tells the client that the stream stands.
  if (!greeted_) return bookmark();
  if (pending_.empty()) RETURN_IF_ERROR(ReadMore());
  if (!pending_.empty()) {
    const std::shared_ptr<const EventRow> event = std::move(pending_.front());
    pending_.pop_front();
    *message->mutable_event() = api_.names->Describe(*event);
    sent_ = pending_.empty() ? std::max(after_, event->sequence) : event->sequence;
    SetToken(sent_, message);
    last_sent_mono_ = now_mono;
    if (run_ != 0 && event->type == EventType::kRunStateChanged) {
      ended_ = IsTerminal(static_cast<RunState>(event->state));
      end_is_known_at_ = event->sequence;
    }
    if (event->type == EventType::kRunDeleted && run_ != 0) ended_ = true;
    return Next::kMessage;
  }
  if (request_.until_done() && ended_ && after_ >= end_is_known_at_) return Next::kDone;
  if (api_.engine->hub().closed()) {
    if (!said_goodbye_) {
      said_goodbye_ = true;
      return bookmark();
    }
    return WithRetryDelay(
        Error(absl::StatusCode::kUnavailable, "DRAINING", "orchd is stopping; resume with the last token"), 1000);
  }
  if (now_mono >= bookmark_due()) return bookmark();
  return Next::kIdle;
}

absl::Status WatchFeed::FillRuns(v1::WatchRunsResponse* message) {
  v1::WatchRunsResponse::Snapshot* snapshot = message->mutable_snapshot();
  const std::string pages = api_.facts->pages();
  if (run_ != 0) {
    *snapshot->add_runs() = ToRun(found_.record, pages);
    phase_ = Phase::kStepsSnapshot;
    if (found_.graph().step_count() == 0) {
      snapshot->set_last(true);
      phase_ = Phase::kLive;
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto records, api_.engine->queries().ListRuns({}, next_run_, kRunsPerMessage));
  for (const store::RunRecord& record : records) *snapshot->add_runs() = ToRun(record, pages);
  if (static_cast<int>(records.size()) < kRunsPerMessage) {
    snapshot->set_last(true);
    phase_ = Phase::kLive;
  } else {
    next_run_ = records.back().header.key;
  }
  return absl::OkStatus();
}

absl::Status WatchFeed::FillSteps(v1::WatchRunsResponse* message) {
  v1::WatchRunsResponse::Snapshot* snapshot = message->mutable_snapshot();
  ASSIGN_OR_RETURN(StepPage page,
                   ReadSteps(*api_.engine, found_.record, found_.graph(), {}, next_step_, kStepsPerMessage));
  for (v1::Step& step : page.steps) *snapshot->add_steps() = std::move(step);
  next_step_ = page.next;
  if (!page.more) {
    snapshot->set_last(true);
    phase_ = Phase::kLive;
  }
  return absl::OkStatus();
}

absl::Status WatchFeed::ReadMore() {
  Hub::Page page = api_.engine->hub().Read(run_, after_, kEventsPerRead);
  if (page.behind) return ReadTable();
  after_ = std::max(after_, page.after);
  for (auto& event : page.events) {
    after_ = std::max(after_, event->sequence);
    pending_.push_back(std::move(event));
  }
  return absl::OkStatus();
}

absl::Status WatchFeed::ReadTable() {
  // Events are published after their commit, so everything up to here is in the table.
  const int64_t committed = api_.engine->hub().last_sequence();
  ASSIGN_OR_RETURN(std::vector<EventRow> rows, api_.engine->queries().ListEvents(run_, after_, kEventsPerRead));
  ASSIGN_OR_RETURN(const int64_t compacted, api_.engine->queries().CompactedSequence());
  if (after_ < compacted) {
    return Error(absl::StatusCode::kOutOfRange, "RESUME_TOKEN_COMPACTED",
                 absl::StrCat("events up to ", compacted, " are gone; list again, then watch from there"));
  }
  const bool all = static_cast<int>(rows.size()) < kEventsPerRead;
  for (EventRow& row : rows) {
    after_ = std::max(after_, row.sequence);
    pending_.push_back(std::make_shared<const EventRow>(std::move(row)));
  }
  if (all) after_ = std::max(after_, committed);
  return absl::OkStatus();
}

}  // namespace orch::rpc
