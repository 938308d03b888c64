#include "server/engine/blob_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunk = 1 << 20;

absl::Status Failed(absl::string_view what, absl::string_view path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return Error(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
               full ? "DISK_FULL" : "STORE_FAILED", absl::StrCat("cannot ", what, " ", path, ": ", strerror(error)));
}

absl::Status Invalid(absl::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, "OUTPUT_INVALID", message);
}

// A file descriptor that closes itself.
struct Fd {
  explicit Fd(int n) : number(n) {}
  ~Fd() {
    if (number >= 0) close(number);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int number;
};

absl::StatusOr<std::string> ReadAll(const std::string& path, int64_t size) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.number < 0) return Failed("open", path, errno);
  std::string out(static_cast<size_t>(size), '\0');
  size_t at = 0;
  while (at < out.size()) {
    const ssize_t n = read(fd.number, out.data() + at, out.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("read", path, errno);
    if (n == 0) break;
    at += static_cast<size_t>(n);
  }
  out.resize(at);
  return out;
}

// Changes whenever the file's bytes do; names and modes do not count. Empty: there is no such file.
std::string ContentStamp(const std::string& path) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) return {};
  return absl::StrCat(st.st_dev, ":", st.st_ino, ":", st.st_size, ":", st.st_mtim.tv_sec, ".", st.st_mtim.tv_nsec);
}

absl::Status SyncPath(const std::string& path, int flags) {
  const Fd fd(open(path.c_str(), flags | O_CLOEXEC));
  if (fd.number < 0) return Failed("open", path, errno);
  if (fsync(fd.number) != 0) return Failed("sync", path, errno);
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  if (fd.number < 0) return Failed("create", path, errno);
  return WriteAll(fd.number, path, bytes);
}

// Half of something in the staging folder would hold its space until the next start.
class Staged {
 public:
  explicit Staged(std::string path) : path_(std::move(path)) {}
  ~Staged() {
    std::error_code error;  // the next start empties the folder
    fs::remove_all(path_, error);
  }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;

 private:
  const std::string path_;
};

