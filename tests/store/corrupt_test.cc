// Damage of every kind to the files of a store: it is told at the start, or when what was hit is read.
#include <SQLiteCpp/Database.h>
#include <sqlite3.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "server/store/check.h"
#include "server/store/pragmas.h"
#include "tests/store/fixture.h"
#include "tests/store/workload.h"

namespace orch::store {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kDb[] = "orchd.db";
constexpr char kLog[] = "orchd.db-wal";
constexpr char kIndex[] = "orchd.db-shm";

class CorruptTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));
    dir_ = TempDirInMemory();
  }
  void TearDown() override {
    SetLogLevel(LogLevel::kInfo);
    fs::remove_all(dir_);
  }

  // A data directory as a process that was killed leaves it, or one that was stopped. Written back in the middle.
  std::string Make(const std::string& name, bool killed, uint64_t seed) {
    const std::string dir = dir_ + "/" + name;
    const std::string live = dir + "-live";
    fs::create_directory(live);
    StoreOptions options;
    options.data_dir = live;
    options.reserve_bytes = 0;
    options.wal_grow_bytes = 64 << 10;
    options.wal_soft_bytes = 256 << 10;
    auto writer = Writer::Open(options, Clock::Real().Now());
    EXPECT_TRUE(writer.ok()) << writer.status();
    Workload workload(seed);
    for (int i = 0; i < 14; ++i) {
      Batch batch = workload.Next();
      EXPECT_TRUE((*writer)->Commit(&batch).ok());
      (*writer)->MaybeCheckpoint(true);
    }
    if (!killed) writer->reset();
    fs::copy(live, dir);
    writer->reset();
    fs::remove_all(live);
    return dir;
  }

  static std::string Read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  static void Write(const std::string& path, const std::string& bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << bytes;
  }

  enum class Outcome { kRefused, kToldWhenRead, kToldByTheCheck, kSame, kDiffers };
  // Starts on a copy of `whole` after `damage`.
  Outcome Start(const std::string& whole, const std::function<void(const std::string& dir)>& damage,
                const std::string& expected) {
    const std::string dir = dir_ + "/damaged";
    fs::remove_all(dir);
    fs::copy(whole, dir);
    damage(dir);
    const std::string db = Read(dir + "/" + kDb);
    const std::string log = Read(dir + "/" + kLog);
    auto writer = OpenWriter(dir, 0);
    if (!writer.ok()) {
      // Of nothing a new file may have been begun.
      EXPECT_TRUE(db.empty() || (Read(dir + "/" + kDb) == db && Read(dir + "/" + kLog) == log))
          << "it made it worse, though " << writer.status();
      // The numbers and the digests of the migrations may be what was hit.
      EXPECT_THAT(ReasonOf(writer.status()),
                  testing::AnyOf("DATABASE_CORRUPT", "DATABASE_FOREIGN", "MIGRATION_CHANGED", "SCHEMA_NEWER"))
          << writer.status();
      EXPECT_THAT(std::string(writer.status().message()), HasSubstr(dir)) << "names the file";
      return Outcome::kRefused;
    }
    const std::string digest = DigestOfTables(DatabasePath(dir), "unix");
    if (digest.empty()) return Outcome::kToldWhenRead;
    if (digest == expected) return Outcome::kSame;
    writer->reset();
    const auto checked = CheckDatabase(dir);
    if (!checked.ok() || !checked->faults.empty()) return Outcome::kToldByTheCheck;
    return Outcome::kDiffers;
  }

  std::string dir_;
};

