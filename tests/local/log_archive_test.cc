// Compressed logs: every read is as of the log itself, damage is said, and a crash leaves one or both.
#include "backends/local/log_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "backends/local/log_compressor.h"
#include "backends/local/log_file.h"
#include "server/base/status.h"

namespace orch::local {
namespace {

namespace fs = std::filesystem;

class LogArchiveTest : public testing::Test {
 protected:
  LogArchiveTest() {
    std::string name = (fs::temp_directory_path() / "log-archive.XXXXXX").string();
    dir_ = mkdtemp(name.data());
  }
  ~LogArchiveTest() override { fs::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::string path = dir_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  static std::string ReadAll(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  static std::string Text(size_t bytes) {
    std::mt19937 random(7);
    std::string out;
    while (out.size() < bytes) absl::StrAppend(&out, "line ", random() % 100'000, "\n");
    out.resize(bytes);
    return out;
  }

  std::string dir_;
  std::atomic<bool> never_{false};
};

TEST_F(LogArchiveTest, ReadsAreThoseOfTheLog) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{256 << 10}, size_t{(256 << 10) + 1}, size_t{1'500'000}}) {
    const std::string text = Text(bytes);
    const std::string path = Write("log", text);
    const auto open_before = OpenLogFile(path);
    ASSERT_EQ(open_before->Size().value(), static_cast<int64_t>(bytes));
    ASSERT_TRUE(CompressLog(path, never_).ok());
    EXPECT_FALSE(fs::exists(path));
    EXPECT_FALSE(fs::exists(path + ".zst.part"));
    const auto archive = OpenLogFile(path);
    ASSERT_EQ(archive->Size().value(), static_cast<int64_t>(bytes));
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
      const auto offset = static_cast<int64_t>(random() % (bytes + 10));
      const auto most = static_cast<int64_t>(random() % 400'000);
      const std::string expected = offset >= static_cast<int64_t>(bytes)
                                       ? ""
                                       : text.substr(static_cast<size_t>(offset), static_cast<size_t>(most));
      ASSERT_EQ(archive->Read(offset, most).value(), expected);
      ASSERT_EQ(open_before->Read(offset, most).value(), expected);  // who had it open does not notice
    }
    fs::remove(path + ".zst");
  }
}

TEST_F(LogArchiveTest, ZstdItselfReadsIt) {
  if (std::system("command -v zstd >/dev/null 2>&1") != 0) GTEST_SKIP() << "zstd is not installed";
  const std::string text = Text(700'000);
  const std::string path = Write("log", text);
  ASSERT_TRUE(CompressLog(path, never_).ok());
  ASSERT_EQ(std::system(absl::StrCat("zstd -q -d ", path, ".zst -o ", dir_, "/plain").c_str()), 0);
  EXPECT_EQ(ReadAll(dir_ + "/plain"), text);
}

TEST_F(LogArchiveTest, DamageIsSaidAndNeverMoreThanTheLogIsRead) {
  const std::string text = Text(600'000);
  const std::string path = Write("log", text);
  ASSERT_TRUE(CompressLog(path, never_).ok());
  const std::string whole = ReadAll(path + ".zst");
  std::mt19937 random(11);
  int said = 0;
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    if (i % 3 == 0) {
      damaged.resize(random() % whole.size());
    } else {
      damaged[i % 3 == 1 ? random() % whole.size() : whole.size() - 1 - random() % 40] ^=
          static_cast<char>(1 + random() % 255);
    }
    Write("log.zst", damaged);
    const auto reader = OpenLogFile(path);
    const auto size = reader->Size();
    if (!size.ok()) {
      EXPECT_EQ(ReasonOf(size.status()), "LOG_UNREADABLE");
      ++said;
      continue;
    }
    const auto bytes = reader->Read(0, *size);
    if (bytes.ok()) {
      EXPECT_EQ(*bytes, text.substr(0, bytes->size()));  // a bit of a frame's header that means nothing
    } else {
      EXPECT_EQ(ReasonOf(bytes.status()), "LOG_UNREADABLE");
      ++said;
    }
  }
  EXPECT_GT(said, 280);
}

TEST_F(LogArchiveTest, WhatACrashLeavesCanBeRead) {
  const std::string text = Text(500'000);
  const std::string path = Write("log", text);
  ASSERT_TRUE(CompressLog(path, never_).ok());
  Write("log", text);  // before the log itself went
  Write("log.zst.part", "half");
  EXPECT_EQ(OpenLogFile(path)->Read(400'000, 10).value(), text.substr(400'000, 10));
  ASSERT_TRUE(CompressLog(path, never_).ok());
  EXPECT_EQ(OpenLogFile(path)->Read(400'000, 10).value(), text.substr(400'000, 10));
  EXPECT_EQ(ReasonOf(CompressLog(path, never_)), "LOG_MISSING");
}

TEST_F(LogArchiveTest, OneThatIsToldToStopLeavesTheLog) {
  const std::string path = Write("log", Text(500'000));
  const std::atomic<bool> stop{true};
  EXPECT_EQ(ReasonOf(CompressLog(path, stop)), "LOG_NOT_COMPRESSED");
  EXPECT_TRUE(fs::exists(path));
  EXPECT_FALSE(fs::exists(path + ".zst.part"));
  EXPECT_FALSE(fs::exists(path + ".zst"));
}

TEST_F(LogArchiveTest, TheNextLifeGoesOnWithTheList) {
  const std::string large = Write("large", Text(300'000));
  const std::string small = Write("small", Text(99));
  const std::string list = dir_ + "/list";
  Write("list", absl::StrCat(dir_, "/is-gone\n", large, "\n"));
  {
    LogCompressor compressor(list, 100);
    compressor.Resume();
    compressor.Add(small, 99);
    const std::string third = Write("third", Text(100));
    compressor.Add(third, 100);
    // Its thread ends when there is nothing more to do, and the list is empty then.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!(fs::exists(third + ".zst") && fs::file_size(list) == 0) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_TRUE(fs::exists(third + ".zst"));
  }
  EXPECT_TRUE(fs::exists(large + ".zst"));
  EXPECT_FALSE(fs::exists(large));
  EXPECT_TRUE(fs::exists(small));
  EXPECT_EQ(fs::file_size(list), 0u);
}

}  // namespace
}  // namespace orch::local
