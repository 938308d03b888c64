#include "backends/tekton/config.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace orch::tekton {
namespace {

using nlohmann::json;

constexpr char kDashboard[] = "dashboard";
constexpr char kGranularity[] = "granularity";

}  // namespace

absl::StatusOr<Config> ReadConfig(const std::string& text) {
  Config config;
  json object = json::parse(text.empty() ? "{}" : text, nullptr, /*allow_exceptions=*/false);
  std::vector<Violation> faults;
  if (object.is_object()) {
    if (const auto found = object.find(kDashboard); found != object.end()) {
      if (found->is_string()) config.dashboard = found->get<std::string>();
      if (!absl::StartsWith(config.dashboard, "http://") && !absl::StartsWith(config.dashboard, "https://")) {
        faults.push_back({"config.dashboard", "must be http://… or https://…, where Tekton's dashboard is", "INVALID"});
      }
      object.erase(found);
    }
    if (const auto found = object.find(kGranularity); found != object.end()) {
      config.whole_runs = *found == "run";
      if (*found != "step" && *found != "run")
        faults.push_back({"config.granularity", "must be run or step", "INVALID"});
      object.erase(found);
    }
    for (const char* name : {"url", "ttl_seconds"}) {
      if (object.erase(name) == 0) continue;
      faults.push_back({absl::StrCat("config.", name),
                        absl::StrCat("is for Jobs; ", name[0] == 'u' ? "a link is made of `dashboard`"
                                                                     : "Tekton keeps its runs until they are removed"),
                        "UNKNOWN_FIELD"});
    }
  }
  absl::StatusOr<kubernetes::Config> pods =
      kubernetes::ReadConfig(object.is_object() ? object.dump() : text, "granularity, dashboard, ");
  if (!pods.ok() && faults.empty()) return pods.status();
  if (!faults.empty()) {
    for (const Violation& fault : pods.ok() ? std::vector<Violation>() : ViolationsOf(pods.status())) {
      faults.push_back(fault);
    }
    return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
  }
  config.pods = *std::move(pods);
  if (!config.dashboard.empty()) {
    config.dashboard = std::string(absl::StripSuffix(config.dashboard, "/"));
    config.pods.url = absl::StrCat(config.dashboard, "/#/namespaces/{namespace}/taskruns/{job}");
  }
  return config;
}

std::string ConfigSchema() {
  json schema = json::parse(kubernetes::ConfigSchema());
  json& properties = schema["properties"];
  properties.erase("url");
  properties.erase("ttl_seconds");
  properties[kGranularity] = {
      {"enum", {"run", "step"}},
      {"description", "run: a run is a PipelineRun where it can be; step: a TaskRun for each step [step]"}};
  properties[kDashboard] = {{"type", "string"}, {"description", "where Tekton's dashboard is, for links"}};
  return schema.dump();
}

}  // namespace orch::tekton
