// The parts of orchctl that need no process: JSON, jq, tables, texts, the picture of a run, the file of apply.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/cli/jq.h"
#include "client/cli/json.h"
#include "client/cli/run_text.h"
#include "client/cli/run_view.h"
#include "client/cli/site_file.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/spec/parse.h"
#include "google/protobuf/struct.pb.h"
#include "orch/v1/artifact.pb.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Json = nlohmann::ordered_json;

TEST(JsonTest, NumbersAreNumbersUpToTwoToTheFiftyThree) {
  v1::Artifact a;
  a.set_size(int64_t{1} << 53);
  EXPECT_TRUE(ToJson(a)["size"].is_number());
  a.set_size((int64_t{1} << 53) + 1);
  EXPECT_EQ(ToJson(a)["size"], "9007199254740993");
  a.set_size(-5);
  EXPECT_EQ(ToJson(a)["size"], -5);
}

TEST(JsonTest, FieldsWithoutPresenceAreAlwaysThere) {
  const Json json = ToJson(v1::Step());
  EXPECT_EQ(json["name"], "");
  EXPECT_EQ(json["state"], "STATE_UNSPECIFIED");
  EXPECT_EQ(json["outputs"], Json::object());
  EXPECT_EQ(json["attempts"], Json::array());
  EXPECT_TRUE(json["exit_code"].is_null());
  EXPECT_FALSE(json.contains("start_time"));
}

TEST(JsonTest, WellKnownTypesAndOneofs) {
  v1::StepSpec step;
  (*step.mutable_inputs())["x"].set_from("a.b");
  step.mutable_timeout()->mutable_run()->set_seconds(1);
  step.mutable_timeout()->mutable_run()->set_nanos(500'000'000);
  auto* values = step.add_foreach()->mutable_values();
  values->add_values()->set_number_value(3);
  values->add_values()->set_number_value(0.5);
  values->add_values()->set_string_value("s");
  values->add_values()->set_null_value(google::protobuf::NULL_VALUE);
  const Json json = ToJson(step);
  EXPECT_EQ(json["inputs"]["x"].dump(), R"({"from":"a.b","early":false})");
  EXPECT_EQ(json["timeout"]["run"], "1.5s");
  EXPECT_EQ(json["foreach"][0]["values"].dump(), R"([3,0.5,"s",null])");
}

TEST(JsonTest, BrokenUtf8IsReplaced) {
  v1::Run run;
  run.mutable_labels()->insert({"k", "ok"});
  run.set_message("a\xc3\xa9");
  EXPECT_EQ(ToJson(run)["message"], "a\xc3\xa9");
}

TEST(YamlTest, StringsThatLookLikeSomethingElseAreQuoted) {
  const Json json = {
      {"a", "plain"},       {"b", "yes"}, {"c", "12"}, {"d", ""}, {"e", Json::array({1, Json{{"x", "a: b"}}})},
      {"f", Json::object()}};
  EXPECT_EQ(ToYaml(json), "a: plain\nb: \"yes\"\nc: \"12\"\nd: \"\"\ne:\n  - 1\n  - x: \"a: b\"\nf: {}\n");
}

TEST(YamlTest, WhatYamlRefusesOrFoldsIsEscapedAndReadsTheSame) {
  for (const char* text : {"\x01", "\t\r\n", "\x7f", "\xC2\x85", "\xC2\x9E", "\xE2\x80\xA8", "\xE2\x80\xA9",
                           "\xEF\xBB\xBF", "\xEF\xBF\xBE", "\xEF\xBF\xBF", "\"\\", "caf\xC3\xA9 \xF0\x9F\x98\x80"}) {
    google::protobuf::Struct wanted;
    (*wanted.mutable_fields())[absl::StrCat("k", text)].set_string_value(absl::StrCat(text, " x"));
    const std::string written = ToYaml(ToJson(wanted));
    const spec::ConfigDocument read = spec::ParseConfig(written);
    ASSERT_THAT(read.problems, IsEmpty()) << written << ": " << read.problems[0].description;
    EXPECT_EQ(read.value.DebugString(), wanted.DebugString());
  }
}

TEST(YamlTest, ListsAtTheTop) {
  const Json json = Json::array({Json{{"a", 1}, {"b", 2}}, Json{{"a", 3}}});
  EXPECT_EQ(ToYaml(json), "- a: 1\n  b: 2\n- a: 3\n");
}

TEST(JqTest, StringsAreRawOthersCompact) {
  const auto results = RunJq(R"({"a": "x y", "b": [1, {"c": null}], "d": 2})", ".a, .b, .d, .none");
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_THAT(*results, ElementsAre("x y", R"([1,{"c":null}])", "2", "null"));
}

TEST(JqTest, ErrorsSayWhat) {
  EXPECT_EQ(ReasonOf(RunJq("{}", ".[").status()), "JQ_INVALID");
  EXPECT_EQ(ReasonOf(RunJq("{}", "nosuch(1)").status()), "JQ_INVALID");
  const absl::Status failed = RunJq("{}", ".a.b[0] | error(\"boom\")").status();
  EXPECT_THAT(std::string(failed.message()), HasSubstr("boom"));
}