absl::Status CopyFile(const std::string& from, const std::string& to) {
  const Fd in(open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (in.number < 0) return Failed("open", from, errno);
  const Fd out(open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (out.number < 0) return Failed("create", to, errno);
  if (ioctl(out.number, FICLONE, in.number) == 0) return absl::OkStatus();
  for (;;) {
    const ssize_t n = copy_file_range(in.number, nullptr, out.number, nullptr, 1 << 30, 0);
    if (n == 0) return absl::OkStatus();
    if (n < 0) break;
  }
  std::string buffer(kChunk, '\0');
  lseek(in.number, 0, SEEK_SET);
  if (ftruncate(out.number, 0) != 0) return Failed("write", to, errno);
  lseek(out.number, 0, SEEK_SET);
  for (;;) {
    const ssize_t n = read(in.number, buffer.data(), buffer.size());
    if (n < 0) return Failed("read", from, errno);
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(WriteAll(out.number, to, absl::string_view(buffer.data(), static_cast<size_t>(n))));
  }
}

absl::Status WalkFolder(const std::string& root, const std::string& relative, std::vector<FolderEntry>* entries,
                        int64_t* size) {
  const std::string path = relative.empty() ? root : absl::StrCat(root, "/", relative);
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const std::string inner = relative.empty() ? name : absl::StrCat(relative, "/", name);
    struct stat st {};
    if (lstat(it->path().c_str(), &st) != 0) return Failed("look at", it->path().string(), errno);
    if (S_ISDIR(st.st_mode)) {
      entries->push_back({inner, FolderEntry::Kind::kFolder, false, ""});
      RETURN_IF_ERROR(WalkFolder(root, inner, entries, size));
    } else if (S_ISLNK(st.st_mode)) {
      const std::string target = fs::read_symlink(it->path(), error).string();
      if (error) return Failed("read the link", it->path().string(), error.value());
      if (!LinkStaysInside(inner, target)) {
        return Invalid(absl::StrCat("`", inner, "` is a link out of the folder (to `", target, "`)"));
      }
      entries->push_back({inner, FolderEntry::Kind::kLink, false, target});
    } else if (S_ISREG(st.st_mode)) {
      ASSIGN_OR_RETURN(const ContentDigest content, DigestOfFile(it->path().string()));
      *size += content.size;
      entries->push_back({inner, FolderEntry::Kind::kFile, (st.st_mode & S_IXUSR) != 0, content.digest});
    } else {
      return Invalid(absl::StrCat("`", inner, "` is neither a file nor a folder"));
    }
  }
  if (error) return Failed("list", path, error.value());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ContentDigest> DigestOfFile(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.number < 0) return Failed("open", path, errno);
  Sha256 hash;
  ContentDigest out;
  const auto buffer = std::make_unique<char[]>(kChunk);
  for (;;) {
    const ssize_t n = read(fd.number, buffer.get(), kChunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("read", path, errno);
    if (n == 0) break;
    hash.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    out.size += n;
  }
  out.digest = hash.Finish();
  return out;
}

absl::StatusOr<std::string> ListFolder(const std::string& path, int64_t* size) {
  std::vector<FolderEntry> entries;
  int64_t bytes = 0;
  RETURN_IF_ERROR(WalkFolder(path, "", &entries, &bytes));
  if (size != nullptr) *size = bytes;
  return WriteListing(std::move(entries));
}

absl::StatusOr<ContentDigest> DigestOfFolder(const std::string& path) {
  ContentDigest out;
  ASSIGN_OR_RETURN(const std::string listing, ListFolder(path, &out.size));
  out.digest = Sha256Of(listing);
  return out;
}

BlobStore::BlobStore(std::string data_dir, int64_t inline_bytes, InlineReader reader)
    : dir_(data_dir + "/blobs"),
      staging_(data_dir + "/staging"),
      made_dir_(data_dir + "/made"),
      inline_bytes_(inline_bytes),
      reader_(std::move(reader)) {}

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& data_dir, int64_t inline_bytes,
                                                           InlineReader reader) {
  std::unique_ptr<BlobStore> store(new BlobStore(data_dir, inline_bytes, std::move(reader)));
  std::error_code error;
  fs::remove_all(store->staging_, error);
  for (const std::string& dir : {store->dir_, store->staging_, store->made_dir_}) {
    if (!fs::create_directories(dir, error) && error) return Failed("create", dir, error.value());
  }
  // Folders that an earlier process made may not have their names on the disk yet.
  for (const std::string& dir : {store->dir_, data_dir}) RETURN_IF_ERROR(SyncPath(dir, O_RDONLY | O_DIRECTORY));
  return store;
}

std::string BlobStore::NameOf(absl::string_view digest) const {
  const std::string hex = Hex(digest);
  return absl::StrCat(dir_, "/", hex.substr(0, 2), "/", hex);
}

std::string BlobStore::StagingName() {
  MutexLock lock(&mutex_);
  return absl::StrCat(staging_, "/", next_staging_++);
}

bool BlobStore::Verified(absl::string_view digest) {
  MutexLock lock(&mutex_);
  return verified_.count(std::string(digest)) > 0;
}

void BlobStore::SetVerified(absl::string_view digest) {
  MutexLock lock(&mutex_);
  if (verified_.size() > 200'000) verified_.clear();  // bounded; they are only checked again
  verified_.insert(std::string(digest));
}

absl::Status BlobStore::EnsureFolder(const std::string& path) {
  {
    MutexLock lock(&mutex_);
    if (folders_.count(path) > 0) return absl::OkStatus();
  }
  if (mkdir(path.c_str(), 0755) == 0) {
    RETURN_IF_ERROR(SyncPath(dir_, O_RDONLY | O_DIRECTORY));
  } else if (errno != EEXIST) {
    return Failed("create", path, errno);
  }
  MutexLock lock(&mutex_);
  folders_.insert(path);
  return absl::OkStatus();
}

absl::StatusOr<BlobRow> BlobStore::Take(const std::string& path) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) return Failed("look at", path, errno);
  if (S_ISREG(st.st_mode)) return TakeFile(path, st.st_size);
  if (S_ISDIR(st.st_mode)) return TakeFolder(path);
  return Invalid("it is neither a file nor a folder");
}

