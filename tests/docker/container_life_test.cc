// The races between a daemon, an engine and others about one container, played against a double of an engine.
#include "backends/docker/container_life.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace orch::docker {
namespace {

using ::testing::HasSubstr;
using Do = Move::Do;

constexpr char kName[] = "orch-key";

// A double of an engine: what it keeps over its own death, and what it does twice if it is asked twice.
class EngineDouble {
 public:
  struct Container {
    std::string id;
    bool alive = false;
    bool written = true;  // that it has been started
    Inspected seen;
  };

  CreateAnswer Create() {
    if (container_.has_value()) return {409, false, ""};
    Container made;
    made.id = absl::StrCat("id", ++made_);
    made.seen.id = made.id;
    made.seen.ours = made.seen.fresh = true;
    container_ = made;
    return {201, false, made.id};
  }
  int Start(const std::string& id) {
    if (!Is(id)) return 404;
    if (container_->alive) return 304;
    ++executions_;  // also one that has ended runs again
    container_->alive = true;
    container_->written = false;
    container_->seen.fresh = false;
    container_->seen.alive = true;
    container_->seen.state = ContainerState();
    container_->seen.state.started_wall = 1000;
    return 204;
  }
  int Inspect(const std::string& id, std::optional<Inspected>* seen) const {
    if (!Is(id)) return 404;
    *seen = container_->seen;
    return 200;
  }
  void Says(const std::function<void(Inspected*)>& change) { change(&container_->seen); }
  std::string List() const { return container_.has_value() ? container_->id : ""; }
  bool alive() const { return container_.has_value() && container_->alive; }
  const std::optional<Container>& container() const { return container_; }
  void WritesDown() {
    if (container_.has_value()) container_->written = true;
  }
  ContainerEvent Ends(int code) {
    container_->alive = false;
    container_->written = true;
    container_->seen.alive = false;
    container_->seen.state.exit_code = code;
    container_->seen.state.ended_wall = 2000;
    return {"key", container_->id, code, 2000};
  }
  void IsKilled() {
    ++generation_;
    if (!container_.has_value() || !container_->alive) return;
    const bool known = container_->written;
    if (!known && running_since_never) {
      container_->seen.state = ContainerState();  // its successor takes it up, and never says a word of it
      return;
    }
    (void)Ends(255);
    if (known) return;
    container_->seen.fresh = true;  // to its successor it is as it was made
    container_->seen.state = ContainerState();
  }
  bool running_since_never = false;  // a start that its death has cut is taken up by its successor
  void IsRemovedBySomebody() { container_.reset(); }

  int executions() const { return executions_; }
  int generation() const { return generation_; }

 private:
  bool Is(const std::string& id) const { return container_.has_value() && (id == container_->id || id == kName); }

  std::optional<Container> container_;
  int executions_ = 0;
  int made_ = 0;
  int generation_ = 1;
};

// A daemon's hands, so to speak: every call is heard and answered when the test says so.
class Player {
 public:
  struct Call {
    Do what;
    std::string target;
    bool heard = false;
    bool orphan = false;  // nobody waits for its answer
    CreateAnswer created;
    int status = 0;
    std::optional<Inspected> seen;
    std::string listed;
  };

  EngineDouble engine;
  std::unique_ptr<ContainerLife> life = std::make_unique<ContainerLife>(kName, false, false);
  std::deque<Call> calls;
  std::string outcome;  // empty: none yet
  std::string message;
  bool accepted = false;
  bool due = false;
  bool connected = true;
  bool followed = false;
  int starts_sent = 0;
  bool disk_full = false;  // and what is asked for cannot be noted

  void Begin() { Play(life->Ready()); }

  Asked AskedOf() const {
    if (asked_breaks_ >= 0) return asked_breaks_ == breaks_ ? Asked::kThis : Asked::kEarlier;
    if (asked_generation_ == 0) return Asked::kNone;
    return asked_generation_ == engine.generation() ? Asked::kThis : Asked::kEarlier;
  }

