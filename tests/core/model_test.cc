// The transition tables, templates, rules and keys.
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/base/status.h"
#include "server/core/rules.h"
#include "server/model/pipeline.h"
#include "server/model/size_text.h"
#include "server/model/template.h"
#include "server/model/transitions.h"

namespace orch {
namespace {

std::vector<StepState> StepStates() {
  std::vector<StepState> out;
  for (int i = 1; i < kStepStateCount; ++i) out.push_back(static_cast<StepState>(i));
  return out;
}
std::vector<RunState> RunStates() {
  std::vector<RunState> out;
  for (int i = 1; i <= 8; ++i) out.push_back(static_cast<RunState>(i));
  return out;
}

TEST(SizeTextTest, UnitsOfTenAndOfTwo) {
  EXPECT_EQ(BytesOf("1000"), 1000);
  EXPECT_EQ(BytesOf("16GB"), 16e9);
  EXPECT_EQ(BytesOf("2G"), 2e9);
  EXPECT_EQ(BytesOf("1.5Ki"), 1536);
  EXPECT_EQ(BytesOf("1Ti"), 1099511627776.0);
  for (const char* text : {"", "G", "1X", "1KiB", "-1", "1 G", "1Gb"}) EXPECT_LT(BytesOf(text), 0) << text;
}

TEST(StepSpecTest, WhatACopySaysStaysAsItIsWhenTheOtherIsChanged) {
  StepSpec a;
  EXPECT_EQ(a.options().when, "");
  a.mutable_options().when = "a";
  StepSpec b = a;
  EXPECT_EQ(b.set_options.get(), a.set_options.get());
  b.mutable_options().when = "b";
  EXPECT_EQ(a.options().when, "a");
  EXPECT_EQ(b.options().when, "b");
}

TEST(TransitionsTest, EveryStepStateAndEventIsInTheTableOrRefused) {
  for (const StepState from : StepStates()) {
    for (int e = 0; e <= static_cast<int>(StepEvent::kReopened); ++e) {
      const auto event = static_cast<StepEvent>(e);
      for (const StepState to : StepStates()) {
        bool listed = false;
        for (const StepTransition& t : StepTransitions()) listed |= t.from == from && t.event == event && t.to == to;
        EXPECT_EQ(IsAllowed(from, event, to), listed) << Name(from) << " " << Name(event) << " " << Name(to);
        EXPECT_FALSE(listed && IsTerminal(from) && event != StepEvent::kReopened) << Name(from) << " is an end";
      }
    }
  }
  for (const RunTransition& t : RunTransitions()) {
    EXPECT_FALSE(IsTerminal(t.from) && t.event != RunEvent::kRetried) << "only a retry leads out of an end";
    EXPECT_TRUE(IsAllowed(t.from, t.event, t.to));
  }
  EXPECT_FALSE(IsAllowed(RunState::kFailed, RunEvent::kAdmitted, RunState::kRunning));
}

TEST(TransitionsTest, OneEventLeadsFromOneStepStateToOneState) {
  std::set<std::pair<StepState, StepEvent>> seen;
  for (const StepTransition& t : StepTransitions()) {
    EXPECT_TRUE(seen.insert({t.from, t.event}).second) << Name(t.from) << " " << Name(t.event);
  }
}

TEST(TransitionsTest, EveryStateIsReachedAndEnds) {
  std::set<StepState> reached{StepState::kWaiting};
  std::set<RunState> runs{RunState::kPending, RunState::kPaused};  // pausing comes with its own request
  for (int i = 0; i < kStepStateCount; ++i) {
    for (const StepTransition& t : StepTransitions()) {
      if (reached.count(t.from) > 0) reached.insert(t.to);
    }
    for (const RunTransition& t : RunTransitions()) {
      if (runs.count(t.from) > 0) runs.insert(t.to);
    }
  }
  EXPECT_EQ(reached.size(), StepStates().size());
  EXPECT_EQ(runs.size(), RunStates().size());
  std::set<StepState> ends;  // from here a terminal state can be reached
  for (const StepState s : StepStates()) {
    if (IsTerminal(s)) ends.insert(s);
  }
  for (int i = 0; i < kStepStateCount; ++i) {
    for (const StepTransition& t : StepTransitions()) {
      if (ends.count(t.to) > 0) ends.insert(t.from);
    }
  }
  EXPECT_EQ(ends.size(), StepStates().size());
}

TEST(TransitionsTest, TheDocumentationHasEveryRow) {
  const std::string text = TransitionsAsMarkdown();
  for (const StepTransition& t : StepTransitions()) {
    EXPECT_TRUE(absl::StrContains(
        text, absl::StrCat("| ", Name(t.from), " | `", Name(t.event), "` | ", t.guard, " | ", Name(t.to), " |")));
  }
  for (const RunTransition& t : RunTransitions()) {
    EXPECT_TRUE(absl::StrContains(
        text, absl::StrCat("| ", Name(t.from), " | `", Name(t.event), "` | ", t.guard, " | ", Name(t.to), " |")));
  }
  EXPECT_FALSE(absl::StrContains(text, "?"));
}

std::string Parsed(absl::string_view text) {
  const auto pieces = ParseTemplate(text);
  if (!pieces.ok()) return ReasonOf(pieces.status());
  std::string out;
  for (const TemplatePiece& piece : *pieces) {
    absl::StrAppend(&out, out.empty() ? "" : "|", static_cast<int>(piece.scope), ":", piece.text);
  }
  return out;
}

TEST(TemplateTest, Pieces) {
  EXPECT_EQ(Parsed(""), "");
  EXPECT_EQ(Parsed("plain"), "0:plain");
  EXPECT_EQ(Parsed("a${params.x}b"), "0:a|1:x|0:b");
  EXPECT_EQ(Parsed("${inputs.t}${outputs.m}"), "2:t|3:m");
  EXPECT_EQ(Parsed("${item.k}/${values.v}"), "4:k|0:/|5:v");
  EXPECT_EQ(Parsed("${run.name}-${step.name}-${attempt}"), "6:name|0:-|7:name|0:-|8:");
  EXPECT_EQ(Parsed("${params.}"), "1:");
}

TEST(TemplateTest, DollarsAndWhatShellsUse) {
  EXPECT_EQ(Parsed("$$"), "0:$");
  EXPECT_EQ(Parsed("$${params.x}"), "0:${params.x}");
  EXPECT_EQ(Parsed("$$${params.x}"), "0:$|1:x");
  EXPECT_EQ(Parsed("${HOME} ${#x} $HOME $ ${}"), "0:${HOME} ${#x} $HOME $ ${}");
  EXPECT_EQ(Parsed("${attempts}"), "0:${attempts}");
  EXPECT_EQ(Parsed("${param.x}"), "0:${param.x}");
  EXPECT_EQ(Parsed("cost: 5$"), "0:cost: 5$");
}

TEST(TemplateTest, NotClosed) {
  EXPECT_EQ(Parsed("${params.x"), "TEMPLATE_INVALID");
  EXPECT_EQ(Parsed("a ${inputs."), "TEMPLATE_INVALID");
  EXPECT_EQ(Parsed("${attempt"), "0:${attempt") << "not one of ours without its brace";
}

TEST(RulesTest, TriggerTable) {
  constexpr Reason kMet = Reason::kNone;
  constexpr Reason kUp = Reason::kUpstreamFailed;
  constexpr Reason kSkip = Reason::kUpstreamSkipped;
  constexpr Reason kRule = Reason::kTriggerRule;
  struct Row {
    TriggerRule rule;
    Reason by_seen[8];  // bits: ok 1, bad 2, skipped 4
  };
  constexpr Row kRows[] = {
      {TriggerRule::kAllSuccess, {kMet, kMet, kUp, kUp, kSkip, kSkip, kUp, kUp}},
      {TriggerRule::kAllDone, {kMet, kMet, kMet, kMet, kMet, kMet, kMet, kMet}},
      {TriggerRule::kOneSuccess, {kSkip, kMet, kUp, kMet, kSkip, kMet, kUp, kMet}},
      {TriggerRule::kOneFailed, {kRule, kRule, kMet, kMet, kRule, kRule, kMet, kMet}},
      {TriggerRule::kAllFailed, {kRule, kRule, kMet, kRule, kRule, kRule, kRule, kRule}},
      {TriggerRule::kNoneFailed, {kMet, kMet, kUp, kUp, kMet, kMet, kUp, kUp}},
  };
  for (const Row& row : kRows) {
    for (uint8_t seen = 0; seen < 8; ++seen) {
      EXPECT_EQ(JudgeTrigger(row.rule, seen), row.by_seen[seen]) << static_cast<int>(row.rule) << " saw " << int{seen};
    }
  }
}

TEST(RulesTest, Outcomes) {
  EXPECT_EQ(OutcomeOf(StepState::kSucceeded, Reason::kNone), kSeenOk);
  EXPECT_EQ(OutcomeOf(StepState::kCached, Reason::kCacheHit), kSeenOk);
  EXPECT_EQ(OutcomeOf(StepState::kFailed, Reason::kExitCode), kSeenBad);
  EXPECT_EQ(OutcomeOf(StepState::kCancelled, Reason::kCancelRequested), kSeenBad);
  EXPECT_EQ(OutcomeOf(StepState::kSkipped, Reason::kUpstreamFailed), kSeenBad);
  EXPECT_EQ(OutcomeOf(StepState::kSkipped, Reason::kWhenFalse), kSeenSkipped);
  EXPECT_EQ(OutcomeOf(StepState::kSkipped, Reason::kUpstreamSkipped), kSeenSkipped);
  EXPECT_EQ(OutcomeOf(StepState::kSkipped, Reason::kTriggerRule), kSeenSkipped);
}

AttemptEnd Ended(Reason reason, std::optional<int> exit_code = std::nullopt, bool never_started = false) {
  AttemptEnd end;
  end.reason = reason;
  end.exit_code = exit_code;
  end.never_started = never_started;
  return end;
}

TEST(RulesTest, TwoBudgets) {
  RetryPolicy policy;
  policy.max_attempts = 2;
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kExitCode, 1), Reason::kNone, {1, 0}));
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kExitCode, 1), Reason::kNone, {2, 0}));
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kImagePullFailed), Reason::kNone, {2, 2}));
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kImagePullFailed), Reason::kNone, {0, 3}));
  EXPECT_TRUE(IsPlatformFailure(Ended(Reason::kEvicted, std::nullopt, true)));
  EXPECT_FALSE(IsPlatformFailure(Ended(Reason::kEvicted))) << "its command had begun";
  EXPECT_FALSE(IsPlatformFailure(Ended(Reason::kLost, std::nullopt, true)));
  EXPECT_FALSE(MayRetry(RetryPolicy(), Ended(Reason::kExitCode, 1), Reason::kNone, {1, 0})) << "one by default";
}