TEST(TextTest, TimesForPeople) {
  EXPECT_EQ(Elapsed(420'000), "420ms");
  EXPECT_EQ(Elapsed(4'250'000), "4.2s");
  EXPECT_EQ(Elapsed(192'000'000), "3m12s");
  EXPECT_EQ(Elapsed(int64_t{5} * 3600 * 1'000'000 + 180'000'000), "5h03m");
  EXPECT_EQ(Elapsed(int64_t{52} * 3600 * 1'000'000), "2d4h");
  EXPECT_EQ(Elapsed(-5), "0ms");
  EXPECT_EQ(Ago(0, 180'000'000), "3m ago");
  EXPECT_EQ(Ago(0, 1'000'000), "just now");
  EXPECT_EQ(Ago(10'000'000, 0), "in 10s");
  EXPECT_EQ(Bytes(1536), "1.5 KiB");
}

TEST(TextTest, Durations) {
  EXPECT_EQ(ParseDuration("500ms")->count(), 500);
  EXPECT_EQ(ParseDuration("1.5s")->count(), 1500);
  EXPECT_EQ(ParseDuration("2h")->count(), 7'200'000);
  EXPECT_EQ(ParseDuration("7")->count(), 7000);
  for (const char* bad : {"", "s", "5x", "-1s", "1e999s", "999999999d", "1.2.3s"}) {
    EXPECT_FALSE(ParseDuration(bad).has_value()) << bad;
  }
}

TEST(TextTest, NearestMeansNear) {
  EXPECT_EQ(Nearest("sumbit", {"submit", "logs"}), "submit");
  EXPECT_EQ(Nearest("xyzzy", {"submit", "logs"}), std::nullopt);
}

TEST(RunTextTest, TheTimeOfARunLeavesOutThePausesBetweenItsGenerations) {
  v1::Run run;
  run.set_generation(1);
  run.mutable_start_time()->set_seconds(1000);
  run.mutable_end_time()->set_seconds(1003);
  const auto time = [&run] {
    const std::string facts = RunFacts(run, Style(false));
    const size_t begin = facts.find("Time: ");
    return facts.substr(begin, facts.find('\n', begin) - begin);
  };
  EXPECT_THAT(time(), EndsWith(" 3.0s"));
  run.set_generation(2);
  v1::Run::Generation& earlier = *run.add_earlier_generations();
  earlier.set_number(1);
  earlier.mutable_end_time()->set_seconds(14);
  EXPECT_THAT(time(), EndsWith(" 3.0s")) << "nobody knows when the first began";
  earlier.mutable_start_time()->set_seconds(10);
  EXPECT_THAT(time(), EndsWith(" 3.0s (7.0s in 2 generations)"));
}

TEST(StyleTest, WidthsAndCuts) {
  EXPECT_EQ(Width("abc"), 3);
  EXPECT_EQ(Width("é"), 1);
  EXPECT_EQ(Width("日本"), 4);
  EXPECT_EQ(Fit("abcdef", 4), "abc…");
  EXPECT_EQ(Fit("日本語", 4), "日…");
  EXPECT_EQ(Fit("abc", 3), "abc");
  EXPECT_EQ(Clean("a\x1b[31m\nb\xff"), "a?[31m b\xEF\xBF\xBD");
  EXPECT_EQ(Clean("\xC2\x9B"
                  "31m"),
            "?31m")
      << "C1 controls steer terminals too";
}

TEST(TableTest, AlignsByColumnsNotBytes) {
  Table table({"NAME", "X", "Y"});
  table.Add({"日本", "1", "é"});
  table.Add({"a", "", ""});
  EXPECT_EQ(table.Render(Style(false)), "NAME  X  Y\n日本  1  é\na     -\n");
}

v1::WatchRunsResponse Snapshot(int steps) {
  v1::WatchRunsResponse message;
  auto* snapshot = message.mutable_snapshot();
  snapshot->set_last(true);
  v1::Run* run = snapshot->add_runs();
  run->set_name("r");
  run->set_state(v1::Run::RUNNING);
  run->set_step_count(steps);
  for (int i = 0; i < steps; ++i) {
    v1::Step* step = snapshot->add_steps();
    step->set_name(absl::StrCat("s", i));
    step->set_index(i);
    step->set_state(i == steps - 1 ? v1::Step::FAILED : v1::Step::SUCCEEDED);
    step->set_message("a rather long message that does not fit into a narrow terminal at all, whatever one does");
  }
  return message;
}

TEST(RunViewTest, NeverHigherOrWiderThanTheTerminal) {
  RunView view("r");
  view.Apply(Snapshot(100), nullptr);
  for (const int width : {20, 40, 80, 200}) {
    for (const int height : {3, 10, 50}) {
      const auto lines = view.Lines(0, width, height, Style(false));
      EXPECT_LE(static_cast<int>(lines.size()), height);
      for (const std::string& line : lines) EXPECT_LE(Width(line), width) << line;
      // What failed is shown before what went well.
      EXPECT_THAT(lines, ::testing::Contains(HasSubstr("FAILED"))) << width << "x" << height;
    }
  }
}

TEST(RunViewTest, ASecondSnapshotReplacesTheFirst) {
  RunView view("r");
  view.Apply(Snapshot(5), nullptr);
  EXPECT_EQ(view.ended_steps(), 5);
  view.Apply(Snapshot(2), nullptr);
  EXPECT_EQ(view.ended_steps(), 2);
  EXPECT_THAT(view.Lines(0, 80, 50, Style(false)), SizeIs(3));
}

TEST(RunViewTest, EventsOfStepsNotInTheSnapshotAppear) {
  RunView view("r");
  v1::WatchRunsResponse message;
  message.mutable_event()->set_type(v1::Event::STEP_STATE_CHANGED);
  message.mutable_event()->set_step("late");
  message.mutable_event()->set_step_index(7);
  message.mutable_event()->set_step_state(v1::Step::RUNNING);
  std::vector<StepView> changed;
  view.Apply(message, &changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].name, "late");
  EXPECT_THAT(view.Lines(0, 80, 50, Style(false)).back(), HasSubstr("late"));
}

Site Read(const std::string& yaml, std::vector<spec::Problem>* problems) {
  return ReadSite(spec::ParseConfig(yaml), problems);
}

TEST(SiteTest, ListsAndMappings) {
  std::vector<spec::Problem> problems;
  const Site site = Read(
      "orchestrators: {a: {flavor: local, max_parallel: 3}}\npools: [{name: db, slots: 2, description: d}]\n"
      "stacks: {s: {orchestrator: a}}\n",
      &problems);
  EXPECT_TRUE(problems.empty());
  ASSERT_EQ(site.orchestrators.size(), 1u);
  EXPECT_EQ(site.orchestrators[0].max_parallel(), 3);
  ASSERT_EQ(site.pools.size(), 1u);
  EXPECT_EQ(site.pools[0].slots(), 2);
  ASSERT_EQ(site.stacks.size(), 1u);
  EXPECT_EQ(site.stacks[0].orchestrator(), "a");
}

TEST(SiteTest, FaultsAreAllFoundWithPlaces) {
  std::vector<spec::Problem> problems;
  Read(
      "orchestrators:\n  - {flavor: local}\n  - {name: a, flavor: local, confg: {}}\n  - {name: a, flavor: x}\npools: "
      "3\n",
      &problems);
  ASSERT_EQ(problems.size(), 4u);
  for (const spec::Problem& problem : problems) EXPECT_GT(problem.position.line, 0) << problem.description;
}

TEST(SiteTest, StoresAndTheDefaultStack) {
  std::vector<spec::Problem> problems;
  const Site site = Read(
      "artifact_stores:\n  - {name: team, flavor: s3, config: {bucket: ml}}\n"
      "stacks:\n  - {name: prod, orchestrator: a, artifact_store: team, is_default: true}\n"
      "  - {name: dev, orchestrator: a, is_default: false}\n",
      &problems);
  EXPECT_TRUE(problems.empty());
  ASSERT_EQ(site.artifact_stores.size(), 1u);
  EXPECT_EQ(site.artifact_stores[0].config().fields().at("bucket").string_value(), "ml");
  ASSERT_EQ(site.stacks.size(), 2u);
  EXPECT_TRUE(site.stacks[0].is_default());
  EXPECT_FALSE(site.stacks[1].is_default());
  v1::ArtifactStore wanted = site.artifact_stores[0];
  EXPECT_EQ(Compare(nullptr, &wanted).words, "flavor s3, config {\"bucket\":\"ml\"}");
  const v1::ArtifactStore same = wanted;
  EXPECT_EQ(Compare(&same, &wanted).kind, Change::Kind::kNone);

  Read(
      "artifact_stores: [{name: default, flavor: local}, {name: x, confg: {}}]\n"
      "stacks: {a: {orchestrator: o, is_default: true}, b: {orchestrator: o, is_default: true}, c: {orchestrator: o, "
      "is_default: 1}}\n"
      "settings: {default_stack: c}\n",
      &problems);
  std::vector<std::string> fields;
  for (const spec::Problem& problem : problems) fields.push_back(problem.field);
  EXPECT_THAT(fields, testing::ElementsAre("artifact_stores[0]", "artifact_stores[1].confg", "artifact_stores[1]",
                                           "stacks.b.is_default", "stacks.c.is_default", "settings.default_stack"));
}

TEST(SiteTest, NothingToDoTheSecondTime) {
  v1::Pool present, wanted;
  present.set_name("db");
  present.set_slots(2);
  present.set_description("kept");
  present.set_used(1);
  wanted.set_name("db");
  wanted.set_slots(2);
  EXPECT_EQ(Compare(&present, &wanted).kind, Change::Kind::kNone);
  wanted.set_slots(3);
  const Change change = Compare(&present, &wanted);
  EXPECT_EQ(change.kind, Change::Kind::kUpdate);
  EXPECT_EQ(change.words, "slots 2 → 3");
  EXPECT_EQ(wanted.description(), "kept");
}

}  // namespace
}  // namespace orch::cli
