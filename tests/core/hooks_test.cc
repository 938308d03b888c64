// Hooks: made with the end they are about, begun at least once, and never in anybody's way.
#include "gmock/gmock.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using What = HookReported::What;

PipelineBuilder Hooked() {
  PipelineBuilder p;
  p.Step("a").options().hooks.on_failure.command = {"tell"};
  p.options().hooks.on_success.command = {"cheer"};
  p.spec().hooks.on_success.command = {"done"};
  p.spec().hooks.on_failure.command = {"broken"};
  return p;
}

TEST(HooksTest, OfAStepAndOfItsRun) {
  Scene s;
  s.Submit(Hooked());
  s.Start("a");
  (void)s.Wants();
  s.End("a");
  EXPECT_EQ(s.Run(), RunState::kSucceeded) << "the run does not wait for its hooks";
  EXPECT_EQ(s.core().live_runs(), 0u);
  EXPECT_THAT(s.Wants(), ElementsAre("hook", "hook", "release a"));
  ASSERT_NE(s.Hook("a"), nullptr);
  EXPECT_FALSE(s.Hook("a")->on_failure);
  EXPECT_EQ(s.Hook("a")->state, HookState::kRunning);
  EXPECT_EQ(s.Hook()->of_state, static_cast<uint8_t>(RunState::kSucceeded));
  s.Hook("a", What::kEnded);
  EXPECT_EQ(s.Hook("a")->state, HookState::kSucceeded);
  EXPECT_THAT(s.Wants(), ElementsAre("hook release"));
  s.Hook("", What::kEnded, Reason::kExitCode);
  EXPECT_EQ(s.Hook()->state, HookState::kFailed);
  EXPECT_EQ(s.Hook()->result, "exit code 3");
  EXPECT_EQ(s.Run(), RunState::kSucceeded) << "what a hook does changes nothing";
  EXPECT_EQ(s.core().hooks().size(), 0u);
  s.Hook("a", What::kEnded, Reason::kExitCode);
  EXPECT_EQ(s.Hook("a")->state, HookState::kSucceeded) << "a late report";
}

TEST(HooksTest, OfAFailureAndNotOfACancel) {
  Scene s;
  s.Submit(Hooked());
  s.Fail("a");
  EXPECT_TRUE(s.Hook("a")->on_failure);
  EXPECT_EQ(s.Hook("a")->reason, Reason::kExitCode);
  EXPECT_EQ(s.Hook("a")->attempt, 1u);
  EXPECT_EQ(s.Hook("a")->of_exit_code, 1);
  EXPECT_TRUE(s.Hook()->on_failure);
  Scene c;
  c.Submit(Hooked());
  c.Start("a");
  c.Cancel();
  c.EndStopped("a");
  EXPECT_EQ(c.Run(), RunState::kCancelled);
  EXPECT_TRUE(c.store().hooks().empty());
}

TEST(HooksTest, ARestartAsksFirstAndBeginsWhatIsNotThere) {
  Scene s;
  s.Submit(Hooked());
  s.Succeed("a");
  const std::string id = s.Hook("a")->id;
  const std::string key = s.Hook("a")->key;
  s.Restart();
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_EQ(s.core().RunningHooks().size(), 2u);
  s.Hook("a", What::kNotFound);
  EXPECT_THAT(s.Wants(), ElementsAre("hook")) << "the word of it was lost";
  EXPECT_EQ(s.Hook("a")->key, key) << "under the same key";
  s.Hook("", What::kEnded);
  EXPECT_EQ(s.Hook()->state, HookState::kSucceeded) << "it had gone on";
  (void)s.Wants();
  s.Hook("a", What::kEnded, Reason::kLost);
  EXPECT_THAT(s.Wants(), ElementsAre("hook", "hook release")) << "nobody knows how it ended: again";
  EXPECT_EQ(s.Hook("a")->id, id) << "with the same id";
  EXPECT_NE(s.Hook("a")->key, key);
  s.Hook("a", What::kEnded, Reason::kLost);
  s.Hook("a", What::kEnded, Reason::kLost);
  EXPECT_EQ(s.Hook("a")->state, HookState::kFailed) << "not for ever";
  EXPECT_EQ(s.Hook("a")->tries, 3u);
}

TEST(HooksTest, NothingUncommittedIsBegun) {
  Scene s;
  s.Submit(Hooked());
  s.Start("a");
  s.HoldCommits(true);
  s.End("a");
  EXPECT_TRUE(s.store().hooks().empty());
  s.HoldCommits(false);
  s.Restart();
  EXPECT_TRUE(s.store().hooks().empty());
  s.End("a");
  EXPECT_EQ(s.store().hooks().size(), 2u);
}

TEST(HooksTest, OneThatHangsIsStopped) {
  CorePolicy policy;
  policy.hooks.limit_micros = 60 * kSecond;
  policy.hooks.grace_micros = 10 * kSecond;
  Scene s(policy);
  s.Submit(Hooked());
  s.Succeed("a");
  s.Hook("", What::kEnded);
  (void)s.Wants();
  s.Pass(30 * kSecond);
  s.Restart();
  s.Pass(29 * kSecond);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Pass(2 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("hook cancel")) << "its time went on over the restart";
  s.Pass(16 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("hook cancel!"));
  s.Hook("a", What::kEnded, Reason::kSignaled, /*stopped=*/true);
  EXPECT_EQ(s.Hook("a")->state, HookState::kTimedOut);
  s.Pass(3600 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("hook release"));
}

TEST(HooksTest, SoManyAtATimeInOrder) {
  CorePolicy policy;
  policy.hooks.at_once = 2;
  Scene s(policy);
  PipelineBuilder p;
  for (const char* step : {"a", "b", "c"}) p.Step(step).options().hooks.on_success.command = {"x"};
  s.Submit(p);
  for (const char* step : {"a", "b", "c"}) s.Succeed(step);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_EQ(s.Hook("b")->state, HookState::kRunning);
  EXPECT_EQ(s.Hook("c")->state, HookState::kPending);
  s.Restart();
  EXPECT_EQ(s.core().hooks().running(), 2);
  s.Hook("a", What::kRefused, Reason::kSubmitRefused);
  EXPECT_EQ(s.Hook("a")->state, HookState::kFailed);
  EXPECT_EQ(s.Hook("c")->state, HookState::kRunning);
}

TEST(HooksTest, ItsRunIsNotDeletedBeforeIt) {
  Scene s;
  const RunKey run = s.Submit(Hooked());
  s.Succeed("a");
  DeletedRunRow row;
  row.key = run;
  EXPECT_EQ(orch::ReasonOf(s.Apply(RunsDeleted{{row}})), "RUN_NOT_ENDED");
  s.Hook("", What::kEnded);
  s.Hook("a", What::kEnded);
  row.last_sequence = s.store().FindRun(run)->last_sequence;
  EXPECT_TRUE(s.Apply(RunsDeleted{{row}}).ok());
}

TEST(HooksTest, DataIsThatOfItsStep) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("i", "a.x").Out("y");
  p.options().hooks.on_success.command = {"${inputs.i}", "${outputs.y}"};
  s.Submit(p);
  s.Succeed("a");
  s.Succeed("b");
  EXPECT_THAT(s.Hook("b")->inputs, ElementsAre(ElementsAre(1), ElementsAre(2)));
}

}  // namespace
}  // namespace orch::testing
