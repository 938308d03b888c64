// What the flavor local_docker reads: the frames of a log, its configuration.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "backends/docker/config.h"
#include "backends/docker/container_log.h"
#include "backends/docker/frames.h"

namespace orch::docker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Frame(char stream, const std::string& text) {
  std::string out = {stream, 0, 0, 0, 0, 0, static_cast<char>(text.size() >> 8), static_cast<char>(text.size() & 0xFF)};
  return out + text;
}

TEST(FramesTest, AnyPiecesGiveTheSame) {
  const std::string all = Frame(1, "out") + Frame(2, "") + Frame(2, "error") + Frame(1, std::string(300, 'x'));
  for (size_t size = 1; size <= all.size(); ++size) {
    Frames frames;
    std::string out[2];
    for (size_t at = 0; at < all.size(); at += size) {
      ASSERT_TRUE(
          frames.Feed(all.substr(at, size), [&](bool e, absl::string_view s) { out[e].append(s.data(), s.size()); }));
    }
    EXPECT_EQ(out[0], "out" + std::string(300, 'x'));
    EXPECT_EQ(out[1], "error");
    EXPECT_TRUE(frames.whole());
  }
}

TEST(FramesTest, WhatIsNoStreamIsSaid) {
  Frames frames;
  const auto nobody = [](bool, absl::string_view) { FAIL(); };
  EXPECT_FALSE(frames.Feed("plain text", nobody));
  EXPECT_FALSE(frames.Feed(Frame(1, "x"), nobody)) << "from then on";
  EXPECT_FALSE(frames.whole());
}

TEST(ContainerLogTest, IsGoneOnWithWhereTheFileEnds) {
  const std::filesystem::path dir = std::filesystem::path(::testing::TempDir()) / "container-log";
  std::filesystem::remove_all(dir);
  const std::string prefix = (dir / "0.1").string();
  const auto read = [&](const char* end) {
    std::ifstream in(prefix + end);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  {
    ContainerLog log;
    log.Open(prefix);
    EXPECT_TRUE(log.Feed(Frame(1, "one") + Frame(2, "bad").substr(0, 9)));
  }
  ContainerLog log;  // another life of the daemon is sent it all again
  log.Open(prefix);
  EXPECT_TRUE(log.Feed(Frame(1, "one") + Frame(2, "bad") + Frame(1, "two")));
  EXPECT_EQ(read(".out"), "onetwo");
  EXPECT_EQ(read(".err"), "bad");
  EXPECT_EQ(log.total(), 9);
}

TEST(ConfigTest, SaysAllThatIsWrong) {
  const auto bad = ReadConfig(R"({"host":"ssh://x","pull":"often","colour":1,"mounts":["x"],"shm_size":"much"})");
  ASSERT_FALSE(bad.ok());
  EXPECT_THAT(ViolationsOf(bad.status()), SizeIs(5));
  const auto good =
      ReadConfig(R"({"host":"unix:///run/d.sock","image":"i","mounts":["/a:/b:ro","v:/c"],"memory":"1Gi"})");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->address.socket, "/run/d.sock");
  EXPECT_EQ(good->capacity.memory, int64_t{1} << 30);
  ASSERT_THAT(good->settings.mounts, SizeIs(2));
  EXPECT_TRUE(good->settings.mounts[0].read_only);
  std::vector<std::string> faults;
  const Settings step = ReadSettings(good->settings, R"({"network":"none"})", &faults);
  EXPECT_THAT(faults, IsEmpty());
  EXPECT_EQ(step.network, "none");
  EXPECT_THAT(step.mounts, SizeIs(2)) << "what it does not say is its orchestrator's";
  (void)ReadSettings(good->settings, R"({"image":"x"})", &faults);
  ASSERT_THAT(faults, SizeIs(1));
  EXPECT_THAT(faults[0], HasSubstr("there are network, user, mounts, shm_size"));
}

}  // namespace
}  // namespace orch::docker
