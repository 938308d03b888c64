#include "server/engine/cache_key.h"

#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

// Files of the source folder that the command names, by their path in it.
absl::Status AddNamedFiles(const std::string& source, const std::vector<std::string>& command, FileDigests* files,
                           nlohmann::json* out) {
  if (source.empty()) return absl::OkStatus();
  for (const std::string& expanded : command) {
    const std::string word = absl::StrReplaceAll(expanded, {{"$$", "$"}});
    if (word.empty() || word.size() > 4096) continue;
    std::error_code error;
    const std::filesystem::path path =
        std::filesystem::path(word).is_absolute() ? std::filesystem::path(word) : std::filesystem::path(source) / word;
    const std::string normal = path.lexically_normal().string();
    if (!absl::StartsWith(normal, source + "/")) continue;
    struct stat st {};
    if (stat(normal.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    ASSIGN_OR_RETURN(const std::string digest, files->Of(normal));
    (*out)[normal.substr(source.size() + 1)] = Hex(digest);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CacheKey> CacheKeyOf(const RunContext& run, StepIx ix, const std::vector<ReadyInput>& inputs,
                                    FileDigests* files) {
  const StepSpec& step = run.graph->SpecOf(ix);
  const StepOptions& options = step.options();
  CacheKey out;
  if (!options.cache_enabled || !run.header.use_cache || NamesRunOrAttempt(step)) return out;

  RenderFacts facts;
  facts.run = &run;
  facts.ix = ix;
  facts.inputs = &inputs;
  const TemplateScopes scopes{&facts, true};
  nlohmann::json parts = nlohmann::json::object();
  parts["version"] = 1;
  parts["project"] = run.header.project;
  parts["command"] = nlohmann::json::array();
  std::vector<std::string> command;
  for (const std::string& word : step.command) {
    ASSIGN_OR_RETURN(std::string expanded, Expand(word, scopes));
    parts["command"].push_back(expanded);
    command.push_back(std::move(expanded));
  }
  parts["env"] = nlohmann::json::object();
  for (const auto& [name, value] : options.env) {
    ASSIGN_OR_RETURN(std::string expanded, Expand(value, scopes));
    parts["env"][name] = std::move(expanded);
  }
  ASSIGN_OR_RETURN(parts["working_dir"], Expand(options.working_dir, scopes));
  parts["inputs"] = nlohmann::json::object();
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    parts["inputs"][step.inputs[i].name] = inputs[i].present ? Hex(inputs[i].digest) : "absent";
  }
  parts["outputs"] = nlohmann::json::object();
  for (const OutputSpec& output : step.outputs) {
    parts["outputs"][output.name] = output.value ? "value" : absl::StrCat("file:", output.type);
  }
  parts["params"] = nlohmann::json::parse(ParamsOf(run, step), nullptr, false);
  for (const SecretUse& use : options.secrets) {  // by name: another value is the same step
    parts["secrets"][use.variable] = use.file ? absl::StrCat("file:", use.name) : use.name;
  }
  parts["image"] = options.image;
  parts["key"] = options.cache_key;
  if (!options.source_path.empty()) {
    ASSIGN_OR_RETURN(const std::string digest, files->Of(options.source_path));
    parts["source"] = Hex(digest);
  } else {
    parts["files"] = nlohmann::json::object();
    RETURN_IF_ERROR(AddNamedFiles(run.source_dir, command, files, &parts["files"]));
  }
  out.parts_json = parts.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  out.key = Sha256Of(out.parts_json);
  return out;
}

}  // namespace orch
