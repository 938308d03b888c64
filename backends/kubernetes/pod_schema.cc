#include "backends/kubernetes/pod_schema.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/kubernetes/pod_types.h"
#include "server/base/check.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using Fields = std::map<std::string, std::string, std::less<>>;  // name → type
using Types = std::map<std::string, Fields, std::less<>>;

constexpr size_t kMostFaults = 50;
constexpr int kDeepest = 32;
constexpr char kPatch[] = "$patch";

const Types& AllTypes() {
  static const auto* const kTypes = [] {
    auto* types = new Types();
    for (const absl::string_view line : absl::StrSplit(kPodTypes, '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      Fields& fields = (*types)[words[0]];
      for (size_t i = 1; i < words.size(); ++i) {
        const std::pair<std::string, std::string> field = absl::StrSplit(words[i], absl::MaxSplits(':', 1));
        fields.insert(field);
      }
    }
    return types;
  }();
  return *kTypes;
}

// `[Container/name]` → `Container` and `name`.
bool ListOf(absl::string_view type, std::string* item, std::string* key) {
  if (!absl::StartsWith(type, "[")) return false;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(type.substr(1, type.size() - 2), absl::MaxSplits('/', 1));
  *item = parts.first;
  *key = parts.second;
  return true;
}

// `16Gi`, `500m`, `1e3`, 2.
bool IsQuantity(const json& value) {
  if (value.is_number()) return value.get<double>() >= 0;
  if (!value.is_string()) return false;
  absl::string_view text = value.get_ref<const std::string&>();
  size_t digits = 0;
  size_t dots = 0;
  size_t at = 0;
  while (at < text.size() && (absl::ascii_isdigit(static_cast<unsigned char>(text[at])) || text[at] == '.')) {
    (text[at] == '.' ? dots : digits) += 1;
    ++at;
  }
  if (digits == 0 || dots > 1) return false;
  const absl::string_view suffix = text.substr(at);
  static const auto* const kSuffixes =
      new std::vector<std::string>{"", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  if (std::find(kSuffixes->begin(), kSuffixes->end(), std::string(suffix)) != kSuffixes->end()) return true;
  if (suffix.size() < 2 || (suffix[0] != 'e' && suffix[0] != 'E')) return false;
  const absl::string_view power = suffix.substr(suffix[1] == '-' || suffix[1] == '+' ? 2 : 1);
  return !power.empty() && std::all_of(power.begin(), power.end(),
                                       [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
}

// What a value of a simple type has to be; empty if it is, or the type is none of the simple ones.
std::string SimpleFault(const json& value, absl::string_view type) {
  if (type == "s") {
    return value.is_string() && value.get_ref<const std::string&>().find('\0') == std::string::npos ? ""
                                                                                                    : "must be a text";
  }
  if (type == "i") return value.is_number_integer() ? "" : "must be a whole number";
  if (type == "b") return value.is_boolean() ? "" : "must be true or false";
  if (type == "q") return IsQuantity(value) ? "" : "must be a quantity, such as 500m, 2 or 16Gi";
  if (type == "p") return value.is_number_integer() || value.is_string() ? "" : "must be a port's number or name";
  return "";
}

bool IsSimple(absl::string_view type) { return type.size() == 1; }

class Checker {
 public:
  Checker(bool patch, std::vector<Fault>* faults) : patch_(patch), faults_(*faults) {}

  void Check(const json& value, absl::string_view type, const std::string& field, int depth) {
    if (depth > kDeepest) return Add(field, "is nested too deep");
    if (value.is_null()) {
      if (!patch_) Add(field, "has no value");
      return;
    }
    if (IsSimple(type) && type != "m") {
      const std::string fault = SimpleFault(value, type);
      if (!fault.empty()) Add(field, fault);
      return;
    }
    if (type == "m" || type == "mq") return CheckMap(value, type == "m" ? "s" : "q", field);
    std::string item;
    std::string key;
    if (ListOf(type, &item, &key)) return CheckList(value, item, key, field, depth);
    CheckObject(value, type, field, depth);
  }

 private:
  void Add(const std::string& field, const std::string& what) {
    if (faults_.size() < kMostFaults) faults_.push_back({field, what});
  }

  void CheckMap(const json& value, absl::string_view of, const std::string& field) {
    if (!value.is_object()) {
      return Add(field, of == "s" ? "must be a mapping of texts" : "must be a mapping of quantities");
    }
    for (const auto& [name, one] : value.items()) {
      if (one.is_null() && patch_) continue;
      const std::string fault = SimpleFault(one, of);
      if (!fault.empty()) Add(absl::StrCat(field, ".", name), fault);
    }
  }

  void CheckList(const json& value, const std::string& item, const std::string& key, const std::string& field,
                 int depth) {
    if (!value.is_array()) return Add(field, "must be a list");
    std::vector<json> keys;
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string at = absl::StrCat(field, "[", i, "]");
      if (value[i].is_null()) {
        Add(at, "has no value");
        continue;
      }
      Check(value[i], item, at, depth + 1);
      if (key.empty() || !value[i].is_object()) continue;
      if (value[i].contains(kPatch) && value[i][kPatch] == "replace" && value[i].size() == 1) continue;
      if (!value[i].contains(key)) {
        Add(absl::StrCat(at, ".", key), "is needed: by it the list is put together");
      } else if (std::find(keys.begin(), keys.end(), value[i][key]) != keys.end() && key != "containerPort" &&
                 key != "topologyKey") {
        Add(absl::StrCat(at, ".", key), "is there twice");
      } else {
        keys.push_back(value[i][key]);
      }
    }
  }

  void CheckObject(const json& value, absl::string_view type, const std::string& field, int depth) {
    const auto found = AllTypes().find(type);
    CHECK(found != AllTypes().end());
    if (!value.is_object()) return Add(field, "must be a mapping");
    for (const auto& [name, one] : value.items()) {
      const std::string at = field.empty() ? name : absl::StrCat(field, ".", name);
      if (absl::StartsWith(name, "$")) {
        const bool good = patch_ && name == kPatch && (one == "replace" || one == "delete" || one == "merge");
        if (!good) Add(at, patch_ ? "is no directive here; there is $patch: replace, delete or merge" : "is unknown");
        continue;
      }
      const auto known = found->second.find(name);
      if (known != found->second.end()) {
        Check(one, known->second, at, depth + 1);
        continue;
      }
      std::vector<std::string> names;
      for (const auto& entry : found->second) names.push_back(entry.first);
      Add(at, absl::StrCat("is unknown; there are ", absl::StrJoin(names, ", ")));
    }
  }

  const bool patch_;
  std::vector<Fault>& faults_;
};

std::string DirectiveOf(const json& patch) {
  const auto found = patch.is_object() ? patch.find(kPatch) : patch.end();
  return patch.is_object() && found != patch.end() && found->is_string() ? found->get<std::string>() : "";
}

// Without directives and what they remove: what is put where nothing was.
json Plain(absl::string_view type, const json& patch);

void MergeList(const std::string& item, const std::string& key, const json& patch, json* base) {
  if (!base->is_array()) *base = json::array();
  const bool replaced = std::any_of(patch.begin(), patch.end(),
                                    [](const json& one) { return DirectiveOf(one) == "replace" && one.size() == 1; });
  if (replaced || key.empty()) *base = json::array();
  for (const json& one : patch) {
    const std::string directive = DirectiveOf(one);
    if (directive == "replace" && one.size() == 1) continue;
    if (key.empty()) {
      base->push_back(Plain(item, one));
      continue;
    }
    const auto same = [&](const json& other) { return other.is_object() && other.value(key, json()) == one.at(key); };
    const auto found = std::find_if(base->begin(), base->end(), same);
    if (directive == "delete") {
      if (found != base->end()) base->erase(found);
    } else if (found == base->end()) {
      base->push_back(Plain(item, one));
    } else {
      MergePod(item, one, &*found);
    }
  }
}

json Plain(absl::string_view type, const json& patch) {
  if (!patch.is_object() && !patch.is_array()) return patch;
  json out;
  MergePod(type, patch, &out);
  return out;
}

}  // namespace

void CheckPod(const json& value, absl::string_view type, const std::string& field, bool patch,
              std::vector<Fault>* faults) {
  Checker(patch, faults).Check(value, type, field, 0);
}

void MergePod(absl::string_view type, const json& patch, json* base) {
  std::string item;
  std::string key;
  if (ListOf(type, &item, &key)) return MergeList(item, key, patch, base);
  if (!patch.is_object()) {
    *base = patch;
    return;
  }
  if (!base->is_object() || DirectiveOf(patch) == "replace") *base = json::object();
  if (DirectiveOf(patch) == "delete") {
    *base = json::object();
    return;
  }
  const auto fields = AllTypes().find(type);
  for (const auto& [name, one] : patch.items()) {
    if (name == kPatch) continue;
    if (one.is_null()) {
      base->erase(name);
      continue;
    }
    if (fields == AllTypes().end()) {  // a map
      (*base)[name] = one;
      continue;
    }
    const auto known = fields->second.find(name);
    if (known != fields->second.end()) MergePod(known->second, one, &(*base)[name]);
  }
}

}  // namespace orch::kubernetes
