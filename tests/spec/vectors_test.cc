// All of tests/spec/vectors; see its README.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "client/spec/parse.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "google/protobuf/util/message_differencer.h"
#include "nlohmann/json.hpp"

namespace orch::spec {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  EXPECT_TRUE(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  return nlohmann::json::parse(text).dump(2) + "\n";
}

std::string ToText(const std::vector<Problem>& problems) {
  std::string out;
  for (const Problem& problem : problems) {
    std::string line = Format("", problem);
    if (!line.empty() && line[0] == ':') line.erase(0, 1);
    out += line + "\n";
  }
  return out;
}

std::vector<fs::path> Vectors() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(ORCH_SPEC_VECTORS)) {
    if (entry.path().extension() == ".yaml") out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

class VectorTest : public testing::TestWithParam<fs::path> {};

TEST_P(VectorTest, GivesWhatIsWritten) {
  fs::path json = GetParam();
  fs::path errors = GetParam();
  json.replace_extension(".json");
  errors.replace_extension(".errors");
  const ParsedPipeline parsed = ParsePipeline(ReadFile(GetParam()));
  const bool good = parsed.problems.empty();
  const std::string got = good ? ToJson(parsed.pipeline) : ToText(parsed.problems);
  if (std::getenv("ORCH_UPDATE_VECTORS") != nullptr) {
    std::ofstream(good ? json : errors, std::ios::binary) << got;
    fs::remove(good ? errors : json);
  }
  ASSERT_NE(fs::exists(json), fs::exists(errors)) << "exactly one of .json and .errors must exist";
  EXPECT_EQ(got, ReadFile(good ? json : errors));
  for (const Problem& problem : parsed.problems) EXPECT_NE(problem.reason, "") << problem.description;
}

class GoodVectorTest : public testing::TestWithParam<fs::path> {};

TEST_P(GoodVectorTest, ReadsItsOwnJsonBack) {
  const ParsedPipeline parsed = ParsePipeline(ReadFile(GetParam()));
  ASSERT_EQ(ToText(parsed.problems), "");
  const ParsedPipeline again = ParsePipeline(ToJson(parsed.pipeline));
  EXPECT_EQ(ToText(again.problems), "");
  EXPECT_EQ(ToJson(again.pipeline), ToJson(parsed.pipeline));
}

std::vector<fs::path> GoodVectors() {
  std::vector<fs::path> out = Vectors();
  out.erase(std::remove_if(out.begin(), out.end(),
                           [](fs::path path) { return !fs::exists(path.replace_extension(".json")); }),
            out.end());
  return out;
}

std::string NameOf(const testing::TestParamInfo<fs::path>& vector) {
  std::string name = vector.param.stem().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, VectorTest, testing::ValuesIn(Vectors()), NameOf);
INSTANTIATE_TEST_SUITE_P(All, GoodVectorTest, testing::ValuesIn(GoodVectors()), NameOf);

// Adds the full names of all fields that are set in `message`.
void CollectSet(const google::protobuf::Message& message, std::set<std::string>* set) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  const auto* reflection = message.GetReflection();
  reflection->ListFields(message, &fields);
  for (const auto* field : fields) {
    set->insert(field->full_name());
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (field->is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        CollectSet(reflection->GetRepeatedMessage(message, field, i), set);
      }
    } else {
      CollectSet(reflection->GetMessage(message, field), set);
    }
  }
}

void CollectKnown(const google::protobuf::Descriptor& type, std::set<std::string>* known) {
  if (type.full_name().rfind("orch.v1.", 0) != 0) return;
  for (int i = 0; i < type.field_count(); ++i) {
    const auto& field = *type.field(i);
    if (!known->insert(field.full_name()).second) continue;
    if (field.message_type() != nullptr) CollectKnown(*field.message_type(), known);
  }
}

TEST(EveryField, IsWritten) {
  std::set<std::string> set;
  for (const char* name : {"everything.yaml", "yaml-forms.yaml"}) {
    CollectSet(ParsePipeline(ReadFile(fs::path(ORCH_SPEC_VECTORS) / name)).pipeline, &set);
  }
  CollectSet(ParsePipeline("{name: a, steps: [{name: a, command: [x], image: i}]}").pipeline, &set);
  std::set<std::string> known;
  CollectKnown(*v1::Pipeline::descriptor(), &known);
  ASSERT_GT(known.size(), 70U);
  for (const std::string& field : known) EXPECT_TRUE(set.count(field) > 0) << field << " is set by no vector";
}

}  // namespace
}  // namespace orch::spec
