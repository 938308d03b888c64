// Power loss: what was acknowledged is wholly there afterwards, what was not is there wholly or not at all.
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Transaction.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <vector>

#include "server/store/batch_writer.h"
#include "server/store/migrate.h"
#include "server/store/migrations.h"
#include "server/store/pragmas.h"
#include "server/store/wal.h"
#include "tests/store/fault_vfs.h"
#include "tests/store/fixture.h"
#include "tests/store/workload.h"

namespace orch::store {
namespace {

using Random = std::mt19937_64;

// Workloads of each test; ORCH_SEEDS=N takes that many.
uint64_t Seeds(uint64_t usual) {
  const char* text = getenv("ORCH_SEEDS");
  return text == nullptr ? usual : std::max<uint64_t>(1, strtoull(text, nullptr, 10));
}

class PowerTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kError);  // thousands of new databases
    dir_ = TempDirInMemory();
    path_ = DatabasePath(dir_);
  }
  void TearDown() override {
    SetLogLevel(LogLevel::kInfo);
    std::filesystem::remove_all(dir_);
  }

  absl::StatusOr<std::unique_ptr<Writer>> Open(const FaultVfs& vfs, int64_t grow = 0, int64_t soft = 96 << 10) {
    StoreOptions options;
    options.data_dir = dir_;
    options.reserve_bytes = 0;
    options.wal_grow_bytes = grow;
    options.wal_soft_bytes = soft;
    options.vfs = vfs.name();
    return Writer::Open(options, Clock::Real().Now());
  }

  // What the real file says after a cut: anything up to what was acknowledged; this says most.
  void SetHighWater(const std::string& text) {
    std::filesystem::remove(dir_ + "/high-water");  // to empty it would make the file system write at once
    std::ofstream(dir_ + "/high-water") << text;
  }
  std::string HighWaterText() {
    std::ifstream in(dir_ + "/high-water");
    std::string line;
    std::getline(in, line);
    return line;
  }

  std::string dir_;
  std::string path_;
};

// A point of a workload at which everything up to it is durable.
struct Acknowledged {
  size_t op;           // the first op after it
  std::string digest;  // of the tables
  std::string high_water;
  bool high_water_synced = false;
};