  void Play(const Move& move) {
    accepted = accepted || move.accepted;
    switch (move.what) {
      case Do::kNothing:
      case Do::kStop:
        return;
      case Do::kLookForImage:
        return Play(life->ImageIsThere());
      case Do::kCreate:
        return Send(Do::kCreate, kName);
      case Do::kInspect:
        if (life->BeginInspect()) Send(Do::kInspect, life->id());
        return;
      case Do::kKill:
        due = true;
        if (engine.alive()) (void)engine.Ends(137);
        return;
      case Do::kLater:
        due = true;
        return;
      case Do::kStart:
        if (disk_full) return Play(life->StartPutOff());
        asked_generation_ = engine.generation();
        asked_breaks_ = breaks_;
        ++starts_sent;
        return Send(Do::kStart, life->id());
      case Do::kFollow:
        followed = true;
        return;
      case Do::kReadLog:
      case Do::kTell:
        outcome = absl::StrCat("ended ", life->state()->exit_code);
        return life->Over();
      case Do::kEndUnstarted:
        outcome = "cancelled";
        return;
      case Do::kLost:
        outcome = "lost";
        message = move.message;
        return;
      case Do::kRefuse:
        outcome = "refused";
        message = move.message;
        return;
      case Do::kNotFound:  // the daemon submits it again
        NewLife(false, false);
        if (connected) Play(life->Ready());
        return;
      case Do::kUnknown:  // the daemon asks where it is
        NewLife(true, false);
        return Disconnect();
      case Do::kDisconnected:
        return Disconnect();
    }
  }

  void Send(Do what, const std::string& target) {
    if (connected) {
      calls.push_back({what, target});
    } else {
      Answer({what, target});  // nobody listens
    }
  }

  void Hear(size_t at) {
    Call& call = calls[at];
    if (call.heard) return;
    call.heard = true;
    if (call.what == Do::kCreate) call.created = engine.Create();
    if (call.what == Do::kStart) call.status = engine.Start(call.target);
    if (call.what == Do::kInspect) call.status = engine.Inspect(call.target, &call.seen);
    if (call.what == Do::kNothing) {
      call.status = 200;
      call.listed = engine.List();
    }
    if (call.orphan) calls.erase(calls.begin() + static_cast<int64_t>(at));
  }

  void Reply(size_t at) {
    Hear(at);
    const Call call = calls[at];
    calls.erase(calls.begin() + static_cast<int64_t>(at));
    Answer(call);
  }

  // An answer is lost: the call has been heard, or will be, or never is.
  void Lose(size_t at, bool never_heard) {
    Call call = calls[at];
    calls.erase(calls.begin() + static_cast<int64_t>(at));
    if (!call.heard && !never_heard) {
      calls.push_back(call);
      calls.back().orphan = true;
    }
    call.status = 0;
    call.created = {0, !call.heard && never_heard, ""};
    call.seen.reset();
    Answer(call);
  }

  void Answer(const Call& call) {
    if (life == nullptr) return;
    switch (call.what) {
      case Do::kCreate:
        return Play(life->Created(call.created, false));
      case Do::kStart:
        return Play(life->StartAnswered(call.status, 1000));
      case Do::kInspect:
        Play(life->InspectAnswered(call.status, call.seen, AskedOf()));
        if (outcome.empty() && life->LookAgain()) Play({Do::kInspect});
        return;
      default:
        if (call.status == 0) return Disconnect();
        connected = true;
        return Play(life->Listed(call.listed, followed, AskedOf()));
    }
  }

  // Whoever waits is told that the connection broke; some calls are heard nevertheless.
  void Disconnect() {
    life->BrokeOff();
    followed = false;
    connected = false;
  }

  void Reconnect() {
    connected = true;
    calls.push_back({Do::kNothing, ""});
  }

  // A connection breaks and nothing else happens; `followed`: its log's does not.
  void Blip(bool log_too) {
    ++breaks_;
    life->BrokeOff();
    connected = false;
    followed = followed && !log_too;
  }

