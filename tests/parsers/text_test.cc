// Inputs that fuzzing found, in texts that people write. Each failed once.
#include "absl/strings/str_cat.h"
#include "backends/fake/script.h"
#include "client/lib/discovery.h"
#include "client/spec/parse.h"
#include "gmock/gmock.h"
#include "server/base/status.h"
#include "server/config/config.h"

namespace orch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Faults(const std::string& text) {
  config::Config config;
  return config::ReadYaml(text, "f", &config);
}

TEST(DaemonConfig, ManyColonsCostNothing) {
  EXPECT_THAT(Faults("?" + std::string(100'000, ':') + " [a]\n: b\n"), testing::Not(IsEmpty()));
  EXPECT_THAT(Faults("a: " + std::string(500'000, '[')), testing::Not(IsEmpty()));
}

TEST(DaemonConfig, SaysWhereEachFaultIs) {
  EXPECT_THAT(Faults("listen: 127.0.0.1:1\nlimits: {labels: many, x: 1}\nlisten: a\n"),
              ElementsAre(HasSubstr("f:2:18: labels must be a number"), HasSubstr("f:2:24: unknown field `x`"),
                          HasSubstr("f:3:1: `listen` is there twice")));
  EXPECT_THAT(Faults("a: [1\n"), ElementsAre(HasSubstr("f:2:1: ")));
  EXPECT_THAT(Faults("listen: a\n---\nlisten: b\n"), ElementsAre(HasSubstr("f:3:1: a second document")));
  EXPECT_THAT(Faults("- a\n"), ElementsAre(HasSubstr("must be a mapping")));
  EXPECT_THAT(Faults("data_dir: \"a\\0b\"\n"), ElementsAre(HasSubstr("zero byte")));
  for (const char* nothing : {"", "~\n", "null", "# only a comment\n", "---\n"})
    EXPECT_THAT(Faults(nothing), IsEmpty());
}

TEST(DaemonConfig, WhatIsWrittenIsRead) {
  config::Config config;
  ASSERT_THAT(
      config::ReadYaml("data_dir: &d /x\npublic_url: *d\ngrace: 500ms\nlimits: {item_links: 5}\n", "f", &config),
      IsEmpty());
  EXPECT_EQ(config.public_url, "/x");
  EXPECT_EQ(config.limits.item_links, 5);
  config::Config again;
  ASSERT_THAT(config::ReadYaml(config::ToYaml(config), "g", &again), IsEmpty());
  EXPECT_EQ(config::ToYaml(again), config::ToYaml(config));
}

TEST(DaemonConfig, AFolderThatCannotBeShownIsRefused) {
  for (const char* folder : {"/a\nb", "/a\x7f", "/\xFF", "/\xC2\x85"}) {
    config::Config config;
    config.data_dir = folder;
    EXPECT_THAT(config::Finish(&config), ElementsAre(HasSubstr("data_dir: the path must be UTF-8"))) << folder;
  }
  config::Config config;
  config.data_dir = "/caf\xC3\xA9";
  EXPECT_THAT(config::Finish(&config), IsEmpty());
  config::Config again;
  ASSERT_THAT(config::ReadYaml(config::ToYaml(config), "f", &again), IsEmpty());
  EXPECT_EQ(again.data_dir, config.data_dir);
}

TEST(DaemonConfig, CharactersThatYamlFoldsAreEscaped) {
  config::Config config;
  ASSERT_THAT(config::ReadYaml("data_dir: \"/a\\Pb\\x7f\\N \xC3\xA9\"\n", "f", &config), IsEmpty());
  config::Config again;
  ASSERT_THAT(config::ReadYaml(config::ToYaml(config), "g", &again), IsEmpty());
  EXPECT_EQ(again.data_dir, config.data_dir);
}

TEST(PipelineText, MayBeNoTextAtAll) { EXPECT_EQ(spec::ParsePipeline(absl::string_view()).problems.size(), 1U); }

TEST(ParameterText, MustBeUtf8) {
  EXPECT_EQ(ReasonOf(spec::ParseParameterValue("a\xCB").status()), "INVALID_ENCODING");
  EXPECT_TRUE(spec::ParseParameterValue("\xC3\xA9").ok());
}

TEST(ServerAddress, IsTheSameOnceItIsNormal) {
  for (const char* text : {"unix:/a", "unix:///a", "unix:////a", "/a", "//a", "unix:a", "https://h:1/"}) {
    const auto address = client::NormalAddress(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_EQ(client::NormalAddress(*address).value(), *address) << text;
  }
  EXPECT_EQ(client::NormalAddress("unix:////a").value(), "unix:/a");
  EXPECT_FALSE(client::NormalAddress(absl::StrCat("/", std::string(200, 'a'))).ok());
}

TEST(FakeScript, NumbersBeyondInt64AreRefused) {
  for (const char* json : {R"({"duration":18446744073709551615})", R"({"start_delay":9223372036854775808})"}) {
    std::vector<std::string> faults;
    fake::ParseScript(json, {}, &faults);
    EXPECT_EQ(faults.size(), 1U) << json;
  }
  std::vector<std::string> faults;
  fake::ParseConfig(R"({"capacity":{"memory":18446744073709551615,"gpu":18446744073709551615}})", &faults);
  EXPECT_EQ(faults.size(), 2U);
}

}  // namespace
}  // namespace orch
