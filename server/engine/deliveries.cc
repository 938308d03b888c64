#include "server/engine/deliveries.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"
#include "server/engine/blob_store.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxListing = int64_t{256} << 20;

absl::Status Failed(absl::string_view what, absl::string_view path) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT;
  return Error(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
               full ? "DISK_FULL" : "STORE_FAILED", absl::StrCat("cannot ", what, " ", path, ": ", strerror(error)));
}

absl::Status Stale() {
  return Error(absl::StatusCode::kFailedPrecondition, "ATTEMPT_STALE",
               "this attempt has ended; what is delivered for it now is not taken");
}

absl::Status Sync(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return Failed("open", path);
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  errno = error;
  return result == 0 ? absl::OkStatus() : Failed("sync", path);
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write", path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

// Whole or not at all, and durable. ALREADY_EXISTS if it is there and `replace` is not set. What is replaced gets its
// name before the disk has it, which file systems sync in one go then; a power cut in between may leave it torn, and
// whoever had it written was not told that it is there.
absl::Status WriteDurably(const std::string& dir, const std::string& name, absl::string_view text, bool replace) {
  const std::string staged = absl::StrCat(dir, "/.", name, ".", Hex(RandomBytes(6)));
  const auto clean = absl::MakeCleanup([&] { unlink(staged.c_str()); });
  const int fd = open(staged.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return Failed("create", staged);
  const std::string path = absl::StrCat(dir, "/", name);
  absl::Status written = WriteAll(fd, staged, text);
  if (written.ok() && replace && rename(staged.c_str(), path.c_str()) != 0) written = Failed("name", path);
  if (written.ok() && fsync(fd) != 0) written = Failed("sync", replace ? path : staged);
  close(fd);
  RETURN_IF_ERROR(written);
  if (!replace && link(staged.c_str(), path.c_str()) != 0) {
    if (errno == EEXIST) return absl::AlreadyExistsError(path);
    return Failed("name", path);
  }
  return Sync(dir, O_RDONLY | O_DIRECTORY);
}

absl::StatusOr<std::string> ReadText(const std::string& path, int64_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return Failed("open", path);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat st {};
  if (fstat(fd, &st) != 0) return Failed("look at", path);
  if (st.st_size > max_bytes) {
    return Error(absl::StatusCode::kInvalidArgument, "LISTING_INVALID",
                 absl::StrCat("it has ", st.st_size, " bytes; a listing has at most ", max_bytes));
  }
  std::string out(static_cast<size_t>(st.st_size), '\0');
  for (size_t at = 0; at < out.size();) {
    const ssize_t n = read(fd, &out[at], out.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Failed("read", path);
    at += static_cast<size_t>(n);
  }
  return out;
}

bool Exists(const std::string& path) {
  struct stat st {};
  return lstat(path.c_str(), &st) == 0;
}

}  // namespace

// Bytes on their way. Its digest goes along while the bytes come; after a restart they are read again at the end.
struct Deliveries::Part {
  Mutex mutex;
  std::string hex, path, blob;
  int64_t length ABSL_GUARDED_BY(mutex) = 0;
  int64_t offset ABSL_GUARDED_BY(mutex) = 0;
  uint64_t turn ABSL_GUARDED_BY(mutex) = 0;  // whose it is
  int fd ABSL_GUARDED_BY(mutex) = -1;
  std::unique_ptr<Sha256> hash ABSL_GUARDED_BY(mutex);  // of the first `offset` bytes; null: not known

  ~Part() {
    if (fd >= 0) close(fd);
  }
};

std::string HexOfDigest(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "sha256:") || text.size() != 64) return {};
  const bool good =
      std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  return good ? std::string(text) : std::string();
}

Deliveries::Deliveries(const std::string& data_dir, DeliveryLimits limits)
    : dir_(data_dir + "/deliveries"), limits_(limits) {}
Deliveries::~Deliveries() = default;

std::string Deliveries::OutputDir(const std::string& key) const { return DirOf(key) + "/output"; }

absl::Status Deliveries::CheckOpen(const std::string& key) {
  MutexLock lock(&mutex_);
  return closed_.count(key) > 0 ? Stale() : absl::OkStatus();
}

