// The language of daemon and supervisor: what is sent is read, and nothing else is.
#include "backends/local/wire.h"

#include <unistd.h>

#include <fstream>
#include <random>

#include "backends/local/supervisor/journal.h"
#include "gtest/gtest.h"

namespace orch::local {
namespace {

Spawn SampleSpawn() {
  Spawn m;
  m.key = "key";
  m.slot = "local/3";
  m.argv = {"/bin/sh", "-c", std::string("a\0b", 3)};
  m.env = {"A=1", ""};
  m.cwd = "/";
  m.log_prefix = "/x/1.1";
  m.log_limit = -1;
  return m;
}

Welcome SampleWelcome() {
  Welcome m;
  m.version = "1";
  m.pid = 7;
  m.cgroups = true;
  Entry entry;
  entry.key = "k";
  entry.slot = "s";
  entry.pid = 9;
  entry.end = End();
  entry.end->status = 256;
  entry.end->peak_memory = int64_t{1} << 40;
  m.entries = {entry, Entry()};
  return m;
}

TEST(Wire, WhatIsSentIsRead) {
  FrameReader reader;
  const std::string bytes = Encode(SampleSpawn()) + Encode(SampleWelcome()) + Encode(Ack{"k"});
  for (const char c : bytes) reader.Append(std::string_view(&c, 1));  // in the smallest pieces
  bool broken = false;
  auto frame = reader.Next(&broken);
  ASSERT_TRUE(frame.has_value());
  Spawn spawn;
  ASSERT_TRUE(Decode(frame->body, &spawn));
  EXPECT_EQ(spawn.argv, SampleSpawn().argv);
  EXPECT_EQ(spawn.env, SampleSpawn().env);
  EXPECT_EQ(spawn.log_limit, -1);
  frame = reader.Next(&broken);
  ASSERT_TRUE(frame.has_value());
  Welcome welcome;
  ASSERT_TRUE(Decode(frame->body, &welcome));
  ASSERT_EQ(welcome.entries.size(), 2u);
  EXPECT_EQ(welcome.entries[0].end->peak_memory, int64_t{1} << 40);
  EXPECT_FALSE(welcome.entries[1].end.has_value());
  frame = reader.Next(&broken);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->type, FrameType::kAck);
  EXPECT_FALSE(reader.Next(&broken).has_value());
  EXPECT_FALSE(broken);
}

TEST(Wire, GarbageIsRefusedAndHarmless) {
  std::mt19937 random(1);
  const std::string seeds[] = {Encode(SampleSpawn()), Encode(SampleWelcome()), Encode(Exited{"k", End()})};
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = seeds[round % 3];
    for (int flips = 0; flips < 1 + round % 5; ++flips) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (round % 7 == 0) bytes.resize(random() % bytes.size());
    FrameReader reader;
    reader.Append(bytes);
    bool broken = false;
    while (const auto frame = reader.Next(&broken)) {
      Spawn spawn;
      Welcome welcome;
      Exited exited;
      (void)Decode(frame->body, &spawn);
      (void)Decode(frame->body, &welcome);
      (void)Decode(frame->body, &exited);
    }
  }
}

TEST(Wire, AJournalOfTheLayoutBeforeIsRead) {
  const std::string path = ::testing::TempDir() + "wire-journal-" + std::to_string(getpid());
  for (const int32_t layout : {kOldestJournalLayout - 1, kOldestJournalLayout, kJournalLayout, kJournalLayout + 1}) {
    Opened opened;
    opened.layout = layout;
    std::ofstream(path) << Encode(opened) << Encode(Spawning{"k", "local/1", "/x", 5})
                        << (layout >= 3 ? Encode(Holding{"k", "0,1"}) : "") << Encode(Spawned{"k", 7, 8});
    const Journal::Loaded loaded = Journal(path).Load();
    const bool ours = layout == kOldestJournalLayout || layout == kJournalLayout;
    EXPECT_EQ(loaded.state, ours ? Journal::Loaded::State::kRead : Journal::Loaded::State::kDamaged) << layout;
    if (!ours) continue;
    EXPECT_EQ(loaded.records.at("k").pid, 7);
    EXPECT_EQ(loaded.records.at("k").devices, layout >= 3 ? "0,1" : "");
  }
  unlink(path.c_str());
}

TEST(Wire, AFrameThatCannotBeIsBroken) {
  FrameReader reader;
  reader.Append(std::string(8, '\xff'));
  bool broken = false;
  EXPECT_FALSE(reader.Next(&broken).has_value());
  EXPECT_TRUE(broken);
}

}  // namespace
}  // namespace orch::local
