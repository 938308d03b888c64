#include "server/engine/artifact_stores.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/folder_listing.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/engine/trouble.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kManyEntries = 10'000'000;  // our own listings

absl::StatusOr<std::vector<FolderEntry>> EntriesOf(const std::string& listing) {
  std::ifstream in(listing, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return ReadListing(text.str(), kManyEntries);
}

// The bytes are on their way there already, or from an earlier try.
absl::Status PutUnlessThere(BlobHome& home, const std::string& name, const std::string& path,
                            absl::string_view digest) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) {
    return Error(absl::StatusCode::kInternal, "STORE_FAILED", absl::StrCat(path, ": ", strerror(errno)));
  }
  const auto there = home.SizeOf(name);
  if (there.ok() && *there == st.st_size) return absl::OkStatus();  // named by its digest
  if (!there.ok() && there.status().code() != absl::StatusCode::kNotFound) return there.status();
  return home.Put(name, path, st.st_size, digest);
}

}  // namespace

std::string ArtifactStores::NameOf(absl::string_view digest) {
  const std::string hex = Hex(digest);
  return absl::StrCat(hex.substr(0, 2), "/", hex);
}
std::string ArtifactStores::FileNameOf(absl::string_view folder, absl::string_view file) {
  return absl::StrCat(NameOf(folder), ".files/", Hex(file));
}

void ArtifactStores::Put(const std::string& name, std::shared_ptr<BlobHome> home) {
  MutexLock lock(&mutex_);
  homes_[name] = std::move(home);
}

void ArtifactStores::Remove(const std::string& name) {
  MutexLock lock(&mutex_);
  homes_.erase(name);
}

std::shared_ptr<BlobHome> ArtifactStores::Find(const std::string& name) {
  MutexLock lock(&mutex_);
  const auto found = homes_.find(name);
  return found == homes_.end() ? nullptr : found->second;
}

bool ArtifactStores::Any() {
  MutexLock lock(&mutex_);
  return !homes_.empty();
}

absl::StatusOr<s3::Presigned> ArtifactStores::UploadAddress(const std::string& store, absl::string_view digest,
                                                            int64_t size, int64_t seconds) {
  const std::shared_ptr<BlobHome> home = Find(store);
  if (home == nullptr) return absl::UnimplementedError("this store has no addresses");
  return home->PresignPut(NameOf(digest), size, digest, seconds);
}

absl::Status ArtifactStores::FetchSent(const std::string& store, absl::string_view digest, const std::string& path) {
  const std::shared_ptr<BlobHome> home = Find(store);
  if (home == nullptr) return absl::UnimplementedError("this store has no addresses");
  return home->Get(NameOf(digest), path, digest);
}

namespace {

std::string LeftName(const std::string& key, const std::string& name) { return absl::StrCat("left/", key, "/", name); }

absl::Status NoAddresses() { return absl::UnimplementedError("this store has no addresses"); }

absl::Status NotInService(const std::string& store) {  // it may be again
  return Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE",
               absl::StrCat("artifact store `", store, "` is not in service; see the daemon's log"));
}

}  // namespace

absl::StatusOr<s3::Presigned> ArtifactStores::LeaveAddress(const std::string& store, const std::string& key,
                                                           const std::string& name, int64_t seconds) {
  const std::shared_ptr<BlobHome> home = Find(store);
  return home == nullptr ? NoAddresses() : home->PresignAnyPut(LeftName(key, name), seconds);
}

bool ArtifactStores::HasAddresses(const std::string& store) {
  const std::shared_ptr<BlobHome> home = Find(store);
  return home != nullptr && home->has_addresses();
}

absl::StatusOr<int64_t> ArtifactStores::SizeOfLeft(const std::string& store, const std::string& key,
                                                   const std::string& name) {
  const std::shared_ptr<BlobHome> home = Find(store);
  if (home == nullptr) return NotInService(store);
  return home->SizeOf(LeftName(key, name));
}

absl::Status ArtifactStores::FetchLeft(const std::string& store, const std::string& key, const std::string& name,
                                       const std::string& path) {
  const std::shared_ptr<BlobHome> home = Find(store);
  return home == nullptr ? NotInService(store) : home->Get(LeftName(key, name), path, "");
}

void ArtifactStores::RemoveLeft(const std::string& store, const std::string& key, const std::string& name) {
  const std::shared_ptr<BlobHome> home = Find(store);
  if (home == nullptr) return;
  const absl::Status removed = home->Remove(LeftName(key, name));
  if (!removed.ok()) {
    Log(LogLevel::kWarning, "an object stays behind",
        {{"artifact_store", store}, {"name", LeftName(key, name)}, {"why", removed.message()}});
  }
}

void ArtifactStores::Stop() {
  MutexLock lock(&mutex_);
  for (const auto& [name, home] : homes_) home->Stop();
}

std::shared_ptr<Mutex> ArtifactStores::LockOf(absl::string_view digest) {
  MutexLock lock(&mutex_);
  if (locks_.size() > 10'000) {
    for (auto it = locks_.begin(); it != locks_.end();) it = it->second.expired() ? locks_.erase(it) : std::next(it);
  }
  std::weak_ptr<Mutex>& known = locks_[std::string(digest)];
  std::shared_ptr<Mutex> mutex = known.lock();
  if (mutex == nullptr) known = mutex = std::make_shared<Mutex>();
  return mutex;
}

