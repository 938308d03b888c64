#include "server/rpc/watch_feed.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/filter.h"
#include "server/rpc/step_pages.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {
namespace {
constexpr int kRunsPerMessage = 500;
constexpr int kStepsPerMessage = 1000;
constexpr int kEventsPerRead = 256;
constexpr int kRowsPerRead = 1000;  // of the table
constexpr int kReadsPerTurn = 40;   // of which nothing passes
}  // namespace

WatchFeed::WatchFeed(const ApiContext* api, CallContext context, v1::WatchRunsRequest request)
    : api_(*api), context_(std::move(context)), request_(std::move(request)) {}

void WatchFeed::SetToken(int64_t sequence, v1::WatchRunsResponse* message) {
  made_token_ = MakeResumeToken(api_.engine->instance(), sequence, filter_);
  message->set_resume_token(made_token_);
}

absl::Status WatchFeed::Begin() {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request_.project()));
  ASSIGN_OR_RETURN(terms_, ParseRunFilter(request_.filter()));
  terms_.project = project;
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
  std::string run_id;
  if (!request_.run().empty()) {
    ASSIGN_OR_RETURN(FoundRun found, FindRunWithGraph(api_, context_, project, request_.run()));
    run_ = found.record.header.key;
    run_id = found.record.header.id;
    ended_ = IsTerminal(found.record.row.state);
    end_is_known_at_ = now;
    if (request_.snapshot()) found_ = std::make_unique<FoundRun>(std::move(found));
  }
  filter_ = absl::StrCat("watch|", project, "|", run_id);
  if (!request_.filter().empty()) absl::StrAppend(&filter_, "|", request_.filter());
  made_token_ = request_.resume_token();
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
  taken_token_ = made_token_;
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
  for (int i = 0; pending_.empty() && i < kReadsPerTurn; ++i) {
    const int64_t before = after_;
    RETURN_IF_ERROR(ReadMore());
    std::reverse(pending_.begin(), pending_.end());
    if (after_ == before) break;
  }
  if (!pending_.empty()) {
    FillEvents(message);
    last_sent_mono_ = now_mono;
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

void WatchFeed::FillEvents(v1::WatchRunsResponse* message) {
  const size_t count = request_.batched() ? std::min<size_t>(pending_.size(), kEventsPerRead) : 1;
  for (size_t i = 0; i < count; ++i) {
    const std::shared_ptr<const EventRow> event = std::move(pending_.back());
    pending_.pop_back();
    v1::Event* out = count == 1 ? message->mutable_event() : message->mutable_events()->add_events();
    *out = api_.names->Describe(*event);
    sent_ = pending_.empty() ? std::max(after_, event->sequence) : event->sequence;
    NoteEnd(*event);
  }
  if (pending_.empty()) pending_.shrink_to_fit();
  SetToken(sent_, message);
}

void WatchFeed::NoteEnd(const EventRow& event) {
  if (run_ == 0) return;
  if (event.type == EventType::kRunStateChanged) {
    ended_ = IsTerminal(static_cast<RunState>(event.state));
    end_is_known_at_ = event.sequence;
  }
  if (event.type == EventType::kRunDeleted) ended_ = true;
}

absl::Status WatchFeed::Keep(std::shared_ptr<const EventRow> event) {
  after_ = std::max(after_, event->sequence);
  bool passes = true;
  if (!request_.filter().empty()) {
    const bool of_run = event->type == EventType::kRunSubmitted || event->type == EventType::kRunStateChanged;
    if (!terms_.states.empty() && event->type != EventType::kRunDeleted) {
      passes = of_run && std::find(terms_.states.begin(), terms_.states.end(), static_cast<RunState>(event->state)) !=
                             terms_.states.end();
    }
    if (passes) {
      // Of a run that is gone nobody knows more than that it is gone.
      const auto header = api_.names->Header(event->run);
      if (!header.ok() && header.status().code() != absl::StatusCode::kNotFound) return header.status();
      passes = header.ok() ? Passes(terms_, **header) : event->type == EventType::kRunDeleted;
    }
  }
  if (passes) {
    pending_.push_back(std::move(event));
  } else {
    NoteEnd(*event);
  }
  return absl::OkStatus();
}

absl::Status WatchFeed::FillRuns(v1::WatchRunsResponse* message) {
  v1::WatchRunsResponse::Snapshot* snapshot = message->mutable_snapshot();
  const std::string pages = api_.facts->pages();
  const auto in_state = [&](const store::RunRecord& record) {
    return terms_.states.empty() ||
           std::find(terms_.states.begin(), terms_.states.end(), record.row.state) != terms_.states.end();
  };
  if (run_ != 0) {
    if (Passes(terms_, found_->record.header) && in_state(found_->record)) {
      *snapshot->add_runs() = ToRun(found_->record, pages);
    }
    phase_ = Phase::kStepsSnapshot;
    if (found_->graph().step_count() == 0) {
      snapshot->set_last(true);
      BeginLive();
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const store::RunPage page, api_.engine->queries().PageOfRuns(terms_, store::RunOrder::kNewestFirst,
                                                                                {next_run_, ""}, kRunsPerMessage));
  for (const store::RunRecord& record : page.runs) *snapshot->add_runs() = ToRun(record, pages);
  if (page.next) {
    next_run_ = page.next->key;
  } else {
    snapshot->set_last(true);
    BeginLive();
  }
  return absl::OkStatus();
}

void WatchFeed::BeginLive() {
  phase_ = Phase::kLive;
  found_ = nullptr;
}

absl::Status WatchFeed::FillSteps(v1::WatchRunsResponse* message) {
  v1::WatchRunsResponse::Snapshot* snapshot = message->mutable_snapshot();
  ASSIGN_OR_RETURN(StepPage page,
                   ReadSteps(*api_.engine, found_->record, found_->graph(), {}, false, next_step_, kStepsPerMessage));
  for (v1::Step& step : page.steps) *snapshot->add_steps() = std::move(step);
  next_step_ = page.next.value_or(0);
  if (!page.next) {
    snapshot->set_last(true);
    BeginLive();
  }
  return absl::OkStatus();
}

absl::Status WatchFeed::ReadMore() {
  Hub::Page page = api_.engine->hub().Read(run_, after_, kEventsPerRead);
  if (page.behind) return ReadTable();
  for (auto& event : page.events) RETURN_IF_ERROR(Keep(std::move(event)));
  after_ = std::max(after_, page.after);
  return absl::OkStatus();
}

absl::Status WatchFeed::ReadTable() {
  // Events are published after their commit, so everything up to here is in the table.
  const int64_t committed = api_.engine->hub().last_sequence();
  ASSIGN_OR_RETURN(std::vector<EventRow> rows, api_.engine->queries().ListEvents(run_, after_, kRowsPerRead));
  ASSIGN_OR_RETURN(const int64_t compacted, api_.engine->queries().CompactedSequence());
  if (after_ < compacted) {
    return Error(absl::StatusCode::kOutOfRange, "RESUME_TOKEN_COMPACTED",
                 absl::StrCat("events up to ", compacted, " are gone; list again, then watch from there"));
  }
  const bool all = static_cast<int>(rows.size()) < kRowsPerRead;
  for (EventRow& row : rows) RETURN_IF_ERROR(Keep(std::make_shared<const EventRow>(std::move(row))));
  if (all) after_ = std::max(after_, committed);
  return absl::OkStatus();
}

}  // namespace orch::rpc
