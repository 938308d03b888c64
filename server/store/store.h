// The store: one SQLite database in WAL mode with synchronous=FULL, one writing connection, read-only ones for queries.
//
// All writes and all checkpoints go through Writer, on the loop's thread: SQLite before 3.51.3 can corrupt a WAL when
// one connection checkpoints while another commits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/model/batch.h"
#include "server/model/rows.h"

namespace orch::store {

struct StoreOptions {
  std::string data_dir;              // exists, 0700
  int64_t reserve_bytes = 64 << 20;  // kept free for what is already accepted
  // The WAL is grown once to this size at open, and written back from the lower one on: it is then overwritten in
  // place, which syncs in half the time.
  int64_t wal_grow_bytes = 8 << 20;
  int64_t wal_soft_bytes = 6 << 20;
  std::string vfs = "unix";  // SQLite's layer over the files; tests put a disk with faults there
};

// Facts about the database itself.
struct Meta {
  std::string instance;  // UUID made with the database
  int64_t epoch = 0;     // this start's number
  std::string boot_id;   // of the previous epoch
  int64_t last_sequence = 0;
  int64_t compacted_sequence = 0;  // events up to here are gone
  int64_t next_run_key = 1;
  int64_t next_artifact_id = 1;
  int64_t next_pipeline_id = 1;
};

// What a restart needs of one run that has not ended. Monotonic times are of this boot: after a reboot, opening has
// made them again from the wall clock.
struct LiveRun {
  RunHeader header;
  RunRow row;
  std::vector<StepRow> steps;          // those that have left WAITING
  std::vector<AttemptRow> attempts;    // all of its steps that have not ended, and the live ones
  std::vector<ArtifactRow> artifacts;  // all of the run, without values
  std::string numbering;               // EncodeNumbering; empty: its numbers follow from its pipeline
  std::vector<FanoutRow> fanouts;      // made since, in order
};

// Thread: one at a time (the loop's). Opening takes the lock of the data directory and runs the migrations.
class Writer {
 public:
  // FAILED_PRECONDITION (DATA_DIR_LOCKED) names the pid of the daemon that has it; FAILED_PRECONDITION
  // (SCHEMA_NEWER, MIGRATION_CHANGED) if the file is not ours to use; DATA_LOSS (DATABASE_CORRUPT).
  static absl::StatusOr<std::unique_ptr<Writer>> Open(const StoreOptions& options, Now now);
  virtual ~Writer() = default;

  virtual const Meta& meta() const = 0;

  // Commits everything in `batch` or nothing. OK means durable. Any error is final: the caller ends the process.
  // A full disk frees the reserve and tries once more before it fails. Fills `version` of the artifacts.
  virtual absl::Status Commit(Batch* batch) = 0;

  // True while free space is under twice the reserve: new work is refused, accepted work goes on. Cheap. Any thread.
  virtual bool LowOnSpace() = 0;

  // Checkpoints if the WAL is larger than it should be. Between batches; `idle`: nobody waits for the next one.
  virtual void MaybeCheckpoint(bool idle) = 0;

  // At start, in this order.
  virtual absl::StatusOr<std::vector<RunKey>> LiveRunKeys() = 0;
  virtual absl::StatusOr<LiveRun> LoadRun(RunKey key) = 0;
  // Attempts of ended runs whose backend still has to clean up.
  virtual absl::StatusOr<std::vector<AttemptRow>> PendingReleases() = 0;
  // Hooks that have not ended, oldest first.
  virtual absl::StatusOr<std::vector<HookRow>> OpenHooks() { return std::vector<HookRow>(); }
  // Counters of syncs and batches since open, for metrics and benchmarks.
  struct Stats {
    int64_t commits = 0;
    int64_t syncs = 0;  // fsync and fdatasync calls of the database files
    int64_t rows = 0;
    int64_t wal_bytes = 0;
  };
  virtual Stats stats() const = 0;
};

}  // namespace orch::store