TEST(RulesTest, WhatIsRepeated) {
  RetryPolicy policy;
  policy.max_attempts = 9;
  policy.exit_codes = {75};
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kExitCode, 75), Reason::kNone, {1, 0}));
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kExitCode, 1), Reason::kNone, {1, 0}));
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kSignaled), Reason::kNone, {1, 0}));
  policy.exit_codes.clear();
  policy.on_failed = false;
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kExitCode, 1), Reason::kNone, {1, 0}));
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kLost), Reason::kNone, {1, 0}));
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kSignaled), Reason::kRunTimeout, {1, 0}));
  policy.on_timeout = policy.on_lost = false;
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kLost), Reason::kNone, {1, 0}));
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kSignaled), Reason::kQueueTimeout, {1, 0}));
  policy.on_failed = true;
  EXPECT_FALSE(MayRetry(policy, Ended(Reason::kOutOfMemory), Reason::kNone, {1, 0})) << "a word of its own";
  policy.on_failed = false;
  policy.on_oom = true;
  EXPECT_TRUE(MayRetry(policy, Ended(Reason::kOutOfMemory), Reason::kNone, {1, 0}));
}

TEST(RulesTest, BackOff) {
  RetryPolicy policy;
  policy.initial_micros = 1'000'000;
  policy.max_micros = 5'000'000;
  EXPECT_EQ(BackoffMicros(policy, 1, "x"), 1'000'000);
  EXPECT_EQ(BackoffMicros(policy, 2, "x"), 2'000'000);
  EXPECT_EQ(BackoffMicros(policy, 3, "x"), 4'000'000);
  EXPECT_EQ(BackoffMicros(policy, 4, "x"), 5'000'000);
  EXPECT_EQ(BackoffMicros(policy, 100'000, "x"), 5'000'000) << "no overflow";
  policy.jitter = 0.5;
  std::set<int64_t> waits;
  for (int i = 0; i < 200; ++i) {
    const int64_t wait = BackoffMicros(policy, 1, absl::StrCat("key", i));
    EXPECT_EQ(wait, BackoffMicros(policy, 1, absl::StrCat("key", i))) << "the same key, the same wait";
    EXPECT_GE(wait, 500'000);
    EXPECT_LE(wait, 1'500'000);
    waits.insert(wait);
  }
  EXPECT_GT(waits.size(), 150u);
  for (int i = 0; i < 200; ++i)
    EXPECT_LE(BackoffMicros(policy, 9, absl::StrCat("key", i)), 5'000'000) << "the cap holds";
}

TEST(RulesTest, Keys) {
  const std::string key = AttemptKey("instance", "run", 3, 1);
  EXPECT_EQ(key.size(), 20u);
  EXPECT_EQ(key.find_first_not_of("abcdefghijklmnopqrstuvwxyz234567"), std::string::npos);
  EXPECT_EQ(key, AttemptKey("instance", "run", 3, 1));
  const std::set<std::string> keys{key, AttemptKey("instance", "run", 3, 2), AttemptKey("instance", "run", 31, 1),
                                   AttemptKey("other", "run", 3, 1), AttemptKey("instance", "run2", 3, 1)};
  EXPECT_EQ(keys.size(), 5u);
}

}  // namespace
}  // namespace orch