absl::Status Deliveries::PutTask(const std::string& key, absl::string_view text) {
  any_ = true;
  {
    MutexLock lock(&mutex_);
    closed_.erase(key);  // its platform did not know it, and gets it again
  }
  const std::string dir = DirOf(key);
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) {
    errno = error.value();
    return Failed("create", dir);
  }
  RETURN_IF_ERROR(WriteDurably(dir, "task.json", text, /*replace=*/true));
  return Sync(dir_, O_RDONLY | O_DIRECTORY);
}

// Only when something comes: most steps wait long for their launchers, and some deliver nothing.
absl::Status Deliveries::MakePlaces(const std::string& key) {
  const std::string dir = DirOf(key);
  if (Exists(dir + "/parts")) return absl::OkStatus();  // the last one that is made
  for (const char* folder : {"/blobs", "/output", "/parts"}) {
    if (mkdir(absl::StrCat(dir, folder).c_str(), 0755) != 0 && errno != EEXIST) return Failed("create", dir + folder);
  }
  return Sync(dir, O_RDONLY | O_DIRECTORY);
}

absl::StatusOr<std::string> Deliveries::TaskOf(const std::string& key) {
  auto text = ReadText(DirOf(key) + "/task.json", INT32_MAX);
  if (text.ok()) return text;
  return Error(absl::StatusCode::kNotFound, "TASK_NOT_FOUND",
               "there is no task for a launcher: this step runs where the daemon's files are");
}

absl::StatusOr<std::string> Deliveries::Begin(const std::string& key, absl::string_view launcher) {
  RETURN_IF_ERROR(CheckOpen(key));
  ASSIGN_OR_RETURN(std::string task, TaskOf(key));
  const absl::Status first = WriteDurably(DirOf(key), "launcher", launcher, /*replace=*/false);
  if (first.ok()) return task;
  if (first.code() != absl::StatusCode::kAlreadyExists) return first;
  ASSIGN_OR_RETURN(const std::string who, ReadText(DirOf(key) + "/launcher", 4096));
  if (absl::string_view(who) == launcher) return task;
  return Error(absl::StatusCode::kFailedPrecondition, "ATTEMPT_TAKEN",
               "another launcher has begun this attempt; an attempt runs once, and orchd makes the next one");
}

std::string Deliveries::LauncherOf(const std::string& key) {
  auto who = ReadText(DirOf(key) + "/launcher", 4096);
  return who.ok() ? *std::move(who) : std::string();
}

absl::StatusOr<std::string> Deliveries::PutHanded(const std::string& key, absl::string_view text) {
  RETURN_IF_ERROR(WriteDurably(DirOf(key), "handed.json", text, /*replace=*/true));
  return DirOf(key) + "/handed.json";
}

std::string Deliveries::StagingName(const std::string& key) {
  return absl::StrCat(DirOf(key), "/.left.", Hex(RandomBytes(6)));
}

bool Deliveries::Has(const std::string& key, const std::string& hex) {
  const std::string blob = absl::StrCat(DirOf(key), "/blobs/", hex);
  if (!Exists(blob)) return false;
  {
    MutexLock lock(&mutex_);
    const auto found = checked_.find(key);
    if (found != checked_.end() && found->second.count(hex) > 0) return true;
  }
  const auto content = DigestOfFile(blob);
  if (!content.ok() || Hex(content->digest) != hex) {  // the power went before it was on the disk
    unlink(blob.c_str());
    return false;
  }
  SetChecked(key, hex);
  if (vouch_) vouch_(blob, content->digest);
  return true;
}

void Deliveries::SetChecked(const std::string& key, const std::string& hex) {
  MutexLock lock(&mutex_);
  checked_[key].insert(hex);
}

absl::StatusOr<Deliveries::Progress> Deliveries::ProgressOf(const std::string& key, const std::string& hex) {
  RETURN_IF_ERROR(CheckOpen(key));
  struct stat st {};
  if (Has(key, hex) && stat(absl::StrCat(DirOf(key), "/blobs/", hex).c_str(), &st) == 0) {
    return Progress{st.st_size, true};
  }
  if (stat(absl::StrCat(DirOf(key), "/parts/", hex).c_str(), &st) == 0) return Progress{st.st_size, false};
  return Progress{};
}

