#include "backends/kubernetes/config.h"

#include <cmath>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/settings.h"
#include "server/model/size_text.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr size_t kMaxPem = 64 << 10;
constexpr double kMaxBytes = 9007199254740992.0;  // 2^53
constexpr char kLauncherOfOurs[] = "/usr/bin/orch-launch";
constexpr char kLauncherOfImages[] = "/.orch/bin/orch-launch";  // where `orchctl build-image` puts it

class Reader {
 public:
  explicit Reader(std::vector<Violation>* faults) : faults_(*faults) {}

  void Add(const std::string& field, const std::string& what, const char* reason = "WRONG_TYPE") {
    faults_.push_back({field, what, reason});
  }

  std::string Text(const json& value, const std::string& field) {
    if (value.is_string() && value.get<std::string>().find('\0') == std::string::npos) return value.get<std::string>();
    Add(field, "must be a text");
    return "";
  }

  std::string Path(const json& value, const std::string& field) {
    std::string text = Text(value, field);
    if (!text.empty() && !absl::StartsWith(text, "/")) Add(field, "must be an absolute path", "INVALID");
    return text;
  }

  int64_t Bytes(const json& value, const std::string& field) {
    const double bytes = value.is_string()   ? BytesOf(value.get<std::string>())
                         : value.is_number() ? value.get<double>()
                                             : -1;
    if (bytes >= 0 && bytes <= kMaxBytes) return std::llround(bytes);
    Add(field, "must be bytes, or a size such as 16Gi");
    return 0;
  }

  int64_t Count(const json& value, const std::string& field, int64_t scale) {
    if (value.is_number() && value.get<double>() >= 0 && value.get<double>() <= 1e6) {
      return std::llround(value.get<double>() * static_cast<double>(scale));
    }
    Add(field, "must be a number from 0 to 1000000");
    return 0;
  }

  int64_t Whole(const json& value, const std::string& field, int64_t least, int64_t most) {
    if (value.is_number_integer() && value.get<int64_t>() >= least && value.get<int64_t>() <= most) {
      return value.get<int64_t>();
    }
    Add(field, absl::StrCat("must be a whole number from ", least, " to ", most));
    return least;
  }

  std::string Certificates(const json& value, const std::string& field) {
    std::ifstream in(Text(value, field));
    std::stringstream pem;
    pem << in.rdbuf();
    if (absl::StrContains(pem.str(), "BEGIN CERTIFICATE") && pem.str().size() <= kMaxPem) return pem.str();
    Add(field, "must be a readable file with certificates (PEM, at most 64 KiB)", "UNREADABLE");
    return "";
  }

  // True if it is a part of what the orchestrator offers.
  bool Offer(const std::string& key, const std::string& field, const json& value, Capacity* out) {
    if (key == "cpus") {
      out->cpu_millis = Count(value, field, 1000);
    } else if (key == "memory") {
      out->memory = Bytes(value, field);
    } else if (key == "gpus") {
      out->gpu = Count(value, field, 1);
    } else if (key == "gpu_kind") {
      out->gpu_kind = Text(value, field);
    } else if (key == "custom") {
      if (!value.is_object()) {
        Add(field, "must be {NAME: number}");
        return true;
      }
      for (const auto& [name, count] : value.items()) {
        out->custom.emplace_back(name, Count(count, absl::StrCat(field, ".", name), 1));
      }
    } else {
      return false;
    }
    return true;
  }

  bool Cluster(const std::string& key, const std::string& field, const json& value, Config* out) {
    if (key == "kubeconfig") {
      out->kubeconfig = Path(value, field);
    } else if (key == "context") {
      out->context = Text(value, field);
    } else if (key == "namespace") {
      out->space = Text(value, field);
    } else if (key == "endpoint") {
      out->endpoint = Text(value, field);
      if (!absl::StartsWith(out->endpoint, "http://") && !absl::StartsWith(out->endpoint, "https://")) {
        Add(field, "must be http://HOST:PORT or https://HOST:PORT, as pods reach the daemon", "INVALID");
      }
    } else if (key == "ca_file") {
      out->ca_pem = Certificates(value, field);
    } else if (key == "url") {
      out->url = Text(value, field);
    } else {
      return false;
    }
    return true;
  }

