// What a damaged database still has, in a new one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/high_water.h"

namespace orch::store {

struct Salvaged {
  int64_t rows = 0;
  std::vector<std::string> faults;        // the first that are found; empty: there was none
  std::map<std::string, int64_t> damage;  // by table: places that cannot be read
  std::vector<std::string> dropped_runs;  // names of runs that had not ended, whose steps are not known for certain
};

// Makes the database `to`, which must not be there, of every row of the one at `from` that SQLite can still get at: a
// damaged page costs the rows on it, and a damaged inner page those below it. Rows that then refer to nothing are left
// out, and no number that may have been given is given again. If there is any fault, also that `known` knows of more
// than is there, the runs that had not ended are left out: to go on with them could do again what was done. `from` is
// not changed.
// DATA_LOSS (BACKUP_DAMAGED): not even its schema can be read. FAILED_PRECONDITION (SCHEMA_NEWER, DATABASE_FOREIGN).
absl::StatusOr<Salvaged> SalvageDatabase(const std::string& from, const std::string& to, const HighWater& known,
                                         int64_t now_wall);

}  // namespace orch::store
