#include "server/engine/mailbox.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace orch {
namespace {

using Steady = std::chrono::steady_clock;

void Fill(Mailbox* mailbox, int posts) {
  for (int i = 0; i < posts; ++i) mailbox->Put(Post());
}

double Waited(Mailbox* mailbox, size_t posts) {
  const auto begin = Steady::now();
  mailbox->WaitForRoom(posts);
  return std::chrono::duration<double>(Steady::now() - begin).count();
}

TEST(MailboxTest, WhoeverMakesReportsWaitsForRoomButNotForEver) {
  Mailbox mailbox(10);
  Fill(&mailbox, 4);
  EXPECT_LT(Waited(&mailbox, 5), 0.9);
  Fill(&mailbox, 1);
  EXPECT_GE(Waited(&mailbox, 5), 1.0);  // nobody makes room
}

TEST(MailboxTest, RoomIsSaidToWhoWaitsForIt) {
  Mailbox mailbox(10);
  Fill(&mailbox, 5);
  std::thread loop([&] { EXPECT_EQ(mailbox.Drain(Clock::Real(), 0, 3).size(), 3u); });
  const double waited = Waited(&mailbox, 5);
  loop.join();
  EXPECT_LT(waited, 0.9);
  EXPECT_EQ(mailbox.depth(), 2u);
}

TEST(MailboxTest, NobodyWaitsForRoomInOneThatIsClosed) {
  Mailbox mailbox(10);
  Fill(&mailbox, 5);
  std::thread stop([&] { mailbox.Close(); });
  EXPECT_LT(Waited(&mailbox, 5), 0.9);
  stop.join();
}

}  // namespace
}  // namespace orch
