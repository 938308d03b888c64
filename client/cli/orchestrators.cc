// list-flavors, describe-flavor, register-orchestrator, list-orchestrators; what becomes of one is in placement.cc.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/json.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/placement.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

// `ready`, `needs: …`, `not in this build`: the words of the daemon where it has some.
Cell StatusCell(const v1::Flavor& flavor) {
  const bool ready = flavor.status() == v1::Flavor::READY;
  std::string text = flavor.status_message();
  if (text.empty()) {
    text = absl::AsciiStrToLower(v1::Flavor::Status_Name(flavor.status()));
    std::replace(text.begin(), text.end(), '_', ' ');
  }
  const Color color = ready ? Color::kGreen : flavor.status() == v1::Flavor::NEEDS ? Color::kYellow : Color::kDim;
  return {ready && flavor.status_message().empty() ? "ready" : text, color};
}

class ListFlavorsVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ListFlavorsResponse answer, client->ListFlavors());
    std::vector<std::string> names;
    for (const v1::Flavor& flavor : answer.flavors()) names.push_back(flavor.name());
    const auto render = [&] {
      std::vector<std::string> headers = {"FLAVOR", "UNIT", "STATUS", "NEEDS"};
      if (session.wide()) headers.insert(headers.end(), {"NATIVE", "SUPPLIED BY ORCHD"});
      Table table(headers);
      for (const v1::Flavor& flavor : answer.flavors()) {
        std::vector<Cell> row = {flavor.name(), absl::StrJoin(flavor.units(), ", "), StatusCell(flavor),
                                 flavor.needs()};
        if (session.wide()) {
          row.emplace_back(absl::StrJoin(flavor.native(), ", "));
          row.emplace_back(absl::StrJoin(flavor.supplied(), ", "));
        }
        table.Add(std::move(row));
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class DescribeFlavorVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("FLAVOR", &name_, "The flavor's name", Kind::kText); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Flavor flavor, client->DescribeFlavor(name_));
    const auto render = [&] {
      std::string text = RenderFacts({{"Name", flavor.name()},
                                      {"Status", StatusCell(flavor)},
                                      {"Plug-in", flavor.plugin()},
                                      {"Version", flavor.plugin_version()},
                                      {"Description", flavor.description()},
                                      {"Unit", absl::StrJoin(flavor.units(), ", ")},
                                      {"Needs", flavor.needs()},
                                      {"Native", absl::StrJoin(flavor.native(), ", ")},
                                      {"Supplied", absl::StrJoin(flavor.supplied(), ", ")}},
                                     session.out());
      const auto schema = [&](const char* title, bool has, const google::protobuf::Struct& value) {
        if (has) absl::StrAppend(&text, "\n", session.out().Paint(title, Color::kBold), "\n", ToYaml(ToJson(value)));
      };
      schema("Configuration (JSON Schema)", flavor.has_config_schema(), flavor.config_schema());
      schema("Settings of a step (JSON Schema)", flavor.has_settings_schema(), flavor.settings_schema());
      return text;
    };
    RETURN_IF_ERROR(session.Show(flavor, render, {flavor.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

std::string ConfigText(const v1::Orchestrator& o) {
  return o.config().fields().empty() ? "" : ToJson(o.config()).dump();
}

class RegisterOrchestratorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The name under which runs ask for it", Kind::kText);
    flags.Text("--flavor", &flavor_, "FLAVOR", "Its kind, see list-flavors (required)");
    flags.List("--config", &config_, "KEY=VALUE", "A field of its configuration (repeat for several)");
    flags.Text("--config-file", &config_file_, "FILE", "Its configuration as YAML or JSON", Kind::kFile);
    flags.Int("--max-parallel", &max_parallel_, 1, 1'000'000, "At most so many attempts at a time");
    flags.Text("--max-rate", &max_rate_, "N", "At most so many submissions a second, such as 5 or 0.2");
    flags.Switch("--dry-run", &dry_run_, "Only check");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (flavor_.empty()) return UsageError("give --flavor; `orchctl list-flavors` shows them");
    v1::RegisterOrchestratorRequest request;
    request.set_request_id(request_id_);
    request.set_validate_only(dry_run_);
    v1::Orchestrator* orchestrator = request.mutable_orchestrator();
    orchestrator->set_name(name_);
    orchestrator->set_flavor(flavor_);
    orchestrator->set_max_parallel(static_cast<int32_t>(max_parallel_));
    if (!max_rate_.empty()) {
      ASSIGN_OR_RETURN(const double rate, ParseRate(max_rate_));
      orchestrator->set_max_rate(rate);
    }
    spec::ConfigDocument document;
    if (!config_file_.empty()) {
      ASSIGN_OR_RETURN(const std::string text, ReadInput(config_file_, spec::ParseLimits().bytes));
      document = spec::ParseConfig(text);
      if (!document.problems.empty()) {
        WriteErr(FormatProblems(config_file_, document.problems));
        return kRefused;
      }
      *orchestrator->mutable_config() = document.value;
    }
    ASSIGN_OR_RETURN(const auto fields, ParseParameters(config_));
    for (const auto& [key, value] : fields) (*orchestrator->mutable_config()->mutable_fields())[key] = value;

    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    const absl::StatusOr<v1::Orchestrator> answer = client->RegisterOrchestrator(request);
    RETURN_IF_ERROR(answer.status());
    const auto words = [&] {
      return absl::StrCat(dry_run_ ? "good: " : "registered ", answer->name(), " (", answer->flavor(), ")\n");
    };
    RETURN_IF_ERROR(session.Show(*answer, words, {answer->name()}));
    return kOk;
  }

 private:
  std::string name_, flavor_, config_file_, request_id_, max_rate_;
  std::vector<std::string> config_;
  int64_t max_parallel_ = 0;
  bool dry_run_ = false;
};

class ListOrchestratorsVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListOrchestratorsRequest request;
    request.set_page_size(1000);
    v1::ListOrchestratorsResponse answer;
    do {
      ASSIGN_OR_RETURN(v1::ListOrchestratorsResponse page, client->ListOrchestrators(request));
      for (v1::Orchestrator& o : *page.mutable_orchestrators()) *answer.add_orchestrators() = std::move(o);
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    std::vector<std::string> names;
    for (const v1::Orchestrator& o : answer.orchestrators()) names.push_back(o.name());
    const auto render = [&] {
      Table table({"NAME", "FLAVOR", "HEALTH", "CPU", "MEMORY", "MAX PARALLEL", "CREATED", "CONFIG"});
      const int64_t now = WallNow();
      for (const v1::Orchestrator& o : answer.orchestrators()) {
        table.Add({o.name(), o.flavor(), HealthCell(o.health()),
                   o.capacity().has_cpu() ? absl::StrCat(o.capacity().cpu()) : "",
                   o.capacity().has_memory() ? Bytes(o.capacity().memory()) : "",
                   o.max_parallel() > 0 ? absl::StrCat(o.max_parallel()) : "",
                   o.has_create_time() ? Ago(Micros(o.create_time()), now) : "", ConfigText(o)});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class DeleteOrchestratorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The orchestrator's name", Kind::kOrchestrator);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeleteOrchestrator(name_));
    session.Note(absl::StrCat("orchestrator ", name_, " is deleted"));
    return kOk;
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Verb> MakeDeleteOrchestrator() { return std::make_unique<DeleteOrchestratorVerb>(); }
std::unique_ptr<Verb> MakeListFlavors() { return std::make_unique<ListFlavorsVerb>(); }
std::unique_ptr<Verb> MakeDescribeFlavor() { return std::make_unique<DescribeFlavorVerb>(); }
std::unique_ptr<Verb> MakeRegisterOrchestrator() { return std::make_unique<RegisterOrchestratorVerb>(); }
std::unique_ptr<Verb> MakeListOrchestrators() { return std::make_unique<ListOrchestratorsVerb>(); }

}  // namespace orch::cli
