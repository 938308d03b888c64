// plan, invalidate-cache, list-pipelines.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/json.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

constexpr int kRowsShown = 200;

int64_t MicrosOf(const google::protobuf::Duration& d) { return d.seconds() * 1'000'000 + d.nanos() / 1000; }

// The last of the instances of one fan-out, from `first` on, with which the same would happen for the same reason.
int LastAlike(const v1::PlanRunResponse& plan, int first) {
  const v1::PlannedStep& step = plan.steps(first);
  int last = first;
  while (last + 1 < plan.steps_size()) {
    const v1::PlannedStep& next = plan.steps(last + 1);
    if (!Follows(plan.steps(last).name(), next.name()) || next.action() != step.action() ||
        next.text() != step.text()) {
      break;
    }
    ++last;
  }
  return last;
}

// What instances take: `120ms`, or `90ms–210ms`.
std::string Takes(const v1::PlanRunResponse& plan, int first, int last) {
  std::optional<int64_t> least, most;
  for (int i = first; i <= last; ++i) {
    if (!plan.steps(i).has_expected()) continue;
    const int64_t micros = MicrosOf(plan.steps(i).expected());
    least = std::min(least.value_or(micros), micros);
    most = std::max(most.value_or(micros), micros);
  }
  if (!least.has_value()) return "";
  const std::string from = Elapsed(*least), to = Elapsed(*most);
  return from == to ? from : absl::StrCat(from, "–", to);
}

std::string PlanText(const v1::PlanRunResponse& plan, const Style& style, bool wide) {
  Table table({"STEP", "WOULD", "STARTS", "TAKES", "WHY"});
  int shown = 0, rows = 0;
  while (shown < plan.steps_size() && rows++ < kRowsShown) {
    const v1::PlannedStep& step = plan.steps(shown);
    const int last = wide ? shown : LastAlike(plan, shown);
    const char* would = step.action() == v1::PlannedStep::CACHED ? "be cached"
                        : step.action() == v1::PlannedStep::RUN  ? "run"
                                                                 : "depend";
    const Color color = step.action() == v1::PlannedStep::CACHED ? Color::kGreen
                        : step.action() == v1::PlannedStep::RUN  ? Color::kYellow
                                                                 : Color::kNone;
    const std::string name = last > shown ? RangeName(step.name(), plan.steps(last).name()) : step.name();
    bool critical = false;
    for (int i = shown; i <= last; ++i) critical = critical || plan.steps(i).critical();
    table.Add({absl::StrCat(name, critical ? " *" : ""),
               {would, color},
               plan.has_expected() ? absl::StrCat("+", Elapsed(MicrosOf(step.starts_after()))) : "",
               Takes(plan, shown, last),
               Clean(step.text())});
    shown = last + 1;
  }
  std::string out = table.Render(style);
  if (plan.step_count() > shown) absl::StrAppend(&out, "… ", plan.step_count() - shown, " more: -o json\n");
  absl::StrAppend(&out, plan.step_count(), plan.step_count() == 1 ? " step: " : " steps: ", plan.run_steps(),
                  " would run, ", plan.cached_steps(), " cached, ", plan.depending_steps(), " depend on those\n");
  if (plan.run_steps() + plan.depending_steps() == 0) return out;
  if (plan.unit() == "run") out += "its orchestrator would have it as one run of its own\n";
  if (plan.why_step_by_step_size() > 0) {
    const std::vector<std::string> why(plan.why_step_by_step().begin(), plan.why_step_by_step().end());
    absl::StrAppend(&out, "step by step, not as one run of its orchestrator's own: ", Clean(absl::StrJoin(why, "; ")),
                    "\n");
  }
  if (plan.has_expected()) {
    absl::StrAppend(&out, "about ", Elapsed(MicrosOf(plan.expected())), ", by the last ",
                    plan.history_runs() == 1 ? "run" : absl::StrCat(plan.history_runs(), " runs"));
    const int64_t unknown = plan.run_steps() + plan.depending_steps() - plan.known_steps();
    if (unknown > 0) absl::StrAppend(&out, "; ", unknown, " of the steps have no times on record and count as nothing");
    if (plan.critical_path_size() > 0) {
      const std::vector<std::string> path(plan.critical_path().begin(), plan.critical_path().end());
      absl::StrAppend(&out, "\nlongest way (*): ", absl::StrJoin(path, " → "));
    }
    out += "\n";
  } else {
    out += "how long it takes is not known: none of these steps has succeeded before\n";
  }
  return out;
}

// One document for each object.
std::string NativeText(const v1::PlanRunResponse& plan) {
  std::string out;
  const auto say = [&](absl::string_view of, const std::string& object) {
    absl::StrAppend(&out, "---\n# ", of, "\n",
                    ToYaml(nlohmann::ordered_json::parse(object, nullptr, /*allow_exceptions=*/false)));
  };
  for (const std::string& object : plan.native()) say("the run", object);
  if (!plan.native().empty()) return out;
  for (const v1::PlannedStep& step : plan.steps()) {
    if (step.native().empty() && step.action() != v1::PlannedStep::CACHED) {
      absl::StrAppend(&out, "---\n# step ", Clean(step.name()),
                      ": its platform has no such objects, or its flavor does not tell\n");
    }
    for (const std::string& object : step.native()) say(absl::StrCat("step ", Clean(step.name())), object);
  }
  const int64_t left = plan.step_count() - plan.steps_size();
  if (left > 0) absl::StrAppend(&out, "# and ", left, " more steps\n");
  return out;
}

class PlanVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("FILE", &file_, "The pipeline, YAML or JSON; `-`: stdin", Kind::kFile);
    flags.List("-p,--param", &params_, "NAME=VALUE", "A parameter (repeat for several)");
    flags.Text("--stack", &stack_, "NAME", "Where it would run [the default stack]", Kind::kStack);
    flags.Text("--orchestrator", &orchestrator_, "NAME", "Where it would run [the default stack's]",
               Kind::kOrchestrator);
    flags.Int("--max-parallel", &max_parallel_, 1, 1'000'000, "At most so many attempts at a time");
    flags.Switch("--no-cache", &no_cache_, "As if everything was computed anew");
    flags.Switch("--native", &native_, "Print what the platforms would be asked to make, as YAML");
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(PipelineFile file, LoadPipeline(file_));
    ASSIGN_OR_RETURN(const auto parameters, ParseParameters(params_));
    std::vector<spec::Problem> problems = file.parsed.problems;
    v1::PlanRunResponse plan;
    if (problems.empty()) {
      v1::PlanRunRequest request;
      v1::SubmitRunRequest& submission = *request.mutable_submission();
      submission.mutable_pipeline()->Swap(&file.parsed.pipeline);
      for (const auto& [name, value] : parameters) (*submission.mutable_parameters())[name] = value;
      submission.set_orchestrator(orchestrator_);
      submission.set_stack(stack_);
      submission.set_max_parallel(static_cast<int32_t>(max_parallel_));
      submission.set_project(session.globals().project);
      if (no_cache_) submission.set_use_cache(false);
      request.set_native(native_);
      FillSubmitter(file.folder, submission.mutable_submitter());
      ASSIGN_OR_RETURN(client::Client * client, session.Connect());
      ASSIGN_OR_RETURN(plan, client->PlanRun(request));
      for (const v1::Violation& v : plan.violations()) {
        problems.push_back(Locate(file.parsed.map, v.field(), v.description(), v.reason()));
      }
    }
    if (!problems.empty()) {
      WriteErr(FormatProblems(file.shown, problems));
      WriteErr(absl::StrCat("orchctl: ", file.shown, " has ", problems.size(),
                            problems.size() == 1 ? " fault" : " faults", "; there is nothing to plan\n"));
      return kRefused;
    }
    std::vector<spec::Problem> warnings;
    for (const v1::Violation& v : plan.warnings()) {
      warnings.push_back(Locate(file.parsed.map, v.field(), absl::StrCat("warning: ", v.description()), v.reason()));
    }
    if (!session.globals().quiet) WriteErr(FormatProblems(file.shown, warnings));
    std::vector<std::string> names;
    for (const v1::PlannedStep& step : plan.steps()) names.push_back(step.name());
    RETURN_IF_ERROR(session.Show(
        plan, [&] { return native_ ? NativeText(plan) : PlanText(plan, session.out(), session.wide()); }, names));
    return kOk;
  }

 private:
  std::string file_, orchestrator_, stack_;
  std::vector<std::string> params_;
  int64_t max_parallel_ = 0;
  bool no_cache_ = false, native_ = false;
};

class InvalidateCacheVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("PIPELINE", &pipeline_, "The pipeline's name", Kind::kPipeline);
    flags.Positional("STEP", &step_, "Only this step, all its instances or one ('train[2]') [all steps]", Kind::kText,
                     /*required=*/false);
    flags.Switch("--dry-run", &dry_run_, "Only count");
    flags.Text("--request-id", &request_id_, "ID", "The same id again does nothing more");
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::InvalidateCacheRequest request;
    request.set_pipeline(pipeline_);
    request.set_step(step_);
    request.set_validate_only(dry_run_);
    request.set_request_id(request_id_);
    ASSIGN_OR_RETURN(const v1::InvalidateCacheResponse answer, client->InvalidateCache(request));
    const auto words = [&] {
      return absl::StrCat(answer.entries(), answer.entries() == 1 ? " entry " : " entries ",
                          dry_run_ ? "would be taken out of the cache\n" : "taken out of the cache\n");
    };
    RETURN_IF_ERROR(session.Show(answer, words, {absl::StrCat(answer.entries())}));
    return kOk;
  }

 private:
  std::string pipeline_, step_, request_id_;
  bool dry_run_ = false;
};

class ListPipelinesVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Int("--limit", &limit_, 1, 1000, "At most so many [100]");
    flags.Text("--page-token", &token_, "TOKEN", "Go on after an earlier answer (its next_page_token)");
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListPipelinesRequest request;
    request.set_page_size(static_cast<int32_t>(limit_));
    request.set_page_token(token_);
    ASSIGN_OR_RETURN(const v1::ListPipelinesResponse answer, client->ListPipelines(request));
    std::vector<std::string> names;
    for (const v1::PipelineVersion& pipeline : answer.pipelines()) names.push_back(pipeline.name());
    const auto render = [&] {
      Table table({"NAME", "VERSION", "STEPS", "CREATED"});
      const int64_t now = WallNow();
      for (const v1::PipelineVersion& pipeline : answer.pipelines()) {
        table.Add({pipeline.name(), absl::StrCat(pipeline.version()), absl::StrCat(pipeline.step_count()),
                   Ago(Micros(pipeline.create_time()), now)});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    if (session.human() && !answer.next_page_token().empty()) {
      session.Note(absl::StrCat("more with --page-token ", answer.next_page_token()));
    }
    return kOk;
  }

 private:
  int64_t limit_ = 100;
  std::string token_;
};

}  // namespace

std::unique_ptr<Verb> MakePlan() { return std::make_unique<PlanVerb>(); }
std::unique_ptr<Verb> MakeInvalidateCache() { return std::make_unique<InvalidateCacheVerb>(); }
std::unique_ptr<Verb> MakeListPipelines() { return std::make_unique<ListPipelinesVerb>(); }

}  // namespace orch::cli
