// What is asked of runs that exist: cancel-run, pause-run, resume-run, skip-step, retry-run, delete-run.
#include "absl/strings/str_cat.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/run_text.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "client/cli/watch.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class CancelRunVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Switch("--force", &force_, "End processes at once instead of asking them first");
    flags.List("--step", &steps_, "STEP", "Only this step, or all of a fan-out 'train[*]' (repeat for several)");
    flags.Text("--request-id", &request_id_, "ID", "The same id again does nothing more");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::CancelRunRequest request;
    request.set_name(run_);
    request.set_force(force_);
    request.set_request_id(request_id_);
    for (const std::string& step : steps_) request.add_steps(step);
    ASSIGN_OR_RETURN(const v1::Run run, client->CancelRun(request));
    RETURN_IF_ERROR(session.Show(
        run, [&] { return absl::StrCat(run.name(), " ", v1::Run::State_Name(run.state()), "\n"); }, {run.name()}));
    return kOk;
  }

 private:
  std::string run_, request_id_;
  std::vector<std::string> steps_;
  bool force_ = false;
};

absl::Status ShowState(Session& session, const v1::Run& run) {
  return session.Show(run, [&] { return absl::StrCat(run.name(), " ", v1::Run::State_Name(run.state()), "\n"); },
                      {run.name()});
}

class PauseRunVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Run run, client->PauseRun(run_));
    RETURN_IF_ERROR(ShowState(session, run));
    return kOk;
  }

 private:
  std::string run_;
};

class ResumeRunVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Run run, client->ResumeRun(run_));
    RETURN_IF_ERROR(ShowState(session, run));
    return kOk;
  }

 private:
  std::string run_;
};

class SkipStepVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Positional("STEP", &step_, "The step's name; of a fan-out 'train[2]', or 'train[*]' for all", Kind::kStep);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::SkipStepRequest request;
    request.set_run(run_);
    request.add_steps(step_);
    ASSIGN_OR_RETURN(const v1::Run run, client->SkipStep(request));
    RETURN_IF_ERROR(session.Show(run, [&] { return absl::StrCat(step_, " SKIPPED\n"); }, {run.name()}));
    return kOk;
  }

 private:
  std::string run_, step_;
};

class RetryRunVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.List("--step", &steps_, "STEP",
               "Begin again with this step and all that depends on it; of a fan-out 'train[2]', or 'train[*]' for all "
               "(repeat for several) [those that did not succeed]");
    flags.List("-p,--param", &params_, "NAME=VALUE", "A new value of a parameter (repeat for several)");
    flags.Text("--file", &file_, "FILE",
               "The corrected pipeline, also with other steps; those that are new or do something else run",
               Kind::kFile);
    flags.Switch("--no-cache", &no_cache_, "Compute everything anew");
    flags.Switch("--wait", &wait_, "Wait for the end; exit code by outcome");
    flags.Switch("--watch", &watch_, "Show the progress until the end; exit code by outcome");
    flags.Text("--request-id", &request_id_, "ID", "The same id again does nothing more");
  }
  absl::StatusOr<int> Run(Session& session) override {
    v1::RetryRunRequest request;
    request.set_name(run_);
    ASSIGN_OR_RETURN(const auto parameters, ParseParameters(params_));
    for (const auto& [name, value] : parameters) (*request.mutable_parameters())[name] = value;
    for (const std::string& step : steps_) request.add_steps(step);
    if (!file_.empty()) {
      ASSIGN_OR_RETURN(PipelineFile file, LoadPipeline(file_));
      if (!file.parsed.problems.empty()) {
        WriteErr(FormatProblems(file.shown, file.parsed.problems));
        return kRefused;
      }
      request.mutable_pipeline()->Swap(&file.parsed.pipeline);
    }
    if (no_cache_) request.set_use_cache(false);
    request.set_request_id(request_id_);
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Run run, client->RetryRun(request));
    if (!wait_ && !watch_) {
      RETURN_IF_ERROR(ShowState(session, run));
      return kOk;
    }
    if (session.human()) WriteOut(run.name() + "\n");
    ASSIGN_OR_RETURN(const Followed followed, watch_ ? FollowRun(session, *client, run.name())
                                                     : AwaitRun(session, *client, run.name(), std::nullopt));
    if (followed.detached) return kInterrupted;
    if (!session.human()) RETURN_IF_ERROR(session.Show(followed.run, nullptr, {run.name()}));
    PrintSummary(session, *client, followed.run);
    return ExitCodeOf(followed.run.state());
  }

 private:
  std::string run_, file_, request_id_;
  std::vector<std::string> steps_, params_;
  bool no_cache_ = false, wait_ = false, watch_ = false;
};

class DeleteRunVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeleteRun(run_));
    session.Note(absl::StrCat("run ", run_, " is deleted"));
    return kOk;
  }

 private:
  std::string run_;
};

}  // namespace

std::unique_ptr<Verb> MakeCancelRun() { return std::make_unique<CancelRunVerb>(); }
std::unique_ptr<Verb> MakePauseRun() { return std::make_unique<PauseRunVerb>(); }
std::unique_ptr<Verb> MakeResumeRun() { return std::make_unique<ResumeRunVerb>(); }
std::unique_ptr<Verb> MakeRetryRun() { return std::make_unique<RetryRunVerb>(); }
std::unique_ptr<Verb> MakeSkipStep() { return std::make_unique<SkipStepVerb>(); }
std::unique_ptr<Verb> MakeDeleteRun() { return std::make_unique<DeleteRunVerb>(); }

}  // namespace orch::cli
