// An attempt as what an API server is asked to make: a Job and the Secret with its token. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

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
};

// The command that a pod is started with, which is in the launcher's image or the step's.
std::string LauncherCommand(const Config& config);
nlohmann::json JobOf(const AttemptWork& work, const Config& config, const JobFacts& facts);
// With what nobody may see; without an owner: that is the Job, once it is there.
nlohmann::json SecretOf(const AttemptWork& work, const JobFacts& facts);
// A merge patch that makes the Job its owner, so that it goes with it.
nlohmann::json OwnerPatch(const std::string& job_name, const std::string& job_uid);

}  // namespace orch::kubernetes
