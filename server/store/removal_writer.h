// The statements that take rows away, prepared once.
#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <memory>
#include <string>

#include "server/model/removals.h"

namespace orch::store {

// Within a transaction of the caller. Thread: the connection's.
class RemovalWriter {
 public:
  // Throws SQLite::Exception.
  explicit RemovalWriter(SQLite::Database& db);
  ~RemovalWriter();

  // Returns the number of things that were asked for. Throws SQLite::Exception; may be called again after a rollback.
  int64_t Write(const Removals& removals);

  // A cache entry is about to go or to be replaced: artifacts of a deleted run that it alone has kept go before it.
  // `created` 0: whenever it was made. Throws as Write does.
  void RemoveKeptBy(const std::string& project, const std::string& key, int64_t created);

 private:
  struct Statements;
  std::unique_ptr<Statements> s_;
};

// True for artifacts (`a`, of a run that was deleted, `d`, by step `t`) that a deletion of their run leaves: what a
// cache entry needs, and what has a name of its own.
inline constexpr char kPinnedArtifact[] =
    "EXISTS (SELECT 1 FROM cache_entry e WHERE e.run = a.run AND e.ix = a.ix AND e.attempt = a.attempt) "
    "OR n.name <> d.pipeline || '.' || t.name || '.' || a.output";
inline constexpr char kArtifactsOfDeletedRuns[] =
    "artifact a JOIN deleted_run d ON d.run = a.run JOIN artifact_name n ON n.id = a.name_id "
    "JOIN step t ON t.run = a.run AND t.ix = a.ix";

}  // namespace orch::store
