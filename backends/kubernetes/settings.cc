#include "backends/kubernetes/settings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/pod_schema.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

struct Setting {
  const char* name;
  const char* type;  // of the table of a pod's types; `env`: a mapping of texts, or of where the values come from
};

constexpr Setting kSettings[] = {
    {"affinity", "Affinity"},
    {"annotations", "m"},
    {"env", "env"},
    {"env_from", "[EnvFromSource]"},
    {"image_pull_secrets", "[s]"},
    {"labels", "m"},
    {"node_selector", "m"},
    {"pod_security_context", "PodSecurityContext"},
    {"pod_template", "PodTemplateSpec"},
    {"priority_class", "s"},
    {"resources", "ResourceRequirements"},
    {"runtime_class", "s"},
    {"scheduler", "s"},
    {"security_context", "SecurityContext"},
    {"service_account", "s"},
    {"shm_size", "q"},
    {"tolerations", "[Toleration]"},
    {"topology_spread", "[TopologySpreadConstraint]"},
    {"volume_mounts", "[VolumeMount/mountPath]"},
    {"volumes", "[Volume/name]"},
};

bool IsLabelPart(absl::string_view text) {
  if (text.empty() || text.size() > 63) return false;
  const auto edge = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); };
  return edge(text.front()) && edge(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return edge(c) || c == '-' || c == '_' || c == '.'; });
}

// `name` or `dns.prefix/name`.
bool IsLabelName(absl::string_view text) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return IsLabelPart(text);
  const absl::string_view prefix = text.substr(0, slash);
  const bool dns = !prefix.empty() && prefix.size() <= 253 && std::all_of(prefix.begin(), prefix.end(), [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c)) || absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
           c == '-' || c == '.';
  });
  return dns && IsLabelPart(text.substr(slash + 1));
}

class Reader {
 public:
  Reader(std::string field, std::vector<Violation>* faults) : field_(std::move(field)), faults_(*faults) {}

  void Add(const std::string& below, const std::string& what, const char* reason) {
    faults_.push_back({absl::StrCat(field_, below), what, reason});
  }

  void Check(const json& value, const char* type, bool patch, const std::string& below = "") {
    std::vector<Fault> found;
    CheckPod(value, type, "", patch, &found);
    for (const Fault& fault : found) {
      const bool index =
          absl::StartsWith(fault.field, "[") || fault.field.empty() || absl::StartsWith(fault.field, ".");
      const bool unknown = absl::StartsWith(fault.what, "is unknown");
      Add(absl::StrCat(below, index ? "" : ".", fault.field), fault.what, unknown ? "UNKNOWN_FIELD" : "WRONG_TYPE");
    }
  }

  // Labels, or what nodes are chosen by.
  void Labels(const json& map, bool values) {
    for (const auto& [name, value] : map.items()) {
      if (!IsLabelName(name)) Add(absl::StrCat(".", name), "is no name of a label", "INVALID");
      if (absl::StartsWith(name, kOwnLabels)) Add(absl::StrCat(".", name), "is set by the daemon", "RESERVED");
      const auto& text = value.is_string() ? value.get_ref<const std::string&>() : std::string();
      if (values && !text.empty() && !IsLabelPart(text)) {
        Add(absl::StrCat(".", name), "must be at most 63 letters, digits and `-_.`, the first and last no sign",
            "INVALID");
      }
    }
  }

  void Env(const json& value) {
    if (!value.is_object()) return Add("", "must be a mapping: NAME: text, or NAME: {secretKeyRef: …}", "WRONG_TYPE");
    for (const auto& [name, one] : value.items()) {
      const std::string at = absl::StrCat(".", name);
      if (name.empty() || name.find('=') != std::string::npos) Add(at, "is no name of a variable", "INVALID");
      if (absl::StartsWith(name, "ORCH_")) Add(at, "is set by the daemon", "RESERVED");
      if (one.is_string()) continue;
      if (one.is_object()) {
        Check(one, "EnvVarSource", false, at);
      } else {
        Add(at, "must be a text, or say where it is from: secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef",
            "WRONG_TYPE");
      }
    }
  }

  void OwnVolumes(const json& list, const char* key) {
    for (size_t i = 0; list.is_array() && i < list.size(); ++i) {
      const std::string name = list[i].is_object() && list[i].contains(key) && list[i][key].is_string()
                                   ? list[i][key].get<std::string>()
                                   : "";
      if (absl::StartsWith(name, kOwnVolumes)) {
        Add(absl::StrCat("[", i, "].", key), absl::StrCat("names that begin with `", kOwnVolumes, "` are the daemon's"),
            "RESERVED");
      }
    }
  }

