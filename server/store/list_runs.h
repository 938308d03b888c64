// Which runs a page has, from the narrowest index that fits its filter and order.
#pragma once

#include <optional>
#include <vector>

#include "server/store/connection_pool.h"
#include "server/store/queries.h"

namespace orch::store {

struct FoundRuns {
  std::vector<RunKey> keys;
  std::optional<RunPlace> next;  // as in RunPage
};

// At most `limit` keys, and at most `rows` rows of the index looked at. Throws SQLite::Exception.
FoundRuns FindRuns(Connection& c, const RunFilter& filter, RunOrder order, const RunPlace& after, int limit, int rows);

}  // namespace orch::store
