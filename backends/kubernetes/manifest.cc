#include "backends/kubernetes/manifest.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "backends/kubernetes/pod_schema.h"
#include "backends/kubernetes/settings.h"
#include "server/base/digest.h"
#include "server/base/stream_marks.h"
#include "server/base/utf8.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr char kBinVolume[] = "orch-bin";
constexpr char kWorkVolume[] = "orch-work";
constexpr char kShmVolume[] = "orch-shm";
constexpr char kTokenVariable[] = "ORCH_TOKEN";
constexpr char kTaskVariable[] = "ORCH_TASK";
constexpr char kPlaceVariable[] = "ORCH_PLACE";
constexpr char kTokenKey[] = "token";
constexpr size_t kLongestName = 63;
constexpr size_t kLongestRun = 20;
constexpr size_t kDigestLetters = 12;
// Between the stop of a step and that of its pod: the launcher ends what is left, and tells the daemon.
constexpr int64_t kLauncherSeconds = 5;

// The cluster puts variables in where it finds `$(NAME)`.
std::string Escaped(const std::string& text) { return absl::StrReplaceAll(text, {{"$(", "$$("}}); }

json Labels(const AttemptName& name, const JobFacts& facts) {
  json out = {{"app.kubernetes.io/managed-by", "orchd"},
              {kInstanceLabel, facts.instance},
              {kOrchestratorLabel, UniqueLabelValue(facts.orchestrator)},
              {"orchd.io/run", LabelValue(name.run_name)},
              {"orchd.io/step", LabelValue(name.step)}};
  if (!name.key.empty()) out[kKeyLabel] = name.key;
  if (name.attempt > 0) out["orchd.io/attempt"] = absl::StrCat(name.attempt);
  for (const auto& [label, value] : facts.more_labels) out[label] = value;
  return out;
}

json Field(const Settings& settings, const char* name) { return settings.fields.value(name, json()); }

// Of what is set, under the names that a pod has for it.
void Copy(const Settings& settings, const std::vector<std::pair<const char*, const char*>>& names, json* out) {
  for (const auto& [ours, theirs] : names) {
    json value = Field(settings, ours);
    if (!value.is_null()) (*out)[theirs] = std::move(value);
  }
}

json ResourcesOf(const Resources& resources, const Config& config, const Settings& settings, bool gpus) {
  json limits = {{"cpu", absl::StrCat(resources.cpu_millis, "m")}};
  const int64_t request = std::max<int64_t>(1, resources.cpu_millis * config.cpu_request_percent / 100);
  json requests = {{"cpu", absl::StrCat(request, "m")}};
  if (resources.cpu_millis == 0) limits = requests = json::object();
  if (resources.memory > 0) limits["memory"] = requests["memory"] = absl::StrCat(resources.memory);
  if (resources.disk > 0) limits["ephemeral-storage"] = requests["ephemeral-storage"] = absl::StrCat(resources.disk);
  if (resources.gpu > 0 && gpus) limits[config.gpu_resource] = absl::StrCat(resources.gpu);
  json out = {{"limits", limits}, {"requests", requests}};
  if (json more = Field(settings, "resources"); gpus && more.is_object()) {
    MergePod("ResourceRequirements", more, &out);
  }
  return out;
}

