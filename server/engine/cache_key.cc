#include "server/engine/cache_key.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/digest.h"
#include "server/base/json.h"
#include "server/base/status.h"

namespace orch {
namespace {

void Add(bool first, absl::string_view name, absl::string_view value, std::string* text) {
  absl::StrAppend(text, first ? "" : ",", JsonQuote(name), ":", value);
}

// Files of the source folder that the command names, by their path in it.
absl::Status AddNamedFiles(const std::string& source, const std::vector<std::string>& command, FileDigests* files,
                           std::map<std::string, std::string>* out) {
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

CacheRecipe::CacheRecipe(const RunContext& run, uint32_t t, const Sources* sources)
    : run_(run), step_(run.graph->spec().steps[t]), sources_(sources) {
  const StepOptions& options = step_.options();
  cacheable_ = options.cache_enabled && run.header.use_cache && !NamesRunOrAttempt(step_);
  if (!cacheable_) return;
  const auto parse = [this](const std::string& text) -> Pieces {
    auto pieces = ParseTemplate(text);
    if (!pieces.ok()) status_.Update(pieces.status());
    return pieces.ok() ? *std::move(pieces) : Pieces();
  };
  for (const std::string& word : step_.command) command_.push_back(parse(word));
  for (const auto& [name, value] : options.env) env_[name] = parse(value);
  working_dir_ = parse(options.working_dir);

  std::string& text = outputs_to_secrets_;
  absl::StrAppend(&text, "},\"key\":", JsonQuote(options.cache_key), ",\"outputs\":{");
  for (size_t o = 0; o < step_.outputs.size(); ++o) {
    const OutputSpec& output = step_.outputs[o];
    Add(o == 0, output.name, JsonQuote(output.value ? "value" : absl::StrCat("file:", output.type)), &text);
  }
  absl::StrAppend(&text, "},\"params\":", ParamsOf(run, step_), ",\"project\":", JsonQuote(run.header.project));
  if (options.secrets.empty()) return;
  std::map<std::string, std::string> secrets;  // by name: another value is the same step
  for (const SecretUse& use : options.secrets) {
    secrets[use.variable] = use.file ? absl::StrCat("file:", use.name) : use.name;
  }
  text += ",\"secrets\":{";
  bool first = true;
  for (const auto& [variable, name] : secrets) Add(std::exchange(first, false), variable, JsonQuote(name), &text);
  text += "}";
}

absl::StatusOr<CacheKey> CacheRecipe::Make(StepIx ix, const std::vector<ReadyInput>& inputs) const {
  CacheKey out;
  if (!cacheable_) return out;
  RETURN_IF_ERROR(status_);
  const StepOptions& options = step_.options();
  RenderFacts facts;
  facts.run = &run_;
  facts.ix = ix;
  facts.inputs = &inputs;
  const TemplateScopes scopes{&facts, true};
  // One JSON object, its names in alphabetical order, written by hand: a run may have very many steps.
  std::string& text = out.parts_json;
  text.reserve(512);
  text = "{\"command\":[";
  std::vector<std::string> command;
  command.reserve(command_.size());
  for (const Pieces& word : command_) {
    std::string expanded = Expand(word, scopes);
    absl::StrAppend(&text, command.empty() ? "" : ",", JsonQuote(expanded));
    command.push_back(std::move(expanded));
  }
  text += "],\"env\":{";
  bool first = true;
  for (const auto& [name, value] : env_)
    Add(std::exchange(first, false), name, JsonQuote(Expand(value, scopes)), &text);
  text += "}";
  if (options.source_path.empty()) {
    std::map<std::string, std::string> named;
    RETURN_IF_ERROR(AddNamedFiles(run_.source_dir, command, sources_->files(), &named));
    text += ",\"files\":{";
    first = true;
    for (const auto& [name, digest] : named) Add(std::exchange(first, false), name, JsonQuote(digest), &text);
    text += "}";
  }
  absl::StrAppend(&text, ",\"image\":", JsonQuote(options.image), ",\"inputs\":{");
  for (size_t i = 0; i < step_.inputs.size(); ++i) {  // sorted by name, as the outputs are
    Add(i == 0, step_.inputs[i].name, JsonQuote(inputs[i].present ? Hex(inputs[i].digest) : "absent"), &text);
  }
  text += outputs_to_secrets_;
  if (!options.source_path.empty()) {
    ASSIGN_OR_RETURN(const std::string digest, sources_->Digest(options.source_path, options.source_ignore));
    absl::StrAppend(&text, ",\"source\":", JsonQuote(Hex(digest)));
  }
  absl::StrAppend(&text, ",\"version\":1,\"working_dir\":", JsonQuote(Expand(working_dir_, scopes)), "}");
  out.key = Sha256Of(text);
  return out;
}

absl::StatusOr<CacheKey> CacheKeyOf(const RunContext& run, StepIx ix, const std::vector<ReadyInput>& inputs,
                                    const Sources* sources) {
  return CacheRecipe(run, run.graph->TemplateOf(ix), sources).Make(ix, inputs);
}

std::vector<PartChange> ChangedParts(const std::string& before, const std::string& after) {
  using nlohmann::json;
  std::vector<PartChange> out;
  const json old = json::parse(before, nullptr, false);
  const json now = json::parse(after, nullptr, false);
  if (!old.is_object() || !now.is_object()) return out;
  const auto shown = [](const json& value) {
    if (value.is_null()) return std::string();
    return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::set<std::string> names;
  for (const auto& [name, value] : old.items()) names.insert(name);
  for (const auto& [name, value] : now.items()) names.insert(name);
  for (const std::string& name : names) {
    const json a = old.contains(name) ? old[name] : json();
    const json b = now.contains(name) ? now[name] : json();
    if (a == b) continue;
    const auto add = [&](std::string part, const json& from, const json& to) {
      if (from != to) out.push_back({std::move(part), shown(from), shown(to)});
    };
    if ((a.is_object() || a.is_null()) && (b.is_object() || b.is_null())) {
      std::set<std::string> inner;
      if (a.is_object()) {
        for (const auto& [key, value] : a.items()) inner.insert(key);
      }
      if (b.is_object()) {
        for (const auto& [key, value] : b.items()) inner.insert(key);
      }
      for (const std::string& key : inner) {
        add(absl::StrCat(name, ".", key), a.is_object() && a.contains(key) ? a[key] : json(),
            b.is_object() && b.contains(key) ? b[key] : json());
      }
    } else if (a.is_array() && b.is_array()) {
      for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
        add(absl::StrCat(name, "[", i, "]"), i < a.size() ? a[i] : json(), i < b.size() ? b[i] : json());
      }
    } else {
      add(name, a, b);
    }
  }
  return out;
}

}  // namespace orch
