// Opening: epochs, the lock, damaged files.
#include <SQLiteCpp/Database.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "server/store/pragmas.h"
#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::HasSubstr;

TEST_F(StoreTest, EachStartIsAnEpoch) {
  EXPECT_EQ(writer_->meta().epoch, 1);
  EXPECT_EQ(writer_->meta().boot_id, "");
  EXPECT_EQ(writer_->meta().next_run_key, 1);
  const std::string instance = writer_->meta().instance;
  EXPECT_EQ(instance.size(), 36u);
  Batch batch;
  AddRun(&batch, 41, "r");
  batch.events = {Event(1, 41), Event(2, 41)};
  Commit(batch);
  Reopen();
  EXPECT_EQ(writer_->meta().epoch, 2);
  EXPECT_EQ(writer_->meta().instance, instance);
  EXPECT_EQ(writer_->meta().boot_id, BootId());
  EXPECT_EQ(writer_->meta().next_run_key, 42);
  EXPECT_EQ(writer_->meta().next_artifact_id, 1);
  EXPECT_EQ(writer_->meta().last_sequence, 2);
  EXPECT_EQ(writer_->meta().compacted_sequence, 0);
}

// Also at the second start after a reboot, which is a start in the same boot.
TEST_F(StoreTest, AfterARebootTimesAreThoseOfTheWallClock) {
  const Now now = Clock::Real().Now();
  const int64_t elsewhere = now.mono + 1'000'000'000'000;  // the other boot had been up for longer
  Batch batch;
  AddRun(&batch, 1, "r");
  batch.runs[0].deadline = now.wall + 60'000'000;
  batch.runs[0].deadline_mono = elsewhere;
  StepRow step;
  step.run = 1;
  step.name = "s";
  step.state = StepState::kBackoff;
  step.retry_at = now.wall + 30'000'000;
  step.retry_at_mono = elsewhere;
  batch.steps = {step};
  AttemptRow attempt;
  attempt.run = 1;
  attempt.number = 1;
  attempt.state = AttemptState::kRunning;
  attempt.key = "k";
  attempt.orchestrator = "local";
  attempt.created = now.wall - 2'000'000;
  attempt.created_mono = elsewhere;
  batch.attempts = {attempt};
  Commit(batch);
  Reopen();
  EXPECT_EQ(writer_->LoadRun(1)->row.deadline_mono, elsewhere) << "the same boot keeps its times";
  queries_.reset();
  writer_.reset();
  SQLite::Database(DatabasePath(dir_), SQLite::OPEN_READWRITE).exec("UPDATE meta SET boot_id = 'another'");
  for (int start = 0; start < 2; ++start) {
    Reopen();
    const auto run = writer_->LoadRun(1);
    ASSERT_TRUE(run.ok()) << run.status();
    const auto near = [&](int64_t mono, int64_t wall) {
      EXPECT_NEAR(static_cast<double>(mono - now.mono), static_cast<double>(wall - now.wall), 1e6) << start;
    };
    near(run->row.deadline_mono, run->row.deadline);
    near(run->steps.at(0).retry_at_mono, run->steps.at(0).retry_at);
    near(run->attempts.at(0).created_mono, run->attempts.at(0).created);
    EXPECT_EQ(run->attempts.at(0).started_mono, 0) << "not yet";
  }
}

// A daemon that was killed while it made a process leaves its lock to that for a moment.
TEST_F(StoreTest, TheLockOfADeadDaemonIsWaitedFor) {
  writer_ = nullptr;
  const std::string path = dir_ + "/orchd.lock";
  const auto opened = [&] {
    int n = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      n += std::filesystem::read_symlink(entry.path(), error) == path ? 1 : 0;
    }
    return n;
  };
  const int holder = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(holder, LOCK_EX | LOCK_NB), 0);
  pid_t dead = 0;
  char name[] = "true";
  char* argv[] = {name, nullptr};
  ASSERT_EQ(posix_spawn(&dead, "/bin/true", nullptr, nullptr, argv, environ), 0);
  ASSERT_EQ(waitpid(dead, nullptr, 0), dead);
  const std::string text = absl::StrCat(dead, "\n");
  ASSERT_EQ(ftruncate(holder, 0), 0);
  ASSERT_EQ(pwrite(holder, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::thread moment([&] {
    while (opened() < 2) std::this_thread::yield();  // the next daemon stands before the lock
    close(holder);
  });
  const auto next = OpenWriter(dir_);
  moment.join();
  EXPECT_TRUE(next.ok()) << next.status();
}

TEST_F(StoreTest, ASecondDaemonIsRefusedWithThePid) {
  auto second = OpenWriter(dir_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(second.status()), "DATA_DIR_LOCKED");
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("pid ", getpid())));
  // The refused one harmed nothing.
  Batch batch;
  AddRun(&batch, 1, "r");
  Commit(batch);
}