json PodSpecOf(const AttemptWork& work, const Config& config, const JobFacts& facts) {
  const Settings& settings = facts.settings;
  json volumes = json::array({{{"name", kWorkVolume}, {"emptyDir", json::object()}}});
  json mounts = json::array({{{"name", kWorkVolume}, {"mountPath", kWork}}});
  json main = {{"name", kMainContainer},
               {"image", facts.image},
               {"command", work.command},
               {"workingDir", work.working_dir},
               {"env", EnvOf(work, config, facts)},
               {"resources", ResourcesOf(work.resources, config, settings, true)}};
  for (json& word : main["command"]) word = Escaped(word.get<std::string>());
  if (!config.pull.empty()) main["imagePullPolicy"] = config.pull;
  Copy(settings, {{"security_context", "securityContext"}, {"env_from", "envFrom"}}, &main);
  json spec = {{"restartPolicy", "Never"},
               {"enableServiceLinks", false},
               {"automountServiceAccountToken", settings.fields.contains("service_account")},
               {"terminationGracePeriodSeconds", GraceSeconds(work.grace_micros)}};
  if (!config.launcher_image.empty()) {
    volumes.push_back({{"name", kBinVolume}, {"emptyDir", json::object()}});
    mounts.push_back({{"name", kBinVolume}, {"mountPath", kPrograms}, {"readOnly", true}});
    json bring = {{"name", kLauncherContainer},
                  {"image", config.launcher_image},
                  {"command", {config.launcher_path, "install", kPrograms}},
                  {"resources", ResourcesOf(work.resources, config, settings, false)},
                  {"volumeMounts", json::array({{{"name", kBinVolume}, {"mountPath", kPrograms}}})}};
    if (!config.pull.empty()) bring["imagePullPolicy"] = config.pull;
    Copy(settings, {{"security_context", "securityContext"}}, &bring);
    spec["initContainers"] = json::array({std::move(bring)});
  }
  if (const json size = Field(settings, "shm_size"); !size.is_null()) {
    volumes.push_back({{"name", kShmVolume}, {"emptyDir", {{"medium", "Memory"}, {"sizeLimit", size}}}});
    mounts.push_back({{"name", kShmVolume}, {"mountPath", "/dev/shm"}});
  }
  for (const json& volume : Field(settings, "volumes")) volumes.push_back(volume);
  for (const json& mount : Field(settings, "volume_mounts")) mounts.push_back(mount);
  main["volumeMounts"] = std::move(mounts);
  spec["volumes"] = std::move(volumes);
  spec["containers"] = json::array({std::move(main)});
  Copy(settings,
       {{"affinity", "affinity"},
        {"node_selector", "nodeSelector"},
        {"pod_security_context", "securityContext"},
        {"priority_class", "priorityClassName"},
        {"runtime_class", "runtimeClassName"},
        {"scheduler", "schedulerName"},
        {"service_account", "serviceAccountName"},
        {"tolerations", "tolerations"},
        {"topology_spread", "topologySpreadConstraints"}},
       &spec);
  for (const json& name : Field(settings, "image_pull_secrets")) spec["imagePullSecrets"].push_back({{"name", name}});
  return spec;
}

}  // namespace

json EnvOf(const AttemptWork& work, const Config& config, const JobFacts& facts) {
  json env = json::array();
  const auto put = [&](const std::string& name, const std::string& value) {
    env.push_back({{"name", name}, {"value", Escaped(ToUtf8(value))}});
  };
  for (const auto& [name, value] : work.env) {
    if (name == kPlaceVariable) {
      const auto field = [](const char* path) { return json{{"fieldRef", {{"fieldPath", path}}}}; };
      env.push_back({{"name", "ORCH_POD_NAME"}, {"valueFrom", field("metadata.name")}});
      env.push_back({{"name", "ORCH_POD_UID"}, {"valueFrom", field("metadata.uid")}});
      env.push_back({{"name", name}, {"value", "$(ORCH_POD_NAME)/$(ORCH_POD_UID)"}});
      continue;
    }
    if (name != kTokenVariable && name != kTaskVariable) {
      put(name, value);
      continue;
    }
    const json key = {{"name", facts.secret.empty() ? JobName(work.name) : facts.secret},
                      {"key", facts.secret_key.empty() ? kTokenKey : facts.secret_key}};
    env.push_back({{"name", name}, {"valueFrom", {{"secretKeyRef", key}}}});
  }
  if (!config.ca_pem.empty()) put("ORCH_CA_PEM", config.ca_pem);
  put(kStreamsVariable, kStreamsInOne);
  put("ORCH_OWN_CGROUP", "1");  // the launcher sees what the kernel did for want of memory
  const json more = Field(facts.settings, "env");
  if (!more.is_object()) return env;
  for (const auto& [name, value] : more.items()) {
    if (value.is_string()) {
      env.push_back({{"name", name}, {"value", value}});
    } else {
      env.push_back({{"name", name}, {"valueFrom", value}});
    }
  }
  return env;
}

std::string Slug(absl::string_view text, size_t longest) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte)) {
      out.push_back(absl::ascii_tolower(byte));
    } else if (!out.empty() && out.back() != '-') {
      out.push_back('-');
    }
    if (out.size() == longest) break;
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "x" : out;
}

