#include "backends/docker/config.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr char kDefaultSocket[] = "/var/run/docker.sock";
constexpr double kMaxBytes = 9007199254740992.0;  // 2^53

// `16Gi`, `512M`, `1000`; negative: it is none.
double SizeOf(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() && (absl::ascii_isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.'))
    ++digits;
  double number = 0;
  if (!absl::SimpleAtod(text.substr(0, digits), &number)) return -1;
  const std::string unit = text.substr(digits);
  if (unit.empty()) return number;
  const size_t power = std::string("KMGT").find(unit[0]);
  const std::string rest = unit.substr(1);
  if (power == std::string::npos || (rest != "" && rest != "B" && rest != "i")) return -1;
  return number * std::pow(rest == "i" ? 1024.0 : 1000.0, static_cast<double>(power) + 1);
}

// Where an engine is looked for if nobody says so: as its own command does.
std::string DefaultHost() {
  if (const char* host = getenv("DOCKER_HOST"); host != nullptr && host[0] != '\0') return host;
  struct stat st {};
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  const std::string rootless = absl::StrCat(runtime == nullptr ? "" : runtime, "/docker.sock");
  if (stat(kDefaultSocket, &st) != 0 && runtime != nullptr && stat(rootless.c_str(), &st) == 0) {
    return absl::StrCat("unix://", rootless);
  }
  return absl::StrCat("unix://", kDefaultSocket);
}

class Reader {
 public:
  explicit Reader(std::vector<Violation>* faults) : faults_(*faults) {}

  void Add(const std::string& field, const std::string& what, const char* reason = "WRONG_TYPE") {
    faults_.push_back({field, what, reason});
  }

  std::string Text(const json& value, const std::string& field) {
    if (value.is_string() && value.get<std::string>().find('\0') == std::string::npos) return value.get<std::string>();
    Add(field, "must be a text");
    return "";
  }

  int64_t Bytes(const json& value, const std::string& field) {
    const double bytes = value.is_string()   ? SizeOf(value.get<std::string>())
                         : value.is_number() ? value.get<double>()
                                             : -1;
    if (bytes >= 0 && bytes <= kMaxBytes) return std::llround(bytes);
    Add(field, "must be bytes, or a size such as 16Gi");
    return 0;
  }

  int64_t Count(const json& value, const std::string& field, int64_t scale) {
    if (value.is_number() && value.get<double>() >= 0 && value.get<double>() <= 1e6) {
      return std::llround(value.get<double>() * static_cast<double>(scale));
    }
    Add(field, "must be a number from 0 to 1000000");
    return 0;
  }

  void Mounts(const json& value, const std::string& field, std::vector<Mount>* out) {
    if (!value.is_array()) return Add(field, "must be a list of `/here:/there` or `/here:/there:ro`");
    out->clear();
    for (size_t i = 0; i < value.size(); ++i) {
      const std::vector<std::string> parts =
          value[i].is_string() ? absl::StrSplit(value[i].get<std::string>(), ':') : std::vector<std::string>();
      const bool three = parts.size() == 3 && (parts[2] == "ro" || parts[2] == "rw");
      if ((parts.size() != 2 && !three) || parts[0].empty() || !absl::StartsWith(parts[1], "/")) {
        Add(absl::StrCat(field, "[", i, "]"), "must be `/here:/there`, or `/here:/there:ro`");
        continue;
      }
      out->push_back({parts[0], parts[1], three && parts[2] == "ro"});
    }
  }

  // True if it is one of the settings.
  bool Setting(const std::string& key, const std::string& field, const json& value, Settings* out) {
    if (key == "network") {
      out->network = Text(value, field);
    } else if (key == "user") {
      out->user = Text(value, field);
    } else if (key == "mounts") {
      Mounts(value, field, &out->mounts);
    } else if (key == "shm_size") {
      out->shm_bytes = Bytes(value, field);
    } else {
      return false;
    }
    return true;
  }

 private:
  std::vector<Violation>& faults_;
};

}  // namespace

