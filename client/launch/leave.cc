#include "client/launch/leave.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "client/launch/deliver.h"
#include "client/launch/files.h"
#include "server/base/digest.h"
#include "server/base/folder_pack.h"

namespace orch::launch {
namespace {

using nlohmann::json;

constexpr int kStorePatienceSeconds = 60;
constexpr size_t kRead = 1 << 20;

struct Left {
  std::string name;
  std::string path;
  DescribedOutput what;
};

// Everything of a file at the end of another.
bool Append(int to, const std::string& path, std::string* error) {
  const int from = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (from < 0) {
    *error = path + ": " + strerror(errno);
    return false;
  }
  const Closer close_from(from);
  struct stat st {};
  if (fstat(from, &st) != 0 || !WriteAll(to, PackLength(st.st_size), error)) return false;
  const auto buffer = std::make_unique<char[]>(kRead);
  for (int64_t left = st.st_size; left > 0;) {
    const ssize_t n = read(from, buffer.get(), std::min<size_t>(kRead, static_cast<size_t>(left)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      *error = path + " has become shorter";
      return false;
    }
    if (!WriteAll(to, std::string_view(buffer.get(), static_cast<size_t>(n)), error)) return false;
    left -= n;
  }
  return true;
}

// A folder in one piece, as an open file that has no name any more; -1: `error` says why.
int PackFolder(const Left& output, const std::string& root, std::string* error) {
  const std::string path = root + "/.pack";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) {
    *error = path + ": " + strerror(errno);
    return -1;
  }
  unlink(path.c_str());
  const std::string& listing = output.what.listing;
  bool good = WriteAll(fd, PackHead(static_cast<int64_t>(listing.size())) + listing, error);
  for (const std::string& file : output.what.files) good = good && Append(fd, output.path + "/" + file, error);
  if (good) return fd;
  close(fd);
  return -1;
}

bool Put(Daemon& daemon, const json& address, int fd, const std::string& text, std::string* error) {
  struct stat st {};
  if (fd >= 0 && fstat(fd, &st) != 0) {
    *error = strerror(errno);
    return false;
  }
  for (Patience patience(kStorePatienceSeconds);;) {
    HttpCall put;
    put.method = "PUT";
    for (const auto& [name, value] : address.at("headers").items()) {
      if (value.is_string()) put.headers.emplace_back(name, value);
    }
    put.fd = fd;
    put.length = st.st_size;
    put.body = text;
    const HttpAnswer answer = daemon.AskElsewhere(address.at("url"), std::move(put));
    if (answer.status >= 200 && answer.status < 300) return true;
    if (MayTryAgain(answer) && patience.Wait()) continue;
    *error = answer.status == 0 ? answer.error
                                : "HTTP status " + std::to_string(answer.status) + " " + answer.body.substr(0, 300);
    return false;
  }
}

bool LeaveInStore(Daemon& daemon, const json& task, const std::vector<Left>& outputs, const std::string& manifest,
                  std::string* error) {
  const json& away = task.at("away");
  const int64_t most = away.value("most_bytes", INT64_MAX);
  for (const Left& output : outputs) {
    const int fd = output.what.folder ? PackFolder(output, task.at("root"), error)
                                      : open(output.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    const Closer close_fd(fd);
    struct stat st {};
    if (fstat(fd, &st) != 0 || st.st_size > most) {
      *error = "output `" + output.name + "` has " + std::to_string(st.st_size) + " bytes, and a store takes " +
               std::to_string(most) + " in one request";
      return false;
    }
    if (!Put(daemon, away.at("outputs").at(output.name), fd, "", error)) return false;
  }
  return Put(daemon, away.at("manifest"), -1, manifest, error);  // last: where it is, all is
}

}  // namespace

std::optional<Fault> LeaveBehind(Daemon& daemon, const json& task, const std::string& launcher, json end, bool outputs,
                                 const std::string& published) {
  std::vector<Left> left;
  if (outputs) {
    for (const json& output : task.at("outputs")) {
      Left one{output.at("name"), output.at("path"), {}};
      struct stat st {};
      if (stat((published + "/" + one.name).c_str(), &st) == 0) continue;
      if (lstat(one.path.c_str(), &st) != 0 && errno == ENOENT) continue;  // the daemon says what is missing
      if (auto fault = DescribeOutput(one.name, one.path, &one.what)) {
        end.erase("exit_code");
        end["reason"] = fault->reason;
        end["message"] = fault->message;
        left.clear();
        break;
      }
      left.push_back(std::move(one));
    }
  }
  json manifest = {{"version", 1}, {"fence", task.at("fence")}, {"launcher", launcher}, {"end", end}};
  manifest["outputs"] = json::array();
  for (const Left& output : left) {
    manifest["outputs"].push_back({{"name", output.name},
                                   {"kind", output.what.folder ? "folder" : "file"},
                                   {"digest", "sha256:" + Hex(output.what.digest)}});
  }
  const std::string text = manifest.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string error;
  if (task.contains("away") && LeaveInStore(daemon, task, left, text, &error)) return std::nullopt;
  const std::string root = task.at("root");
  std::string here;
  if (WriteFile(root + "/manifest.part", text, 0600, &here)) {
    if (rename((root + "/manifest.part").c_str(), (root + "/manifest.json").c_str()) == 0) return std::nullopt;
    here = strerror(errno);
  }
  return Fault{"STORE_FAILED", "nothing can be left for the daemon: " + (error.empty() ? "" : error + "; ") + here};
}

}  // namespace orch::launch