  // kill -9 of the engine: what it had not heard it never will.
  void KillEngine() {
    ++breaks_;
    engine.IsKilled();
    const std::deque<Call> open = std::exchange(calls, {});
    Disconnect();
    for (Call call : open) {
      if (call.orphan) continue;
      call.status = 0;
      call.created = {0, false, ""};
      call.seen.reset();
      Answer(call);
    }
  }

  // kill -9 of the daemon: `lost` of its calls are heard by nobody.
  void KillDaemon(bool lost) {
    for (Call& call : calls) call.orphan = true;
    calls.erase(std::remove_if(calls.begin(), calls.end(), [&](const Call& call) { return call.heard || lost; }),
                calls.end());
    followed = due = false;
    NewLife(true, false);
    Reconnect();
  }

  void NewLife(bool adopted, bool cancelled) {
    for (Call& call : calls) call.orphan = true;
    calls.erase(std::remove_if(calls.begin(), calls.end(), [](const Call& call) { return call.orphan && call.heard; }),
                calls.end());
    life = std::make_unique<ContainerLife>(kName, adopted, cancelled);
    if (adopted) asked_breaks_ = -1;
    due = false;
  }

  void Due() {
    if (!std::exchange(due, false)) return;
    // A while: what was on its way has been heard by now.
    for (size_t at = calls.size(); at-- > 0;) {
      if (calls[at].orphan) Hear(at);
    }
    Play(life->IsDue());
  }

  // Until nothing is left to do but to wait for the container.
  void Settle() {
    for (int i = 0; i < 100 && outcome.empty(); ++i) {
      if (!calls.empty()) {
        calls.front().orphan ? Hear(0) : Reply(0);
      } else if (!connected) {
        Reconnect();
      } else if (due) {
        Due();
      } else {
        return;
      }
    }
  }

  // The end of the container that runs, and of the attempt.
  void Finish(int code, bool told) {
    Settle();
    if (outcome.empty() && engine.alive()) {
      const ContainerEvent event = engine.Ends(code);
      if (told) {
        Play(life->Happened(event));
      } else {
        Play({Do::kInspect});  // its log came to its end
      }
    } else if (outcome.empty() && followed) {
      Play({Do::kInspect});
    }
    Settle();
  }

