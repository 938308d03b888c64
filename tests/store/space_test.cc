// A full disk: a small tmpfs where the test may mount one.
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "tests/store/fixture.h"

namespace orch::store {
namespace {

class SpaceTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = TempDir();
    if (mount("tmpfs", dir_.c_str(), "tmpfs", 0, "size=24m,mode=0700") != 0) {
      GTEST_SKIP() << "cannot mount a small tmpfs: " << std::strerror(errno);
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) umount(dir_.c_str());
    std::filesystem::remove_all(dir_);
  }
  // Takes all space that is left but `keep`.
  void Fill(int64_t keep) {
    const auto space = std::filesystem::space(dir_);
    std::ofstream file(dir_ + "/filler");
    const std::string block(4096, 'x');
    for (int64_t left = static_cast<int64_t>(space.available) - keep; left > 0; left -= 4096) file << block;
  }

  std::string dir_;
  bool mounted_ = false;
};

Batch Big(int64_t sequence) {
  Batch batch;
  batch.events = {Event(sequence, 1)};
  batch.events[0].message = std::string(64 << 10, 'x');
  return batch;
}

TEST_F(SpaceTest, TheReserveIsUsedOnceAndWhatWasAcknowledgedStays) {
  auto opened = OpenWriter(dir_, 4 << 20);
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::unique_ptr<Writer> writer = *std::move(opened);
  EXPECT_FALSE(writer->LowOnSpace());
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/reserve"), 4u << 20);
  Fill(0);
  int64_t acknowledged = 0;
  absl::Status status;
  bool reserve_freed = false;
  for (int64_t i = 1; i < 1000 && status.ok(); ++i) {
    Batch batch = Big(i);
    status = writer->Commit(&batch);
    if (status.ok()) acknowledged = i;
    if (!reserve_freed && !std::filesystem::exists(dir_ + "/reserve")) {
      reserve_freed = true;
      EXPECT_TRUE(status.ok()) << "the commit that met the full disk was not repeated: " << status;
      EXPECT_TRUE(writer->LowOnSpace());
    }
  }
  EXPECT_TRUE(reserve_freed);
  EXPECT_EQ(ReasonOf(status), "DISK_FULL") << status;
  EXPECT_GT(acknowledged, 16);
  Batch batch = Big(acknowledged + 1);
  EXPECT_EQ(writer->Commit(&batch), status) << "an error is final";
  writer.reset();

  std::filesystem::remove(dir_ + "/filler");
  opened = OpenWriter(dir_, 1 << 20);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->meta().last_sequence, acknowledged);
  auto queries = Queries::Open({.data_dir = dir_});
  ASSERT_TRUE(queries.ok()) << queries.status();
  EXPECT_EQ(static_cast<int64_t>((*queries)->ListEvents(0, 0, 2000)->size()), acknowledged);
}

TEST_F(SpaceTest, LowOnSpaceBeforeFull) {
  auto writer = OpenWriter(dir_, 4 << 20);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_FALSE((*writer)->LowOnSpace());
  writer->reset();
  Fill(6 << 20);
  writer = OpenWriter(dir_, 4 << 20);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_TRUE((*writer)->LowOnSpace());
  Batch batch = Big(1);
  EXPECT_TRUE((*writer)->Commit(&batch).ok()) << "accepted work goes on";
}

TEST_F(SpaceTest, TheReserveIsMadeAgainWhenSpaceIsBack) {
  auto writer = OpenWriter(dir_, 4 << 20);
  ASSERT_TRUE(writer.ok()) << writer.status();
  Fill(0);
  int64_t sequence = 0;
  while (std::filesystem::exists(dir_ + "/reserve") && sequence < 1000) {
    Batch batch = Big(++sequence);
    ASSERT_TRUE((*writer)->Commit(&batch).ok());
  }
  EXPECT_TRUE((*writer)->LowOnSpace());
  std::filesystem::remove(dir_ + "/filler");
  // It looks once a second.
  const int64_t deadline = Clock::Real().Now().mono + 10'000'000;
  while ((*writer)->LowOnSpace() && Clock::Real().Now().mono < deadline) poll(nullptr, 0, 10);
  EXPECT_FALSE((*writer)->LowOnSpace());
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/reserve"), 4u << 20);
  Batch batch = Big(++sequence);
  EXPECT_TRUE((*writer)->Commit(&batch).ok()) << "a full disk that was overcome is no failure";
}

TEST_F(SpaceTest, AFullDiskAtStartGivesTheReserveBack) {
  {
    auto writer = OpenWriter(dir_, 4 << 20);
    ASSERT_TRUE(writer.ok()) << writer.status();
    // A log as SQLite left it: no room ahead.
    writer->reset();
    std::filesystem::resize_file(dir_ + "/orchd.db-wal", 0);
  }
  Fill(0);
  auto writer = OpenWriter(dir_, 4 << 20);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_TRUE((*writer)->LowOnSpace());
}

}  // namespace
}  // namespace orch::store
