#include "server/engine/left_behind.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/folder_listing.h"
#include "server/base/folder_pack.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/engine/blob_store.h"

namespace orch {
namespace {

using nlohmann::json;

constexpr int64_t kMaxManifest = 1 << 20;
constexpr char kManifest[] = "manifest.json";

absl::Status Nothing() { return absl::NotFoundError("nothing was left behind"); }

absl::Status Unreadable(const std::string& path) {
  return Error(absl::StatusCode::kInternal, "STORE_FAILED", absl::StrCat("cannot read ", path, ": ", strerror(errno)));
}

absl::Status TooLarge(int64_t size, int64_t limit) {
  return Error(absl::StatusCode::kResourceExhausted, "ARTIFACT_TOO_LARGE",
               absl::StrCat("it has ", size, " bytes; at most ", limit, " are taken (limit artifact_bytes)"));
}

// A piece of a file as a new file, whose digest has to be this.
absl::Status CopyPiece(int from, int64_t offset, int64_t size, const std::string& to, absl::string_view digest) {
  const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (out < 0) return Unreadable(to);
  const auto close_out = absl::MakeCleanup([out] { close(out); });
  Sha256 hash;
  const size_t most = 1 << 20;
  const auto buffer = std::make_unique<char[]>(most);
  for (int64_t at = 0; at < size;) {
    const ssize_t n = pread(from, buffer.get(), std::min<size_t>(most, static_cast<size_t>(size - at)), offset + at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Unreadable("what was left");
    hash.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    for (ssize_t done = 0; done < n;) {
      const ssize_t m = write(out, buffer.get() + done, static_cast<size_t>(n - done));
      if (m < 0 && errno == EINTR) continue;
      if (m < 0)
        return Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", absl::StrCat(to, ": ", strerror(errno)));
      done += m;
    }
    at += n;
  }
  if (hash.Finish() == digest) return absl::OkStatus();
  return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", "what was left is not what its manifest says");
}

std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

// One of the two places.
class LeftBehind::Place {
 public:
  Place(ArtifactStores* stores, std::string store, std::string key)
      : stores_(stores), store_(std::move(store)), key_(std::move(key)) {}
  explicit Place(std::string folder) : folder_(std::move(folder)) {}

  bool remote() const { return stores_ != nullptr; }
  // Into a new file. NOT_FOUND: it is not there.
  absl::Status Get(const std::string& name, const std::string& path, int64_t most) const {
    if (remote()) {
      ASSIGN_OR_RETURN(const int64_t size, stores_->SizeOfLeft(store_, key_, name));
      if (size > most) return TooLarge(size, most);
      return stores_->FetchLeft(store_, key_, name, path);
    }
    const std::string from = absl::StrCat(folder_, "/", name);
    const int fd = open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? Nothing() : Unreadable(from);
    const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
    struct stat st {};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return Unreadable(from);
    if (st.st_size > most) return TooLarge(st.st_size, most);
    std::error_code error;
    std::filesystem::copy_file(from, path, error);
    return error ? Unreadable(from) : absl::OkStatus();
  }
  std::string FolderOf(const std::string& name) const { return absl::StrCat(folder_, "/output/", name); }
  std::string NameOf(const std::string& output) const { return (remote() ? "outputs/" : "output/") + output; }
  void Remove(const std::string& name) const {
    if (remote()) stores_->RemoveLeft(store_, key_, name);
  }

 private:
  ArtifactStores* const stores_ = nullptr;
  const std::string store_, key_, folder_;
};

bool LeftBehind::MayBe(const std::string& key) {
  return !deliveries_->LauncherOf(key).empty() && !deliveries_->EndOf(key).has_value();
}

bool LeftBehind::MayComeLater(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kUnauthenticated ||
         ReasonOf(status) == "DISK_FULL";
}

absl::Status LeftBehind::Take(const std::string& key) {
  ASSIGN_OR_RETURN(const std::string text, deliveries_->TaskOf(key));
  ASSIGN_OR_RETURN(const AttemptTask task, ReadTask(text));
  absl::Status taken = Nothing();
  if (!task.artifact_store.empty()) taken = TakeFrom(key, task, Place(stores_, task.artifact_store, key));
  if (taken.ok()) return taken;
  // It goes there too where the store could not be reached.
  const json object = json::parse(task.json, nullptr, /*allow_exceptions=*/false);
  const std::string root = object.is_object() ? Text(object, "root") : "";
  if (root.empty()) return taken;
  const absl::Status here = TakeFrom(key, task, Place(root));
  return here.code() == absl::StatusCode::kNotFound ? taken : here;
}

absl::Status LeftBehind::TakeFrom(const std::string& key, const AttemptTask& task, const Place& place) {
  const std::string path = deliveries_->StagingName(key);
  const auto clean = absl::MakeCleanup([&] { unlink(path.c_str()); });
  RETURN_IF_ERROR(place.Get(kManifest, path, kMaxManifest));
  std::ifstream in(path, std::ios::binary);
  const json manifest = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("version") || manifest["version"] != 1 || !manifest.contains("end") ||
      !manifest["end"].is_object()) {
    return Error(absl::StatusCode::kInvalidArgument, "MANIFEST_INVALID", "the manifest that was left cannot be read");
  }
  // Of another attempt, or of a launcher that this attempt does not know.
  if (Text(manifest, "fence") != key || Text(manifest, "launcher") != deliveries_->LauncherOf(key)) {
    Log(LogLevel::kWarning, "what was left behind is not taken: another launcher's", {{"key", key}});
    return Nothing();
  }
  ORCH_FAULT("left.found");
  json end = manifest["end"];
  std::vector<std::string> names;
  const json outputs = manifest.contains("outputs") ? manifest["outputs"] : json::array();
  for (const json& output : outputs) {
    const std::string name = output.is_object() ? Text(output, "name") : "";
    const std::string hex = output.is_object() ? HexOfDigest(Text(output, "digest")) : "";
    if (std::find(task.outputs.begin(), task.outputs.end(), name) == task.outputs.end() || hex.empty()) {
      return Error(absl::StatusCode::kInvalidArgument, "MANIFEST_INVALID",
                   "the manifest that was left names an output that this step does not have");
    }
    const absl::Status taken = TakeOutput(key, place, name, hex, Text(output, "kind") == "folder");
    if (MayComeLater(taken)) return taken;
    if (!taken.ok()) {
      end["reason"] = "STORE_FAILED";
      end["message"] = absl::StrCat("output `", name, "`: ", taken.message());
      end.erase("exit_code");
      break;
    }
    names.push_back(place.NameOf(name));
  }
  ORCH_FAULT("left.taken");
  for (const std::string& name : names) place.Remove(name);  // they are durable here
  RETURN_IF_ERROR(deliveries_->PutEnd(key, end.dump(-1, ' ', false, json::error_handler_t::replace)));
  place.Remove(kManifest);
  Log(LogLevel::kInfo, "what a launcher left behind was taken", {{"key", key}, {"outputs", names.size()}});
  return absl::OkStatus();
}

absl::Status LeftBehind::TakeOutput(const std::string& key, const Place& place, const std::string& name,
                                    const std::string& hex, bool folder) {
  const std::string digest = absl::HexStringToBytes(hex);
  const auto receive = [&](const std::string& of, int fd, int64_t offset, int64_t size) {
    return deliveries_->Receive(key, Hex(of),
                                [&](const std::string& path) { return CopyPiece(fd, offset, size, path, of); });
  };
  const auto file_at = [&](const std::string& path, const std::string& of) -> absl::Status {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return Unreadable(path);
    const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
    struct stat st {};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return Unreadable(path);
    if (st.st_size > artifact_bytes_) return TooLarge(st.st_size, artifact_bytes_);
    return receive(of, fd, 0, st.st_size);
  };
  const auto text = [&](const std::string& listing) {
    return deliveries_->Receive(key, hex, [&](const std::string& path) -> absl::Status {
      std::ofstream out(path, std::ios::binary);
      out << listing;
      out.close();
      return out ? absl::OkStatus() : Unreadable(path);
    });
  };
  if (!place.remote()) {
    if (!folder) {
      RETURN_IF_ERROR(file_at(place.FolderOf(name), digest));
    } else {
      ASSIGN_OR_RETURN(const std::string listing, ListFolder(place.FolderOf(name), nullptr));
      if (Sha256Of(listing) != digest) {
        return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", "what was left is not what its manifest says");
      }
      ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, ReadListing(listing, folder_entries_));
      for (const FolderEntry& entry : entries) {
        if (entry.kind != FolderEntry::Kind::kFile) continue;
        RETURN_IF_ERROR(file_at(absl::StrCat(place.FolderOf(name), "/", entry.path), entry.content));
      }
      RETURN_IF_ERROR(text(listing));
    }
    return deliveries_->PutOutput(key, name, hex, folder);
  }
  // An earlier life of the daemon may have taken it.
  if (deliveries_->PutOutput(key, name, hex, folder).ok()) return absl::OkStatus();
  const std::string path = deliveries_->StagingName(key);
  const auto clean = absl::MakeCleanup([&] { unlink(path.c_str()); });
  RETURN_IF_ERROR(place.Get(place.NameOf(name), path, artifact_bytes_));
  if (!folder) {
    RETURN_IF_ERROR(file_at(path, digest));
    return deliveries_->PutOutput(key, name, hex, folder);
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Unreadable(path);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat st {};
  if (fstat(fd, &st) != 0) return Unreadable(path);
  ASSIGN_OR_RETURN(const Pack pack, ReadPack(
                                        [fd](int64_t offset, char* out, size_t n) {
                                          for (size_t at = 0; at < n;) {
                                            const ssize_t got =
                                                pread(fd, out + at, n - at, offset + static_cast<int64_t>(at));
                                            if (got < 0 && errno == EINTR) continue;
                                            if (got <= 0) return false;
                                            at += static_cast<size_t>(got);
                                          }
                                          return true;
                                        },
                                        st.st_size, folder_entries_));
  if (Sha256Of(pack.listing) != digest) {
    return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", "what was left is not what its manifest says");
  }
  for (const Pack::File& file : pack.files) RETURN_IF_ERROR(receive(file.digest, fd, file.offset, file.size));
  RETURN_IF_ERROR(text(pack.listing));
  return deliveries_->PutOutput(key, name, hex, folder);
}

}  // namespace orch
