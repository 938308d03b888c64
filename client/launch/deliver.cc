#include "client/launch/deliver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "client/launch/files.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"

namespace orch::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kRead = 1 << 20;
constexpr int64_t kWorthAnAddress = 256 << 10;  // smaller ones are faster through the daemon
constexpr int kStorePatienceSeconds = 60;
constexpr int kTakeMillis = 600'000;
constexpr int64_t kPiece = int64_t{64} << 20;  // of one call: what a refusal can cost

Fault Invalid(const std::string& what) { return {"OUTPUT_INVALID", what}; }

std::optional<Fault> HashFile(int fd, const std::string& path, std::string* digest, int64_t* size) {
  Sha256 hash;
  const auto buffer = std::make_unique<char[]>(kRead);
  *size = 0;
  for (;;) {
    const ssize_t n = pread(fd, buffer.get(), kRead, *size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Fault{"STORE_FAILED", path + " cannot be read: " + strerror(errno)};
    if (n == 0) break;
    hash.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    *size += n;
  }
  *digest = hash.Finish();
  return std::nullopt;
}

// Straight to the run's artifact store, if the daemon has an address for these bytes. False: they go to the daemon.
bool SendElsewhere(Daemon& daemon, const std::string& hex, int fd, int64_t size) {
  const std::string target = "/attempt/v1/blobs/sha256:" + hex;
  json address;
  if (daemon.Post(target, {{"size", size}}, &address) || !address.contains("url")) return false;
  for (Patience patience(kStorePatienceSeconds);;) {
    HttpCall put;
    put.method = "PUT";
    for (const auto& [name, value] : address["headers"].items()) {
      if (value.is_string()) put.headers.emplace_back(name, value);
    }
    put.fd = fd;
    put.length = size;
    const HttpAnswer answer = daemon.AskElsewhere(address["url"], std::move(put));
    if (answer.status >= 200 && answer.status < 300) break;
    if (!MayTryAgain(answer) || !patience.Wait()) return false;  // the daemon can take them
    if (daemon.Post(target, {{"size", size}}, &address) || !address.contains("url")) return false;  // a fresh one
  }
  HttpCall sent;
  sent.method = "POST";
  sent.target = target;
  sent.headers.emplace_back("Content-Type", "application/json");
  sent.body = "{\"sent\":true}";
  sent.timeout_ms = kTakeMillis;  // the daemon fetches them
  const HttpAnswer taken = daemon.Ask(std::move(sent));
  return taken.status == 204 && taken.Header("Upload-Complete") == "?1";
}

// Sends bytes whose digest is known: from `fd`, or `text`.
std::optional<Fault> Send(Daemon& daemon, const std::string& hex, int fd, const std::string& text, int64_t size) {
  const std::string target = "/attempt/v1/blobs/sha256:" + hex;
  int64_t at = 0;
  int dropped = 0;
  for (Patience patience(daemon.patience_seconds());;) {
    HttpCall call;
    call.method = "PATCH";
    call.target = target;
    call.headers = {{"Content-Type", "application/octet-stream"},
                    {"Upload-Offset", std::to_string(at)},
                    {"Upload-Length", std::to_string(size)}};
    const int64_t length = std::min(kPiece, size - at);
    if (fd >= 0) {
      call.fd = fd;
      call.offset = at;
      call.length = length;
    } else {
      call.body = text.substr(static_cast<size_t>(at), static_cast<size_t>(length));
    }
    HttpAnswer answer = daemon.AskOnce(std::move(call));
    if (answer.status == 422 && ++dropped < 3) {  // it broke on the way, and was dropped
      at = 0;
      continue;
    }
    const bool asked = MayTryAgain(answer);
    if (asked) {  // how much has come?
      if (!patience.Wait()) return FaultOf(answer);
      HttpCall ask;
      ask.method = "HEAD";
      ask.target = target;
      answer = daemon.AskOnce(std::move(ask));
      if (MayTryAgain(answer)) continue;
    }
    const std::string offset = answer.Header("Upload-Offset");
    int64_t there = 0;
    const auto [end, error] = std::from_chars(offset.data(), offset.data() + offset.size(), there);
    if (error != std::errc() || (answer.status != 204 && answer.status != 409) || there > size) return FaultOf(answer);
    if (answer.status == 204 && answer.Header("Upload-Complete") == "?1") return std::nullopt;
    if (answer.status == 409 && there == size) {
      HttpCall ask;
      ask.method = "HEAD";
      ask.target = target;
      const HttpAnswer whole = daemon.Ask(std::move(ask));
      if (whole.status == 204 && whole.Header("Upload-Complete") == "?1") return std::nullopt;
    }
    if (there > at) patience.Progress();
    at = there;
  }
}

std::optional<Fault> SendFile(Daemon& daemon, const std::string& path, std::set<std::string>* sent,
                              std::string* digest) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return Fault{"STORE_FAILED", path + " cannot be read: " + strerror(errno)};
  const Closer close_fd(fd);
  int64_t size = 0;
  if (auto fault = HashFile(fd, path, digest, &size)) return fault;
  if (!sent->insert(*digest).second) return std::nullopt;
  if (size >= kWorthAnAddress && SendElsewhere(daemon, Hex(*digest), fd, size)) return std::nullopt;
  return Send(daemon, Hex(*digest), fd, "", size);
}

