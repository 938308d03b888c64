#include "client/cli/site_file.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/json.h"
#include "client/cli/text.h"

namespace orch::cli {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

constexpr char kOwnStore[] = "default";

class Reader {
 public:
  Reader(const spec::SourceMap& map, std::vector<spec::Problem>* problems) : map_(map), problems_(problems) {}

  void Fault(const std::string& field, const std::string& description, const char* reason) {
    problems_->push_back({map_.Find(field), field, description, reason});
  }

  // Each thing of a section with its path and name; sections are lists with `name` fields, or mappings by name.
  template <typename Take>
  void Section(const Struct& root, const std::string& section, const Take& take) {
    const auto it = root.fields().find(section);
    if (it == root.fields().end()) return;
    std::set<std::string> seen;
    const auto one = [&](const std::string& path, const std::string& name, const Value& value) {
      if (name.empty()) return Fault(path, "needs a name", "REQUIRED");
      if (!seen.insert(name).second) return Fault(path, absl::StrCat("`", name, "` is there twice"), "DUPLICATE_NAME");
      take(path, name, value);
    };
    if (it->second.has_list_value()) {
      for (int i = 0; i < it->second.list_value().values_size(); ++i) {
        const Value& item = it->second.list_value().values(i);
        const std::string path = absl::StrCat(section, "[", i, "]");
        if (!item.has_struct_value()) {
          Fault(path, "must be a mapping", "WRONG_TYPE");
          continue;
        }
        const auto name = item.struct_value().fields().find("name");
        one(path, name == item.struct_value().fields().end() ? "" : name->second.string_value(), item);
      }
    } else if (it->second.has_struct_value()) {
      std::vector<std::string> names;
      for (const auto& [name, value] : it->second.struct_value().fields()) names.push_back(name);
      std::sort(names.begin(), names.end());
      for (const std::string& name : names) {
        one(absl::StrCat(section, ".", name), name, it->second.struct_value().fields().at(name));
      }
    } else {
      Fault(section, "must be a list or a mapping", "WRONG_TYPE");
    }
  }

  // Whether `value` is a mapping with known keys only.
  bool Mapping(const std::string& path, const Value& value, const std::vector<std::string>& keys) {
    if (!value.has_struct_value()) {
      Fault(path, "must be a mapping", "WRONG_TYPE");
      return false;
    }
    CheckKeys(path, value.struct_value(), keys);
    return true;
  }

  void CheckKeys(const std::string& path, const Struct& mapping, const std::vector<std::string>& keys) {
    for (const auto& [key, value] : mapping.fields()) {
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      const auto nearest = Nearest(key, keys);
      Fault(path.empty() ? key : absl::StrCat(path, ".", key),
            absl::StrCat("unknown key; ", nearest.has_value() ? absl::StrCat("did you mean `", *nearest, "`?")
                                                              : absl::StrCat("known are ", absl::StrJoin(keys, ", "))),
            "UNKNOWN_FIELD");
    }
  }

  std::string Text(const std::string& path, const Struct& mapping, const std::string& key) {
    const auto it = mapping.fields().find(key);
    if (it == mapping.fields().end()) return "";
    if (!it->second.has_string_value()) Fault(absl::StrCat(path, ".", key), "must be a string", "WRONG_TYPE");
    return it->second.string_value();
  }

  int32_t Count(const std::string& path, const Value& value) {
    const double n = value.number_value();
    if (!value.has_number_value() || n != std::floor(n) || n < 0 || n > 1'000'000) {
      Fault(path, "must be a whole number from 0 to 1000000", "OUT_OF_RANGE");
      return 0;
    }
    return static_cast<int32_t>(n);
  }

 private:
  const spec::SourceMap& map_;
  std::vector<spec::Problem>* problems_;
};

// A missing part and an empty one are the same thing here.
std::string ConfigText(const Struct& config) { return ToJson(config).dump(); }

void Differ(std::vector<std::string>* parts, const char* what, const std::string& before, const std::string& after) {
  if (before != after) parts->push_back(absl::StrCat(what, " ", before.empty() ? "(none)" : before, " → ", after));
}

void State(std::vector<std::string>* parts, const char* what, const std::string& value) {
  if (!value.empty()) parts->push_back(absl::StrCat(what, " ", value));
}

Change Finish(std::string thing, bool present, const std::vector<std::string>& parts) {
  Change change;
  change.thing = std::move(thing);
  change.words = absl::StrJoin(parts, ", ");
  change.kind = !present ? Change::Kind::kAdd : parts.empty() ? Change::Kind::kNone : Change::Kind::kUpdate;
  return change;
}

}  // namespace