 private:
  int asked_generation_ = 0;  // on the daemon's disk; 0: nobody was asked
  int asked_breaks_ = -1;
  int breaks_ = 0;
};

TEST(ContainerLifeTest, AStraightWay) {
  Player p;
  p.Begin();
  p.Settle();
  EXPECT_TRUE(p.accepted);
  EXPECT_TRUE(p.followed);
  p.Finish(3, true);
  EXPECT_EQ(p.outcome, "ended 3");
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, AnEndWith0IsTakenFromItsEventAndOthersAreLookedAt) {
  for (const int code : {0, 1, 137}) {
    Player p;
    p.Begin();
    p.Settle();
    p.Play(p.life->Happened(p.engine.Ends(code)));
    EXPECT_EQ(p.outcome.empty(), code != 0) << "before any answer";
    EXPECT_EQ(p.calls.size(), code == 0 ? 0u : 1u);
    p.Settle();
    EXPECT_EQ(p.outcome, absl::StrCat("ended ", code));
    EXPECT_EQ(p.life->state()->ended_wall, 2000);
  }
  Player p;
  p.Begin();
  p.Settle();
  p.Play(p.life->Happened({"key", "another", 0, 2000}));
  EXPECT_EQ(p.outcome, "") << "of a container that somebody gave our labels";
  ASSERT_EQ(p.calls.size(), 1u);
  p.Settle();
  EXPECT_EQ(p.outcome, "");
}

TEST(ContainerLifeTest, WhatRunsSinceNeverIsEndedAndMayHaveBegun) {
  Player p;
  p.engine.running_since_never = true;
  p.Begin();
  p.Reply(0);
  ASSERT_EQ(p.calls.front().what, Do::kStart);
  p.Hear(0);
  p.KillEngine();
  p.Settle();
  EXPECT_FALSE(p.engine.alive());
  EXPECT_EQ(p.outcome, "ended 137");
  EXPECT_TRUE(p.life->broken_off()) << "which makes LOST of it";
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, AKillThatMayBeForWantOfMemoryIsLookedAtOnceMore) {
  for (const bool memory : {true, false}) {
    Player p;
    p.Begin();
    p.Settle();
    const ContainerEvent event = p.engine.Ends(137);
    p.engine.Says([](Inspected* seen) { seen->state.memory = 1 << 20; });
    p.Play(p.life->Happened(event));
    ASSERT_EQ(p.calls.size(), 1u);
    p.Reply(0);
    EXPECT_EQ(p.outcome, "");
    EXPECT_TRUE(p.due);
    p.engine.Says([&](Inspected* seen) { seen->state.out_of_memory = memory; });
    p.Settle();
    EXPECT_EQ(p.outcome, "ended 137");
    EXPECT_EQ(p.life->state()->out_of_memory, memory);
  }
}

TEST(ContainerLifeTest, AnEndThatIsToldBeforeTheStartIsAnswered) {
  for (const int code : {0, 2}) {
    Player p;
    p.Begin();
    p.Reply(0);
    ASSERT_EQ(p.calls.front().what, Do::kStart);
    p.Hear(0);
    p.Play(p.life->Happened(p.engine.Ends(code)));
    EXPECT_EQ(p.outcome, "") << "its start is to be told first";
    p.Settle();
    EXPECT_EQ(p.outcome, absl::StrCat("ended ", code));
    EXPECT_EQ(p.engine.executions(), 1);
  }
}

TEST(ContainerLifeTest, AnAnswerToACreateWithoutAnId) {
  for (const int status : {201, 409}) {
    Player p;
    p.Begin();
    p.Hear(0);
    p.calls.front().created = {status, false, ""};
    p.Reply(0);
    ASSERT_EQ(p.calls.front().what, Do::kInspect);
    p.Finish(0, true);
    EXPECT_EQ(p.outcome, "ended 0");
    EXPECT_EQ(p.engine.executions(), 1);
  }
}

TEST(ContainerLifeTest, ALostAnswerToACreate) {
  for (const bool heard : {false, true}) {
    Player p;
    p.Begin();
    if (heard) p.Hear(0);
    p.Lose(0, !heard);
    p.Finish(0, false);
    EXPECT_EQ(p.outcome, "ended 0") << heard;
    EXPECT_EQ(p.engine.executions(), 1);
  }
}

TEST(ContainerLifeTest, SomebodyElseSContainerIsLeftAlone) {
  Player p;
  (void)p.engine.Create();
  p.Begin();
  p.Reply(0);
  p.Hear(0);
  p.calls.front().seen->ours = false;
  p.Reply(0);
  EXPECT_EQ(p.outcome, "refused");
  EXPECT_THAT(p.message, HasSubstr("somebody else's container is called orch-key"));
  EXPECT_EQ(p.starts_sent, 0);
}

// An engine gives a name to nobody else while it makes a container for an earlier life of the daemon, lists it, and
// takes both back when it sees that whoever asked is gone.
TEST(ContainerLifeTest, ANameThatIsTakenForAWhileIsNotTakenForARemoval) {
  Player p;
  p.Begin();
  (void)p.engine.Create();
  p.Hear(0);  // 409
  p.engine.IsRemovedBySomebody();
  p.Reply(0);
  p.Reply(0);  // it is not there
  EXPECT_EQ(p.outcome, "");
  EXPECT_TRUE(p.due);
  p.Finish(0, true);
  EXPECT_EQ(p.outcome, "ended 0");
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, AnAdoptedOneThatWasBeingMadeIsMadeAgain) {
  Player p;
  p.Begin();
  p.Hear(0);
  p.KillDaemon(false);
  p.Hear(0);
  p.engine.IsRemovedBySomebody();
  p.Reply(0);  // it was listed
  p.Reply(0);  // and is not there
  EXPECT_EQ(p.outcome, "");
  p.Finish(0, true);
  EXPECT_EQ(p.outcome, "ended 0");
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, WhatWasAskedToStartAndIsGoneIsLost) {
  Player p;
  p.Begin();
  p.Settle();
  p.engine.IsRemovedBySomebody();
  p.Play(p.life->Happened({"key", p.life->id(), std::nullopt, 0}));
  p.Settle();
  EXPECT_EQ(p.outcome, "lost");
  EXPECT_THAT(p.message, HasSubstr("removed by somebody else"));
}

TEST(ContainerLifeTest, WhatIsRemovedWhileNoDaemonRunsIsNotRunAgain) {
  Player p;
  p.Begin();
  p.Settle();
  p.engine.IsRemovedBySomebody();
  p.KillDaemon(true);
  p.Settle();
  EXPECT_EQ(p.outcome, "lost");
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, WhatHasEndedWellMayBeRemovedBySomebody) {
  Player p;
  p.Begin();
  p.Settle();
  EXPECT_EQ(p.life->Happened(p.engine.Ends(0)).what, Do::kReadLog);
  EXPECT_EQ(p.life->Listed("", false, Asked::kThis).what, Do::kNothing);
  EXPECT_EQ(p.life->InspectAnswered(404, std::nullopt, Asked::kThis).what, Do::kNothing);
  EXPECT_TRUE(p.life->state().has_value());
}

// A look that was taken before the start says that it is as it was made, and comes after the answer to the start.
TEST(ContainerLifeTest, AStaleLookStartsNothing) {
  Player p;
  p.Begin();
  p.Hear(0);  // made; the answer is on its way
  p.Reconnect();
  p.Reply(1);  // it is found in a list
  ASSERT_EQ(p.calls.back().what, Do::kInspect);
  p.Hear(1);   // as it was made
  p.Reply(0);  // the answer to the create: it is started
  ASSERT_EQ(p.calls.back().what, Do::kStart);
  p.Hear(1);
  (void)p.engine.Ends(0);  // at once
  p.Reply(1);              // the answer to the start
  EXPECT_TRUE(p.followed);
  p.Reply(0);  // the stale look
  p.Settle();
  EXPECT_EQ(p.outcome, "ended 0");
  EXPECT_EQ(p.engine.executions(), 1);
  EXPECT_EQ(p.starts_sent, 1);
}

TEST(ContainerLifeTest, AnAnswerToACreateThatComesAfterAListFoundItStartsNothing) {
  Player p;
  p.Begin();
  p.Hear(0);
  p.Reconnect();
  p.Reply(1);  // found in a list
  p.Reply(1);  // as it was made: it is started
  ASSERT_EQ(p.calls.back().what, Do::kStart);
  p.Reply(1);
  (void)p.engine.Ends(0);
  p.Reply(0);  // the answer to the create
  p.Finish(0, false);
  EXPECT_EQ(p.starts_sent, 1);
  EXPECT_EQ(p.engine.executions(), 1);
}

// The engine died before it wrote down that it had begun: its successor's container looks as if it had never started.
TEST(ContainerLifeTest, AnEngineThatIsKilledWhileItStartsIt) {
  for (const bool daemon_too : {false, true}) {
    Player p;
    p.Begin();
    p.Reply(0);
    p.Hear(0);  // it runs
    p.KillEngine();
    ASSERT_TRUE(p.engine.container()->seen.fresh);
    if (daemon_too) p.KillDaemon(true);
    p.Settle();
    EXPECT_EQ(p.outcome, "lost");
    EXPECT_THAT(p.message, HasSubstr("it may have begun"));
    EXPECT_EQ(p.engine.executions(), 1);
  }
}

TEST(ContainerLifeTest, AnEngineThatIsKilledWithTheDaemonBreaksOffWhatItRan) {
  Player p;
  p.Begin();
  p.Settle();
  p.engine.WritesDown();
  p.KillEngine();
  p.KillDaemon(true);
  p.Settle();
  EXPECT_TRUE(p.life->broken_off()) << "255 is then no exit code of its own";
  EXPECT_EQ(p.engine.executions(), 1);
}

TEST(ContainerLifeTest, WhatOutlivesABreakHasAnExitCodeOfItsOwn) {
  for (const bool log_too : {false, true}) {
    Player p;
    p.Begin();
    p.Settle();
    p.Blip(log_too);
    EXPECT_TRUE(p.life->broken_off()) << "until it is seen to run";
    p.Finish(255, true);
    EXPECT_EQ(p.outcome, "ended 255");
    EXPECT_FALSE(p.life->broken_off());
    EXPECT_EQ(p.engine.executions(), 1);
  }
  Player p;
  p.Begin();
  p.Settle();
  p.engine.WritesDown();
  p.Blip(true);
  p.Settle();
  p.KillEngine();
  p.Settle();
  EXPECT_EQ(p.outcome, "ended 255");
  EXPECT_TRUE(p.life->broken_off()) << "by another break";
}

TEST(ContainerLifeTest, ALookFromBeforeABreakDoesNotSayThatItOutlivedThat) {
  Player p;
  p.Begin();
  p.Settle();
  p.Play({Do::kInspect});
  p.Hear(0);
  p.Blip(true);
  p.Reply(0);
  EXPECT_TRUE(p.life->broken_off());
  p.Settle();
  EXPECT_FALSE(p.life->broken_off());
}

// Or a later life of the daemon would start it again.
TEST(ContainerLifeTest, AStartThatCannotBeNotedIsPutOff) {
  for (const bool cancelled : {false, true}) {
    Player p;
    p.disk_full = true;
    p.Begin();
    p.Reply(0);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(p.due);
      p.Due();
      p.Reply(0);  // it is as it was made
    }
    EXPECT_EQ(p.starts_sent, 0);
    p.disk_full = false;
    if (cancelled) p.Play(p.life->Cancel());
    p.Finish(0, true);
    EXPECT_EQ(p.outcome, cancelled ? "cancelled" : "ended 0");
    EXPECT_EQ(p.engine.executions(), cancelled ? 0 : 1);
  }
}

