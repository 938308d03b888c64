// The file of `apply`: faults have places; a document written as YAML reads the same; applying what is there changes
// nothing.
#include "client/cli/site_file.h"

#include <nlohmann/json.hpp>

#include "client/cli/json.h"
#include "client/spec/parse.h"
#include "google/protobuf/util/message_differencer.h"
#include "tests/fuzz/fuzz.h"

namespace orch::cli {
namespace {

template <typename Message>
void ApplyTwice(const std::vector<Message>& wanted) {
  for (Message message : wanted) {
    REQUIRE(Compare(nullptr, &message).kind == Change::Kind::kAdd);
    const Message present = message;
    REQUIRE(Compare(&present, &message).kind == Change::Kind::kNone);
  }
}

void Check(absl::string_view text) {
  const spec::ParseLimits limits{1 << 16, 64, 20'000, 5'000};
  const spec::ConfigDocument document = spec::ParseConfig(text, limits);
  if (!document.problems.empty()) return;
  const spec::ConfigDocument written = spec::ParseConfig(ToYaml(ToJson(document.value)));
  REQUIRE(written.problems.empty());
  REQUIRE(google::protobuf::util::MessageDifferencer::Equals(written.value, document.value));

  std::vector<spec::Problem> problems;
  const Site site = ReadSite(document, &problems);
  for (const spec::Problem& problem : problems) {
    REQUIRE(problem.position.line > 0);
    REQUIRE(!problem.reason.empty() && !problem.description.empty());
  }
  if (!problems.empty()) return;
  ApplyTwice(site.orchestrators);
  ApplyTwice(site.pools);
  ApplyTwice(site.artifact_stores);
  ApplyTwice(site.stacks);
}

}  // namespace
}  // namespace orch::cli

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  orch::cli::Check({text.data(), text.size()});
  return 0;
}
