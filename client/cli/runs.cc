// get-run, list-runs, list-steps, get-step.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/run_text.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class GetRunVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Run run, client->GetRun(run_));
    const auto facts = [&] { return RunFacts(run, session.out()) + HooksText(run.hooks(), run.name(), session.out()); };
    RETURN_IF_ERROR(session.Show(run, facts, {run.name()}));
    return kOk;
  }

 private:
  std::string run_;
};

class ListRunsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Text("--filter", &filter_, "TERMS",
               "Terms joined by AND: state=RUNNING,PAUSED, pipeline=digits, orchestrator=local, label.team=vision, "
               "name=digits-1, name=digits-*, name:digits");
    flags.Text("--order-by", &order_, "FIELD", "create_time or name, alone or with ' desc' [create_time desc]");
    flags.Int("--limit,--page-size", &limit_, 1, 1'000'000, "At most so many [50]");
    flags.Text("--page-token", &token_, "TOKEN", "Go on after an earlier answer (its next_page_token)");
    flags.Switch("--all", &all_, "All of them");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListRunsRequest request;
    request.set_filter(filter_);
    request.set_order_by(order_);
    request.set_page_token(token_);
    v1::ListRunsResponse answer;
    while (true) {
      const int64_t left = all_ ? 1000 : limit_ - answer.runs_size();
      request.set_page_size(static_cast<int32_t>(std::min<int64_t>(left, 1000)));
      ASSIGN_OR_RETURN(v1::ListRunsResponse page, client->ListRuns(request));
      for (v1::Run& run : *page.mutable_runs()) *answer.add_runs() = std::move(run);
      answer.set_next_page_token(page.next_page_token());
      if (page.next_page_token().empty() || (!all_ && answer.runs_size() >= limit_)) break;
      request.set_page_token(page.next_page_token());
    }
    std::vector<std::string> names;
    for (const v1::Run& run : answer.runs()) names.push_back(run.name());
    const std::vector<v1::Run> runs(answer.runs().begin(), answer.runs().end());
    RETURN_IF_ERROR(session.Show(
        answer, [&] { return RunsTable(runs, session.out(), session.wide()); }, names));
    if (session.human() && runs.empty()) session.Note(filter_.empty() ? "no runs yet" : "no run passes the filter");
    if (session.human() && !answer.next_page_token().empty()) {
      session.Note(absl::StrCat("more with --all, or --page-token ", answer.next_page_token()));
    }
    return kOk;
  }

 private:
  std::string filter_, order_, token_;
  int64_t limit_ = 50;
  bool all_ = false;
};

class ListStepsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Text("--filter", &filter_, "TERMS",
               "Terms joined by AND: state=FAILED,CANCELLED, template_name=train, name=train[2], name:tra");
    flags.Text("--order-by", &order_, "FIELD", "index, alone or with ' desc' [index]");
    flags.Int("--limit,--page-size", &limit_, 1, 1'000'000, "At most so many [all]");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ListStepsResponse answer, AllSteps(*client, run_, filter_, limit_, order_));
    std::vector<std::string> names;
    for (const v1::Step& step : answer.steps()) names.push_back(step.name());
    const std::vector<v1::Step> steps(answer.steps().begin(), answer.steps().end());
    RETURN_IF_ERROR(session.Show(
        answer, [&] { return StepsTable(steps, session.out(), session.wide()); }, names));
    return kOk;
  }

 private:
  std::string run_, filter_, order_;
  int64_t limit_ = 0;
};

std::string AttemptsTable(const v1::Step& step, const Style& style) {
  Table table({"ATTEMPT", "STATE", "TIME", "EXIT", "WHERE", "PEAK MEMORY", "REASON"});
  const int64_t now = WallNow();
  for (const v1::Attempt& attempt : step.attempts()) {
    std::string exit = attempt.has_exit_code() ? absl::StrCat(attempt.exit_code()) : "";
    if (attempt.has_signal()) exit = absl::StrCat("signal ", attempt.signal());
    const std::string where = attempt.url().empty() ? attempt.external_id() : attempt.url();
    table.Add({absl::StrCat(attempt.number()), v1::Attempt::State_Name(attempt.state()), RunTime(attempt, now), exit,
               where, attempt.peak_memory() > 0 ? Bytes(attempt.peak_memory()) : "",
               Why(attempt.reason(), attempt.has_exit_code(), attempt.exit_code(), attempt.message())});
  }
  return table.empty() ? "" : table.Render(style);
}

class GetStepVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Positional("STEP", &step_, "The step's name; of a fan-out 'train[2]'", Kind::kStep);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::GetStepRequest request;
    request.set_run(run_);
    request.set_step(step_);
    ASSIGN_OR_RETURN(const v1::Step step, client->GetStep(request));
    const auto facts = [&] {
      std::vector<std::string> outputs;
      for (const auto& [name, artifact] : step.outputs()) outputs.push_back(absl::StrCat(name, "=", artifact));
      std::sort(outputs.begin(), outputs.end());
      std::vector<std::string> environment;
      for (const auto& [name, value] : step.environment()) environment.push_back(absl::StrCat(name, "=", value));
      std::sort(environment.begin(), environment.end());
      std::string text = RenderFacts({{"Name", step.name()},
                                      {"Run", step.run()},
                                      {"Item", ItemText(step.item())},
                                      {"State", {v1::Step::State_Name(step.state()), ColorOf(step.state())}},
                                      {"Reason", ReasonName(step.reason())},
                                      {"Message", step.message()},
                                      {"Exit code", step.has_exit_code() ? absl::StrCat(step.exit_code()) : ""},
                                      {"Time", RunTime(step, WallNow())},
                                      {"Orchestrator", step.orchestrator()},
                                      {"Outputs", absl::StrJoin(outputs, ", ")},
                                      {"Cached from", step.cached_from()},
                                      {"Command", absl::StrJoin(step.command(), " ")},
                                      {"Environment", absl::StrJoin(environment, " ")}},
                                     session.out());
      return text + AttemptsTable(step, session.out()) + HooksText(step.hooks(), step.run(), session.out());
    };
    RETURN_IF_ERROR(session.Show(step, facts, {step.name()}));
    return kOk;
  }

 private:
  std::string run_, step_;
};

}  // namespace

std::unique_ptr<Verb> MakeGetRun() { return std::make_unique<GetRunVerb>(); }
std::unique_ptr<Verb> MakeListRuns() { return std::make_unique<ListRunsVerb>(); }
std::unique_ptr<Verb> MakeListSteps() { return std::make_unique<ListStepsVerb>(); }
std::unique_ptr<Verb> MakeGetStep() { return std::make_unique<GetStepVerb>(); }

}  // namespace orch::cli