TEST_F(PowerTest, NothingAcknowledgedIsLostNorHalfThere) {
  const uint64_t seeds = Seeds(40);
  int64_t cuts = 0;
  int64_t second_cuts = 0;
  int64_t half_way = 0;  // the last batch was there though nobody was told
  int64_t new_ones = 0;  // cut while the database was made
  const int64_t begin = Clock::Real().Now().mono;
  std::vector<uint64_t> all = {104};  // the log was grown again before its cut was durable
  for (uint64_t seed = 1; seed <= seeds; ++seed) all.push_back(seed);
  for (const uint64_t seed : all) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    FaultVfs vfs(seed);
    Workload workload(seed);
    std::vector<Acknowledged> points;
    const int64_t grow = std::array<int64_t, 3>{0, 64 << 10, 1 << 20}[seed % 3];
    SetHighWater("");
    const auto note = [&] { points.push_back({vfs.ops(), DigestOfTables(path_, vfs.name()), HighWaterText()}); };
    {
      auto writer = Open(vfs, grow);
      ASSERT_TRUE(writer.ok()) << writer.status();
      note();
      const int batches = 4 + static_cast<int>(random() % 10);
      for (int i = 0; i < batches; ++i) {
        Batch batch = workload.Next();
        ASSERT_TRUE((*writer)->Commit(&batch).ok());
        note();
        if (random() % 3 != 0) continue;  // so seldom that the log passes its hard bound as well
        const size_t before = vfs.ops();
        (*writer)->MaybeCheckpoint(true);
        // Before it cuts the log it makes durable that it may.
        if (points.back().high_water != HighWaterText()) {
          points.push_back({before, points.back().digest, HighWaterText(), true});
        }
      }
    }  // closes, which writes back

    const size_t ops = vfs.ops();
    const size_t step = std::max<size_t>(1, ops / 36);
    FaultVfs after(seed);
    for (size_t op = random() % step; op <= ops; op += 1 + random() % (2 * step)) {
      SCOPED_TRACE(absl::StrCat("cut before op ", op, " of ", ops));
      ++cuts;
      const auto next = std::find_if(points.begin(), points.end(), [&](const Acknowledged& p) { return p.op > op; });
      const bool made = next != points.begin();
      new_ones += made ? 0 : 1;
      // The mark is mostly not synced: it may be an older one.
      std::string mark;
      for (auto p = next; p != points.begin() && (p == next || random() % 4 == 0);) {
        --p;
        mark = p->high_water;
        if (p->high_water_synced) break;
      }
      SetHighWater(mark);
      after.Load(vfs.Cut(op, &random));
      if (random() % 4 == 0) {  // the next start meets a cut as well
        ++second_cuts;
        {
          auto writer = Open(after, grow);
          ASSERT_TRUE(writer.ok()) << writer.status();
        }
        SetHighWater(mark);
        after.Load(after.Cut(random() % (after.ops() + 1), &random));
      }
      auto writer = Open(after, grow);
      ASSERT_TRUE(writer.ok()) << writer.status();
      ASSERT_EQ(IntegrityOf(path_, after.name()), "ok");
      const std::string digest = DigestOfTables(path_, after.name());
      const std::string& last = made ? (next - 1)->digest : points[0].digest;
      if (digest != last) {
        ASSERT_NE(next, points.end()) << "more than all";
        ASSERT_EQ(digest, next->digest) << "neither what was acknowledged nor with the batch after it";
        ++half_way;
      }
      Batch batch;
      batch.events = {Event((*writer)->meta().last_sequence + 1, 1)};
      ASSERT_TRUE((*writer)->Commit(&batch).ok());
    }
  }
  const double micros = static_cast<double>(Clock::Real().Now().mono - begin) / static_cast<double>(cuts);
  std::printf(
      "power loss: %llu seeds, %lld cuts (%lld in a new database), %lld cut again while opening, "
      "%lld with the unacknowledged batch, %.0f us a cut\n",
      static_cast<unsigned long long>(seeds), static_cast<long long>(cuts), static_cast<long long>(new_ones),
      static_cast<long long>(second_cuts), static_cast<long long>(half_way), micros);
  // That the cuts bite.
  EXPECT_GT(half_way, 0);
  EXPECT_GT(new_ones, 0);
}

// The control: with synchronous=NORMAL the same disk does lose, though only a suffix.
TEST_F(PowerTest, WithoutASyncACommitASuffixIsLost) {
  const uint64_t seeds = Seeds(6);
  int64_t cuts = 0;
  int64_t lost = 0;
  int64_t told = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    FaultVfs vfs(seed);
    SetHighWater("");
    { ASSERT_TRUE(Open(vfs).ok()); }
    vfs.Load(vfs.Live());
    Workload workload(seed);
    std::vector<Acknowledged> points;
    {
      SQLite::Database db(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX, 1000, vfs.name());
      SetUpWriter(db);
      db.exec("PRAGMA synchronous=NORMAL");
      BatchWriter writer(db);
      Wal wal(&db, 0, 96 << 10);
      points.push_back({vfs.ops(), DigestOfTables(path_, vfs.name()), ""});
      for (int i = 0; i < 12; ++i) {
        SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
        Batch batch = workload.Next();
        writer.Write(&batch);
        transaction.commit();
        points.push_back({vfs.ops(), DigestOfTables(path_, vfs.name()), absl::StrCat(workload.sequence())});
        if (random() % 4 == 0) wal.MaybeCheckpoint(true);
      }
    }
    FaultVfs after(seed);
    const size_t ops = points.back().op;
    for (size_t op = 0; op <= ops; op += 1 + random() % std::max<size_t>(1, ops / 12)) {
      SCOPED_TRACE(absl::StrCat("cut before op ", op, " of ", ops));
      ++cuts;
      const auto next = std::find_if(points.begin(), points.end(), [&](const Acknowledged& p) { return p.op > op; });
      if (next == points.begin()) continue;
      after.Load(vfs.Cut(op, &random));
      ASSERT_EQ(IntegrityOf(path_, after.name()), "ok");
      const std::string digest = DigestOfTables(path_, after.name());
      const auto is =
          std::find_if(points.begin(), points.end(), [&](const Acknowledged& p) { return p.digest == digest; });
      ASSERT_NE(is, points.end()) << "no state that there ever was";
      if (is >= next - 1) continue;
      ++lost;
      // And the writer would say so.
      SQLite::Database db(path_, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, 1000, after.name());
      SetHighWater(
          absl::StrCat(db.execAndGet("SELECT instance FROM meta").getString(), " 1 ", (next - 1)->high_water, " 0 0"));
      if (ReasonOf(Open(after).status()) == "DATABASE_CORRUPT") ++told;
    }
  }
  std::printf("synchronous=NORMAL: %llu seeds, %lld cuts, %lld lost acknowledged batches, each a suffix\n",
              static_cast<unsigned long long>(seeds), static_cast<long long>(cuts), static_cast<long long>(lost));
  EXPECT_GT(lost, cuts / 10);
  EXPECT_EQ(told, lost);
}

