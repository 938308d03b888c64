#include "backends/docker/attempt_place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::docker {

AttemptPlaces::AttemptPlaces(const BackendContext* context, const Config* config)
    : context_(context),
      config_(config),
      has_launcher_(access(Launcher().c_str(), X_OK) == 0),
      secrets_(SecretFolder::Root(context->instance, context->orchestrator)) {}

std::string AttemptPlaces::Launcher() const { return context_->binary_dir + "/orch-launch"; }

std::string AttemptPlaces::Folder(absl::string_view key) const {
  return absl::StrCat(context_->data_dir, "/docker/", context_->orchestrator, "/", key);
}

std::string AttemptPlaces::StartFile(absl::string_view key) const { return Folder(key) + ".started-by"; }

absl::Status AttemptPlaces::Make(AttemptWork* work) {
  std::error_code error;
  for (const char* folder : {"/scratch", "/output"}) {
    std::filesystem::create_directories(Folder(work->name.key) + folder, error);
  }
  std::vector<std::pair<std::string, std::string>> plain;
  for (auto& [name, value] : work->env) {
    if (name == "ORCH_ENDPOINT" && absl::StartsWith(value, "unix:") && !context_->step_sockets.empty()) {
      value = absl::StrCat("unix:", kSockets, "/http.sock");
    }
  }
  for (auto it = work->env.begin(); it != work->env.end();) {
    const bool token = it->first == "ORCH_TOKEN";
    if (token) plain.push_back(*it);
    it = token ? work->env.erase(it) : it + 1;
  }
  if (work->secrets.empty() && plain.empty()) return absl::OkStatus();
  if (!has_launcher_) {
    if (work->secrets.empty()) return absl::OkStatus();  // it has to do without a token
    return Error(absl::StatusCode::kFailedPrecondition, "NO_LAUNCHER",
                 absl::StrCat("secrets for containers need ", Launcher(), ", which is not there"));
  }
  const auto folder = secrets_.Write(work->name.key, work->secrets, plain);
  if (!folder.ok()) return work->secrets.empty() ? absl::OkStatus() : folder.status();
  secret_folders_[work->name.key] = *folder;
  work->secrets.clear();
  return absl::OkStatus();
}

// Nothing of the daemon's files is there: its launcher, and a way to the daemon.
std::string AttemptPlaces::LauncherRequest(AttemptWork work, ContainerFacts facts) const {
  facts.mounts.push_back({Launcher(), absl::StrCat(kPrograms, "/orch-launch"), true});
  if (config_->endpoint.empty()) facts.mounts.push_back({context_->step_sockets, kSockets, true});
  if (!config_->ca_pem.empty()) work.env.emplace_back("ORCH_CA_PEM", config_->ca_pem);
  // The launcher sees what the kernel did for want of memory; the engine, on a busy machine, not always.
  work.env.emplace_back("ORCH_OWN_CGROUP", "1");
  return ContainerRequest(work, facts);
}

std::string AttemptPlaces::Request(const AttemptWork& work, const std::string& image, const std::string& path) const {
  ContainerFacts facts;
  facts.instance = context_->instance;
  facts.orchestrator = context_->orchestrator;
  facts.image = image;
  facts.image_path = path;
  facts.user = absl::StrCat(geteuid(), ":", getegid());
  std::vector<std::string> faults;  // none: they were refused at submit
  facts.settings = ReadSettings(config_->settings, work.settings_json, &faults);
  if (const auto secret = secret_folders_.find(work.name.key); secret != secret_folders_.end()) {
    facts.secret_folder = secret->second;
  }
  if (config_->launched) return LauncherRequest(work, std::move(facts));
  // At the same paths as here, so that what is said of them holds inside; nothing else of the daemon's is there.
  for (const char* folder : {"/blobs", "/inputs", "/made"}) {
    const std::string here = context_->data_dir + folder;
    if (access(here.c_str(), F_OK) == 0) facts.mounts.push_back({here, here, true});
  }
  const std::string own = Folder(work.name.key);
  facts.mounts.push_back({own, own, false});
  struct stat st {};
  if (!work.source_dir.empty() && stat(work.source_dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
    facts.mounts.push_back({work.source_dir, work.source_dir, true});
  }
  facts.launcher = has_launcher_;
  if (has_launcher_) facts.mounts.push_back({Launcher(), absl::StrCat(kPrograms, "/orch-launch"), true});
  if (!context_->step_sockets.empty()) facts.mounts.push_back({context_->step_sockets, kSockets, true});
  return ContainerRequest(work, facts);
}

// Whole or not at all: half a word would be that of another engine.
absl::Status AttemptPlaces::AboutToStart(absl::string_view key, const std::string& engine) const {
  const std::string path = StartFile(key);
  const std::string fresh = path + ".new";
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool good = fd >= 0 && write(fd, engine.data(), engine.size()) == static_cast<ssize_t>(engine.size()) &&
                    fsync(fd) == 0 && rename(fresh.c_str(), path.c_str()) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (good) return absl::OkStatus();
  unlink(fresh.c_str());
  return Error(absl::StatusCode::kInternal, "START_NOT_NOTED",
               absl::StrCat("cannot write ", path, ": ", strerror(error), "; its start is put off"));
}

Asked AttemptPlaces::AskedBefore(absl::string_view key, const std::string& engine) const {
  std::ifstream in(StartFile(key));
  if (!in.is_open()) return errno == ENOENT ? Asked::kNone : Asked::kEarlier;
  const std::string asked(std::istreambuf_iterator<char>(in), {});
  return asked.empty() || asked == engine ? Asked::kThis : Asked::kEarlier;
}

void AttemptPlaces::Remove(const std::string& key) {
  std::error_code error;
  std::filesystem::remove_all(Folder(key), error);
  std::filesystem::remove(StartFile(key), error);
  secrets_.Remove(key);
  secret_folders_.erase(key);
}

}  // namespace orch::docker