TEST_F(CorruptTest, WhatIsMissingOrCutIsNotTakenForAllThereIs) {
  const char* text = getenv("ORCH_SEEDS");
  const uint64_t seeds = text == nullptr ? 6 : strtoull(text, nullptr, 10);
  std::map<std::string, std::map<Outcome, int>> figures;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    for (const bool killed : {true, false}) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, killed ? ", killed" : ", stopped"));
      std::mt19937_64 random(seed);
      const std::string whole = Make(absl::StrCat("whole-", seed, killed), killed, seed);
      std::string expected;
      EXPECT_EQ(Start(
                    whole, [&](const std::string& dir) { expected = DigestOfTables(DatabasePath(dir), "unix"); }, ""),
                Outcome::kDiffers);
      ASSERT_THAT(expected, Not(IsEmpty()));
      const std::string db = Read(whole + "/" + kDb);
      const std::string log = Read(whole + "/" + kLog);
      const auto run = [&](const char* kind, int times, const std::function<void(const std::string&)>& damage) {
        for (int i = 0; i < times; ++i) {
          SCOPED_TRACE(kind);
          const Outcome outcome = Start(whole, damage, expected);
          ++figures[kind][outcome];
          // Whatever happens to the log: no other rows than those that were acknowledged. In the database itself SQLite
          // has no checksums over what a row says, so a star only counts what goes unnoticed.
          if (kind[0] != '*') {
            EXPECT_NE(outcome, Outcome::kDiffers) << kind;
            EXPECT_NE(outcome, Outcome::kToldByTheCheck) << kind;
          }
        }
      };
      const auto flip = [&](std::string bytes) {
        bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
        return bytes;
      };
      run("no index of the log", 1, [](const std::string& d) { fs::remove(d + "/" + kIndex); });
      run("garbage in the index of the log", 2, [&](const std::string& d) {
        std::string bytes = Read(d + "/" + kIndex);
        for (char& c : bytes) c = static_cast<char>(random());
        Write(d + "/" + kIndex, bytes);
      });
      run("no log", 1, [](const std::string& d) { fs::remove(d + "/" + kLog); });
      run("log cut", 12, [&](const std::string& d) { fs::resize_file(d + "/" + kLog, random() % log.size()); });
      run("bit of the log", 24, [&](const std::string& d) { Write(d + "/" + kLog, flip(log)); });
      run("bit of the log's header", 6,
          [&](const std::string& d) { Write(d + "/" + kLog, flip(log.substr(0, 32)) + log.substr(32)); });
      run("no database", 1, [](const std::string& d) { fs::remove(d + "/" + kDb); });
      run("neither database nor log", 1, [](const std::string& d) {
        fs::remove(d + "/" + kDb);
        fs::remove(d + "/" + kLog);
      });
      run("* database cut", 8, [&](const std::string& d) { fs::resize_file(d + "/" + kDb, random() % db.size()); });
      run("* page of zeros in the database", 8, [&](const std::string& d) {
        std::string bytes = db;
        bytes.replace(random() % (db.size() / 4096) * 4096, 4096, 4096, '\0');
        Write(d + "/" + kDb, bytes);
      });
      run("* bit of the database", 24, [&](const std::string& d) { Write(d + "/" + kDb, flip(db)); });
      fs::remove_all(whole);
    }
  }
  for (auto& [kind, outcomes] : figures) {
    std::printf("%-34s refused %4d, told when read %3d, by the whole check %3d, same rows %4d, other rows %3d\n",
                kind.c_str(), outcomes[Outcome::kRefused], outcomes[Outcome::kToldWhenRead],
                outcomes[Outcome::kToldByTheCheck], outcomes[Outcome::kSame], outcomes[Outcome::kDiffers]);
  }
  EXPECT_GT(figures["log cut"][Outcome::kRefused], 0);
  EXPECT_GT(figures["bit of the log"][Outcome::kRefused], 0);
  EXPECT_EQ(figures["neither database nor log"][Outcome::kSame], 0);
}

TEST_F(CorruptTest, TheWholeCheckFindsBytesThatAreNotThoseStored) {
  const std::string dir = Make("whole", false, 3);
  auto good = CheckDatabase(dir);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_THAT(good->faults, IsEmpty());
  EXPECT_GT(good->pipelines, 0);
  EXPECT_GT(good->inline_blobs, 0);
  {
    SQLite::Database db(DatabasePath(dir), SQLite::OPEN_READWRITE);
    db.exec("UPDATE blob SET inline_bytes = x'00' WHERE rowid = (SELECT min(rowid) FROM blob)");
    db.exec("UPDATE spec_slice SET bytes = x'00' WHERE rowid = (SELECT min(rowid) FROM spec_slice)");
  }
  auto bad = CheckDatabase(dir);
  ASSERT_TRUE(bad.ok()) << bad.status();
  ASSERT_EQ(bad->faults.size(), 2u);
  EXPECT_THAT(bad->faults[0], HasSubstr("pipeline `p`"));
  EXPECT_THAT(bad->faults[1], HasSubstr("sha256:"));
}

TEST_F(CorruptTest, TheWholeCheckIsRefusedWhileADaemonRuns) {
  auto writer = OpenWriter(dir_);
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(ReasonOf(CheckDatabase(dir_).status()), "DATA_DIR_LOCKED");
  writer->reset();
  EXPECT_TRUE(CheckDatabase(dir_).ok());
  EXPECT_EQ(ReasonOf(CheckDatabase(dir_ + "/none").status()), "DATA_DIR_UNUSABLE");
  fs::create_directory(dir_ + "/empty");
  EXPECT_EQ(ReasonOf(CheckDatabase(dir_ + "/empty").status()), "DATABASE_MISSING");
}

TEST_F(CorruptTest, ABackupThatIsPutBackIsTakenOnceTheMarkIsRemoved) {
  const std::string dir = Make("whole", true, 4);
  const std::string backup = Make("backup", false, 5);
  fs::copy_file(backup + "/" + kDb, dir + "/" + kDb, fs::copy_options::overwrite_existing);
  fs::remove(dir + "/" + kLog);
  const absl::Status refused = OpenWriter(dir).status();
  EXPECT_EQ(ReasonOf(refused), "DATABASE_CORRUPT");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("remove " + dir + "/high-water"));
  fs::remove(dir + "/high-water");
  EXPECT_TRUE(OpenWriter(dir).ok());
}

}  // namespace
}  // namespace orch::store
