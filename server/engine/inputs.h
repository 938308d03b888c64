// Makes the inputs of an attempt: from artifact ids to paths.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/engine/blob_store.h"
#include "server/engine/render.h"
#include "server/store/queries.h"

namespace orch {

// Digests of files outside, kept by device, inode, size and time of change. Any thread.
class FileDigests {
 public:
  // Of a file or folder. INVALID_ARGUMENT (INPUT_MISSING) if it does not exist.
  absl::StatusOr<std::string> Of(const std::string& path);

 private:
  Mutex mutex_;
  std::unordered_map<std::string, std::string> known_ ABSL_GUARDED_BY(mutex_);
};

// A line of what a fan-in's digest is made of.
std::string FanInEntry(absl::string_view item_json, absl::string_view digest);

class Inputs {
 public:
  Inputs(std::string data_dir, store::Queries* queries, BlobStore* blobs, FileDigests* files);

  // New artifacts, as committed, so that most steps need no query. Any thread.
  void Note(const std::vector<ArtifactRow>& artifacts);

  // `ids` as in Intent::inputs. With `paths` the files are made where they are missing; without, only digests and
  // values are filled in. FAILED_PRECONDITION (INPUT_MISSING) names the input.
  absl::StatusOr<std::vector<ReadyInput>> Make(const RunContext& run, StepIx ix, const std::string& key,
                                               const std::vector<std::vector<ArtifactId>>& ids, bool paths);
  // The texts of value outputs; empty for 0.
  absl::StatusOr<std::vector<std::string>> Values(const std::vector<ArtifactId>& ids);
  // Keeps the bytes of the artifacts that an attempt reads from outside its run until Remove(key), also if their runs
  // were deleted meanwhile: for one that was started before this process.
  absl::Status PinAgain(const AttemptRow& attempt);
  // Removes the folders made for fan-ins, and lets go of what was pinned.
  void Remove(const std::string& key);

 private:
  absl::Status Pin(const std::string& key, const std::vector<ArtifactId>& ids);  // zeros are passed over
  void KeepPins(const std::string& key, std::vector<std::shared_ptr<const void>> holds);
  absl::StatusOr<std::vector<ArtifactRow>> Find(const std::vector<ArtifactId>& ids);
  absl::StatusOr<ReadyInput> One(const ArtifactRow& artifact, bool value, bool paths);
  absl::StatusOr<ReadyInput> FanInFolder(const RunContext& run, const InputBinding& binding, const std::string& dir,
                                         const std::vector<ArtifactId>& ids, bool paths);
  absl::StatusOr<ReadyInput> FanInValues(const std::vector<ArtifactId>& ids, bool paths);
  absl::StatusOr<ReadyInput> External(const InputSpec& input);

  const std::string dir_;
  const std::string data_dir_;
  store::Queries* const queries_;
  BlobStore* const blobs_;
  FileDigests* const files_;
  Mutex mutex_;
  std::unordered_map<ArtifactId, ArtifactRow> known_ ABSL_GUARDED_BY(mutex_);
  std::deque<ArtifactId> order_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, bool> made_ ABSL_GUARDED_BY(mutex_);  // keys with a folder
  // By key, what attempts read of other runs: nothing else keeps it.
  std::unordered_map<std::string, std::vector<std::shared_ptr<const void>>> pins_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