TEST(ContainerLifeTest, AStartWhoseAnswerIsLostIsAskedForAgainOnlyAfterAWhile) {
  // It is heard late: after the next look, but before a while has passed.
  Player p;
  p.Begin();
  p.Reply(0);
  p.Lose(0, /*never_heard=*/false);
  p.Reconnect();
  p.Reply(1);  // the list
  p.Reply(1);  // it is as it was made
  EXPECT_EQ(p.starts_sent, 1);
  EXPECT_TRUE(p.due);
  p.Hear(0);
  (void)p.engine.Ends(0);
  p.Finish(0, false);
  EXPECT_EQ(p.outcome, "ended 0");
  EXPECT_EQ(p.engine.executions(), 1);
  // It was never heard.
  Player q;
  q.Begin();
  q.Reply(0);
  q.Lose(0, /*never_heard=*/true);
  q.Finish(0, true);
  EXPECT_EQ(q.outcome, "ended 0");
  EXPECT_EQ(q.engine.executions(), 1);
  EXPECT_EQ(q.starts_sent, 2);
}

TEST(ContainerLifeTest, ADaemonThatIsKilledAroundAStart) {
  for (const bool lost : {false, true}) {
    Player p;
    p.Begin();
    p.Reply(0);
    p.KillDaemon(lost);
    p.Reply(lost ? 0 : 1);  // the list
    p.Reply(lost ? 0 : 1);  // it is as it was made
    EXPECT_EQ(p.starts_sent, 1) << "the engine may be about to";
    p.Finish(0, false);
    EXPECT_EQ(p.outcome, "ended 0");
    EXPECT_EQ(p.engine.executions(), 1);
  }
}

