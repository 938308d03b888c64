// list-events, watch-runs.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/cli/interrupt.h"
#include "client/cli/json.h"
#include "client/cli/run_text.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

// The new state, or what landed.
Cell WhatOf(const v1::Event& event) {
  switch (event.type()) {
    case v1::Event::RUN_SUBMITTED:
    case v1::Event::RUN_STATE_CHANGED:
      return {v1::Run::State_Name(event.run_state()), ColorOf(event.run_state())};
    case v1::Event::STEP_STATE_CHANGED:
      return {v1::Step::State_Name(event.step_state()), ColorOf(event.step_state())};
    case v1::Event::ARTIFACT_LANDED:
      return absl::StrCat(event.output(), " landed as ", event.artifact());
    default:
      return v1::Event::Type_Name(event.type());
  }
}

std::string WhyOf(const v1::Event& event) {
  return Why(event.reason(), event.has_exit_code(), event.exit_code(), event.message());
}

class ListEventsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id [all runs]", Kind::kRun, /*required=*/false);
    flags.List("--type", &types_, "TYPE",
               "Only these: RUN_SUBMITTED, RUN_STATE_CHANGED, STEP_STATE_CHANGED, ARTIFACT_LANDED, RUN_DELETED");
    flags.Text("--step", &step_, "STEP", "Only events of this step (needs RUN)");
    flags.Int("--after", &after_, 0, INT64_MAX, "Only events after this sequence number");
    flags.Int("--limit,--page-size", &limit_, 1, 1'000'000, "At most so many [100]");
    flags.Text("--page-token", &token_, "TOKEN", "Go on after an earlier answer (its next_page_token)");
    flags.Switch("--all", &all_, "All of them");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListEventsRequest request;
    request.set_run(run_);
    request.set_after_sequence(after_);
    request.set_page_token(token_);
    std::string filter;
    for (const std::string& type : types_) absl::StrAppend(&filter, filter.empty() ? "type=" : ",", type);
    if (!step_.empty()) {
      std::string quoted;
      for (const char c : step_) absl::StrAppend(&quoted, c == '"' || c == '\\' ? "\\" : "", std::string(1, c));
      absl::StrAppend(&filter, filter.empty() ? "" : " AND ", "step=\"", quoted, "\"");
    }
    request.set_filter(filter);
    v1::ListEventsResponse answer;
    while (true) {
      const int64_t left = all_ ? 1000 : limit_ - answer.events_size();
      request.set_page_size(static_cast<int32_t>(std::min<int64_t>(left, 1000)));
      ASSIGN_OR_RETURN(v1::ListEventsResponse page, client->ListEvents(request));
      for (v1::Event& event : *page.mutable_events()) *answer.add_events() = std::move(event);
      answer.set_next_page_token(page.next_page_token());
      if (page.next_page_token().empty() || (!all_ && answer.events_size() >= limit_)) break;
      request.set_page_token(page.next_page_token());
    }
    std::vector<std::string> numbers;
    for (const v1::Event& event : answer.events()) numbers.push_back(absl::StrCat(event.sequence()));
    const auto table = [&] {
      Table out({"SEQUENCE", "TIME", "RUN", "STEP", "ATTEMPT", "WHAT", "WHY"});
      for (const v1::Event& event : answer.events()) {
        out.Add({absl::StrCat(event.sequence()), ClockTime(Micros(event.time())), event.run(), event.step(),
                 event.attempt() > 0 ? absl::StrCat(event.attempt()) : "", WhatOf(event),
                 session.wide() ? WhyOf(event) : Fit(Clean(WhyOf(event)), 60)});
      }
      return out.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, table, numbers));
    if (session.human() && !answer.next_page_token().empty()) {
      session.Note(absl::StrCat("more with --all, or --page-token ", answer.next_page_token()));
    }
    return kOk;
  }

 private:
  std::string run_, step_, token_;
  std::vector<std::string> types_;
  int64_t after_ = 0, limit_ = 100;
  bool all_ = false;
};

class WatchRunsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Text("--filter", &filter_, "TERMS",
               "Only runs that pass, as in list-runs; with state=… only their own changes into these states");
    flags.Switch("--snapshot", &snapshot_, "Begin with the runs there are");
    flags.Text("--resume-token", &token_, "TOKEN", "Go on behind this message (its resume_token)");
    flags.Int("--count", &count_, 1, INT64_MAX, "End after so many events [never]");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::WatchRunsRequest request;
    request.set_filter(filter_);
    request.set_snapshot(snapshot_);
    request.set_resume_token(token_);
    client::Cancellation cancel;
    Interrupt interrupt(&cancel);
    bool closed = false;
    int64_t left = count_;
    const auto print = [&](const v1::WatchRunsResponse& message) {
      std::string out;
      if (!session.human()) {
        out = ToJson(message).dump() + "\n";
      } else if (message.has_event()) {
        out = Line(message.event(), session.out());
      } else {
        for (const v1::Run& run : message.snapshot().runs()) {
          absl::StrAppend(&out, ClockTime(WallNow()), " ", run.name(), " ",
                          session.out().Paint(v1::Run::State_Name(run.state()), ColorOf(run.state())), "\n");
        }
      }
      closed = !WriteOut(out);
      if (message.has_event() && left > 0 && --left == 0) return false;
      return !closed;
    };
    RETURN_IF_ERROR(client->WatchRuns(request, print, &cancel, [&session](const absl::Status& trouble) {
      session.Note(absl::StrCat(OneLine(trouble), "; trying again"));
    }));
    if (closed) return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
    return cancel.cancelled() ? kInterrupted : kOk;
  }

 private:
  static std::string Line(const v1::Event& event, const Style& style) {
    const Cell what = WhatOf(event);
    const std::string why = Clean(WhyOf(event));
    return absl::StrCat(ClockTime(Micros(event.time())), " ", event.run(), event.step().empty() ? "" : " ",
                        event.step(), " ", style.Paint(what.text, what.color), why.empty() ? "" : " ", why, "\n");
  }

  std::string filter_, token_;
  int64_t count_ = 0;
  bool snapshot_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeListEvents() { return std::make_unique<ListEventsVerb>(); }
std::unique_ptr<Verb> MakeWatchRuns() { return std::make_unique<WatchRunsVerb>(); }

}  // namespace orch::cli