  // What would take away what the daemon needs.
  void Template(const json& patch) {
    const json* spec = Object(patch, "spec");
    if (const json* metadata = Object(patch, "metadata")) {
      for (const char* kind : {"labels", "annotations"}) {
        if (metadata->contains(kind) && (*metadata)[kind].is_null()) TakesAway(absl::StrCat(".metadata.", kind));
        const json* map = Object(*metadata, kind);
        if (map == nullptr) continue;
        if (map->contains("$patch")) TakesAway(absl::StrCat(".metadata.", kind, ".$patch"));
        for (const auto& [name, value] : map->items()) {
          if (absl::StartsWith(name, kOwnLabels)) {
            Add(absl::StrCat(".metadata.", kind, ".", name), "is set by the daemon", "RESERVED");
          }
        }
      }
    }
    for (const char* name : {"metadata", "spec"}) {
      if (patch.contains(name) && patch[name].is_null()) TakesAway(absl::StrCat(".", name));
      const json* part = Object(patch, name);
      if (part != nullptr && part->contains("$patch")) TakesAway(absl::StrCat(".", name, ".$patch"));
    }
    if (patch.contains("$patch")) TakesAway(".$patch");
    if (spec == nullptr) return;
    for (const char* name : {"containers", "initContainers", "volumes"}) {
      if (spec->contains(name) && (*spec)[name].is_null()) TakesAway(absl::StrCat(".spec.", name));
    }
    for (const char* name : {"restartPolicy", "hostname", "subdomain"}) {
      if (spec->contains(name)) {
        Add(absl::StrCat(".spec.", name), "is the daemon's: an attempt is one pod, which runs once", "RESERVED");
      }
    }
    Containers(*spec, "containers", kMainContainer);
    Containers(*spec, "initContainers", kLauncherContainer);
    if (const auto volumes = spec->find("volumes"); volumes != spec->end() && volumes->is_array()) {
      for (size_t i = 0; i < volumes->size(); ++i) {
        const json& volume = (*volumes)[i];
        const bool named = volume.is_object() && volume.contains("name") && volume["name"].is_string();
        if (!named || absl::StartsWith(volume["name"].get<std::string>(), kOwnVolumes)) {
          Add(absl::StrCat(".spec.volumes[", i, "]"),
              named ? "is the daemon's" : "replacing all volumes would take away the daemon's", "RESERVED");
        }
      }
    }
  }

 private:
  static const json* Object(const json& from, const char* name) {
    const auto found = from.is_object() ? from.find(name) : from.end();
    return from.is_object() && found != from.end() && found->is_object() ? &*found : nullptr;
  }

  void TakesAway(const std::string& below) { Add(below, "would take away what the daemon needs", "RESERVED"); }

  void Containers(const json& spec, const char* list, const std::string& own) {
    const auto found = spec.find(list);
    if (found == spec.end() || !found->is_array()) return;
    for (size_t i = 0; i < found->size(); ++i) {
      const json& one = (*found)[i];
      if (!one.is_object()) continue;
      const std::string at = absl::StrCat(".spec.", list, "[", i, "]");
      const bool named = one.contains("name") && one["name"].is_string();
      if (one.contains("$patch") && (!named || one["name"] == own)) {
        Add(absl::StrCat(at, ".$patch"), absl::StrCat("would take away the container `", own, "`"), "RESERVED");
      }
      if (!named || one["name"] != own) continue;
      for (const auto& [field, key] :
           {std::pair<const char*, const char*>{"env", "name"}, {"volumeMounts", "mountPath"}}) {
        if (!one.contains(field)) continue;
        if (!one[field].is_array()) TakesAway(absl::StrCat(at, ".", field));
        for (const json& item : one[field]) {
          const auto found_key = item.is_object() ? item.find(key) : item.end();
          const std::string word = item.is_object() && found_key != item.end() && found_key->is_string()
                                       ? found_key->get<std::string>()
                                       : "";
          if (word.empty() || absl::StartsWith(word, "ORCH_") || absl::StartsWith(word, "/.orch")) {
            TakesAway(absl::StrCat(at, ".", field));
          }
        }
      }
      if (one.contains("image") && one["image"].is_null()) TakesAway(absl::StrCat(at, ".image"));
      for (const char* field : {"command", "args", "restartPolicy", "lifecycle"}) {
        if (!one.contains(field)) continue;
        Add(absl::StrCat(at, ".", field), "is the daemon's: the step's own command is started by it", "RESERVED");
      }
    }
  }

  const std::string field_;
  std::vector<Violation>& faults_;
};

}  // namespace

std::string SettingNames() {
  std::string out;
  for (const Setting& setting : kSettings) absl::StrAppend(&out, out.empty() ? "" : ", ", setting.name);
  return out;
}

bool ReadSetting(const std::string& name, const json& value, const std::string& field, Settings* out,
                 std::vector<Violation>* faults) {
  const auto* setting =
      std::find_if(std::begin(kSettings), std::end(kSettings), [&](const Setting& s) { return name == s.name; });
  if (setting == std::end(kSettings)) return false;
  Reader reader(field, faults);
  const size_t before = faults->size();
  const std::string type = setting->type;
  if (type == "env") {
    reader.Env(value);
  } else {
    reader.Check(value, setting->type, name == "pod_template");
  }
  if (faults->size() > before) return true;
  if (name == "labels" || name == "node_selector") reader.Labels(value, true);
  if (name == "annotations") reader.Labels(value, false);
  if (name == "volumes") reader.OwnVolumes(value, "name");
  if (name == "volume_mounts") reader.OwnVolumes(value, "name");
  if (name == "pod_template") reader.Template(value);
  if (faults->size() > before) return true;
  if (name == "pod_template") {
    out->pod_templates.push_back(value);
  } else if (type == "m" || type == "env") {
    json& map = out->fields[name];
    if (!map.is_object()) map = json::object();
    map.update(value);
  } else {
    out->fields[name] = value;
  }
  return true;
}

}  // namespace orch::kubernetes