absl::StatusOr<std::unique_ptr<Deliveries::Upload>> Deliveries::Append(const std::string& key, const std::string& hex,
                                                                       int64_t offset, int64_t length) {
  RETURN_IF_ERROR(CheckOpen(key));
  if (length < 0 || offset < 0 || offset > length) {
    return Error(absl::StatusCode::kInvalidArgument, "UPLOAD_INVALID", "the offset lies outside of the length");
  }
  if (length > limits_.artifact_bytes) {
    return Error(absl::StatusCode::kResourceExhausted, "ARTIFACT_TOO_LARGE",
                 absl::StrCat("it has ", length, " bytes; at most ", limits_.artifact_bytes,
                              " are taken (limit artifact_bytes)"));
  }
  const auto elsewhere = [](int64_t at) {
    return WithFact(Error(absl::StatusCode::kAborted, "UPLOAD_OFFSET", absl::StrCat("the upload goes on at ", at)),
                    "offset", absl::StrCat(at));
  };
  if (!Exists(DirOf(key) + "/task.json")) return TaskOf(key).status();  // it delivers nothing
  RETURN_IF_ERROR(MakePlaces(key));
  ASSIGN_OR_RETURN(const Progress before, ProgressOf(key, hex));
  if (before.complete) return elsewhere(before.offset);
  std::shared_ptr<Part> part;
  std::shared_ptr<void> seat;
  {
    MutexLock lock(&mutex_);
    if (uploads_ >= limits_.uploads_at_once) {
      return WithRetryDelay(
          Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_UPLOADS",
                absl::StrCat("more than ", limits_.uploads_at_once, " uploads at a time (limit uploads_at_once)")),
          500);
    }
    ++uploads_;
    seat = std::shared_ptr<void>(nullptr, [this](void*) {
      MutexLock given(&mutex_);
      --uploads_;
    });
    std::shared_ptr<Part>& known = parts_[absl::StrCat(key, "/", hex)];
    if (known == nullptr) {
      known = std::make_shared<Part>();
      known->hex = hex;
      known->path = absl::StrCat(DirOf(key), "/parts/", hex);
      known->blob = absl::StrCat(DirOf(key), "/blobs/", hex);
    }
    part = known;
  }
  MutexLock lock(&part->mutex);
  if (part->fd < 0) {
    part->fd = open(part->path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (part->fd < 0) return Failed("open", part->path);
    struct stat st {};
    if (fstat(part->fd, &st) != 0) return Failed("look at", part->path);
    if (st.st_size == 0) {
      part->hash = std::make_unique<Sha256>();
    } else if (st.st_size != part->offset) {
      part->hash = nullptr;
    }
    part->offset = st.st_size;
  }
  if (part->offset != offset) return elsewhere(part->offset);
  part->length = length;
  const uint64_t turn = ++part->turn;
  return std::make_unique<Upload>(this, key, part, turn, std::move(seat));
}

Deliveries::Upload::~Upload() {
  MutexLock lock(&part_->mutex);
  if (part_->turn == turn_ && part_->fd >= 0) close(std::exchange(part_->fd, -1));
}

absl::Status Deliveries::Upload::Append(absl::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(owner_->CheckOpen(key_));
  Part& part = *part_;
  MutexLock lock(&part.mutex);
  if (part.turn != turn_) {
    return Error(absl::StatusCode::kAborted, "UPLOAD_TAKEN_OVER", "another call goes on with this upload");
  }
  if (part.offset + static_cast<int64_t>(bytes.size()) > part.length) {
    return Error(absl::StatusCode::kInvalidArgument, "UPLOAD_TOO_LONG",
                 absl::StrCat("there is more than the ", part.length, " bytes of Upload-Length"));
  }
  const absl::Status written = WriteAll(part.fd, part.path, bytes);
  if (!written.ok()) {  // a piece of them may be there
    if (ftruncate(part.fd, part.offset) != 0) part.turn = 0;
    return written;
  }
  // The disk begins with them at once: otherwise all of it would be left to the sync at the end.
  (void)sync_file_range(part.fd, part.offset, static_cast<off64_t>(bytes.size()), SYNC_FILE_RANGE_WRITE);
  part.offset += static_cast<int64_t>(bytes.size());
  if (part.hash != nullptr) part.hash->Update(bytes);
  ORCH_FAULT("upload.appended");
  return absl::OkStatus();
}