absl::StatusOr<Config> ReadConfig(const std::string& text) {
  Config config;
  std::vector<Violation> faults;
  Reader reader(&faults);
  std::string host;
  const json object = json::parse(text.empty() ? "{}" : text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    reader.Add("config", "must be a mapping");
    return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
  }
  for (const auto& [key, value] : object.items()) {
    const std::string field = absl::StrCat("config.", key);
    if (key == "host") {
      host = reader.Text(value, field);
    } else if (key == "image") {
      config.image = reader.Text(value, field);
    } else if (key == "pull") {
      if (value == "missing" || value == "always" || value == "never") {
        config.pull = value == "always" ? Pull::kAlways : value == "never" ? Pull::kNever : Pull::kMissing;
      } else {
        reader.Add(field, "must be missing, always or never");
      }
    } else if (key == "cpus") {
      config.capacity.cpu_millis = reader.Count(value, field, 1000);
    } else if (key == "memory") {
      config.capacity.memory = reader.Bytes(value, field);
    } else if (key == "gpus") {
      config.capacity.gpu = reader.Count(value, field, 1);
    } else if (key == "custom" && value.is_object()) {
      for (const auto& [name, count] : value.items()) {
        config.capacity.custom.emplace_back(name, reader.Count(count, absl::StrCat(field, ".", name), 1));
      }
    } else if (!reader.Setting(key, field, value, &config.settings)) {
      reader.Add(field,
                 "is unknown or of the wrong type; there are host, image, pull, network, user, mounts, shm_size, cpus, "
                 "memory, gpus, custom",
                 "UNKNOWN_FIELD");
    }
  }
  config.address_text = host.empty() ? DefaultHost() : host;
  absl::string_view address = config.address_text;
  if (absl::ConsumePrefix(&address, "unix://") && !address.empty()) {
    config.address.socket = std::string(address);
  } else if (absl::ConsumePrefix(&address, "tcp://") && !address.empty() && getenv("DOCKER_TLS_VERIFY") == nullptr) {
    config.address.host = std::string(address);
  } else {
    reader.Add("config.host",
               absl::StrCat("`", config.address_text,
                            "` cannot be reached in this build: it must be unix:///PATH, or tcp://HOST:PORT "
                            "without TLS"));
  }
  if (!faults.empty()) return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
  if (!config.capacity.cpu_millis) {
    cpu_set_t set;
    CPU_ZERO(&set);
    const bool known = sched_getaffinity(0, sizeof(set), &set) == 0;
    config.capacity.cpu_millis = 1000 * (known ? CPU_COUNT(&set) : 1);
  }
  if (!config.capacity.memory) {
    config.capacity.memory = static_cast<int64_t>(0.9 * static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                                                  static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  if (!config.capacity.gpu) config.capacity.gpu = 0;
  return config;
}

Settings ReadSettings(const Settings& base, absl::string_view text, std::vector<std::string>* faults) {
  Settings out = base;
  const json object = json::parse(text.empty() ? "{}" : std::string(text), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    faults->push_back("must be a mapping");
    return out;
  }
  std::vector<Violation> found;
  Reader reader(&found);
  for (const auto& [key, value] : object.items()) {
    if (!reader.Setting(key, key, value, &out)) {
      faults->push_back(absl::StrCat("`", key, "`: is unknown; there are network, user, mounts, shm_size"));
    }
  }
  for (const Violation& fault : found) faults->push_back(absl::StrCat("`", fault.field, "`: ", fault.description));
  return out;
}

const char kConfigSchema[] = R"({"type":"object","additionalProperties":false,"properties":{
"host":{"type":"string","description":"the engine: unix:///PATH or tcp://HOST:PORT [DOCKER_HOST, then the usual socket]"},
"image":{"type":"string","description":"of steps that name none"},
"pull":{"enum":["missing","always","never"],"description":"when images are pulled [missing]"},
"network":{"type":"string","description":"as docker run --network"},
"user":{"type":"string","description":"uid, or uid:gid [the daemon's]"},
"mounts":{"type":"array","items":{"type":"string"},"description":"/here:/there, /here:/there:ro"},
"shm_size":{"type":["string","integer"],"description":"bytes of /dev/shm"},
"cpus":{"type":"number","description":"CPUs it offers [this machine's]"},
"memory":{"type":["string","integer"],"description":"bytes it offers, such as 16Gi [90 % of this machine's]"},
"gpus":{"type":"integer","description":"GPUs it offers [0]"},
"custom":{"type":"object","description":"other things it offers, by name"}}})";

const char kSettingsSchema[] = R"({"type":"object","additionalProperties":false,"properties":{
"network":{"type":"string","description":"as docker run --network"},
"user":{"type":"string","description":"uid, or uid:gid"},
"mounts":{"type":"array","items":{"type":"string"},"description":"/here:/there, /here:/there:ro; instead of the orchestrator's"},
"shm_size":{"type":["string","integer"],"description":"bytes of /dev/shm"}}})";

}  // namespace orch::docker
