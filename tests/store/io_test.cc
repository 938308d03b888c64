// A disk that fails or is full, and a machine without memory: at every call of a reference workload in turn.
#include <sqlite3.h>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <set>
#include <vector>

#include "server/store/pragmas.h"
#include "tests/store/failing_memory.h"
#include "tests/store/fault_vfs.h"
#include "tests/store/fixture.h"
#include "tests/store/workload.h"

namespace orch::store {
namespace {

using testing::HasSubstr;

constexpr int kBatches = 8;
constexpr int64_t kReserve = 64 << 10;

class IoTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));  // what is provoked here need not be read
    NewFolder();
  }
  void TearDown() override {
    SetLogLevel(LogLevel::kInfo);
    std::filesystem::remove_all(dir_);
  }
  void NewFolder() {
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
    dir_ = TempDirInMemory();
    path_ = DatabasePath(dir_);
  }

  StoreOptions Options(const FaultVfs& vfs, int64_t reserve) {
    StoreOptions options;
    options.data_dir = dir_;
    options.reserve_bytes = reserve;
    options.wal_grow_bytes = 128 << 10;
    options.wal_soft_bytes = 64 << 10;
    options.vfs = vfs.name();
    return options;
  }
  absl::StatusOr<std::unique_ptr<Writer>> Open(const FaultVfs& vfs, int64_t reserve = 0) {
    return Writer::Open(Options(vfs, reserve), Clock::Real().Now());
  }

  // What the tables hold after each of the batches, without faults.
  std::vector<std::string> Reference() {
    FaultVfs vfs(1);
    std::vector<std::string> out;
    auto writer = Open(vfs);
    EXPECT_TRUE(writer.ok()) << writer.status();
    Workload workload(7);
    out.push_back(DigestOfTables(path_, vfs.name()));
    for (int i = 0; i < kBatches; ++i) {
      Batch batch = workload.Next();
      EXPECT_TRUE((*writer)->Commit(&batch).ok());
      out.push_back(DigestOfTables(path_, vfs.name()));
    }
    writer->reset();
    NewFolder();
    return out;
  }

  struct Course {
    absl::Status first_error;
    int acknowledged = 0;
    bool ended_well = false;
  };
  // The whole of it: a new database, batches, checkpoints, what a restart reads, the close. `vfs` fails somewhere.
  Course Run(FaultVfs* vfs, int64_t reserve) {
    Course course;
    auto opened = Open(*vfs, reserve);
    if (!opened.ok()) {
      course.first_error = opened.status();
      return course;
    }
    std::unique_ptr<Writer> writer = *std::move(opened);
    Workload workload(7);
    for (int i = 0; i < kBatches; ++i) {
      Batch batch = workload.Next();
      const bool broken =
          vfs->failed() && (vfs->fails() == Call::kSync || vfs->fails() == Call::kWrite) && reserve == 0;
      const absl::Status status = writer->Commit(&batch);
      if (broken) {
        EXPECT_FALSE(status.ok()) << "it goes on over a disk that has lost something";
      }
      if (!status.ok()) {
        course.first_error = status;
        break;
      }
      ++course.acknowledged;
      if (i % 3 == 2) writer->MaybeCheckpoint(true);
    }
    if (!course.first_error.ok()) {
      // It is final: nothing is tried again, whatever the disk says now.
      vfs->FailNothing();
      FailMemoryNever();
      const int64_t writes = vfs->calls(Call::kWrite);
      const int64_t syncs = vfs->calls(Call::kSync);
      for (int i = 0; i < 3; ++i) {
        Batch batch = workload.Next();
        EXPECT_EQ(writer->Commit(&batch), course.first_error);
        writer->MaybeCheckpoint(true);
      }
      EXPECT_EQ(vfs->calls(Call::kWrite), writes) << "it wrote after its disk had failed";
      EXPECT_EQ(vfs->calls(Call::kSync), syncs) << "a sync was tried again";
      return course;
    }
    const auto keys = writer->LiveRunKeys();
    if (!keys.ok()) {
      course.first_error = keys.status();
      return course;
    }
    for (const RunKey key : *keys) {
      const auto run = writer->LoadRun(key);
      if (!run.ok()) {
        course.first_error = run.status();
        return course;
      }
    }
    course.ended_well = true;
    return course;
  }

  // Opens what is left, by a process that died as well as by a cut of the power, and looks for what was acknowledged.
  void ExpectClean(const FaultVfs& vfs, const Course& course, const std::vector<std::string>& reference,
                   std::mt19937_64* random) {
    const std::filesystem::path mark = dir_ + "/high-water";
    std::filesystem::copy_file(mark, dir_ + "/kept");
    for (const bool cut : {false, true}) {
      std::filesystem::copy_file(dir_ + "/kept", mark, std::filesystem::copy_options::overwrite_existing);
      SCOPED_TRACE(cut ? "after a power cut" : "after the process ended");
      FaultVfs after(3);
      after.Load(cut ? vfs.Cut(vfs.ops(), random) : vfs.Live());
      auto writer = Open(after);
      ASSERT_TRUE(writer.ok()) << writer.status() << " after " << course.first_error;
      ASSERT_EQ(IntegrityOf(path_, after.name()), "ok");
      const std::string digest = DigestOfTables(path_, after.name());
      const auto n = static_cast<size_t>(course.acknowledged);
      ASSERT_TRUE(digest == reference[n] || (n + 1 < reference.size() && digest == reference[n + 1]))
          << "not what was acknowledged, after " << course.first_error;
    }
  }

  std::string dir_;
  std::string path_;
};

