// The configuration of an orchestrator of flavor `kubernetes`, and the settings of its steps.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "server/base/status.h"

namespace orch::kubernetes {

// What a step may say otherwise than its orchestrator, checked: by the names that users know them by. Maps of a step
// are put over those of its orchestrator, lists and texts take their place, and of `pod_template` both are applied.
struct Settings {
  nlohmann::json fields = nlohmann::json::object();
  std::vector<nlohmann::json> pod_templates;
};

struct Config {
  std::string kubeconfig;      // a file; empty: $KUBECONFIG, then ~/.kube/config, then what a pod is given
  std::string context;         // empty: the current one
  std::string space;           // the namespace; empty: the context's
  std::string image;           // of steps that name none
  std::string pull;            // `IfNotPresent`, `Always`, `Never`; empty: the cluster's default
  std::string launcher_image;  // where an init container takes the launcher from; empty: steps' images have it
  std::string launcher_path;   // in that image, or in the steps'
  std::string endpoint;        // how pods reach the daemon; empty: as the daemon is configured
  std::string ca_pem;          // who signed its certificate there
  std::string url;             // of a page about a Job, with {namespace}, {job} and {context}; empty: there is none
  std::string gpu_resource;
  int cpu_request_percent = 100;  // so much of a step's cpu is asked of the scheduler; its limit is all of it
  int64_t image_seconds = 60;     // so long an image that cannot be pulled is waited for
  int64_t ttl_seconds = 86'400;   // so long the cluster keeps a Job that has ended and was not cleaned up
  int logs_at_once = 500;         // logs that are followed at a time; those of further steps are read at their end
  Settings settings;
  Capacity capacity;
};

// `text` is a JSON object. INVALID_ARGUMENT (CONFIG_INVALID) with all faults.
// `also`: the names of fields that its flavor has read already, for the words of a fault: `granularity, `.
absl::StatusOr<Config> ReadConfig(const std::string& text, absl::string_view also = "");
// A step's, over those of its orchestrator. What is wrong with them is appended to `faults`, with fields below them.
Settings ReadSettings(const Settings& base, absl::string_view text, std::vector<Violation>* faults);

// Their JSON Schemas.
std::string ConfigSchema();
std::string SettingsSchema();

}  // namespace orch::kubernetes