Site ReadSite(const spec::ConfigDocument& document, std::vector<spec::Problem>* problems) {
  Site site;
  Reader reader(document.map, problems);
  const Struct& root = document.value;
  reader.CheckKeys("", root, {"orchestrators", "pools", "artifact_stores", "stacks", "settings"});
  reader.Section(root, "orchestrators", [&](const std::string& path, const std::string& name, const Value& value) {
    if (!reader.Mapping(path, value, {"name", "flavor", "config", "max_parallel", "max_rate"})) return;
    const Struct& fields = value.struct_value();
    v1::Orchestrator o;
    o.set_name(name);
    o.set_flavor(reader.Text(path, fields, "flavor"));
    if (o.flavor().empty()) reader.Fault(path, "needs a flavor, see `orchctl list-flavors`", "REQUIRED");
    if (const auto it = fields.fields().find("config"); it != fields.fields().end()) {
      if (!it->second.has_struct_value()) reader.Fault(path + ".config", "must be a mapping", "WRONG_TYPE");
      *o.mutable_config() = it->second.struct_value();
    }
    if (const auto it = fields.fields().find("max_parallel"); it != fields.fields().end()) {
      o.set_max_parallel(reader.Count(path + ".max_parallel", it->second));
    }
    if (const auto it = fields.fields().find("max_rate"); it != fields.fields().end()) {
      const double rate = it->second.number_value();
      if (!it->second.has_number_value() || rate < 0 || rate > 1'000'000) {
        reader.Fault(path + ".max_rate", "must be a number from 0 to 1000000, of submissions a second", "OUT_OF_RANGE");
      }
      o.set_max_rate(rate);
    }
    site.orchestrators.push_back(std::move(o));
  });
  reader.Section(root, "pools", [&](const std::string& path, const std::string& name, const Value& value) {
    v1::Pool pool;
    pool.set_name(name);
    if (value.has_number_value()) {
      pool.set_slots(reader.Count(path, value));
    } else {
      if (!reader.Mapping(path, value, {"name", "slots", "description"})) return;
      const auto it = value.struct_value().fields().find("slots");
      if (it == value.struct_value().fields().end()) {
        reader.Fault(path, "needs slots", "REQUIRED");
      } else {
        pool.set_slots(reader.Count(path + ".slots", it->second));
      }
      pool.set_description(reader.Text(path, value.struct_value(), "description"));
    }
    site.pools.push_back(std::move(pool));
  });
  reader.Section(root, "artifact_stores", [&](const std::string& path, const std::string& name, const Value& value) {
    if (!reader.Mapping(path, value, {"name", "flavor", "config"})) return;
    const Struct& fields = value.struct_value();
    v1::ArtifactStore store;
    store.set_name(name);
    store.set_flavor(reader.Text(path, fields, "flavor"));
    if (store.flavor().empty()) reader.Fault(path, "needs a flavor: local or s3", "REQUIRED");
    if (name == kOwnStore) {
      reader.Fault(path, "`default` is the local folder in the data directory; choose another name", "NAME_TAKEN");
    }
    if (const auto it = fields.fields().find("config"); it != fields.fields().end()) {
      if (!it->second.has_struct_value()) reader.Fault(path + ".config", "must be a mapping", "WRONG_TYPE");
      *store.mutable_config() = it->second.struct_value();
    }
    site.artifact_stores.push_back(std::move(store));
  });
  std::string the_default;
  reader.Section(root, "stacks", [&](const std::string& path, const std::string& name, const Value& value) {
    if (!reader.Mapping(path, value, {"name", "orchestrator", "artifact_store", "image_registry", "is_default"}))
      return;
    v1::Stack stack;
    stack.set_name(name);
    stack.set_orchestrator(reader.Text(path, value.struct_value(), "orchestrator"));
    stack.set_artifact_store(reader.Text(path, value.struct_value(), "artifact_store"));
    stack.set_image_registry(reader.Text(path, value.struct_value(), "image_registry"));
    if (stack.orchestrator().empty()) reader.Fault(path, "needs an orchestrator", "REQUIRED");
    const auto& fields = value.struct_value().fields();
    if (const auto it = fields.find("is_default"); it != fields.end()) {
      if (!it->second.has_bool_value()) {
        reader.Fault(path + ".is_default", "must be true or false", "WRONG_TYPE");
      } else if (it->second.bool_value()) {
        if (!the_default.empty()) {
          reader.Fault(path + ".is_default", absl::StrCat("stack `", the_default, "` is the default one already"),
                       "DUPLICATE_DEFAULT");
        }
        the_default = name;
        stack.set_is_default(true);
      }
    }
    site.stacks.push_back(std::move(stack));
  });
  if (const auto it = root.fields().find("settings"); it != root.fields().end()) {
    if (reader.Mapping("settings", it->second, {"default_stack"})) {
      site.default_stack = reader.Text("settings", it->second.struct_value(), "default_stack");
      if (!the_default.empty() && !site.default_stack.empty() && site.default_stack != the_default) {
        reader.Fault("settings.default_stack", absl::StrCat("stack `", the_default, "` says is_default"),
                     "DUPLICATE_DEFAULT");
      }
    }
  }
  return site;
}

