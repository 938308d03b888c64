// What was acknowledged is there after kill -9.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/store/fixture.h"

namespace orch::store {
namespace {

// Commits in a loop and tells the pipe each sequence once it is durable. Never returns.
[[noreturn]] void CommitForEver(const std::string& dir, int out) {
  auto writer = OpenWriter(dir);
  if (!writer.ok()) _exit(1);
  int64_t sequence = (*writer)->meta().last_sequence;
  while (true) {
    Batch batch;
    for (int i = 0; i < 5; ++i) {
      batch.events.push_back(Event(++sequence, 1));
      batch.events.back().message = std::string(2000, 'x');
    }
    StepRow step;
    step.run = 1;
    step.ix = static_cast<StepIx>(sequence);
    step.name = "s";
    batch.steps = {step};
    if (!(*writer)->Commit(&batch).ok()) _exit(2);
    if (write(out, &sequence, sizeof(sequence)) != sizeof(sequence)) _exit(3);
    (*writer)->MaybeCheckpoint(true);
  }
}

TEST(CrashTest, KillNineLosesNothingAcknowledged) {
  const std::string dir = TempDir();
  int64_t acknowledged = 0;
  for (int round = 0; round < 5; ++round) {
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(fds[0]);
      CommitForEver(dir, fds[1]);
    }
    close(fds[1]);
    // Past a checkpoint in the longer rounds.
    const int64_t target = acknowledged + 50 + round * 2000;
    while (acknowledged < target) {
      ASSERT_EQ(read(fds[0], &acknowledged, sizeof(acknowledged)), static_cast<ssize_t>(sizeof(acknowledged)));
    }
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int64_t more;
    while (read(fds[0], &more, sizeof(more)) == static_cast<ssize_t>(sizeof(more))) acknowledged = more;
    close(fds[0]);
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));

    auto writer = OpenWriter(dir);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_GE((*writer)->meta().last_sequence, acknowledged);
    EXPECT_EQ((*writer)->meta().last_sequence % 5, 0) << "a part of a commit";
    EXPECT_EQ((*writer)->meta().epoch, 2 * (round + 1));
    auto queries = Queries::Open({.data_dir = dir});
    ASSERT_TRUE(queries.ok());
    auto events = (*queries)->ListEvents(0, 0, 1'000'000);
    ASSERT_TRUE(events.ok());
    ASSERT_EQ(static_cast<int64_t>(events->size()), (*writer)->meta().last_sequence) << "a gap";
    auto steps = (*queries)->ListSteps(1, {}, 0, 1'000'000);
    ASSERT_TRUE(steps.ok());
    EXPECT_EQ(steps->size() * 5, events->size());
    acknowledged = (*writer)->meta().last_sequence;
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace orch::store