std::string LabelValue(absl::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kLongestName)) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back(absl::ascii_isalnum(byte) || c == '-' || c == '_' || c == '.' ? c : '-');
  }
  const auto edge = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); };
  while (!out.empty() && !edge(out.back())) out.pop_back();
  const size_t begin = static_cast<size_t>(std::find_if(out.begin(), out.end(), edge) - out.begin());
  return out.substr(begin);
}

std::string UniqueLabelValue(absl::string_view text) {
  std::string out = LabelValue(text);
  if (out == text) return out;
  out = LabelValue(text.substr(0, kLongestName - kDigestLetters - 1));
  return absl::StrCat(out, out.empty() ? "" : "-", Base32(Sha256Of(text)).substr(0, kDigestLetters));
}

int64_t GraceSeconds(int64_t grace_micros) { return (grace_micros + 999'999) / 1'000'000 + kLauncherSeconds; }

std::string JobName(const AttemptName& name) {
  const std::string end = absl::StrCat("-", name.attempt, "-", name.key);
  const std::string run = Slug(name.run_name, kLongestRun);
  const std::string begin = absl::StrCat(run, "-", Slug(name.step, kLongestName - end.size() - run.size() - 1));
  return absl::StrCat(begin, end);
}

std::string LabelSelector(const std::string& instance, const std::string& orchestrator) {
  return absl::StrCat(kInstanceLabel, "=", instance, ",", kOrchestratorLabel, "=", UniqueLabelValue(orchestrator));
}

std::string LauncherCommand(const Config& config) {
  return config.launcher_image.empty() ? config.launcher_path : absl::StrCat(kPrograms, "/orch-launch");
}

json PodTemplateOf(const AttemptWork& work, const Config& config, const JobFacts& facts) {
  json labels = Field(facts.settings, "labels");
  if (!labels.is_object()) labels = json::object();
  labels.update(Labels(work.name, facts));
  json annotations = Field(facts.settings, "annotations");
  if (!annotations.is_object()) annotations = json::object();
  annotations.update(json{{"orchd.io/run", ToUtf8(work.name.run_name)},
                          {"orchd.io/run-id", work.name.run_id},
                          {"orchd.io/step", ToUtf8(work.name.step)}});
  json out = {{"metadata", {{"labels", std::move(labels)}, {"annotations", std::move(annotations)}}},
              {"spec", PodSpecOf(work, config, facts)}};
  return out;
}

json JobOf(const AttemptWork& work, const Config& config, const JobFacts& facts) {
  json template_ = PodTemplateOf(work, config, facts);
  const json metadata = {{"name", JobName(work.name)},
                         {"labels", template_["metadata"]["labels"]},
                         {"annotations", template_["metadata"]["annotations"]}};
  PatchPod(facts.settings, &template_);
  return {{"apiVersion", "batch/v1"},
          {"kind", "Job"},
          {"metadata", metadata},
          {"spec",
           {{"parallelism", 1},
            {"completions", 1},
            {"backoffLimit", 0},  // what is tried again is a further attempt, and a Job of its own
            {"ttlSecondsAfterFinished", config.ttl_seconds},
            {"template", std::move(template_)}}}};
}

void PatchPod(const Settings& settings, json* pod_template) {
  for (const json& patch : settings.pod_templates) MergePod("PodTemplateSpec", patch, pod_template);
}

json SecretOf(const AttemptWork& work, const JobFacts& facts) {
  json data = json::object();
  for (const auto& [name, value] : work.env) {
    if (name == kTokenVariable) data[kTokenKey] = value;
  }
  return {{"apiVersion", "v1"},
          {"kind", "Secret"},
          {"metadata", {{"name", JobName(work.name)}, {"labels", Labels(work.name, facts)}}},
          {"type", "Opaque"},
          {"stringData", std::move(data)}};
}

json OwnerPatch(const std::string& api_version, const std::string& kind, const std::string& name,
                const std::string& uid) {
  return {{"metadata",
           {{"ownerReferences", json::array({{{"apiVersion", api_version},
                                              {"kind", kind},
                                              {"name", name},
                                              {"uid", uid},
                                              {"controller", false},
                                              {"blockOwnerDeletion", false}}})}}}};
}

}  // namespace orch::kubernetes