const std::set<std::string>& Clear() {
  static const std::set<std::string> reasons = {"DATABASE_IO", "DATABASE_NOT_WRITABLE", "DISK_FULL", "OUT_OF_MEMORY"};
  return reasons;
}

TEST_F(IoTest, AnErrorAtAnyCallEndsTheWriterAndLosesNothing) {
  const std::vector<std::string> reference = Reference();
  std::array<int64_t, kCalls> calls{};
  {
    FaultVfs vfs(1);
    ASSERT_TRUE(Run(&vfs, 0).ended_well);
    for (int c = 0; c < kCalls; ++c) calls[static_cast<size_t>(c)] = vfs.calls(static_cast<Call>(c));
  }
  std::mt19937_64 random(5);
  std::string figures;
  for (int c = 0; c < kCalls; ++c) {
    const auto call = static_cast<Call>(c);
    const int64_t all = calls[static_cast<size_t>(c)];
    int64_t ended = 0;
    int64_t tried = 0;
    // Every call of a kind that is not read hundreds of times.
    const int64_t step = getenv("ORCH_SEEDS") != nullptr ? 1 : std::max<int64_t>(1, all / 40);
    for (int64_t at = 0; at < all; at += step) {
      for (const bool sticky : {false, true}) {
        SCOPED_TRACE(absl::StrCat(NameOf(call), " ", at, " of ", all, sticky ? ", and all after it" : ""));
        NewFolder();
        FaultVfs vfs(static_cast<uint64_t>(at));
        vfs.FailAt(call, at, EIO, sticky);
        const Course course = Run(&vfs, 0);
        ++tried;
        if (!course.first_error.ok()) {
          ++ended;
          EXPECT_EQ(Clear().count(ReasonOf(course.first_error)), 1u) << course.first_error;
          EXPECT_THAT(std::string(course.first_error.message()), HasSubstr("failed")) << course.first_error;
        }
        vfs.FailNothing();
        ExpectClean(vfs, course, reference, &random);
        if (HasFatalFailure()) return;
      }
    }
    absl::StrAppend(&figures, figures.empty() ? "" : ", ", NameOf(call), " ", tried, "/", ended);
  }
  std::printf("EIO at call k, tried/told: %s\n", figures.c_str());
}

