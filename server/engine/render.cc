#include "server/engine/render.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/json.h"
#include "server/base/status.h"
#include "server/core/compile.h"
#include "server/model/template.h"

namespace orch {
namespace {

template <typename T>
int IndexOf(const std::vector<T>& list, const std::string& name) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

std::string ItemText(const RunContext& run, StepIx ix, const std::string& key) {
  const std::vector<ForeachKey>& keys = run.graph->SpecOf(ix).foreach;
  const std::vector<std::string> item = run.graph->ItemOf(ix);
  if (item.empty()) return "";  // a hook of a fan-out that could not be made
  for (size_t k = 0; k < keys.size(); ++k) {
    if (keys[k].key == key) return PlainText(item[k]);
  }
  return "";
}

template <typename F>
void ForEachTemplate(const StepSpec& step, const F& visit) {
  for (const std::string& word : step.command) visit(word);
  for (const auto& [name, value] : step.options().env) visit(value);
  visit(step.options().working_dir);
}

// What every command begins with.
std::vector<std::pair<std::string, std::string>> SubmittersEnvironment(const RenderFacts& facts) {
  std::vector<std::pair<std::string, std::string>> out;
  std::string path;
  for (const auto& [name, value] : facts.run->header.environment) {
    if (name == "PATH") {
      path = value;
    } else {
      out.emplace_back(name, value);
    }
  }
  if (path.empty()) {
    const char* own = getenv("PATH");
    path = own != nullptr ? own : "/usr/local/bin:/usr/bin:/bin";
  }
  if (!facts.binary_dir.empty()) absl::StrAppend(&path, ":", facts.binary_dir);
  out.emplace_back("PATH", std::move(path));
  return out;
}

}  // namespace

std::string PlainText(const std::string& json) {
  if (json.empty() || json[0] != '"') return json;
  const auto value = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  return value.is_string() ? value.get<std::string>() : json;
}

absl::StatusOr<std::string> Expand(const std::string& text, const TemplateScopes& scopes) {
  if (text.find('$') == std::string::npos) return text;
  ASSIGN_OR_RETURN(const std::vector<TemplatePiece> pieces, ParseTemplate(text));
  return Expand(pieces, scopes);
}

std::string Expand(const std::vector<TemplatePiece>& pieces, const TemplateScopes& scopes) {
  const RenderFacts& f = *scopes.facts;
  const auto step = [&]() -> const StepSpec& { return f.run->graph->SpecOf(f.ix); };
  std::string out;
  const auto append = [&](absl::string_view value) {
    for (const char c : value) out.append(c == '$' && scopes.keep_paths ? 2 : 1, c);
  };
  for (const TemplatePiece& piece : pieces) {
    switch (piece.scope) {
      case TemplateScope::kLiteral:
        append(piece.text);
        break;
      case TemplateScope::kParams: {
        const auto found = f.run->parameters.find(piece.text);
        if (found != f.run->parameters.end()) append(PlainText(found->second));
        break;
      }
      case TemplateScope::kInputs: {
        const int i = IndexOf(step().inputs, piece.text);
        if (scopes.keep_paths) {
          absl::StrAppend(&out, "${inputs.", piece.text, "}");
        } else if (i >= 0) {
          out += (*f.inputs)[static_cast<size_t>(i)].path;
        }
        break;
      }
      case TemplateScope::kOutputs:
        if (scopes.keep_paths) {
          absl::StrAppend(&out, "${outputs.", piece.text, "}");
        } else if (f.outputs != nullptr) {
          const auto found = f.outputs->find(piece.text);
          if (found != f.outputs->end()) out += found->second;
        } else {
          absl::StrAppend(&out, f.workspace->output_dir, "/", piece.text);
        }
        break;
      case TemplateScope::kValues: {
        const int i = IndexOf(step().inputs, piece.text);
        if (i >= 0) append((*f.inputs)[static_cast<size_t>(i)].value_json);
        break;
      }
      case TemplateScope::kItem:
        append(ItemText(*f.run, f.ix, piece.text));
        break;
      case TemplateScope::kRun:
        append(f.run->header.name);
        break;
      case TemplateScope::kStep:
        append(f.run->graph->StepName(f.ix));
        break;
      case TemplateScope::kAttempt:
        absl::StrAppend(&out, f.attempt);
        break;
    }
  }
  return out;
}

bool NamesRunOrAttempt(const StepSpec& step) {
  bool found = false;
  ForEachTemplate(step, [&](const std::string& text) {
    if (text.find("${") == std::string::npos) return;
    const auto pieces = ParseTemplate(text);
    if (!pieces.ok()) return;
    for (const TemplatePiece& piece : *pieces) {
      if (piece.scope == TemplateScope::kRun || piece.scope == TemplateScope::kAttempt) found = true;
    }
  });
  return found;
}

bool UsesParameter(const StepSpec& step, const std::set<std::string>& names) {
  const std::set<std::string> used = ParametersOf(step);
  for (const std::string& name : names) {
    // Of a condition only its text is known here: too much is chosen rather than too little.
    const std::string& when = step.options().when;
    if (used.count(name) > 0 || (absl::StrContains(when, "params") && absl::StrContains(when, name))) return true;
  }
  return false;
}

std::set<std::string> ParametersOf(const StepSpec& step) {
  std::set<std::string> names(step.options().params.begin(), step.options().params.end());
  ForEachTemplate(step, [&](const std::string& text) {
    if (text.find("${params.") == std::string::npos) return;
    const auto pieces = ParseTemplate(text);
    if (!pieces.ok()) return;
    for (const TemplatePiece& piece : *pieces) {
      if (piece.scope == TemplateScope::kParams) names.insert(piece.text);
    }
  });
  return names;
}

std::string ParamsOf(const RunContext& run, const StepSpec& step) {
  std::string out = "{";
  for (const std::string& name : ParametersOf(step)) {
    const auto found = run.parameters.find(name);
    if (found == run.parameters.end()) continue;
    absl::StrAppend(&out, out.size() > 1 ? "," : "", JsonQuote(name), ":", found->second);
  }
  return out + "}";
}

absl::StatusOr<std::string> WorkingDirOf(const RenderFacts& facts) {
  const StepOptions& options = facts.run->graph->SpecOf(facts.ix).options();
  std::string base = !options.source_path.empty() ? options.source_path : facts.run->source_dir;
  if (base.empty()) {
    base = facts.workspace->scratch_dir;
  } else if (!facts.source_dir.empty()) {
    base = facts.source_dir;
  }
  if (options.working_dir.empty()) return base;
  ASSIGN_OR_RETURN(std::string dir, Expand(options.working_dir, {&facts, false}));
  if (dir.empty()) return base;
  return dir[0] == '/' ? dir : absl::StrCat(base, "/", dir);
}

absl::StatusOr<AttemptWork> Render(const RenderFacts& facts) {
  const RunContext& run = *facts.run;
  const StepSpec& step = run.graph->SpecOf(facts.ix);
  const StepOptions& options = step.options();
  AttemptWork work;
  work.name = {facts.key, run.header.project, run.header.id, run.header.name, run.graph->StepName(facts.ix),
               facts.ix,  facts.attempt};
  work.workspace = *facts.workspace;
  const TemplateScopes scopes{&facts, false};
  for (const std::string& word : step.command) {
    ASSIGN_OR_RETURN(std::string expanded, Expand(word, scopes));
    work.command.push_back(std::move(expanded));
  }
  ASSIGN_OR_RETURN(work.working_dir, WorkingDirOf(facts));
  work.source_dir = !options.source_path.empty() ? options.source_path : run.source_dir;
  if (!facts.own_environment) work.env = SubmittersEnvironment(facts);
  for (const auto& [name, value] : options.env) {
    ASSIGN_OR_RETURN(std::string expanded, Expand(value, scopes));
    bool replaced = false;
    for (auto& [known, old] : work.env) {
      if (known != name) continue;
      old = expanded;
      replaced = true;
    }
    if (!replaced) work.env.emplace_back(name, std::move(expanded));
  }
  const auto set = [&](absl::string_view name, std::string value) {
    work.env.emplace_back(std::string(name), std::move(value));
  };
  set("ORCH_RUN_ID", run.header.id);
  set("ORCH_RUN_NAME", run.header.name);
  set("ORCH_PROJECT", run.header.project);
  set("ORCH_STEP", work.name.step);
  set("ORCH_ATTEMPT", absl::StrCat(facts.attempt));
  set("ORCH_FENCE", facts.key);
  set("ORCH_SCRATCH", facts.workspace->scratch_dir);
  set("ORCH_PARAMS", facts.params_path);
  if (!facts.endpoint.empty()) {
    set("ORCH_ENDPOINT", facts.endpoint);
    set("ORCH_TOKEN", facts.token);
    if (!facts.ca_path.empty()) set("ORCH_CA", facts.ca_path);
  }
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const ReadyInput& input = (*facts.inputs)[i];
    if (input.present) set(VariableName("ORCH_INPUT_", step.inputs[i].name), input.path);
  }
  for (const OutputSpec& output : step.outputs) {
    set(VariableName("ORCH_OUTPUT_", output.name), absl::StrCat(facts.workspace->output_dir, "/", output.name));
  }
  work.resources = options.resources;
  work.image = options.image;
  return work;
}