absl::Status ArtifactStores::Keep(const std::string& store, BlobRow* row) {
  const std::shared_ptr<BlobHome> home = Find(store);
  if (home == nullptr) {
    return Error(absl::StatusCode::kFailedPrecondition, "STORE_NOT_FOUND",
                 absl::StrCat("artifact store `", store, "` is not in service; see the daemon's log"));
  }
  const std::shared_ptr<Mutex> mutex = LockOf(row->digest);
  MutexLock lock(mutex.get());
  ORCH_FAULT("home.keep");
  ASSIGN_OR_RETURN(const std::string path, blobs_->PathOf(row->digest));
  if (row->directory) {
    ASSIGN_OR_RETURN(const std::string listing, blobs_->ListingOf(row->digest));
    ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, EntriesOf(listing));
    std::set<std::string> done;
    for (const FolderEntry& entry : entries) {  // the listing last: where it is, all is
      if (entry.kind != FolderEntry::Kind::kFile || !done.insert(entry.content).second) continue;
      RETURN_IF_ERROR(PutUnlessThere(*home, FileNameOf(row->digest, entry.content), absl::StrCat(path, "/", entry.path),
                                     entry.content));
    }
    RETURN_IF_ERROR(PutUnlessThere(*home, NameOf(row->digest), listing, row->digest));
  } else {
    RETURN_IF_ERROR(PutUnlessThere(*home, NameOf(row->digest), path, row->digest));
  }
  row->store = store;
  ORCH_FAULT("home.kept");
  return absl::OkStatus();
}

absl::Status ArtifactStores::Fetch(const BlobRow& row, const std::string& to) {
  ASSIGN_OR_RETURN(const std::vector<std::string> stores, queries_->ListBlobCopies(row.digest));
  absl::Status last = Error(absl::StatusCode::kNotFound, "BLOB_MISSING",
                            absl::StrCat("the bytes sha256:", Hex(row.digest), " are not in the store any more"));
  absl::Status away;
  for (const std::string& store : stores) {
    if (IsOfTheMoment(last)) away = last;
    const std::shared_ptr<BlobHome> home = Find(store);
    if (home == nullptr) {
      away = NotInService(store);
      continue;
    }
    std::error_code error;
    if (!row.directory) {
      last = home->Get(NameOf(row.digest), to, row.digest);
      if (last.ok()) return last;
      continue;
    }
    const std::string listing = to + ".listing";
    const auto clean = absl::MakeCleanup([&] { unlink(listing.c_str()); });
    last = home->Get(NameOf(row.digest), listing, row.digest);
    if (!last.ok()) continue;
    const auto entries = EntriesOf(listing);
    last = entries.status();
    if (!last.ok()) continue;
    fs::create_directories(to, error);
    for (const FolderEntry& entry : *entries) {
      const std::string path = absl::StrCat(to, "/", entry.path);
      if (entry.kind == FolderEntry::Kind::kFolder) {
        fs::create_directory(path, error);
      } else if (entry.kind == FolderEntry::Kind::kLink) {
        fs::create_symlink(entry.content, path, error);
      } else {
        last = home->Get(FileNameOf(row.digest, entry.content), path, entry.content);
        if (last.ok() && chmod(path.c_str(), entry.executable ? 0555 : 0444) != 0)
          error.assign(errno, std::generic_category());
      }
      if (error) last = Error(absl::StatusCode::kInternal, "STORE_FAILED", absl::StrCat(path, ": ", error.message()));
      if (!last.ok()) break;
    }
    if (last.ok()) return last;
    fs::remove_all(to, error);
  }
  return away.ok() ? last : away;  // whoever cannot answer now may have it
}

absl::Status ArtifactStores::RemoveCopies(absl::string_view digest) {
  ASSIGN_OR_RETURN(const std::vector<std::string> stores, queries_->ListBlobCopies(digest));
  if (stores.empty()) return absl::OkStatus();
  const std::shared_ptr<Mutex> mutex = LockOf(digest);
  MutexLock lock(mutex.get());
  if (blobs_->IsHeld(digest)) return absl::OkStatus();  // somebody has made it again, and notes it again
  ASSIGN_OR_RETURN(const auto row, queries_->GetBlob(digest));
  for (const std::string& store : stores) {
    const std::shared_ptr<BlobHome> home = Find(store);
    if (home == nullptr) continue;
    if (row.has_value() && row->directory) {
      const std::string listing =
          absl::StrCat(fs::temp_directory_path().string(), "/orchd-listing-", Hex(RandomBytes(8)));
      const auto clean = absl::MakeCleanup([&] { unlink(listing.c_str()); });
      const absl::Status got = home->Get(NameOf(digest), listing, digest);
      if (got.ok()) {
        ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, EntriesOf(listing));
        for (const FolderEntry& entry : entries) {
          if (entry.kind != FolderEntry::Kind::kFile) continue;
          RETURN_IF_ERROR(home->Remove(FileNameOf(digest, entry.content)));
        }
      } else if (got.code() != absl::StatusCode::kNotFound) {
        return got;
      }
    }
    RETURN_IF_ERROR(home->Remove(NameOf(digest)));  // last: an interrupted removal finds the files again
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ArtifactStores::AddressOf(absl::string_view digest, absl::string_view file,
                                                      int64_t seconds) {
  ASSIGN_OR_RETURN(const std::vector<std::string> stores, queries_->ListBlobCopies(digest));
  for (const std::string& store : stores) {
    const std::shared_ptr<BlobHome> home = Find(store);
    if (home == nullptr) continue;
    const auto address = home->PresignGet(file.empty() ? NameOf(digest) : FileNameOf(digest, file), seconds);
    if (address.ok()) return address->url;
  }
  return absl::NotFoundError("no store with addresses has it");
}

}  // namespace orch
