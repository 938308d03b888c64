#include "backends/docker/config.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/model/size_text.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr size_t kMaxPem = 64 << 10;

constexpr char kDefaultSocket[] = "/var/run/docker.sock";
constexpr double kMaxBytes = 9007199254740992.0;  // 2^53

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

bool IsSet(const char* variable) {
  const char* value = getenv(variable);
  return value != nullptr && value[0] != '\0';
}

// Where the files for TLS are if nobody says so; empty: there is none.
std::string DefaultCertificates() {
  if (!IsSet("DOCKER_TLS_VERIFY")) return "";
  if (IsSet("DOCKER_CERT_PATH")) return getenv("DOCKER_CERT_PATH");
  return absl::StrCat(IsSet("HOME") ? getenv("HOME") : "", "/.docker");
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
    const double bytes = value.is_string()   ? BytesOf(value.get<std::string>())
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

  void Registries(const json& value, const std::string& field, std::map<std::string, Credentials>* out) {
    if (!value.is_object()) return Add(field, "must be {HOST: {username: NAME, secret: NAME}}");
    for (const auto& [host, who] : value.items()) {
      const std::string at = absl::StrCat(field, ".", host);
      if (!who.is_object()) {
        Add(at, "must be {username: NAME, secret: NAME}");
        continue;
      }
      Credentials& credentials = (*out)[host];
      for (const auto& [key, part] : who.items()) {
        if (key == "username") {
          credentials.username = Text(part, absl::StrCat(at, ".username"));
        } else if (key == "secret") {
          credentials.secret = Text(part, absl::StrCat(at, ".secret"));
        } else {
          Add(absl::StrCat(at, ".", key), "is unknown; there are username and secret (the name of a secret)",
              "UNKNOWN_FIELD");
        }
      }
      if (credentials.secret.empty()) Add(absl::StrCat(at, ".secret"), "name the secret with the password", "REQUIRED");
    }
  }

  // The files are read by each connection anew: they may be renewed.
  void Certificates(const std::string& folder) {
    if (!absl::StartsWith(folder, "/")) return Add("config.certificates", "must be an absolute path");
    for (const char* name : {"ca.pem", "cert.pem", "key.pem"}) {
      const std::string path = absl::StrCat(folder, "/", name);
      if (access(path.c_str(), R_OK) == 0) continue;
      Add("config.certificates",
          absl::StrCat("`", path, "` cannot be read: the folder needs ca.pem, cert.pem and key.pem"), "UNREADABLE");
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
    } else if (key == "certificates") {
      config.address.certificates = reader.Text(value, field);
    } else if (key == "image") {
      config.image = reader.Text(value, field);
    } else if (key == "pull") {
      if (value == "missing" || value == "always" || value == "never") {
        config.pull = value == "always" ? Pull::kAlways : value == "never" ? Pull::kNever : Pull::kMissing;
      } else {
        reader.Add(field, "must be missing, always or never");
      }
    } else if (key == "artifacts" && (value == "shared" || value == "daemon")) {
      config.launched = value == "daemon";
    } else if (key == "endpoint") {
      config.endpoint = reader.Text(value, field);
      if (!absl::StartsWith(config.endpoint, "http://") && !absl::StartsWith(config.endpoint, "https://")) {
        reader.Add(field, "must be http://HOST:PORT or https://HOST:PORT, as containers reach the daemon");
      }
    } else if (key == "ca_file") {
      std::ifstream in(reader.Text(value, field));
      std::stringstream pem;
      pem << in.rdbuf();
      config.ca_pem = pem.str();
      if (!absl::StrContains(config.ca_pem, "BEGIN CERTIFICATE") || config.ca_pem.size() > kMaxPem) {
        reader.Add(field, "must be a readable file with certificates (PEM, at most 64 KiB)");
      }
    } else if (key == "workspace") {
      config.workspace = reader.Text(value, field);
      if (!absl::StartsWith(config.workspace, "/") || config.workspace.size() > 200) {
        reader.Add(field, "must be an absolute path that the step's user can write in the container");
      }
    } else if (key == "registries") {
      reader.Registries(value, field, &config.registries);
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
                 "is unknown or of the wrong type; there are host, certificates, image, pull, registries, network, "
                 "user, mounts, "
                 "shm_size, cpus, "
                 "memory, gpus, custom, artifacts (shared, daemon), endpoint, ca_file, workspace",
                 "UNKNOWN_FIELD");
    }
  }
  config.address_text = host.empty() ? DefaultHost() : host;
  absl::string_view address = config.address_text;
  if (absl::ConsumePrefix(&address, "unix://") && !address.empty()) {
    config.address.socket = std::string(address);
    if (!config.address.certificates.empty()) {
      reader.Add("config.certificates", "are for an engine at tcp://; a socket has no TLS", "UNSUPPORTED");
    }
  } else if (absl::ConsumePrefix(&address, "tcp://") && !address.empty()) {
    config.address.host = std::string(address);
    if (config.address.certificates.empty()) config.address.certificates = DefaultCertificates();
    if (!config.address.certificates.empty()) {
      reader.Certificates(config.address.certificates);
    } else if (IsSet("DOCKER_TLS")) {
      reader.Add("config.host", "DOCKER_TLS without DOCKER_TLS_VERIFY is not done: an engine has to show who it is",
                 "UNSUPPORTED");
    }
  } else {
    reader.Add("config.host", absl::StrCat("`", config.address_text,
                                           "` cannot be reached: it must be unix:///PATH or tcp://HOST:PORT"));
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
"certificates":{"type":"string","description":"tcp://: a folder with ca.pem, cert.pem and key.pem, for TLS [DOCKER_CERT_PATH, if DOCKER_TLS_VERIFY is set]"},
"image":{"type":"string","description":"of steps that name none"},
"pull":{"enum":["missing","always","never"],"description":"when images are pulled [missing]"},
"registries":{"type":"object","description":"by host: who asks it for images","additionalProperties":{"type":"object",
"additionalProperties":false,"required":["secret"],"properties":{"username":{"type":"string","description":"absent: the secret is an identity token"},
"secret":{"type":"string","description":"the name of the secret with the password"}}}},
"network":{"type":"string","description":"as docker run --network"},
"user":{"type":"string","description":"uid, or uid:gid [the daemon's]"},
"mounts":{"type":"array","items":{"type":"string"},"description":"/here:/there, /here:/there:ro"},
"shm_size":{"type":["string","integer"],"description":"bytes of /dev/shm"},
"cpus":{"type":"number","description":"CPUs it offers [this machine's]"},
"memory":{"type":["string","integer"],"description":"bytes it offers, such as 16Gi [90 % of this machine's]"},
"gpus":{"type":"integer","description":"GPUs it offers [0]"},
"custom":{"type":"object","description":"other things it offers, by name"},
"artifacts":{"enum":["shared","daemon"],"description":"how steps get their artifacts: by bind mounts, or from the daemon [shared]"},
"endpoint":{"type":"string","description":"artifacts: daemon: how containers reach the daemon [a socket brought into them]"},
"ca_file":{"type":"string","description":"who signed the daemon's certificate, for endpoint: https://"},
"workspace":{"type":"string","description":"artifacts: daemon: a folder in the container [/tmp/orch]"}}})";

const char kSettingsSchema[] = R"({"type":"object","additionalProperties":false,"properties":{
"network":{"type":"string","description":"as docker run --network"},
"user":{"type":"string","description":"uid, or uid:gid"},
"mounts":{"type":"array","items":{"type":"string"},"description":"/here:/there, /here:/there:ro; instead of the orchestrator's"},
"shm_size":{"type":["string","integer"],"description":"bytes of /dev/shm"}}})";

}  // namespace orch::docker