absl::StatusOr<Deliveries::Progress> Deliveries::Upload::Finish() {
  RETURN_IF_ERROR(owner_->CheckOpen(key_));
  Part& part = *part_;
  MutexLock lock(&part.mutex);
  if (part.turn != turn_) {
    return Error(absl::StatusCode::kAborted, "UPLOAD_TAKEN_OVER", "another call goes on with this upload");
  }
  if (part.offset < part.length) return Progress{part.offset, false};
  std::string digest;
  if (part.hash != nullptr) {
    digest = part.hash->Finish();
  } else {
    ASSIGN_OR_RETURN(ContentDigest content, DigestOfFile(part.path));
    digest = std::move(content.digest);
  }
  part.hash = nullptr;
  part.turn = 0;
  close(std::exchange(part.fd, -1));
  const int64_t length = part.length;
  {
    MutexLock forget(&owner_->mutex_);
    owner_->parts_.erase(absl::StrCat(key_, "/", part.hex));
  }
  if (Hex(digest) != part.hex) {
    unlink(part.path.c_str());
    return Error(absl::StatusCode::kInvalidArgument, "DIGEST_MISMATCH",
                 absl::StrCat("the ", length, " bytes are sha256:", Hex(digest), ", not sha256:", part.hex,
                              "; they were dropped, send them again"));
  }
  ORCH_FAULT("upload.checked");
  if (rename(part.path.c_str(), part.blob.c_str()) != 0) return Failed("move to", part.blob);
  owner_->SetChecked(key_, part.hex);
  if (owner_->vouch_) owner_->vouch_(part.blob, digest);
  return Progress{length, true};
}

absl::Status Deliveries::Receive(const std::string& key, const std::string& hex,
                                 const std::function<absl::Status(const std::string& path)>& receive) {
  RETURN_IF_ERROR(CheckOpen(key));
  const std::string blob = absl::StrCat(DirOf(key), "/blobs/", hex);
  if (Has(key, hex)) return absl::OkStatus();
  RETURN_IF_ERROR(MakePlaces(key));
  const std::string staged = absl::StrCat(DirOf(key), "/parts/.", hex, ".", Hex(RandomBytes(6)));
  const auto clean = absl::MakeCleanup([&] { unlink(staged.c_str()); });
  RETURN_IF_ERROR(receive(staged));
  if (rename(staged.c_str(), blob.c_str()) != 0) return Failed("move to", blob);
  SetChecked(key, hex);
  if (vouch_) vouch_(blob, absl::HexStringToBytes(hex));
  return absl::OkStatus();
}

absl::Status Deliveries::MakeFolder(const std::string& key, const std::string& listing, const std::string& at) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(listing, kMaxListing));
  ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, ReadListing(text, limits_.folder_entries));
  for (const FolderEntry& entry : entries) {
    if (entry.kind != FolderEntry::Kind::kFile) continue;
    if (!Has(key, Hex(entry.content))) {
      return Error(absl::StatusCode::kFailedPrecondition, "BLOB_NOT_DELIVERED",
                   absl::StrCat("sha256:", Hex(entry.content), " of `", entry.path, "` was not delivered"));
    }
  }
  if (mkdir(at.c_str(), 0755) != 0) return Failed("create", at);
  for (const FolderEntry& entry : entries) {  // folders come before what is in them
    const std::string path = absl::StrCat(at, "/", entry.path);
    if (entry.kind == FolderEntry::Kind::kFolder) {
      if (mkdir(path.c_str(), 0755) != 0) return Failed("create", path);
    } else if (entry.kind == FolderEntry::Kind::kLink) {
      if (symlink(entry.content.c_str(), path.c_str()) != 0) return Failed("link", path);
    } else {
      // Shared bytes have one mode, so what can be executed is a file of its own.
      const std::string blob = absl::StrCat(DirOf(key), "/blobs/", Hex(entry.content));
      if (entry.executable || link(blob.c_str(), path.c_str()) != 0) {
        std::error_code error;
        fs::copy_file(blob, path, error);
        if (error) {
          errno = error.value();
          return Failed("copy to", path);
        }
        if (chmod(path.c_str(), entry.executable ? 0755 : 0644) != 0) return Failed("change the mode of", path);
      }
      RETURN_IF_ERROR(Sync(path, O_RDONLY));
    }
  }
  for (const FolderEntry& entry : entries) {
    if (entry.kind != FolderEntry::Kind::kFolder) continue;
    RETURN_IF_ERROR(Sync(absl::StrCat(at, "/", entry.path), O_RDONLY | O_DIRECTORY));
  }
  return Sync(at, O_RDONLY | O_DIRECTORY);
}

