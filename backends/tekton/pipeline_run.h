// A whole run as a PipelineRun, and what Tekton says of one. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "backends/api/run_outline.h"
#include "backends/kubernetes/manifest.h"

namespace orch::tekton {

// Labels of PipelineRuns, and of what Tekton makes for them.
inline constexpr char kRunLabel[] = "orchd.io/run-id";
inline constexpr char kTaskLabel[] = "orchd.io/task";            // the step's index
inline constexpr char kOfRunLabel[] = "tekton.dev/pipelineRun";  // its name; Tekton's own

struct RunFacts {
  std::string instance;
  std::string orchestrator;
  int number = 1;  // of the run's PipelineRuns: a further one has what is left of it
};

// `RUN-KEY-NUMBER`, as much of the first as fits: children are called after it, and theirs are at most 63 characters.
std::string PipelineRunName(const RunOutline& outline, int number);
// How a task is called in it.
std::string TaskName(const std::string& step, uint32_t index);

nlohmann::json PipelineRunOf(const RunOutline& outline, const kubernetes::Config& config, const RunFacts& facts);
// With the tasks' tokens.
nlohmann::json SecretOf(const RunOutline& outline, const RunFacts& facts);

// Why it cannot be one; empty: it can.
std::string WhyNotWhole(const RunOutline& outline, const kubernetes::Config& config);

struct PipelineRunView {
  std::string name, uid;
  std::string run_id;  // as the label has it
  int number = 0;
  bool ours = false;
  bool deleting = false;
  bool over = false;
  std::string reason, message;            // Tekton's
  std::map<uint32_t, std::string> tasks;  // by step index: what each is called
};
PipelineRunView ReadPipelineRun(const nlohmann::json& object, const std::string& selector);

}  // namespace orch::tekton
