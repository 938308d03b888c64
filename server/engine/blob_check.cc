// Are the bytes of a digest still what its name says?
#include <sys/stat.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/engine/blob_store.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

void AppendStamp(const std::string& path, std::string* out) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) return;
  absl::StrAppend(out, st.st_ino, ":", st.st_size, ":", st.st_mtim.tv_sec, ".", st.st_mtim.tv_nsec, ":",
                  st.st_ctim.tv_sec, ".", st.st_ctim.tv_nsec, ";");
}

// Changes whenever somebody writes to the file, or to one in the folder. Empty: it is not there.
std::string StampOf(const std::string& path) {
  std::string out;
  AppendStamp(path, &out);
  struct stat st {};
  if (out.empty() || lstat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return out;
  std::error_code error;
  uint64_t sum = 0;  // of all entries, in whatever order they come
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    std::string entry = it->path().string();
    AppendStamp(it->path().string(), &entry);
    sum += std::hash<std::string>()(entry);
  }
  return error ? std::string() : absl::StrCat(out, sum);
}

}  // namespace

bool BlobStore::Sound(absl::string_view digest) {
  const std::string name = NameOf(digest);
  const std::string key(digest);
  std::string stamp = StampOf(name);
  {
    MutexLock lock(&mutex_);
    const auto known = sound_.find(key);
    if (!stamp.empty() && known != sound_.end() && known->second == stamp) return true;
    verified_.erase(key);
  }
  const auto row = reader_(digest);
  if (!row.ok() || !row->has_value()) return false;
  if ((*row)->inline_bytes.has_value()) {
    if (!PathOf(digest).ok()) return false;  // compared with the database, made again from it if need be
  } else {
    if (stamp.empty()) return false;
    const auto content = (*row)->directory ? DigestOfFolder(name) : DigestOfFile(name);
    if (!content.ok() || content->digest != digest) {
      Log(LogLevel::kWarning, "stored bytes are damaged; they count no more", {{"file", name}});
      // Whoever stores them again must not find this in their place.
      std::error_code error;
      fs::rename(name, StagingName(), error);
      return false;
    }
    SetVerified(digest);
  }
  stamp = StampOf(name);
  MutexLock lock(&mutex_);
  if (sound_.size() > 200'000) sound_.clear();  // bounded; they are only checked again
  sound_[key] = std::move(stamp);
  return true;
}

}  // namespace orch
