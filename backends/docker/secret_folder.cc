#include "backends/docker/secret_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace orch::docker {
namespace {

constexpr long kTmpfs = 0x01021994;  // as statfs tells it

absl::Status Failed(const std::string& path) {
  return Error(absl::StatusCode::kInternal, "SECRETS_NOT_KEPT",
               absl::StrCat("cannot make ", path, ": ", strerror(errno)));
}

// True if it is a folder of this user that others cannot enter, now or since before.
bool MakePrivate(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return false;
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) return false;
  if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
    errno = EPERM;  // somebody else was here first
    return false;
  }
  return chmod(path.c_str(), 0700) == 0;
}

// In the place of what was there, at once: a container may have it open.
absl::Status WriteFile(const std::string& folder, const std::string& name, absl::string_view bytes) {
  const std::string path = absl::StrCat(folder, "/", name);
  const std::string fresh = absl::StrCat(folder, "/../.new");
  unlink(fresh.c_str());
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
  if (fd < 0) return Failed(path);
  bool good = true;
  while (good && !bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
    good = n > 0 || (n < 0 && errno == EINTR);
  }
  good = good && fchmod(fd, 0444) == 0 && rename(fresh.c_str(), path.c_str()) == 0;
  const absl::Status status = good ? absl::OkStatus() : Failed(path);
  close(fd);
  return status;
}

}  // namespace

std::string SecretFolder::Root(const std::string& instance, const std::string& orchestrator) {
  struct statfs fs {};
  for (const char* place : {"/dev/shm", "/run"}) {
    if (statfs(place, &fs) == 0 && fs.f_type == kTmpfs && access(place, W_OK) == 0) {
      return absl::StrCat(place, "/orchd-", instance, "/", orchestrator);
    }
  }
  return "";
}

absl::StatusOr<std::string> SecretFolder::Write(const std::string& key, const std::vector<SecretValue>& secrets,
                                                const std::vector<std::pair<std::string, std::string>>& plain) {
  if (root_.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "NO_TMPFS",
                 "secrets for containers are kept in memory, and neither /dev/shm nor /run is a tmpfs that can be "
                 "written");
  }
  const std::string parent = root_.substr(0, root_.rfind('/'));
  for (const std::string& path : {parent, root_}) {
    if (!MakePrivate(path)) return Failed(path);
  }
  const std::string folder = absl::StrCat(root_, "/", key);
  for (const char* below : {"", "/plain", "/env", "/file"}) {
    const std::string path = folder + below;
    if ((mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) || chmod(path.c_str(), 0755) != 0) return Failed(path);
  }
  for (const SecretValue& secret : secrets) {
    RETURN_IF_ERROR(WriteFile(folder + (secret.file ? "/file" : "/env"), secret.variable, secret.value));
  }
  for (const auto& [name, value] : plain) RETURN_IF_ERROR(WriteFile(folder + "/plain", name, value));
  return folder;
}

void SecretFolder::Remove(const std::string& key) {
  std::error_code error;
  if (!root_.empty()) std::filesystem::remove_all(absl::StrCat(root_, "/", key), error);
}

void SecretFolder::RemoveOthers(const std::vector<std::string>& keys) {
  if (root_.empty()) return;
  std::error_code error;
  std::vector<std::string> others;
  for (const auto& entry : std::filesystem::directory_iterator(root_, error)) {
    const std::string name = entry.path().filename().string();
    if (std::find(keys.begin(), keys.end(), name) == keys.end()) others.push_back(name);
  }
  for (const std::string& name : others) Remove(name);
}

}  // namespace orch::docker
