// What the host of plug-ins reads: schemas, versions, observations, logs.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "backends/plugin/convert.h"
#include "backends/plugin/log_copier.h"
#include "backends/plugin/schema.h"
#include "backends/plugin/session.h"

namespace orch::plugin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> SchemaFaults(absl::string_view text) {
  std::vector<std::string> faults;
  CheckSchema(text, &faults);
  return faults;
}

std::vector<std::string> Faults(absl::string_view schema, absl::string_view value) {
  std::vector<std::string> out;
  for (const Violation& fault : Validate(schema, value, "config")) out.push_back(fault.field + " " + fault.description);
  return out;
}

TEST(SchemaTest, OnlyWhatIsUnderstoodIsTaken) {
  EXPECT_THAT(SchemaFaults(""), IsEmpty()) << "there is nothing to configure";
  EXPECT_THAT(SchemaFaults(R"({"type":"object","properties":{"a":{"type":["string","null"],"pattern":"^x"}}})"),
              IsEmpty());
  EXPECT_THAT(SchemaFaults("[]"), SizeIs(1));
  EXPECT_THAT(SchemaFaults(R"({"type":"string"})"), SizeIs(1));
  const auto wrong = SchemaFaults(
      R"({"type":"object","oneOf":[],"properties":{"a":{"type":"text"},"b":{"pattern":"(","minLength":-1}},
          "required":"a","items":{"$ref":"#"},"enum":[]})");
  EXPECT_THAT(wrong, SizeIs(7));
  EXPECT_THAT(wrong, ::testing::Contains(HasSubstr("/oneOf is a keyword that is not supported")));
  EXPECT_THAT(wrong, ::testing::Contains(HasSubstr("/properties/b/pattern is no expression that RE2 knows")));
  std::string deep = "true";
  for (int i = 0; i < 40; ++i) deep = R"({"properties":{"x":)" + deep + "}}";
  EXPECT_THAT(SchemaFaults(R"({"type":"object","items":)" + deep + "}"), SizeIs(1));
  EXPECT_THAT(SchemaFaults(std::string(kMaxSchemaBytes + 1, ' ')), SizeIs(1));
}

TEST(SchemaTest, SaysAllThatIsWrongWithAValue) {
  constexpr char kSchema[] = R"({"type":"object","additionalProperties":false,"required":["name","n"],"properties":{
    "name":{"type":"string","minLength":2,"maxLength":4,"pattern":"^[a-zü]+$"},
    "n":{"type":"integer","minimum":1,"maximum":9}, "f":{"type":"number"}, "b":{"type":"boolean"},
    "mode":{"enum":["a","b",3]}, "fixed":{"const":1},
    "list":{"type":"array","minItems":1,"maxItems":2,"items":{"type":"object","required":["k"]}}}})";
  EXPECT_THAT(Faults(kSchema, R"({"name":"aüb","n":3.0,"f":2.5,"b":true,"mode":3,"fixed":1,"list":[{"k":1}]})"),
              IsEmpty());
  EXPECT_THAT(Faults(kSchema, "{}"), ElementsAre("config.name is missing", "config.n is missing"));
  EXPECT_THAT(Faults(kSchema, R"({"name":"A","n":1.5,"f":"x","b":0,"mode":"c","fixed":2,"list":[{},{},{}],"zzz":1})"),
              SizeIs(12));
  EXPECT_THAT(Faults(kSchema, R"({"name":"abcde","n":10})"), SizeIs(2));
  EXPECT_THAT(Faults(kSchema, R"({"name":"ab","n":0,"list":[]})"), SizeIs(2));
  EXPECT_THAT(Faults(kSchema, "[]"), ElementsAre("config must be of type object"));
  EXPECT_THAT(Faults(kSchema, "{"), ElementsAre("config is no JSON"));
  EXPECT_THAT(Faults("", R"({"a":1})"), ElementsAre("config.a is unknown: there is nothing to set"));
  EXPECT_THAT(Faults(kSchema, R"({"name":"ab","n":1,"x":1})"), ElementsAre(HasSubstr("there are b, f, fixed")));
  // A text that would make std::regex overflow its stack.
  EXPECT_THAT(Faults(R"({"type":"object","properties":{"s":{"pattern":"^(a|b)*$"}}})",
                     R"({"s":")" + std::string(1 << 20, 'a') + "\"}"),
              IsEmpty());
}

TEST(ProtocolTest, TheNewestThatBothSpeak) {
  EXPECT_EQ(ChooseProtocol({1}, 1, 1), 1);
  EXPECT_EQ(ChooseProtocol({}, 1, 1), 0);
  EXPECT_EQ(ChooseProtocol({2}, 1, 1), 0) << "it is newer than the daemon";
  EXPECT_EQ(ChooseProtocol({2}, 3, 2), 2) << "the one before the daemon's newest";
  EXPECT_EQ(ChooseProtocol({1}, 3, 2), 0) << "two before it";
  EXPECT_EQ(ChooseProtocol({4, 2, 3, 1}, 3, 2), 3);
  EXPECT_EQ(ChooseProtocol({0, -1}, 1, 1), 0);
}