Change Compare(const v1::Orchestrator* present, v1::Orchestrator* wanted) {
  std::vector<std::string> parts;
  if (present == nullptr) {
    State(&parts, "flavor", wanted->flavor());
    State(&parts, "config", wanted->config().fields().empty() ? "" : ConfigText(wanted->config()));
    State(&parts, "max_parallel", wanted->max_parallel() > 0 ? absl::StrCat(wanted->max_parallel()) : "");
    State(&parts, "max_rate", wanted->max_rate() > 0 ? absl::StrCat(wanted->max_rate()) : "");
  } else {
    Differ(&parts, "flavor", present->flavor(), wanted->flavor());
    Differ(&parts, "config", ConfigText(present->config()), ConfigText(wanted->config()));
    Differ(&parts, "max_parallel", absl::StrCat(present->max_parallel()), absl::StrCat(wanted->max_parallel()));
    Differ(&parts, "max_rate", absl::StrCat(present->max_rate()), absl::StrCat(wanted->max_rate()));
    // Somebody else's change in between is then noticed by the daemon.
    wanted->set_version(present->version());
  }
  return Finish(absl::StrCat("orchestrator ", wanted->name()), present != nullptr, parts);
}

Change Compare(const v1::Pool* present, v1::Pool* wanted) {
  std::vector<std::string> parts;
  if (present == nullptr) {
    State(&parts, "slots", absl::StrCat(wanted->slots()));
  } else {
    if (wanted->description().empty()) wanted->set_description(present->description());
    Differ(&parts, "slots", absl::StrCat(present->slots()), absl::StrCat(wanted->slots()));
    Differ(&parts, "description", present->description(), wanted->description());
  }
  return Finish(absl::StrCat("pool ", wanted->name()), present != nullptr, parts);
}

Change Compare(const v1::ArtifactStore* present, v1::ArtifactStore* wanted) {
  std::vector<std::string> parts;
  if (present == nullptr) {
    State(&parts, "flavor", wanted->flavor());
    State(&parts, "config", wanted->config().fields().empty() ? "" : ConfigText(wanted->config()));
  } else {
    Differ(&parts, "flavor", present->flavor(), wanted->flavor());
    Differ(&parts, "config", ConfigText(present->config()), ConfigText(wanted->config()));
  }
  return Finish(absl::StrCat("artifact store ", wanted->name()), present != nullptr, parts);
}

Change Compare(const v1::Stack* present, v1::Stack* wanted) {
  std::vector<std::string> parts;
  if (present == nullptr) {
    State(&parts, "orchestrator", wanted->orchestrator());
    State(&parts, "artifact_store", wanted->artifact_store());
    State(&parts, "image_registry", wanted->image_registry());
    if (wanted->is_default()) parts.emplace_back("the default");
  } else {
    if (wanted->orchestrator().empty()) wanted->set_orchestrator(present->orchestrator());
    if (wanted->artifact_store().empty()) wanted->set_artifact_store(present->artifact_store());
    if (wanted->image_registry().empty()) wanted->set_image_registry(present->image_registry());
    Differ(&parts, "orchestrator", present->orchestrator(), wanted->orchestrator());
    Differ(&parts, "artifact_store", present->artifact_store(), wanted->artifact_store());
    Differ(&parts, "image_registry", present->image_registry(), wanted->image_registry());
    if (wanted->is_default() && !present->is_default()) parts.emplace_back("becomes the default");
    if (present->is_default()) wanted->set_is_default(true);
  }
  return Finish(absl::StrCat("stack ", wanted->name()), present != nullptr, parts);
}

}  // namespace orch::cli
