// Migrations: order, refusals, and the schema they make.
#include "server/store/migrate.h"

#include <SQLiteCpp/Statement.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "server/store/pragmas.h"
#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::HasSubstr;

constexpr Migration kFirst{1, "0001_a.sql", "aa",
                           "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT "
                           "NULL, applied INTEGER NOT NULL) STRICT; CREATE TABLE t (x INTEGER) STRICT;"};
constexpr Migration kSecond{2, "0002_b.sql", "bb",
                            "INSERT INTO t VALUES (1);\n-- verify: SELECT 1 FROM t WHERE x <> 1\n"};
constexpr Migration kWrong{2, "0002_b.sql", "bb",
                           "INSERT INTO t VALUES (2);\n-- verify: SELECT 1 FROM t WHERE x = 2\n"};

class MigrateTest : public testing::Test {
 protected:
  MigrateTest() : db_(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE) {}
  int Version() { return db_.execAndGet("PRAGMA user_version").getInt(); }
  SQLite::Database db_;
};

TEST_F(MigrateTest, AppliesWhatIsMissing) {
  const Migration one[] = {kFirst};
  const Migration two[] = {kFirst, kSecond};
  ASSERT_TRUE(Migrate(db_, one, 5).ok());
  EXPECT_EQ(Version(), 1);
  ASSERT_TRUE(Migrate(db_, two, 6).ok());
  EXPECT_EQ(Version(), 2);
  ASSERT_TRUE(Migrate(db_, two, 7).ok());
  EXPECT_EQ(db_.execAndGet("SELECT count(*) FROM t").getInt(), 1);
  EXPECT_EQ(db_.execAndGet("SELECT applied FROM migration WHERE number = 2").getInt(), 6);
  EXPECT_EQ(db_.execAndGet("PRAGMA application_id").getInt(), kApplicationId);
}

TEST_F(MigrateTest, AFailedCheckLeavesTheSchemaBefore) {
  const Migration wrong[] = {kFirst, kWrong};
  const absl::Status status = Migrate(db_, wrong, 5);
  EXPECT_EQ(ReasonOf(status), "MIGRATION_FAILED");
  EXPECT_EQ(Version(), 1);
  EXPECT_EQ(db_.execAndGet("SELECT count(*) FROM t").getInt(), 0);
  EXPECT_EQ(db_.execAndGet("SELECT count(*) FROM migration").getInt(), 1);
}

TEST_F(MigrateTest, RefusesANewerSchemaAChangedPastAndGaps) {
  const Migration two[] = {kFirst, kSecond};
  const Migration one[] = {kFirst};
  ASSERT_TRUE(Migrate(db_, two, 5).ok());
  EXPECT_EQ(ReasonOf(Migrate(db_, one, 6)), "SCHEMA_NEWER");
  Migration changed[] = {kFirst, kSecond};
  changed[0].sha256 = "cc";
  const absl::Status status = Migrate(db_, changed, 6);
  EXPECT_EQ(ReasonOf(status), "MIGRATION_CHANGED");
  EXPECT_THAT(std::string(status.message()), HasSubstr("0001_a.sql"));
  db_.exec("DELETE FROM migration WHERE number = 1");
  EXPECT_EQ(ReasonOf(Migrate(db_, two, 6)), "MIGRATION_CHANGED");
  db_.exec("DELETE FROM migration");
  EXPECT_EQ(ReasonOf(Migrate(db_, two, 6)), "MIGRATION_CHANGED");
}

TEST_F(MigrateTest, RefusesSomebodyElsesDatabase) {
  db_.exec("CREATE TABLE theirs (x)");
  const Migration one[] = {kFirst};
  EXPECT_EQ(ReasonOf(Migrate(db_, one, 5)), "DATABASE_FOREIGN");
}

TEST_F(StoreTest, ARealDatabaseIsRefusedToo) {
  queries_.reset();
  writer_.reset();
  {
    SQLite::Database db(DatabasePath(dir_), SQLite::OPEN_READWRITE);
    db.exec("UPDATE migration SET sha256 = 'other'");
  }
  EXPECT_EQ(ReasonOf(OpenWriter(dir_).status()), "MIGRATION_CHANGED");
  {
    SQLite::Database db(DatabasePath(dir_), SQLite::OPEN_READWRITE);
    db.exec("PRAGMA user_version=999");
  }
  EXPECT_EQ(ReasonOf(OpenWriter(dir_).status()), "SCHEMA_NEWER");
}

// To regenerate after a new migration: ORCH_UPDATE_GOLDEN=1 build/dev/bin/store_test --gtest_filter=*GoldenSchema*
TEST_F(StoreTest, GoldenSchema) {
  const std::string path = std::string(ORCH_SOURCE_DIR) + "/tests/store/schema.golden";
  std::string schema;
  {
    SQLite::Database db(DatabasePath(dir_), SQLite::OPEN_READONLY);
    SQLite::Statement s(db, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC, name");
    while (s.executeStep()) absl::StrAppend(&schema, s.getColumn(2).getString(), ";\n\n");
  }
  if (std::getenv("ORCH_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << schema;
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(schema, golden.str()) << "the schema changed: see the comment above this test";
}

}  // namespace
}  // namespace orch::store
