// What a restart reads, on the writing connection.
#pragma once

#include <SQLiteCpp/Database.h>

#include <vector>

#include "server/store/high_water.h"
#include "server/store/store.h"

namespace orch::store {

// All throw SQLite::Exception.
std::vector<RunKey> ReadLiveRunKeys(SQLite::Database& db);
// False if there is no such run.
bool ReadLiveRun(SQLite::Database& db, RunKey key, LiveRun* out);
std::vector<HookRow> ReadOpenHooks(SQLite::Database& db);
std::vector<AttemptRow> ReadPendingReleases(SQLite::Database& db);

// Its instance, start and newest event, without the place in its log. Nothing if it has no row of facts.
HighWater::Mark ReadStand(SQLite::Database& db);

// Counts one more start, with this boot, makes monotonic times of another boot those of this one, and removes pieces of
// specs that a crash left. In one commit.
Meta BeginEpoch(SQLite::Database& db, const std::string& boot_id, Now now);

}  // namespace orch::store