  bool Work(const std::string& key, const std::string& field, const json& value, Config* out) {
    if (key == "image") {
      out->image = Text(value, field);
    } else if (key == "pull") {
      if (value == "missing" || value == "always" || value == "never") {
        out->pull = value == "always" ? "Always" : value == "never" ? "Never" : "IfNotPresent";
      } else {
        Add(field, "must be missing, always or never");
      }
    } else if (key == "launcher_image") {
      out->launcher_image = Text(value, field);
    } else if (key == "launcher_path") {
      out->launcher_path = Path(value, field);
    } else if (key == "gpu_resource") {
      out->gpu_resource = Text(value, field);
    } else if (key == "cpu_request_percent") {
      out->cpu_request_percent = static_cast<int>(Whole(value, field, 1, 100));
    } else if (key == "image_seconds") {
      out->image_seconds = Whole(value, field, 1, 86'400);
    } else if (key == "ttl_seconds") {
      out->ttl_seconds = Whole(value, field, 60, 31'536'000);
    } else if (key == "logs_at_once") {
      out->logs_at_once = static_cast<int>(Whole(value, field, 1, 100'000));
    } else {
      return false;
    }
    return true;
  }

 private:
  std::vector<Violation>& faults_;
};

constexpr char kSchemaHead[] = R"({"type":"object","additionalProperties":false,"properties":{)";
// Of an orchestrator alone.
constexpr char kOwnFields[] = R"(
"kubeconfig":{"type":"string","description":"a file [KUBECONFIG, then ~/.kube/config; in a pod its service account]"},
"context":{"type":"string","description":"of the kubeconfig [the current one]"},
"namespace":{"type":"string","description":"where the Jobs are [the context's]"},
"image":{"type":"string","description":"of steps that name none"},
"pull":{"enum":["missing","always","never"],"description":"when images are pulled [as the cluster does]"},
"launcher_image":{"type":"string","description":"the image with orch-launch, for images that do not have it"},
"launcher_path":{"type":"string","description":"where it is there [/usr/bin/orch-launch; in steps' own images /.orch/bin/orch-launch]"},
"endpoint":{"type":"string","description":"how pods reach the daemon [its step endpoint]"},
"ca_file":{"type":"string","description":"who signed the daemon's certificate, for endpoint: https://"},
"url":{"type":"string","description":"of a page about a Job, with {context}, {namespace} and {job}"},
"cpus":{"type":"number","description":"CPUs it offers [not counted]"},
"memory":{"type":["string","integer"],"description":"bytes it offers, such as 16Gi [not counted]"},
"gpus":{"type":"integer","description":"GPUs it offers [not counted]"},
"gpu_kind":{"type":"string","description":"of all its GPUs"},
"custom":{"type":"object","description":"other things it offers, by name"},
"gpu_resource":{"type":"string","description":"what a GPU is called there [nvidia.com/gpu]"},
"cpu_request_percent":{"type":"integer","description":"so much of a step's cpu is asked of the scheduler; its limit is all of it [100]"},
"image_seconds":{"type":"integer","description":"so long an image that cannot be pulled is waited for [60]"},
"ttl_seconds":{"type":"integer","description":"so long the cluster keeps a Job that has ended and was not cleaned up [86400]"},
"logs_at_once":{"type":"integer","description":"logs that are followed at a time; others are read at their end [500]"},
)";
// Of an orchestrator and of its steps.
constexpr char kSettingFields[] = R"("affinity":{"type":"object","description":"as a pod's"},
"annotations":{"type":"object","description":"of the pod and its Job"},
"env":{"type":"object","description":"variables besides the step's own: NAME: text, or NAME: {secretKeyRef: {name, key}}"},
"env_from":{"type":"array","description":"as a container's envFrom"},
"image_pull_secrets":{"type":"array","items":{"type":"string"},"description":"names of Secrets for registries"},
"labels":{"type":"object","description":"of the pod and its Job"},
"node_selector":{"type":"object","description":"labels that the node must have"},
"pod_security_context":{"type":"object","description":"as a pod's securityContext"},
"pod_template":{"type":"object","description":"a strategic merge patch over the pod's template: metadata, spec"},
"priority_class":{"type":"string","description":"the name of a PriorityClass"},
"resources":{"type":"object","description":"requests and limits besides those of the step's resources"},
"runtime_class":{"type":"string","description":"the name of a RuntimeClass"},
"scheduler":{"type":"string","description":"the name of another scheduler"},
"security_context":{"type":"object","description":"as a container's securityContext"},
"service_account":{"type":"string","description":"whose token the pod gets; without one it gets none"},
"shm_size":{"type":["string","integer"],"description":"of /dev/shm"},
"tolerations":{"type":"array","description":"as a pod's"},
"topology_spread":{"type":"array","description":"as a pod's topologySpreadConstraints"},
"volume_mounts":{"type":"array","description":"as a container's volumeMounts"},
"volumes":{"type":"array","description":"as a pod's"})";

}  // namespace

absl::StatusOr<Config> ReadConfig(const std::string& text, absl::string_view also) {
  Config config;
  config.gpu_resource = "nvidia.com/gpu";
  std::vector<Violation> faults;
  Reader reader(&faults);
  const json object = json::parse(text.empty() ? "{}" : text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    reader.Add("config", "must be a mapping");
    return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
  }
  for (const auto& [key, value] : object.items()) {
    const std::string field = absl::StrCat("config.", key);
    if (reader.Cluster(key, field, value, &config) || reader.Work(key, field, value, &config) ||
        reader.Offer(key, field, value, &config.capacity) ||
        ReadSetting(key, value, field, &config.settings, &faults)) {
      continue;
    }
    reader.Add(field,
               absl::StrCat("is unknown; there are kubeconfig, context, namespace, image, pull, launcher_image, "
                            "launcher_path, endpoint, ca_file, url, cpus, memory, gpus, gpu_kind, custom, "
                            "gpu_resource, cpu_request_percent, image_seconds, ttl_seconds, logs_at_once, ",
                            also, SettingNames()),
               "UNKNOWN_FIELD");
  }
  if (config.launcher_path.empty()) {
    config.launcher_path = config.launcher_image.empty() ? kLauncherOfImages : kLauncherOfOurs;
  }
  if (!faults.empty()) return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
  return config;
}

Settings ReadSettings(const Settings& base, absl::string_view text, std::vector<Violation>* faults) {
  Settings out = base;
  const json object = json::parse(text.empty() ? "{}" : std::string(text), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    faults->push_back({"", "must be a mapping", "WRONG_TYPE"});
    return out;
  }
  for (const auto& [key, value] : object.items()) {
    if (ReadSetting(key, value, key, &out, faults)) continue;
    faults->push_back({key, absl::StrCat("is unknown; there are ", SettingNames()), "UNKNOWN_FIELD"});
  }
  return out;
}

std::string ConfigSchema() { return absl::StrCat(kSchemaHead, kOwnFields, kSettingFields, "}}"); }
std::string SettingsSchema() { return absl::StrCat(kSchemaHead, kSettingFields, "}}"); }

}  // namespace orch::kubernetes
