#include "server/store/pragmas.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"

namespace orch::store {
namespace {

// Caches are small: the pages of a live run are few, the kernel has the rest, and memory when idle counts.
constexpr char kBoth[] =
    "PRAGMA foreign_keys=ON;"
    "PRAGMA trusted_schema=OFF;"
    "PRAGMA mmap_size=0;"
    "PRAGMA temp_store=MEMORY;"
    "PRAGMA cell_size_check=ON;";

}  // namespace

std::string DatabasePath(absl::string_view data_dir) { return absl::StrCat(data_dir, "/orchd.db"); }

void SetUpWriter(SQLite::Database& db) {
  db.exec("PRAGMA page_size=4096;");  // only a new file takes it
  db.exec("PRAGMA journal_mode=WAL;");
  db.exec(kBoth);
  db.exec(
      "PRAGMA synchronous=FULL;"
      "PRAGMA wal_autocheckpoint=0;"   // Writer::MaybeCheckpoint decides when
      "PRAGMA journal_size_limit=-1;"  // the WAL keeps its size: overwriting syncs faster than growing
      "PRAGMA secure_delete=OFF;"      // Debian's default would write zeros over every freed cell
      "PRAGMA cache_size=-4096;");
  int persist = 1;
  (void)sqlite3_file_control(db.getHandle(), "main", SQLITE_FCNTL_PERSIST_WAL, &persist);  // only saves time
}

void SetUpReader(SQLite::Database& db) {
  db.exec(kBoth);
  db.exec("PRAGMA query_only=ON; PRAGMA cache_size=-1024;");
}

}  // namespace orch::store
