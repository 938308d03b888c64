// The statements that write a batch, prepared once.
#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <memory>

#include "server/model/batch.h"
#include "server/store/removal_writer.h"

namespace orch::store {

// Within a transaction of the caller. Thread: the connection's.
class BatchWriter {
 public:
  // Throws SQLite::Exception.
  explicit BatchWriter(SQLite::Database& db);
  ~BatchWriter();

  // Writes all rows, in an order that satisfies the foreign keys, and gives artifacts their versions. Returns the
  // number of rows. Throws SQLite::Exception; may be called again with the same batch after a rollback.
  int64_t Write(Batch* batch);

 private:
  struct Statements;
  void WriteNewRuns(const Batch& batch);
  void WriteRun(const RunRow& row);
  void WriteStep(const StepRow& row);
  void WriteAttempt(const AttemptRow& row);
  void WriteArtifact(ArtifactRow* row);
  void WriteHook(const HookRow& r);
  void WriteEvent(const EventRow& row);
  void WriteRegistry(const Batch& batch);

  std::unique_ptr<Statements> s_;
  RemovalWriter removals_;
};

}  // namespace orch::store