// A schema of two migrations, cut in the middle of the second: it is applied whole or not at all, and then applies.
TEST_F(PowerTest, AMigrationIsThereWhollyOrNotAtAll) {
  std::vector<Migration> two(EmbeddedMigrations().begin(), EmbeddedMigrations().end());
  const int first = static_cast<int>(two.size());
  static const std::string kSql =
      "CREATE TABLE extra (a INTEGER PRIMARY KEY, b TEXT) STRICT;\n"
      "INSERT INTO extra SELECT sequence, hex(randomblob(300)) FROM event;\n"
      "ALTER TABLE pool ADD COLUMN extra INTEGER NOT NULL DEFAULT 7;\n"
      "UPDATE event SET message = 'migrated';\n";
  Migration more = two.back();
  more.number = first + 1;
  more.name = "9999_more.sql";
  more.sql = kSql.c_str();
  two.push_back(more);
  int64_t cuts = 0;
  int64_t applied = 0;
  for (uint64_t seed = 1; seed <= Seeds(3); ++seed) {
    Random random(seed);
    FaultVfs vfs(seed);
    SetHighWater("");
    {
      auto writer = Open(vfs);
      ASSERT_TRUE(writer.ok()) << writer.status();
      Workload workload(seed);
      for (int i = 0; i < 5; ++i) {
        Batch batch = workload.Next();
        ASSERT_TRUE((*writer)->Commit(&batch).ok());
      }
    }
    vfs.Load(vfs.Live());
    const std::string before = DigestOfTables(path_, vfs.name());
    const auto migrate = [&](const FaultVfs& on) {
      SQLite::Database db(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX, 1000, on.name());
      SetUpWriter(db);
      return Migrate(db, two, 1);
    };
    ASSERT_TRUE(migrate(vfs).ok());
    FaultVfs after(seed);
    for (size_t op = 0; op <= vfs.ops(); op += 1 + random() % 3) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", cut before op ", op, " of ", vfs.ops()));
      ++cuts;
      after.Load(vfs.Cut(op, &random));
      int64_t version = 0;
      {
        SQLite::Database db(path_, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, 1000, after.name());
        version = db.execAndGet("PRAGMA user_version").getInt64();
      }
      if (version == first) {
        ASSERT_EQ(DigestOfTables(path_, after.name()), before);
      } else {
        ++applied;
      }
      const absl::Status status = migrate(after);
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(IntegrityOf(path_, after.name()), "ok");
      SQLite::Database db(path_, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, 1000, after.name());
      ASSERT_EQ(db.execAndGet("SELECT count(*) FROM event WHERE message = 'migrated'").getInt64(),
                db.execAndGet("SELECT count(*) FROM extra").getInt64());
    }
  }
  std::printf("migration: %lld cuts, %lld after it was durable\n", static_cast<long long>(cuts),
              static_cast<long long>(applied));
  EXPECT_GT(applied, 0);
  EXPECT_LT(applied, cuts);
}

}  // namespace
}  // namespace orch::store