TEST_F(StoreTest, FilesAreTheOwnersAlone) {
  for (const char* name : {"orchd.db", "orchd.db-wal", "orchd.db-shm", "orchd.lock", "reserve", "high-water"}) {
    struct stat st;
    ASSERT_EQ(stat((dir_ + "/" + name).c_str(), &st), 0) << name;
    EXPECT_EQ(st.st_mode & 0777, 0600u) << name;
  }
}

TEST_F(StoreTest, TheLogIsKeptAndGrownOnce) {
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/orchd.db-wal"), 1u << 20);
  queries_.reset();
  writer_.reset();
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/orchd.db-wal"), 1u << 20);
}

TEST_F(StoreTest, AMissingFolderIsNamed) {
  auto writer = OpenWriter(dir_ + "/none");
  EXPECT_EQ(ReasonOf(writer.status()), "DATA_DIR_UNUSABLE");
  EXPECT_THAT(std::string(writer.status().message()), HasSubstr(dir_ + "/none"));
}

TEST_F(StoreTest, ADamagedHeaderIsDataLoss) {
  queries_.reset();
  writer_.reset();
  {
    std::fstream file(dir_ + "/orchd.db", std::ios::in | std::ios::out | std::ios::binary);
    file.write("garbage garbage garbage garbage", 31);
  }
  // What the log holds would repair the page.
  std::filesystem::remove(dir_ + "/orchd.db-wal");
  auto writer = OpenWriter(dir_);
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kDataLoss) << writer.status();
  EXPECT_EQ(ReasonOf(writer.status()), "DATABASE_CORRUPT");
  EXPECT_THAT(std::string(writer.status().message()), HasSubstr("orchd --restore BACKUP"));
}

TEST_F(StoreTest, AnEmptiedDatabaseIsNotTakenForANewOne) {
  queries_.reset();
  writer_.reset();
  std::filesystem::resize_file(dir_ + "/orchd.db", 0);
  EXPECT_EQ(ReasonOf(OpenWriter(dir_).status()), "DATABASE_CORRUPT");
  std::filesystem::remove(dir_ + "/orchd.db");
  EXPECT_EQ(ReasonOf(OpenWriter(dir_).status()), "DATABASE_CORRUPT");
}

TEST_F(StoreTest, ADamagedPageIsDataLossWhenRead) {
  Batch batch;
  for (RunKey key = 1; key <= 2000; ++key) AddRun(&batch, key, absl::StrCat("run-", key));
  Commit(batch);
  queries_.reset();
  writer_.reset();  // the last connection writes the log back, but leaves it; what it holds would repair the pages
  std::filesystem::remove(dir_ + "/orchd.db-wal");
  {
    const auto size = static_cast<int64_t>(std::filesystem::file_size(dir_ + "/orchd.db"));
    std::fstream file(dir_ + "/orchd.db", std::ios::in | std::ios::out | std::ios::binary);
    const std::string garbage(4096, '\xee');
    for (int64_t at = 40 * 4096; at < size; at += 4096) {
      file.seekp(at);
      file.write(garbage.data(), 4096);
    }
  }
  auto queries = Queries::Open({.data_dir = dir_});
  if (!queries.ok()) {
    EXPECT_EQ(ReasonOf(queries.status()), "DATABASE_CORRUPT");
    return;
  }
  RunFilter filter;
  EXPECT_EQ(ReasonOf((*queries)->ListRuns(filter, 0, 2000).status()), "DATABASE_CORRUPT");
}

}  // namespace
}  // namespace orch::store
