// From a step as written to the words and variables its process gets. Pure but for the clock-free look at this
// machine's own PATH.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "server/engine/run_context.h"
#include "server/model/template.h"

namespace orch {

// One input as the step will find it.
struct ReadyInput {
  bool present = false;
  std::string path;
  std::string value_json;  // of a value input
  std::string digest;      // raw; for the cache key
};

struct RenderFacts {
  const RunContext* run = nullptr;
  StepIx ix = 0;
  uint32_t attempt = 0;
  std::string key;
  const Workspace* workspace = nullptr;
  const std::vector<ReadyInput>* inputs = nullptr;  // as StepSpec.inputs
  std::string params_path;
  // Paths of outputs by name, where the step has ended; null: they are in the workspace.
  const std::map<std::string, std::string>* outputs = nullptr;
  std::string endpoint;
  std::string token;
  std::string ca_path;  // a file with the certificates that sign the endpoint's; empty: the system knows them
  std::string binary_dir;
  bool own_environment = false;  // as Backend::has_own_environment
  // Where the step finds its source, if that is not where it was submitted.
  std::string source_dir;
};

// How templates are filled in. In the cache key inputs and outputs stay names, since their paths differ; a dollar of
// anything else is doubled there, so that no text passes for one.
struct TemplateScopes {
  const RenderFacts* facts = nullptr;
  bool keep_paths = false;
};

absl::StatusOr<std::string> Expand(const std::string& text, const TemplateScopes& scopes);
std::string Expand(const std::vector<TemplatePiece>& pieces, const TemplateScopes& scopes);

// True if a template of the step names the run or the attempt: then no two attempts are the same.
bool NamesRunOrAttempt(const StepSpec& step);

// The parameters that a step's command, environment, working directory or `params` name.
std::set<std::string> ParametersOf(const StepSpec& step);
// True if what the step does may depend on one of these parameters.
bool UsesParameter(const StepSpec& step, const std::set<std::string>& names);

// The parameters that ORCH_PARAMS holds: those listed and those used in templates, as one compact JSON object.
std::string ParamsOf(const RunContext& run, const StepSpec& step);

// Where the step's process begins.
absl::StatusOr<std::string> WorkingDirOf(const RenderFacts& facts);

absl::StatusOr<AttemptWork> Render(const RenderFacts& facts);
// The command and environment of a hook; `facts.ix` is not looked at for a hook of the run.
absl::StatusOr<AttemptWork> RenderHookWork(const RenderFacts& facts, const HookRow& hook);

// A parameter or item in a template: a string without its quotes, anything else as compact JSON.
std::string PlainText(const std::string& json);

}  // namespace orch