void BlobStore::Vouch(const std::string& path, absl::string_view digest) {
  const std::string stamp = ContentStamp(path);
  if (stamp.empty()) return;
  MutexLock lock(&mutex_);
  if (vouched_.size() > 10'000) vouched_.clear();  // bounded; they are only read again
  vouched_[stamp] = std::string(digest);
}

absl::StatusOr<ContentDigest> BlobStore::VouchedOrRead(const std::string& path) {
  const std::string stamp = ContentStamp(path);
  {
    MutexLock lock(&mutex_);
    const auto found = vouched_.find(stamp);
    struct stat st {};
    if (found != vouched_.end() && lstat(path.c_str(), &st) == 0) {
      ContentDigest out{std::move(found->second), int64_t{st.st_size}};
      vouched_.erase(found);
      return out;
    }
  }
  return DigestOfFile(path);
}

absl::StatusOr<BlobRow> BlobStore::TakeFile(const std::string& path, int64_t size) {
  BlobRow row;
  if (size <= inline_bytes_) {
    ASSIGN_OR_RETURN(std::string bytes, ReadAll(path, size));
    row.digest = Sha256Of(bytes);
    row.size = static_cast<int64_t>(bytes.size());
    row.inline_bytes = std::move(bytes);
  } else {
    ASSIGN_OR_RETURN(const ContentDigest content, VouchedOrRead(path));
    row.digest = content.digest;
    row.size = content.size;
  }
  ORCH_FAULT("store.hashed");
  row.hold = Hold(row.digest);
  const std::string name = NameOf(row.digest);
  const std::string folder = name.substr(0, name.rfind('/'));
  if (Verified(row.digest)) return row;
  RETURN_IF_ERROR(EnsureFolder(folder));
  if (chmod(path.c_str(), 0444) != 0) return Failed("change the mode of", path, errno);
  if (!row.inline_bytes.has_value()) RETURN_IF_ERROR(SyncPath(path, O_RDONLY));
  ORCH_FAULT("store.synced");
  RETURN_IF_ERROR(Place(path, name, row.digest, !row.inline_bytes.has_value()));
  ORCH_FAULT("store.named");
  if (!row.inline_bytes.has_value()) RETURN_IF_ERROR(SyncPath(folder, O_RDONLY | O_DIRECTORY));
  ORCH_FAULT("store.folder_synced");
  SetVerified(row.digest);
  return row;
}

// Gives the bytes their name. What is there under it already, and not known to be good, is looked at.
absl::Status BlobStore::Place(const std::string& path, const std::string& name, absl::string_view digest, bool sync) {
  if (link(path.c_str(), name.c_str()) == 0) return absl::OkStatus();
  if (errno == EEXIST) {
    const auto there = DigestOfFile(name);
    // Whoever made it need not have synced it.
    if (there.ok() && there->digest == digest) return sync ? SyncPath(name, O_RDONLY) : absl::OkStatus();
  }
  const std::string staged = StagingName();
  const Staged unless_moved(staged);
  if (link(path.c_str(), staged.c_str()) != 0) {  // another file system, or too many links
    RETURN_IF_ERROR(CopyFile(path, staged));
    if (chmod(staged.c_str(), 0444) != 0) return Failed("change the mode of", staged, errno);
    RETURN_IF_ERROR(SyncPath(staged, O_RDONLY));
  }
  if (rename(staged.c_str(), name.c_str()) != 0) return Failed("move to", name, errno);
  return absl::OkStatus();
}

absl::StatusOr<BlobRow> BlobStore::TakeFolder(const std::string& path) {
  ASSIGN_OR_RETURN(const ContentDigest content, DigestOfFolder(path));
  BlobRow row;
  row.digest = content.digest;
  row.size = content.size;
  row.directory = true;
  row.hold = Hold(row.digest);
  const std::string name = NameOf(row.digest);
  const std::string folder = name.substr(0, name.rfind('/'));
  std::error_code error;
  RETURN_IF_ERROR(EnsureFolder(folder));
  if (fs::exists(name, error)) {  // it was whole before it got its name, which may be new
    RETURN_IF_ERROR(SyncPath(folder, O_RDONLY | O_DIRECTORY));
    return row;
  }
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (it->is_symlink()) continue;
    if (it->is_regular_file()) {
      const mode_t mode = (it->status().permissions() & fs::perms::owner_exec) != fs::perms::none ? 0555 : 0444;
      if (chmod(it->path().c_str(), mode) != 0) return Failed("change the mode of", it->path().string(), errno);
      RETURN_IF_ERROR(SyncPath(it->path().string(), O_RDONLY));
    }
  }
  if (error) return Failed("list", path, error.value());
  // A tree of its own that shares the files, complete before it gets its name.
  const std::string staged = StagingName();
  const Staged unless_moved(staged);
  fs::copy(path, staged,
           fs::copy_options::recursive | fs::copy_options::copy_symlinks | fs::copy_options::create_hard_links, error);
  if (error) return Failed("copy", path, error.value());
  for (fs::recursive_directory_iterator it(staged, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_symlink() && it->is_directory()) RETURN_IF_ERROR(SyncPath(it->path().string(), O_RDONLY | O_DIRECTORY));
  }
  RETURN_IF_ERROR(SyncPath(staged, O_RDONLY | O_DIRECTORY));
  ORCH_FAULT("store.tree_staged");
  if (rename(staged.c_str(), name.c_str()) != 0) {
    const int why = errno;
    if (why != EEXIST && why != ENOTEMPTY) return Failed("move to", name, why);
  }
  ORCH_FAULT("store.tree_named");
  RETURN_IF_ERROR(SyncPath(folder, O_RDONLY | O_DIRECTORY));
  return row;
}

