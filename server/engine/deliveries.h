// What launchers deliver for attempts that share no file system with the daemon, until it is stored.
//
//   DIR/deliveries/KEY/task.json     what the launcher was given to do; without secrets
//   DIR/deliveries/KEY/launcher      which launcher has begun it
//   DIR/deliveries/KEY/parts/HEX     on its way; HEX is the SHA-256 that it shall have
//   DIR/deliveries/KEY/blobs/HEX     whole, its digest checked
//   DIR/deliveries/KEY/blobs/of.NAME a link to the one that output NAME is made of
//   DIR/deliveries/KEY/output/NAME   as a step on this machine would have left it
//   DIR/deliveries/KEY/end.json      what the launcher said of the end
//   DIR/deliveries/KEY/handed.json   the whole task, for a launcher that cannot ask
//
// All of it survives the daemon; an upload goes on where it was. Outputs are durable once they are made, and are synced
// then, all at once: blobs are not before that, so those of an earlier life of the daemon are read again before they
// count. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace orch {

struct DeliveryLimits {
  int64_t artifact_bytes = 0;  // of one upload
  int64_t folder_entries = 0;
  int64_t uploads_at_once = 0;
};

class Deliveries {
 private:
  struct Part;

 public:
  Deliveries(const std::string& data_dir, DeliveryLimits limits);
  ~Deliveries();

  // Hears of each file that has just been checked. Before any other call.
  using Vouch = std::function<void(const std::string& path, absl::string_view digest)>;
  void SetVouch(Vouch vouch) { vouch_ = std::move(vouch); }

  // Before its unit is submitted, or submitted again; durable. From now on deliveries are taken.
  absl::Status PutTask(const std::string& key, absl::string_view text);
  // The task, for the first launcher that asks, and for it again. FAILED_PRECONDITION (ATTEMPT_TAKEN): another one has
  // begun it, so this is a repetition that the platform made; NOT_FOUND (TASK_NOT_FOUND): it is none for a launcher.
  absl::StatusOr<std::string> Begin(const std::string& key, absl::string_view launcher);
  // Who has begun it; empty: nobody.
  std::string LauncherOf(const std::string& key);
  // A task that is handed over as a file, durable, for its user alone: the file's path.
  absl::StatusOr<std::string> PutHanded(const std::string& key, absl::string_view text);
  // A new name for a file of this attempt that is on its way; whoever makes it removes it.
  std::string StagingName(const std::string& key);
  // NOT_FOUND (TASK_NOT_FOUND).
  absl::StatusOr<std::string> TaskOf(const std::string& key);

  struct Progress {
    int64_t offset = 0;
    bool complete = false;
  };
  // How much of these bytes is here. `hex`: 64 lower-case digits.
  absl::StatusOr<Progress> ProgressOf(const std::string& key, const std::string& hex);

  // The rest of some bytes. Used by one thread at a time; what was appended stays when it goes.
  class Upload {
   public:
    // `seat`: one of those of the limit, until it goes.
    Upload(Deliveries* owner, std::string key, std::shared_ptr<Part> part, uint64_t turn, std::shared_ptr<void> seat)
        : owner_(owner), key_(std::move(key)), part_(std::move(part)), turn_(turn), seat_(std::move(seat)) {}
    ~Upload();
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;
    // ABORTED (UPLOAD_TAKEN_OVER): another call goes on with it; INVALID_ARGUMENT (UPLOAD_TOO_LONG): more than its
    // length; RESOURCE_EXHAUSTED (DISK_FULL); FAILED_PRECONDITION (ATTEMPT_STALE).
    absl::Status Append(absl::string_view bytes);
    // What is here now. Whole, it is checked: INVALID_ARGUMENT (DIGEST_MISMATCH), and nothing of it is left.
    absl::StatusOr<Progress> Finish();

   private:
    Deliveries* const owner_;
    const std::string key_;
    const std::shared_ptr<Part> part_;
    const uint64_t turn_;
    const std::shared_ptr<void> seat_;
  };
  // Goes on at `offset`, of `length` bytes in all. Another call that is at it, perhaps over a broken connection, is
  // over. ABORTED (UPLOAD_OFFSET) with the fact `offset`: it goes on there; RESOURCE_EXHAUSTED (ARTIFACT_TOO_LARGE,
  // TOO_MANY_UPLOADS); FAILED_PRECONDITION (ATTEMPT_STALE); INVALID_ARGUMENT.
  absl::StatusOr<std::unique_ptr<Upload>> Append(const std::string& key, const std::string& hex, int64_t offset,
                                                 int64_t length);

  // Bytes that come another way: `receive` makes a file of them, whose digest it has checked. Nothing if they are here.
  absl::Status Receive(const std::string& key, const std::string& hex,
                       const std::function<absl::Status(const std::string& path)>& receive);

  // Makes an output of bytes that are here: a file, or a folder of whose files the listing has these digests. Repeated,
  // it replaces what was there. FAILED_PRECONDITION (BLOB_NOT_DELIVERED) names what is missing; INVALID_ARGUMENT
  // (LISTING_INVALID); FAILED_PRECONDITION (ATTEMPT_STALE). Durable.
  absl::Status PutOutput(const std::string& key, const std::string& name, const std::string& hex, bool folder);
  // The digest that an output was delivered with, raw; empty: it was not delivered.
  std::string DigestOf(const std::string& key, const std::string& name);

  // What the launcher says of the end; the first word stays. Durable.
  absl::Status PutEnd(const std::string& key, absl::string_view text);
  std::optional<std::string> EndOf(const std::string& key);

  std::string OutputDir(const std::string& key) const;
  // From now on nothing is taken for this attempt: its end is being judged.
  void Close(const std::string& key);
  // It is over.
  void Remove(const std::string& key);
  // At start: what was left of attempts that are none of these.
  void RemoveOthers(const std::set<std::string>& live);

 private:
  std::string DirOf(const std::string& key) const { return dir_ + "/" + key; }
  absl::Status CheckOpen(const std::string& key);
  // Where what is delivered lies.
  absl::Status MakePlaces(const std::string& key);
  // Durable but for its own name.
  absl::Status MakeFolder(const std::string& key, const std::string& listing, const std::string& at);
  // True if the blob is here, with the bytes that its name says.
  bool Has(const std::string& key, const std::string& hex);
  void SetChecked(const std::string& key, const std::string& hex);

  const std::string dir_;
  const DeliveryLimits limits_;
  Vouch vouch_;
  std::atomic<bool> any_{false};  // else there is nothing to remove
  Mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<Part>> parts_ ABSL_GUARDED_BY(mutex_);  // `KEY/HEX`
  std::unordered_set<std::string> closed_ ABSL_GUARDED_BY(mutex_);                        // keys
  // Blobs whose bytes were checked in this life, by key.
  std::unordered_map<std::string, std::unordered_set<std::string>> checked_ ABSL_GUARDED_BY(mutex_);
  int64_t uploads_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A digest in words: `sha256:` and 64 lower-case digits. Empty if it is none.
std::string HexOfDigest(absl::string_view text);

}  // namespace orch
