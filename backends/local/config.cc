#include "backends/local/config.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <cctype>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/model/size_text.h"

namespace orch::local {
namespace {

using nlohmann::json;

constexpr double kMemoryShare = 0.9;
constexpr double kMaxCpus = 1e6;
constexpr double kMaxBytes = 9007199254740992.0;  // 2^53
constexpr double kMaxCount = 1e6;
constexpr double kMaxGpus = 1024;

int64_t CountCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return std::max<int64_t>(1, sysconf(_SC_NPROCESSORS_ONLN));
}

int64_t CountGpus() {
  int64_t n = 0;
  if (DIR* dir = opendir("/dev")) {
    while (const dirent* entry = readdir(dir)) {
      const char* name = entry->d_name;
      if (strncmp(name, "nvidia", 6) == 0 && isdigit(static_cast<unsigned char>(name[6])) != 0) ++n;
    }
    closedir(dir);
  }
  return n;
}

class Reader {
 public:
  explicit Reader(Config* config) : config_(*config) {}

  std::vector<Violation> Read(const json& object) {
    if (!object.is_object()) {
      Add("config", "must be a mapping");
      return std::move(faults_);
    }
    for (const auto& [key, value] : object.items()) Field(key, absl::StrCat("config.", key), value);
    return std::move(faults_);
  }

 private:
  void Add(const std::string& field, const std::string& what, const char* reason = "WRONG_TYPE") {
    faults_.push_back({field, what, reason});
  }

  double Number(const json& value, const std::string& field, double high) {
    if (value.is_number() && value.get<double>() >= 0 && value.get<double>() <= high) return value.get<double>();
    Add(field, absl::StrCat("must be a number from 0 to ", static_cast<int64_t>(high)));
    return 0;
  }

  void Field(const std::string& key, const std::string& field, const json& value) {
    if (key == "cpus") {
      config_.capacity.cpu_millis = std::llround(Number(value, field, kMaxCpus) * 1000);
    } else if (key == "memory") {
      const double bytes = value.is_string() ? BytesOf(value.get<std::string>()) : -1;
      if (value.is_string() && (bytes < 0 || bytes > kMaxBytes)) {
        Add(field, "must be bytes, or a size such as 16Gi");
      } else {
        config_.capacity.memory = std::llround(value.is_string() ? bytes : Number(value, field, kMaxBytes));
      }
    } else if (key == "gpus") {
      Gpus(value, field);
    } else if (key == "custom" && value.is_object()) {
      for (const auto& [name, count] : value.items()) {
        config_.capacity.custom.emplace_back(name,
                                             std::llround(Number(count, absl::StrCat(field, ".", name), kMaxCount)));
      }
    } else if (key == "cgroup" && (value == "auto" || value == "off")) {
      config_.cgroups = value == "auto";
    } else if (key == "artifacts" && (value == "shared" || value == "daemon" || value == "store")) {
      config_.launched = value != "shared";
      config_.handed = value == "store";
    } else {
      Add(field,
          "is unknown or of the wrong type; there are cpus, memory, gpus, custom, cgroup (auto, off), artifacts "
          "(shared, daemon, store)",
          "UNKNOWN_FIELD");
    }
  }

  // A number, or {devices: [0, 1], kind: a100}.
  void Gpus(const json& value, const std::string& field) {
    if (!value.is_object()) {
      const double count = Number(value, field, kMaxGpus);
      if (count != std::floor(count)) Add(field, "must be a whole number of GPUs");
      config_.capacity.gpu = std::llround(count);
      return;
    }
    bool named = false;
    for (const auto& [key, part] : value.items()) {
      const std::string at = absl::StrCat(field, ".", key);
      if (key == "devices" && part.is_array() && part.size() <= static_cast<size_t>(kMaxGpus)) {
        named = true;
        Devices(part, at);
      } else if (key == "kind" && part.is_string()) {
        config_.capacity.gpu_kind = part.get<std::string>();
      } else {
        Add(at, "is unknown or of the wrong type; there are devices (a list) and kind (a word)", "UNKNOWN_FIELD");
      }
    }
    if (!named)
      Add(absl::StrCat(field, ".devices"), "list the devices, as CUDA_VISIBLE_DEVICES names them", "REQUIRED");
  }

  void Devices(const json& list, const std::string& field) {
    std::set<std::string> seen;
    for (const json& device : list) {
      const std::string name = device.is_string()                                ? device.get<std::string>()
                               : device.is_number() && device.get<double>() >= 0 ? absl::StrCat(device.get<double>())
                                                                                 : "";
      bool good = !name.empty() && name.size() <= 100;
      for (const char c : name) good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-');
      if (!good) {
        Add(field, "a device is a number (0, 1, …) or a name such as GPU-1a2b");
      } else if (!seen.insert(name).second) {
        Add(field, absl::StrCat("device ", name, " is there twice"), "DUPLICATE_NAME");
      } else {
        config_.devices.push_back(name);
      }
    }
    config_.capacity.gpu = static_cast<int64_t>(config_.devices.size());
  }

  Config& config_;
  std::vector<Violation> faults_;
};

}  // namespace

absl::StatusOr<Config> ReadConfig(const std::string& text) {
  Config config;
  config.capacity.cpu_millis = CountCpus() * 1000;
  config.capacity.memory = static_cast<int64_t>(kMemoryShare * static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                                                static_cast<double>(sysconf(_SC_PAGESIZE)));
  config.capacity.gpu = CountGpus();
  const std::vector<Violation> faults = Reader(&config).Read(json::parse(text, nullptr, /*allow_exceptions=*/false));
  if (!faults.empty()) {
    return InvalidInput(
        "CONFIG_INVALID",
        absl::StrCat("the configuration of flavor `local`: ", faults[0].field, " ", faults[0].description), faults);
  }
  if (config.devices.empty()) {
    for (int64_t device = 0; device < *config.capacity.gpu; ++device) config.devices.push_back(absl::StrCat(device));
  }
  return config;
}

const char kConfigSchema[] = R"({"type":"object","additionalProperties":false,"properties":{
"cpus":{"type":"number","minimum":0,"description":"CPUs offered; default: the affinity mask"},
"memory":{"type":["number","string"],"minimum":0,"description":"bytes offered, or a size (16Gi); default: 90 % of the machine"},
"gpus":{"description":"GPUs offered; default: those found","anyOf":[{"type":"integer","minimum":0},
{"type":"object","additionalProperties":false,"required":["devices"],"properties":{
"devices":{"type":"array","items":{"type":["integer","string"]},"description":"as CUDA_VISIBLE_DEVICES names them"},
"kind":{"type":"string","description":"what a step asks for as resources.gpu.kind"}}}]},
"custom":{"type":"object","additionalProperties":{"type":"number","minimum":0},"description":"other countable things"},
"cgroup":{"enum":["auto","off"],"description":"how a step's processes are found; off: by session and mark"},
"artifacts":{"enum":["shared","daemon","store"],"description":"daemon: steps work on copies that a launcher fetches and delivers; store: and reach nothing but the run's artifact store"}}})";

}  // namespace orch::local
