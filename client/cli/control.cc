// What is asked of runs that exist: cancel-run, delete-run.
#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class CancelRunVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Switch("--force", &force_, "End processes at once instead of asking them first");
    flags.List("--step", &steps_, "STEP", "Only this step (repeat for several)");
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
std::unique_ptr<Verb> MakeDeleteRun() { return std::make_unique<DeleteRunVerb>(); }

}  // namespace orch::cli