TEST(ContainerLifeTest, AStartThatIsRefusedAndLeavesItAsItWasIsNotAskedForWithoutEnd) {
  Player p;
  p.Begin();
  p.Reply(0);
  p.calls.front().heard = true;
  p.calls.front().status = 500;
  p.Reply(0);
  p.Reply(0);
  EXPECT_TRUE(p.due) << "in a while";
  EXPECT_TRUE(p.calls.empty());
  p.Finish(0, true);
  EXPECT_EQ(p.outcome, "ended 0");
}

TEST(ContainerLifeTest, CancelledAtEachPoint) {
  for (int calls = 0; calls < 3; ++calls) {
    Player p;
    p.Begin();
    for (int i = 0; i < calls; ++i) p.Reply(0);
    p.Play(p.life->Cancel());
    p.Settle();
    if (calls == 2) {
      EXPECT_EQ(p.outcome, "") << "it runs, and is stopped";
      p.Finish(143, true);
      EXPECT_EQ(p.outcome, "ended 143");
      continue;
    }
    EXPECT_EQ(p.outcome.empty(), calls == 1) << calls;
    EXPECT_EQ(p.engine.executions(), calls == 1 ? 1 : 0) << "what is asked for is asked for";
  }
}

// Whatever is lost, late or killed, in any order: it runs once at most, and its end is known in the end.
TEST(ContainerLifeTest, AnythingMayHappenAndItRunsOnce) {
  std::map<std::string, int> outcomes;
  for (uint32_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937 random(seed);
    const auto roll = [&](size_t n) { return static_cast<size_t>(random() % n); };
    Player p;
    p.engine.running_since_never = roll(3) == 0;
    p.Begin();
    std::string story;
    for (int i = 0; i < 40 && p.outcome.empty(); ++i) {
      const size_t at = p.calls.empty() ? 0 : roll(p.calls.size());
      const bool orphan = !p.calls.empty() && p.calls[at].orphan;
      const size_t what = roll(20);
      absl::StrAppend(&story, " ", what, "/", at);
      if (what < 5 && !p.calls.empty()) {
        p.Hear(at);
      } else if (what < 11 && !p.calls.empty()) {
        orphan ? p.Hear(at) : p.Reply(at);
      } else if (what < 13 && !p.calls.empty() && !orphan) {
        p.Lose(at, roll(2) == 0);
      } else if (what == 13 && p.engine.alive()) {
        const ContainerEvent event = p.engine.Ends(static_cast<int>(roll(2)));
        if (roll(3) > 0) p.Play(p.life->Happened(event));
      } else if (what == 14) {
        p.KillEngine();
      } else if (what == 15) {
        p.KillDaemon(roll(2) == 0);
      } else if (what == 16) {
        p.Due();
      } else if (what == 17) {
        p.Reconnect();
      } else if (what == 18) {
        p.engine.WritesDown();
      } else if (what == 19 && roll(20) == 0) {
        p.engine.IsRemovedBySomebody();
      }
      ASSERT_LE(p.engine.executions(), 1) << "seed " << seed << ":" << story;
    }
    for (int i = 0; i < 10 && p.outcome.empty(); ++i) {
      p.Finish(0, roll(2) == 0);
      if (p.outcome.empty()) p.Reconnect();
    }
    ASSERT_LE(p.engine.executions(), 1) << "seed " << seed << ":" << story;
    ASSERT_NE(p.outcome, "") << "seed " << seed << ":" << story;
    if (p.outcome == "ended 255" || p.outcome == "ended 137") {
      ASSERT_TRUE(p.life->broken_off()) << "seed " << seed << ":" << story;
    }
    ++outcomes[p.outcome];
  }
  for (const char* each : {"ended 0", "ended 1", "ended 137", "ended 255", "lost"})
    EXPECT_GT(outcomes[each], 100) << each;
}

}  // namespace
}  // namespace orch::docker