absl::StatusOr<AttemptWork> RenderHookWork(const RenderFacts& facts, const HookRow& hook) {
  const RunContext& run = *facts.run;
  const PipelineSpec& spec = run.graph->spec();
  const Hooks& hooks = hook.ix < 0 ? spec.hooks : run.graph->SpecOf(facts.ix).options().hooks;
  AttemptWork work;
  work.workspace = *facts.workspace;
  const TemplateScopes scopes{&facts, false};
  for (const std::string& word : (hook.on_failure ? hooks.on_failure : hooks.on_success).command) {
    ASSIGN_OR_RETURN(std::string expanded, Expand(word, scopes));
    work.command.push_back(std::move(expanded));
  }
  if (work.command.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "HOOK_GONE", "the pipeline has no such hook any more");
  }
  work.working_dir = run.source_dir.empty() ? facts.workspace->scratch_dir : run.source_dir;
  work.env = SubmittersEnvironment(facts);
  const auto set = [&](absl::string_view name, std::string value) {
    work.env.emplace_back(std::string(name), std::move(value));
  };
  set("ORCH_RUN_ID", run.header.id);
  set("ORCH_RUN_NAME", run.header.name);
  set("ORCH_PROJECT", run.header.project);
  set("ORCH_PIPELINE", run.header.pipeline);
  set("ORCH_GENERATION", absl::StrCat(hook.generation));
  set("ORCH_HOOK", hook.on_failure ? "on_failure" : "on_success");
  set("ORCH_HOOK_ID", hook.id);
  set("ORCH_FENCE", facts.key);
  set("ORCH_SCRATCH", facts.workspace->scratch_dir);
  const bool of_run = hook.ix < 0;
  set("ORCH_STATE",
      std::string(of_run ? Name(static_cast<RunState>(hook.of_state)) : Name(static_cast<StepState>(hook.of_state))));
  set("ORCH_REASON", hook.reason == Reason::kNone ? "" : std::string(Name(hook.reason)));
  set("ORCH_MESSAGE", hook.message);
  if (!of_run) {
    set("ORCH_STEP", hook.step);
    set("ORCH_ATTEMPT", absl::StrCat(hook.attempt));
    if (hook.of_exit_code) set("ORCH_EXIT_CODE", absl::StrCat(*hook.of_exit_code));
  }
  return work;
}

}  // namespace orch
