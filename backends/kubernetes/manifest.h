// An attempt as what an API server is asked to make: a Job and the Secret with its token. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "backends/api/backend.h"
#include "backends/kubernetes/config.h"

namespace orch::kubernetes {

// Labels, by which a daemon knows its own objects.
inline constexpr char kInstanceLabel[] = "orchd.io/instance";
inline constexpr char kOrchestratorLabel[] = "orchd.io/orchestrator";
inline constexpr char kKeyLabel[] = "orchd.io/key";

// Where pods find the launcher, and where their work is: folders of the pod's own.
inline constexpr char kPrograms[] = "/.orch/bin";
inline constexpr char kWork[] = "/.orch/work";

// `RUN-STEP-ATTEMPT-KEY`, as much of the first two as fits: at most 63 characters, a DNS label. The same for Job and
// Secret; pods have it and five characters more.
std::string JobName(const AttemptName& name);

// Of all objects of one orchestrator, as a query takes them.
std::string LabelSelector(const std::string& instance, const std::string& orchestrator);

// Whatever the Job gets besides what the attempt's work says.
struct JobFacts {
  std::string instance;
  std::string orchestrator;
  std::string image;
  Settings settings;  // the step's, over its orchestrator's
  // The Secret with its token, and what it is called there; empty: the attempt's own.
  std::string secret, secret_key;
  std::vector<std::pair<std::string, std::string>> more_labels;
};

// The command that a pod is started with, which is in the launcher's image or the step's.
std::string LauncherCommand(const Config& config);
// How long its pod has between SIGTERM and SIGKILL, for a step's own time: the launcher ends what is left.
int64_t GraceSeconds(int64_t grace_micros);
// The variables of its container.
nlohmann::json EnvOf(const AttemptWork& work, const Config& config, const JobFacts& facts);
// A pod's template (PodTemplateSpec), with all that settings say but for their own patches of it.
nlohmann::json PodTemplateOf(const AttemptWork& work, const Config& config, const JobFacts& facts);
void PatchPod(const Settings& settings, nlohmann::json* pod_template);
nlohmann::json JobOf(const AttemptWork& work, const Config& config, const JobFacts& facts);
// With what nobody may see; without an owner: that is the Job, once it is there.
nlohmann::json SecretOf(const AttemptWork& work, const JobFacts& facts);
// A merge patch that makes an object, such as the Job, its owner, so that it goes with it.
nlohmann::json OwnerPatch(const std::string& api_version, const std::string& kind, const std::string& name,
                          const std::string& uid);

// Small letters and digits of a text, everything else as single dashes between them: for names of objects.
std::string Slug(absl::string_view text, size_t longest);
// What a label can hold of it: for people.
std::string LabelValue(absl::string_view text);
// The same, for what is told apart by it: with a digest behind where that is not all of the text.
std::string UniqueLabelValue(absl::string_view text);

}  // namespace orch::kubernetes