TEST_F(IoTest, AFullDiskAtAnyWriteIsOvercomeByTheReserve) {
  const std::vector<std::string> reference = Reference();
  std::mt19937_64 random(6);
  int64_t overcome = 0;
  for (const Call call : {Call::kWrite, Call::kShmMap}) {
    for (int64_t at = 0;; ++at) {
      SCOPED_TRACE(absl::StrCat(NameOf(call), " ", at));
      NewFolder();
      FaultVfs vfs(static_cast<uint64_t>(at));
      vfs.FailAt(call, at, ENOSPC);
      const Course course = Run(&vfs, kReserve);
      if (!vfs.failed()) break;
      // The making of a new database has nothing to keep: it may say so and end.
      if (course.first_error.ok()) {
        ASSERT_TRUE(course.ended_well);
        ASSERT_EQ(course.acknowledged, kBatches);
        overcome += std::filesystem::exists(dir_ + "/reserve") ? 0 : 1;
      } else {
        ASSERT_EQ(course.acknowledged, 0) << course.first_error;
      }
      vfs.FailNothing();
      ExpectClean(vfs, course, reference, &random);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(overcome, 10);
}

// SQLite hands its log a page by two writes; each would be a call to the kernel.
TEST_F(IoTest, ACommitReachesTheLogInFewWrites) {
  FaultVfs vfs(1);
  auto writer = Open(vfs);
  ASSERT_TRUE(writer.ok()) << writer.status();
  Workload workload(7);
  int64_t writes = 0;
  int64_t bytes = 0;
  for (int i = 0; i < kBatches; ++i) {
    Batch batch = workload.Next();
    const int64_t writes_before = vfs.calls(Call::kWrite);
    const int64_t bytes_before = (*writer)->stats().wal_bytes;
    ASSERT_TRUE((*writer)->Commit(&batch).ok());
    writes += vfs.calls(Call::kWrite) - writes_before;
    bytes += (*writer)->stats().wal_bytes - bytes_before;
    // What is committed is there for everybody.
    EXPECT_EQ(IntegrityOf(path_, vfs.name()), "ok");
  }
  EXPECT_GT(bytes, int64_t{kBatches} * 3 * 4096) << "too little is written to tell";
  EXPECT_LE(writes, kBatches + bytes / (64 << 10));
}

// The index of the log grows with the log, and needs space like it.
TEST_F(IoTest, AFullDiskUnderTheIndexOfTheLogIsTold) {
  FaultVfs vfs(1);
  auto writer = Open(vfs);
  ASSERT_TRUE(writer.ok()) << writer.status();
  vfs.FailAt(Call::kShmMap, 0, ENOSPC, true);
  Workload workload(1);
  absl::Status status;
  for (int i = 0; i < 5000 && status.ok(); ++i) {
    Batch batch = workload.Next();
    status = (*writer)->Commit(&batch);
  }
  EXPECT_EQ(ReasonOf(status), "DISK_FULL") << status;
}

TEST_F(IoTest, ADiskFillsAndClears) {
  constexpr int64_t kLarge = 1 << 20;
  FaultVfs vfs(1);
  auto writer = Open(vfs, kLarge);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_FALSE((*writer)->LowOnSpace());
  const int64_t full = vfs.bytes();
  // What is given back is room for the database.
  vfs.set_stall([&](Call call) {
    if (call != Call::kWrite) return;
    vfs.set_capacity(std::filesystem::exists(dir_ + "/reserve") ? full : full + kLarge);
  });
  Workload workload(2);
  int acknowledged = 0;
  while (std::filesystem::exists(dir_ + "/reserve")) {
    Batch batch = workload.Next();
    ASSERT_TRUE((*writer)->Commit(&batch).ok());
    ASSERT_LT(++acknowledged, 1000);
  }
  EXPECT_TRUE((*writer)->LowOnSpace());
  // The log cannot be written back, since the database would have to grow: that is no failure.
  (*writer)->MaybeCheckpoint(true);
  vfs.set_stall(nullptr);
  vfs.set_capacity(-1);
  for (int i = 0; i < 20; ++i, ++acknowledged) {
    Batch batch = workload.Next();
    ASSERT_TRUE((*writer)->Commit(&batch).ok());
    (*writer)->MaybeCheckpoint(true);
  }
  const std::string digest = DigestOfTables(path_, vfs.name());
  writer->reset();
  writer = Open(vfs, kLarge);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ((*writer)->meta().last_sequence, workload.sequence());
  EXPECT_EQ(DigestOfTables(path_, vfs.name()), digest);
}

// What a sync could not write is lost: a later one that succeeds says nothing about it.
TEST_F(IoTest, ASyncThatFoundNoSpaceIsNotTriedAgain) {
  FaultVfs vfs(1);
  auto writer = Open(vfs, kReserve);
  ASSERT_TRUE(writer.ok()) << writer.status();
  vfs.FailAt(Call::kSync, 0, ENOSPC);
  Workload workload(1);
  Batch batch = workload.Next();
  const absl::Status status = (*writer)->Commit(&batch);
  EXPECT_EQ(ReasonOf(status), "DATABASE_IO") << status;
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/reserve"));
}

TEST_F(IoTest, WithoutMemoryTheWriterEndsAndLosesNothing) {
  const std::vector<std::string> reference = Reference();
  int64_t all = 0;
  {
    FaultVfs vfs(1);
    const int64_t before = MemoryCalls();
    ASSERT_TRUE(Run(&vfs, 0).ended_well);
    all = MemoryCalls() - before;
  }
  NewFolder();
  std::mt19937_64 random(7);
  int64_t tried = 0;
  int64_t told = 0;
  const int64_t step = getenv("ORCH_SEEDS") != nullptr ? 7 : all / 80;
  for (int64_t at = 0; at < all; at += step) {
    for (const bool sticky : {false, true}) {
      SCOPED_TRACE(absl::StrCat("allocation ", at, " of ", all, sticky ? ", and all after it" : ""));
      NewFolder();
      FaultVfs vfs(static_cast<uint64_t>(at));
      FailMemoryAt(at, sticky);
      const Course course = Run(&vfs, 0);
      FailMemoryNever();
      ++tried;
      if (!course.first_error.ok()) {
        ++told;
        EXPECT_EQ(ReasonOf(course.first_error), "OUT_OF_MEMORY") << course.first_error;
      }
      ExpectClean(vfs, course, reference, &random);
      if (HasFatalFailure()) return;
    }
  }
  std::printf("allocation k of SQLite's %lld fails: %lld tried, %lld told\n", static_cast<long long>(all),
              static_cast<long long>(tried), static_cast<long long>(told));
  EXPECT_GT(told, tried / 4);
}

}  // namespace
}  // namespace orch::store