absl::StatusOr<BlobRow> BlobStore::Copy(const std::string& path) {
  const std::string staged = StagingName();
  const Staged in_any_case(staged);
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) return Failed("look at", path, errno);
  if (S_ISREG(st.st_mode)) {
    RETURN_IF_ERROR(CopyFile(path, staged));
  } else if (S_ISDIR(st.st_mode)) {
    std::error_code error;
    fs::copy(path, staged, fs::copy_options::recursive | fs::copy_options::copy_symlinks, error);
    if (error) return Failed("copy", path, error.value());
  } else {
    return Invalid("it is neither a file nor a folder");
  }
  return Take(staged);
}

absl::StatusOr<std::string> BlobStore::PathOf(absl::string_view digest) {
  const std::string name = NameOf(digest);
  if (Verified(digest)) return name;
  ASSIGN_OR_RETURN(const std::optional<BlobRow> row, reader_(digest));
  struct stat st {};
  const bool there = lstat(name.c_str(), &st) == 0;
  if (!row.has_value() || !row->inline_bytes.has_value()) {
    const bool good = there && (!row.has_value() || row->directory || st.st_size == row->size);
    if (!good && row.has_value() && fetch_) {
      const std::string staged = StagingName();
      const Staged unless_moved(staged);
      RETURN_IF_ERROR(EnsureFolder(name.substr(0, name.rfind('/'))));
      const absl::Status fetched = fetch_(*row, staged);
      if (fetched.ok()) {
        if (!row->directory && chmod(staged.c_str(), 0444) != 0) return Failed("change the mode of", staged, errno);
        if (!row->directory) RETURN_IF_ERROR(SyncPath(staged, O_RDONLY));
        if (rename(staged.c_str(), name.c_str()) != 0 && errno != EEXIST && errno != ENOTEMPTY) {
          return Failed("move to", name, errno);
        }
        SetVerified(digest);
        return name;
      }
      if (ReasonOf(fetched) != "BLOB_MISSING") return fetched;
    }
    if (!good) {
      return Error(absl::StatusCode::kNotFound, "BLOB_MISSING",
                   absl::StrCat("the bytes sha256:", Hex(digest), " are not in the store any more"));
    }
    SetVerified(digest);
    return name;
  }
  if (there) {
    const auto bytes = ReadAll(name, st.st_size);
    if (bytes.ok() && *bytes == *row->inline_bytes) {
      SetVerified(digest);
      return name;
    }
  }
  RETURN_IF_ERROR(EnsureFolder(name.substr(0, name.rfind('/'))));
  const std::string staged = StagingName();
  const Staged unless_moved(staged);
  RETURN_IF_ERROR(WriteFile(staged, *row->inline_bytes));
  if (rename(staged.c_str(), name.c_str()) != 0) return Failed("move to", name, errno);
  SetVerified(digest);
  return name;
}