// What becomes of a file of a folder; its digest is wanted.
using TakeFile = std::function<std::optional<Fault>(const std::string& path, std::string* digest)>;

std::optional<Fault> WalkFolder(const TakeFile& take, const std::string& root, const std::string& relative,
                                std::vector<FolderEntry>* entries) {
  const std::string path = relative.empty() ? root : root + "/" + relative;
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    FolderEntry entry;
    entry.path = relative.empty() ? name : relative + "/" + name;
    struct stat st {};
    if (lstat(it->path().c_str(), &st) != 0) return Fault{"STORE_FAILED", entry.path + ": " + strerror(errno)};
    if (S_ISDIR(st.st_mode)) {
      entry.kind = FolderEntry::Kind::kFolder;
      entries->push_back(entry);
      if (auto fault = WalkFolder(take, root, entry.path, entries)) return fault;
      continue;
    }
    if (S_ISLNK(st.st_mode)) {
      entry.kind = FolderEntry::Kind::kLink;
      entry.content = fs::read_symlink(it->path(), error).string();
      if (!LinkStaysInside(entry.path, entry.content)) {
        return Invalid("`" + entry.path + "` is a link out of the folder (to `" + entry.content + "`)");
      }
    } else if (S_ISREG(st.st_mode)) {
      entry.executable = (st.st_mode & S_IXUSR) != 0;
      if (auto fault = take(it->path().string(), &entry.content)) return fault;
    } else {
      return Invalid("`" + entry.path + "` is neither a file nor a folder");
    }
    entries->push_back(std::move(entry));
  }
  if (error) return Fault{"STORE_FAILED", path + ": " + error.message()};
  return std::nullopt;
}

}  // namespace

std::optional<Fault> DeliverOutput(Daemon& daemon, const std::string& name, const std::string& path, std::string* hex) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return std::nullopt;
    return Invalid("output `" + name + "` cannot be read: " + strerror(errno));
  }
  const auto of_output = [&](Fault fault) {
    fault.message = "output `" + name + "`: " + fault.message;
    return fault;
  };
  if (S_ISLNK(st.st_mode)) return Invalid("output `" + name + "` is a symbolic link; write the bytes themselves");
  std::set<std::string> sent;
  std::string digest;
  const bool folder = S_ISDIR(st.st_mode);
  if (folder) {
    std::vector<FolderEntry> entries;
    const auto send = [&](const std::string& file, std::string* of) { return SendFile(daemon, file, &sent, of); };
    if (auto fault = WalkFolder(send, path, "", &entries)) return of_output(*fault);
    const std::string listing = WriteListing(std::move(entries));
    digest = Sha256Of(listing);
    if (auto fault = Send(daemon, Hex(digest), -1, listing, static_cast<int64_t>(listing.size()))) {
      return of_output(*fault);
    }
  } else if (S_ISREG(st.st_mode)) {
    if (auto fault = SendFile(daemon, path, &sent, &digest)) return of_output(*fault);
  } else {
    return Invalid("output `" + name + "` is neither a file nor a folder");
  }
  *hex = Hex(digest);
  if (auto fault = daemon.Post("/attempt/v1/outputs/" + EscapePath(name),
                               {{"digest", "sha256:" + *hex}, {"kind", folder ? "folder" : "file"}}, nullptr)) {
    return of_output(*fault);
  }
  return std::nullopt;
}

std::optional<Fault> DescribeOutput(const std::string& name, const std::string& path, DescribedOutput* out) {
  struct stat st {};
  const auto invalid = [&](const std::string& what) { return Invalid("output `" + name + "` " + what); };
  if (lstat(path.c_str(), &st) != 0) return invalid(std::string("cannot be read: ") + strerror(errno));
  if (S_ISLNK(st.st_mode)) return invalid("is a symbolic link; write the bytes themselves");
  const TakeFile hash = [](const std::string& file, std::string* digest) -> std::optional<Fault> {
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return Fault{"STORE_FAILED", file + " cannot be read: " + strerror(errno)};
    const Closer close_fd(fd);
    int64_t size = 0;
    return HashFile(fd, file, digest, &size);
  };
  std::optional<Fault> fault;
  if (S_ISDIR(st.st_mode)) {
    out->folder = true;
    std::vector<FolderEntry> entries;
    fault = WalkFolder(hash, path, "", &entries);
    if (!fault) {
      out->listing = WriteListing(std::move(entries));
      out->digest = Sha256Of(out->listing);
      const auto sorted = ReadListing(out->listing, INT64_MAX);
      if (!sorted.ok()) return invalid(std::string(sorted.status().message()));
      for (const FolderEntry& entry : *sorted) {
        if (entry.kind == FolderEntry::Kind::kFile) out->files.push_back(entry.path);
      }
    }
  } else if (S_ISREG(st.st_mode)) {
    fault = hash(path, &out->digest);
  } else {
    return invalid("is neither a file nor a folder");
  }
  if (fault) fault->message = "output `" + name + "`: " + fault->message;
  return fault;
}

}  // namespace orch::launch
