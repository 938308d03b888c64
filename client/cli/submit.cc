// submit, validate.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/run_text.h"
#include "client/cli/step_images.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "client/cli/watch.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

std::string Counted(size_t n, const char* one) { return absl::StrCat(n, " ", one, n == 1 ? "" : "s"); }

// Prints the faults and answers the exit code.
int Refuse(const std::string& file, const std::vector<spec::Problem>& problems) {
  WriteErr(FormatProblems(file, problems));
  WriteErr(absl::StrCat("orchctl: ", file, " has ", Counted(problems.size(), "fault"), "; nothing was submitted\n"));
  return kRefused;
}

class SubmitVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("FILE", &file_, "The pipeline, YAML or JSON; `-`: stdin", Kind::kFile);
    flags.List("-p,--param", &params_, "NAME=VALUE", "A parameter (repeat for several)");
    flags.Text("--name", &name_, "NAME", "The run's name [made from pipeline and time]");
    flags.Text("--stack", &stack_, "NAME", "Where it runs and where its artifacts are kept [the default stack]",
               Kind::kStack);
    flags.Text("--orchestrator", &orchestrator_, "NAME", "Where it runs [the stack's]", Kind::kOrchestrator);
    flags.List("--label", &labels_, "KEY=VALUE", "A label (repeat for several)");
    flags.Int("--priority", &priority_, -1000, 1000, "Added to the priority of every step [0]");
    flags.Int("--max-parallel", &max_parallel_, 1, 1'000'000, "At most so many attempts at a time");
    flags.Switch("--no-cache", &no_cache_, "Compute everything anew");
    flags.Switch("--skip-build", &images_.skip_build, "Build no image; steps with `image: {build: …}` need it there");
    flags.Text("--build-host", &images_.host, "ADDRESS", "The engine that builds [DOCKER_HOST, then the usual socket]");
    flags.Switch("--wait", &wait_, "Wait for the end; exit code by outcome");
    flags.Switch("--watch", &watch_, "Show the progress until the end; exit code by outcome");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same run and starts nothing");
    flags.Switch("--no-start", &no_start_, "Do not start a daemon if none runs");
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(PipelineFile file, LoadPipeline(file_));
    v1::SubmitRunRequest request;
    ASSIGN_OR_RETURN(const auto parameters, ParseParameters(params_));
    for (const auto& [name, value] : parameters) (*request.mutable_parameters())[name] = value;
    for (const std::string& word : labels_) {
      const auto pair = KeyValue(word);
      if (!pair.has_value()) return UsageError(absl::StrCat("--label `", word, "` is not KEY=VALUE"));
      (*request.mutable_labels())[pair->first] = pair->second;
    }
    if (!file.parsed.problems.empty()) return Refuse(file.shown, file.parsed.problems);

    images_.stack = stack_;
    images_.start = !no_start_;
    RETURN_IF_ERROR(BuildStepImages(session, file.folder, images_, &file.parsed.pipeline));
    request.mutable_pipeline()->Swap(&file.parsed.pipeline);
    request.set_name(name_);
    request.set_orchestrator(orchestrator_);
    request.set_stack(stack_);
    request.set_priority(static_cast<int32_t>(priority_));
    request.set_max_parallel(static_cast<int32_t>(max_parallel_));
    request.set_request_id(request_id_);
    if (no_cache_) request.set_use_cache(false);
    FillSubmitter(file.folder, request.mutable_submitter());

    ASSIGN_OR_RETURN(client::Client * client, session.Connect(/*start=*/!no_start_));
    absl::StatusOr<v1::Run> run = client->SubmitRun(request);
    if (!run.ok()) return Refused(file, request, *client, run.status());

    std::vector<spec::Problem> warnings;
    for (const v1::Violation& v : run->warnings()) {
      warnings.push_back(Locate(file.parsed.map, v.field(), absl::StrCat("warning: ", v.description()), v.reason()));
    }
    if (!session.globals().quiet) WriteErr(FormatProblems(file.shown, warnings));
    const std::string name = run->name();
    const auto url = run->run_metadata().find("orchestrator_url");
    const bool known_url = url != run->run_metadata().end();
    if (!wait_ && !watch_) {
      RETURN_IF_ERROR(session.Show(*run, [&] { return name + "\n"; }, {name}));
      if (known_url) session.Note(url->second);
      return kOk;
    }
    // The name first: it is needed most if this program is interrupted.
    if (session.human()) WriteOut(name + "\n");
    if (known_url) session.Note(url->second);
    ASSIGN_OR_RETURN(const Followed followed,
                     watch_ ? FollowRun(session, *client, name) : AwaitRun(session, *client, name, std::nullopt));
    if (followed.detached) return kInterrupted;
    if (!session.human()) RETURN_IF_ERROR(session.Show(followed.run, nullptr, {name}));
    PrintSummary(session, *client, followed.run, /*url=*/!known_url);
    return ExitCodeOf(followed.run.state());
  }

 private:
  // A refused submission: faults of the pipeline with their places in the file, of the request with their flags.
  static absl::StatusOr<int> Refused(const PipelineFile& file, const v1::SubmitRunRequest& request,
                                     client::Client& client, const absl::Status& status) {
    std::vector<Violation> violations = ViolationsOf(status);
    if (violations.empty()) return status;
    // An error has room for a few kilobytes of faults only; all of them come as the answer of a call of its own.
    v1::ValidatePipelineRequest check;
    *check.mutable_pipeline() = request.pipeline();
    *check.mutable_parameters() = request.parameters();
    check.set_orchestrator(request.orchestrator());
    check.set_stack(request.stack());
    if (const auto all = client.ValidatePipeline(check); all.ok()) {
      for (const v1::Violation& v : all->violations()) {
        const bool known = std::any_of(violations.begin(), violations.end(), [&v](const Violation& have) {
          return have.field == v.field() && have.description == v.description();
        });
        if (!known) violations.push_back({v.field(), v.description(), v.reason()});
      }
    }
    std::vector<spec::Problem> problems;
    std::string about_flags;
    for (const Violation& v : violations) {
      if (absl::StartsWith(v.field, "request.")) {
        absl::StrAppend(&about_flags, "orchctl: ", Clean(absl::StrCat(FlagOf(v.field), ": ", v.description)), "\n");
      } else {
        problems.push_back(Locate(file.parsed.map, v.field, v.description, v.reason));
      }
    }
    WriteErr(about_flags);
    return problems.empty() ? kRefused : Refuse(file.shown, problems);
  }

  // `request.parameters.folds` → `--param folds`.
  static std::string FlagOf(const std::string& field) {
    const std::string path = field.substr(std::string("request.").size());
    const size_t dot = path.find('.');
    const std::string head = path.substr(0, dot);
    const std::string rest = dot == std::string::npos ? "" : absl::StrCat(" ", path.substr(dot + 1));
    if (head == "parameters") return absl::StrCat("--param", rest);
    if (head == "labels") return absl::StrCat("--label", rest);
    if (head == "max_parallel") return "--max-parallel";
    if (head == "request_id") return "--request-id";
    if (head == "name" || head == "orchestrator" || head == "priority") return absl::StrCat("--", head);
    return path;
  }

  std::string file_, name_, orchestrator_, stack_, request_id_;
  ImageOptions images_;
  std::vector<std::string> params_, labels_;
  int64_t priority_ = 0, max_parallel_ = 0;
  bool no_cache_ = false, wait_ = false, watch_ = false, no_start_ = false;
};

class ValidateVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("FILE", &file_, "The pipeline, YAML or JSON; `-`: stdin", Kind::kFile);
    flags.List("-p,--param", &params_, "NAME=VALUE", "A parameter (repeat for several)");
    flags.Text("--stack", &stack_, "NAME", "Check against this one [the default stack]", Kind::kStack);
    flags.Text("--orchestrator", &orchestrator_, "NAME", "Check against this one [the stack's]", Kind::kOrchestrator);
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(PipelineFile file, LoadPipeline(file_));
    ASSIGN_OR_RETURN(const auto parameters, ParseParameters(params_));
    v1::ValidatePipelineResponse answer;
    std::vector<spec::Problem> problems = file.parsed.problems;
    for (const spec::Problem& p : problems) AddViolation(p, answer.add_violations());
    bool asked = false;
    if (problems.empty()) {
      v1::ValidatePipelineRequest request;
      *request.mutable_pipeline() = file.parsed.pipeline;
      for (const auto& [name, value] : parameters) (*request.mutable_parameters())[name] = value;
      request.set_orchestrator(orchestrator_);
      request.set_stack(stack_);
      absl::StatusOr<client::Client*> client = session.Connect();
      if (client.ok()) {
        ASSIGN_OR_RETURN(answer, (*client)->ValidatePipeline(request));
        asked = true;
      } else if (ReasonOf(client.status()) != "DAEMON_NOT_RUNNING") {
        return client.status();
      }
      for (const v1::Violation& v : answer.violations()) {
        problems.push_back(Locate(file.parsed.map, v.field(), v.description(), v.reason()));
      }
    }
    std::vector<spec::Problem> warnings;
    for (const v1::Violation& v : answer.warnings()) {
      warnings.push_back(Locate(file.parsed.map, v.field(), absl::StrCat("warning: ", v.description()), v.reason()));
    }
    WriteErr(FormatProblems(file.shown, problems));
    if (!session.globals().quiet) WriteErr(FormatProblems(file.shown, warnings));
    const auto words = [&] {
      if (!problems.empty()) return std::string();
      return absl::StrCat(file.shown, ": good",
                          asked ? absl::StrCat(", ", Counted(static_cast<size_t>(answer.step_count()), "step"))
                                : ", as far as the file alone tells (no daemon is running to check the rest)",
                          "\n");
    };
    RETURN_IF_ERROR(session.Show(answer, words, {}));
    if (problems.empty()) return kOk;
    WriteErr(absl::StrCat("orchctl: ", file.shown, " has ", Counted(problems.size(), "fault"), "\n"));
    return kRefused;
  }

 private:
  static void AddViolation(const spec::Problem& problem, v1::Violation* v) {
    v->set_field(problem.field);
    v->set_description(problem.description);
    v->set_reason(problem.reason);
  }

  std::string file_, orchestrator_, stack_;
  std::vector<std::string> params_;
};

}  // namespace

std::unique_ptr<Verb> MakeSubmit() { return std::make_unique<SubmitVerb>(); }
std::unique_ptr<Verb> MakeValidate() { return std::make_unique<ValidateVerb>(); }

}  // namespace orch::cli