absl::StatusOr<std::string> BlobStore::ListingOf(absl::string_view digest) {
  ASSIGN_OR_RETURN(const std::string path, PathOf(digest));
  const std::string hex = Hex(digest);
  const std::string kept = absl::StrCat(made_dir_, "/", hex.substr(0, 2), "/", hex);
  struct stat st {};
  if (lstat(kept.c_str(), &st) == 0) {
    const auto there = ReadAll(kept, st.st_size);
    if (there.ok() && Sha256Of(*there) == digest) return kept;
  }
  ASSIGN_OR_RETURN(const std::string listing, ListFolder(path, nullptr));
  if (Sha256Of(listing) != digest) {
    return Error(absl::StatusCode::kDataLoss, "BLOB_DAMAGED",
                 absl::StrCat("the folder sha256:", hex, " is not what was stored any more"));
  }
  return Materialize(listing);
}

bool BlobStore::Exists(absl::string_view digest) {
  struct stat st {};
  if (Verified(digest) && lstat(NameOf(digest).c_str(), &st) == 0) return true;
  {
    MutexLock lock(&mutex_);
    verified_.erase(std::string(digest));
  }
  return PathOf(digest).ok();
}

absl::Status BlobStore::CheckFile(const std::string& data_dir, const BlobRow& row) {
  const std::string name = BlobStore(data_dir, 0, nullptr).NameOf(row.digest);
  ASSIGN_OR_RETURN(const ContentDigest content, row.directory ? DigestOfFolder(name) : DigestOfFile(name));
  if (content.digest == row.digest) return absl::OkStatus();
  return Error(absl::StatusCode::kDataLoss, "BLOB_DAMAGED", absl::StrCat(name, " does not hold the bytes of its name"));
}

absl::StatusOr<std::string> BlobStore::Materialize(absl::string_view bytes) {
  const std::string digest = Sha256Of(bytes);
  const std::string hex = Hex(digest);
  const std::string name = absl::StrCat(made_dir_, "/", hex.substr(0, 2), "/", hex);
  const auto good = [&] {
    MutexLock lock(&mutex_);
    if (made_.size() > 200'000) made_.clear();
    made_.insert(digest);
    return name;
  };
  {
    MutexLock lock(&mutex_);
    if (made_.count(digest) > 0) return name;
  }
  struct stat st {};
  if (lstat(name.c_str(), &st) == 0 && static_cast<size_t>(st.st_size) == bytes.size()) {
    const auto there = ReadAll(name, st.st_size);
    if (there.ok() && absl::string_view(*there) == bytes) return good();
  }
  const std::string folder = name.substr(0, name.rfind('/'));
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return Failed("create", folder, errno);
  const std::string staged = StagingName();
  const Staged unless_moved(staged);
  RETURN_IF_ERROR(WriteFile(staged, bytes));
  if (rename(staged.c_str(), name.c_str()) != 0) return Failed("move to", name, errno);
  return good();
}

bool BlobStore::IsHeld(absl::string_view digest) {
  MutexLock lock(&holds_->mutex);
  return holds_->held.count(std::string(digest)) > 0;
}

std::shared_ptr<const void> BlobStore::Hold(absl::string_view digest) {
  std::string key(digest);
  MutexLock lock(&holds_->mutex);
  holds_->condemned.erase(key);
  ++holds_->held[key];
  return {holds_.get(), [holds = holds_, key = std::move(key)](const void*) {
            MutexLock again(&holds->mutex);
            const auto found = holds->held.find(key);
            if (--found->second == 0) holds->held.erase(found);
          }};
}

bool BlobStore::Condemn(absl::string_view digest) {
  const std::string key(digest);
  MutexLock lock(&holds_->mutex);
  return holds_->held.count(key) == 0 && holds_->condemned.insert(key).second;
}

void BlobStore::Spare(absl::string_view digest) {
  MutexLock lock(&holds_->mutex);
  holds_->condemned.erase(std::string(digest));
}

absl::Status BlobStore::Remove(absl::string_view digest) {
  const std::string name = NameOf(digest);
  const std::string staged = StagingName();
  const Staged in_any_case(staged);  // a folder goes piece by piece, and not under its name
  // Whoever holds it after this looks for it after this.
  MutexLock lock(&holds_->mutex);
  if (holds_->condemned.erase(std::string(digest)) == 0) {
    return Error(absl::StatusCode::kAborted, "BLOB_WANTED", "somebody stores these bytes again");
  }
  {
    MutexLock inner(&mutex_);
    verified_.erase(std::string(digest));
  }
  if (rename(name.c_str(), staged.c_str()) != 0 && errno != ENOENT) return Failed("remove", name, errno);
  return absl::OkStatus();
}

}  // namespace orch
