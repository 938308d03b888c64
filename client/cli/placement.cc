// get-orchestrator, check-orchestrator, update-orchestrator.
#include "client/cli/placement.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {

Cell HealthCell(const v1::OrchestratorHealth& health) {
  if (health.state() == v1::OrchestratorHealth::STATE_UNSPECIFIED) return std::string();
  const bool good = health.state() == v1::OrchestratorHealth::HEALTHY;
  return {absl::AsciiStrToLower(v1::OrchestratorHealth::State_Name(health.state())),
          good ? Color::kGreen : Color::kYellow};
}

absl::StatusOr<double> ParseRate(const std::string& text) {
  double rate = 0;
  if (!absl::SimpleAtod(text, &rate) || !(rate >= 0) || rate > 1'000'000) {
    return UsageError(absl::StrCat("--max-rate: `", text, "` is no number of submissions a second, such as 5 or 0.2"));
  }
  return rate;
}

namespace {

std::vector<std::pair<std::string, Cell>> HealthFacts(const v1::OrchestratorHealth& health) {
  const int64_t now = WallNow();
  return {{"Health", HealthCell(health)},
          {"Since", health.has_since() ? Ago(Micros(health.since()), now) : ""},
          {"Refused in a row", health.failures() > 0 ? absl::StrCat(health.failures()) : ""},
          {"Last error", health.last_error()},
          {"Asked again", health.has_retry_time() ? Ago(Micros(health.retry_time()), now) : ""}};
}

class GetOrchestratorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The orchestrator's name", Kind::kOrchestrator);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Orchestrator o, client->GetOrchestrator(name_));
    const auto render = [&] {
      std::vector<std::pair<std::string, Cell>> facts = {{"Name", o.name()}, {"Flavor", o.flavor()}};
      for (auto& fact : HealthFacts(o.health())) facts.push_back(std::move(fact));
      const std::vector<std::pair<std::string, Cell>> rest = {
          {"Running", absl::StrCat(o.health().running())},
          {"To be submitted again", o.health().held() > 0 ? absl::StrCat(o.health().held()) : ""},
          {"At most at a time", o.max_parallel() > 0 ? absl::StrCat(o.max_parallel()) : ""},
          {"At most a second", o.max_rate() > 0 ? absl::StrCat(o.max_rate()) : ""},
          {"CPU", o.capacity().has_cpu() ? absl::StrCat(o.capacity().cpu()) : ""},
          {"Memory", o.capacity().has_memory() ? Bytes(o.capacity().memory()) : ""},
          {"Configuration", o.config().fields().empty() ? "" : ToJson(o.config()).dump()},
          {"Version", absl::StrCat(o.version())}};
      facts.insert(facts.end(), rest.begin(), rest.end());
      return RenderFacts(facts, session.out());
    };
    RETURN_IF_ERROR(session.Show(o, render, {o.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

class CheckOrchestratorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The orchestrator's name", Kind::kOrchestrator);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::CheckOrchestratorRequest request;
    request.set_name(name_);
    ASSIGN_OR_RETURN(const v1::CheckOrchestratorResponse answer, client->CheckOrchestrator(request));
    const auto render = [&] {
      Table table({"CHECK", "", "FOUND"});
      for (const auto& check : answer.checks()) {
        table.Add({check.name(),
                   {check.good() ? "good" : "bad", check.good() ? Color::kGreen : Color::kRed},
                   check.good() || check.fix().empty() ? check.text() : absl::StrCat(check.text(), "; ", check.fix())});
      }
      if (table.empty()) table.Add({"-", Cell("good", Color::kGreen), "this flavor has nothing to ask"});
      return absl::StrCat(table.Render(session.out()), "\n", RenderFacts(HealthFacts(answer.health()), session.out()));
    };
    RETURN_IF_ERROR(session.Show(answer, render, {name_}));
    return answer.good() ? kOk : kRefused;
  }

 private:
  std::string name_;
};

class UpdateOrchestratorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The orchestrator's name", Kind::kOrchestrator);
    flags.List("--config", &config_, "KEY=VALUE", "A field of its configuration (repeat for several)");
    flags.Int("--max-parallel", &max_parallel_, 0, 1'000'000, "At most so many attempts at a time; 0: no limit");
    flags.Text("--max-rate", &max_rate_, "N", "At most so many submissions a second, such as 5 or 0.2; 0: no limit");
    flags.Switch("--dry-run", &dry_run_, "Only check");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(v1::Orchestrator o, client->GetOrchestrator(name_));  // with its version: what others change shows
    ASSIGN_OR_RETURN(const auto fields, ParseParameters(config_));
    for (const auto& [key, value] : fields) (*o.mutable_config()->mutable_fields())[key] = value;
    if (max_parallel_ >= 0) o.set_max_parallel(static_cast<int32_t>(max_parallel_));
    if (!max_rate_.empty()) {
      ASSIGN_OR_RETURN(const double rate, ParseRate(max_rate_));
      o.set_max_rate(rate);
    }
    v1::UpdateOrchestratorRequest request;
    request.set_request_id(request_id_);
    request.set_validate_only(dry_run_);
    *request.mutable_orchestrator() = std::move(o);
    ASSIGN_OR_RETURN(const v1::Orchestrator answer, client->UpdateOrchestrator(std::move(request)));
    const auto words = [&] {
      return absl::StrCat(dry_run_ ? "good: " : "updated ", answer.name(), " (version ", answer.version(), ")\n");
    };
    RETURN_IF_ERROR(session.Show(answer, words, {answer.name()}));
    return kOk;
  }

 private:
  std::string name_, max_rate_, request_id_;
  std::vector<std::string> config_;
  int64_t max_parallel_ = -1;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeGetOrchestrator() { return std::make_unique<GetOrchestratorVerb>(); }
std::unique_ptr<Verb> MakeCheckOrchestrator() { return std::make_unique<CheckOrchestratorVerb>(); }
std::unique_ptr<Verb> MakeUpdateOrchestrator() { return std::make_unique<UpdateOrchestratorVerb>(); }

}  // namespace orch::cli
