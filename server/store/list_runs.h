// Which runs a list shows: chooses the index that fits the filter.
#pragma once

#include <vector>

#include "server/store/connection_pool.h"
#include "server/store/queries.h"

namespace orch::store {

// Keys below `before`, largest first, at most `limit`. Throws SQLite::Exception.
std::vector<RunKey> FindRunKeys(Connection& c, const RunFilter& filter, RunKey before, int limit);

}  // namespace orch::store