absl::Status Deliveries::PutOutput(const std::string& key, const std::string& name, const std::string& hex,
                                   bool folder) {
  RETURN_IF_ERROR(CheckOpen(key));
  const std::string blobs = absl::StrCat(DirOf(key), "/blobs");
  const std::string blob = absl::StrCat(blobs, "/", hex);
  if (!Has(key, hex)) {
    return Error(absl::StatusCode::kFailedPrecondition, "BLOB_NOT_DELIVERED",
                 absl::StrCat("sha256:", hex, " of output `", name, "` was not delivered"));
  }
  const std::string path = absl::StrCat(OutputDir(key), "/", name);
  const std::string staged = absl::StrCat(DirOf(key), "/parts/.", name, ".", Hex(RandomBytes(6)));
  const std::string of = staged + ".of", old = staged + ".old";
  const auto clean = absl::MakeCleanup([&] {
    std::error_code error;
    fs::remove_all(staged, error);
    fs::remove_all(old, error);
    unlink(of.c_str());
  });
  if (folder) {
    RETURN_IF_ERROR(MakeFolder(key, blob, staged));
  } else {
    if (link(blob.c_str(), staged.c_str()) != 0) return Failed("link", staged);
    RETURN_IF_ERROR(Sync(staged, O_RDONLY));
  }
  if (symlink(hex.c_str(), of.c_str()) != 0) return Failed("link", of);
  {
    MutexLock lock(&mutex_);  // what is being judged does not change any more
    if (closed_.count(key) > 0) return Stale();
    if (rename(path.c_str(), old.c_str()) != 0 && errno != ENOENT) return Failed("move away", path);
    if (rename(of.c_str(), absl::StrCat(blobs, "/of.", name).c_str()) != 0) return Failed("move to", blobs);
    if (rename(staged.c_str(), path.c_str()) != 0) return Failed("move to", path);
  }
  ORCH_FAULT("upload.output");
  RETURN_IF_ERROR(Sync(blobs, O_RDONLY | O_DIRECTORY));  // it can be made again of what is here
  return Sync(OutputDir(key), O_RDONLY | O_DIRECTORY);
}

std::string Deliveries::DigestOf(const std::string& key, const std::string& name) {
  std::error_code error;
  const fs::path blob = fs::read_symlink(absl::StrCat(DirOf(key), "/blobs/of.", name), error);
  return error ? std::string() : absl::HexStringToBytes(blob.string());
}

absl::Status Deliveries::PutEnd(const std::string& key, absl::string_view text) {
  RETURN_IF_ERROR(CheckOpen(key));
  const absl::Status written = WriteDurably(DirOf(key), "end.json", text, /*replace=*/false);
  if (written.code() == absl::StatusCode::kAlreadyExists) return absl::OkStatus();
  ORCH_FAULT("upload.ended");
  return written;
}

std::optional<std::string> Deliveries::EndOf(const std::string& key) {
  auto text = ReadText(DirOf(key) + "/end.json", 1 << 20);
  if (!text.ok()) return std::nullopt;
  return *std::move(text);
}

void Deliveries::Close(const std::string& key) {
  MutexLock lock(&mutex_);
  closed_.insert(key);
}

void Deliveries::Remove(const std::string& key) {
  if (!any_) return;
  {
    MutexLock lock(&mutex_);
    closed_.erase(key);
    checked_.erase(key);
    for (auto it = parts_.begin(); it != parts_.end();) {
      const bool its = it->first.compare(0, key.size() + 1, key + "/") == 0;
      it = its ? parts_.erase(it) : std::next(it);
    }
  }
  if (!Exists(DirOf(key))) return;
  std::error_code error;
  fs::remove_all(DirOf(key), error);
}

void Deliveries::RemoveOthers(const std::set<std::string>& live) {
  std::error_code error;
  std::set<std::string> gone;
  for (fs::directory_iterator it(dir_, error), end; !error && it != end; it.increment(error)) {
    const std::string key = it->path().filename().string();
    if (live.count(key) == 0) gone.insert(key);
  }
  any_ = fs::exists(dir_, error);
  for (const std::string& key : gone) Remove(key);
}

}  // namespace orch