TEST(ConvertTest, WhatCannotBeIsSaid) {
  v1::Observation o;
  o.set_key("k");
  EXPECT_THAT(FaultOf(o), HasSubstr("phase 0"));
  o.set_phase(static_cast<v1::Phase>(17));
  EXPECT_THAT(FaultOf(o), HasSubstr("phase 17"));
  o.set_phase(v1::ENDED);
  EXPECT_THAT(FaultOf(o), HasSubstr("not how"));
  o.mutable_end()->set_exit_code(0);
  EXPECT_EQ(FaultOf(o), "");
  o.mutable_end()->set_reason(static_cast<v1::Reason>(99));
  EXPECT_THAT(FaultOf(o), HasSubstr("reason 99"));
  o.mutable_end()->set_reason(v1::OTHER);
  o.set_handle(std::string(4096, 'h'));
  EXPECT_EQ(FaultOf(o), "");
  o.set_handle(std::string(4097, 'h'));
  EXPECT_THAT(FaultOf(o), HasSubstr("4096"));
  EXPECT_THAT(FaultOf(v1::Observation()), HasSubstr("phase 0"));
}

TEST(ConvertTest, EndsAreToldApart) {
  v1::End end;
  EXPECT_EQ(ToEnd(end).reason, Reason::kLost) << "nobody can say";
  end.set_exit_code(0);
  EXPECT_EQ(ToEnd(end).reason, Reason::kNone);
  end.set_exit_code(3);
  EXPECT_EQ(ToEnd(end).reason, Reason::kExitCode);
  end.set_exit_code(300);
  EXPECT_EQ(ToEnd(end).reason, Reason::kLost) << "that is no exit code";
  end.set_signal(9);
  EXPECT_EQ(ToEnd(end).reason, Reason::kSignaled);
  EXPECT_EQ(ToEnd(end).message, "ended by signal 9 (Killed)");
  end.set_reason(v1::OUT_OF_MEMORY);
  EXPECT_EQ(ToEnd(end).reason, Reason::kOutOfMemory);
  end.set_reason(v1::CANCELLED_OUTSIDE);
  EXPECT_EQ(ToEnd(end).reason, Reason::kEvicted);
  end.set_reason(v1::TIME_LIMIT);
  EXPECT_EQ(ToEnd(end).reason, Reason::kRunTimeout);
  end.set_reason(v1::COMMAND_NOT_FOUND);
  EXPECT_TRUE(ToEnd(end).never_started);
  end.set_message(std::string(9000, 'm'));
  end.set_peak_memory(-5);
  EXPECT_EQ(ToEnd(end).message.size(), 8u << 10);
  EXPECT_EQ(ToEnd(end).peak_memory, 0);
  EXPECT_EQ(Cut("aüb", 2), "a") << "whole characters";
}

TEST(LogFilesTest, AreGoneOnWithWhereTheyEnd) {
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / ("plugin-logs-" + std::to_string(getpid()));
  std::filesystem::remove_all(dir);
  const std::string prefix = (dir / "0.1").string();
  {
    LogFiles files;
    ASSERT_TRUE(files.Open(prefix));
    EXPECT_TRUE(files.Write(false, 0, "one"));
    EXPECT_FALSE(files.Write(false, 5, "gap")) << "bytes between are missing";
    EXPECT_TRUE(files.Write(true, 0, "bad"));
  }
  LogFiles files;
  ASSERT_TRUE(files.Open(prefix));
  EXPECT_EQ(files.size(false), 3);
  EXPECT_TRUE(files.Write(false, 0, "one")) << "sent again";
  EXPECT_TRUE(files.Write(false, 1, "netwo"));
  EXPECT_EQ(files.size(false), 6);
  std::ifstream in(prefix + ".out");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "onetwo");
}

TEST(Convert, AWorkspaceIsAnAbsolutePathAndAWayToTheDaemon) {
  v1::RemoteWorkspace workspace;
  EXPECT_THAT(FaultOf(workspace), HasSubstr("no absolute path"));
  workspace.set_root("/tmp");
  EXPECT_EQ(FaultOf(workspace), "");
  workspace.set_root("/" + std::string(200, 'x'));
  EXPECT_THAT(FaultOf(workspace), HasSubstr("at most 200 bytes"));
  workspace.set_root("/tmp");
  workspace.set_endpoint("ftp://here");
  EXPECT_THAT(FaultOf(workspace), HasSubstr("none of unix:/PATH"));
  for (const char* good : {"unix:/run/s", "http://h:1", "https://h:1"}) {
    workspace.set_endpoint(good);
    EXPECT_EQ(FaultOf(workspace), "");
  }
}

TEST(Convert, AProbeAlwaysSaysSomethingAndNeverTooMuch) {
  ProbeReport plain;
  v1::ProbeResponse answer;
  AddChecks(answer, &plain);
  ASSERT_EQ(plain.checks.size(), 1u);
  EXPECT_FALSE(plain.good());
  EXPECT_THAT(plain.checks[0].text, HasSubstr("not why"));
  answer.set_healthy(true);
  ProbeReport well;
  AddChecks(answer, &well);
  EXPECT_TRUE(well.good());
  EXPECT_EQ(well.checks.size(), 1u);
  // Unhealthy, though all that it looked at is good: it counts as bad.
  answer.set_healthy(false);
  answer.set_message("closed");
  for (int i = 0; i < 200; ++i) {
    v1::Check* check = answer.add_checks();
    check->set_good(true);
    check->set_text(std::string(10'000, 'x'));
  }
  ProbeReport many;
  AddChecks(answer, &many);
  EXPECT_FALSE(many.good());
  EXPECT_EQ(many.FirstBad()->text, "closed");
  EXPECT_LE(many.checks.size(), 52u);
  EXPECT_EQ(many.checks[0].text.size(), 2'000u);
}

}  // namespace
}  // namespace orch::plugin
