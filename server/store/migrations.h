// The numbered .sql files of migrations/, embedded at build time.
#pragma once

#include <span>

namespace orch::store {

struct Migration {
  int number;          // dense from 1
  const char* name;    // `0001_init.sql`
  const char* sha256;  // hex
  const char* sql;     // statements; lines `-- verify: SELECT …` must return no row after it
};

std::span<const Migration> EmbeddedMigrations();

}  // namespace orch::store
