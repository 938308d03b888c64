// The configuration of an orchestrator of flavor kubernetes, and the settings of its steps: what is accepted makes a
// Job whose pod's template is one, and takes nothing away that the daemon needs.
#include <algorithm>

#include "backends/kubernetes/config.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/pod_schema.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orch::kubernetes;  // NOLINT: a small file
  const auto view = orch::fuzz::View(data, size);
  const std::string text(view.data(), view.size());
  const auto config = ReadConfig(text);
  if (!config.ok()) REQUIRE(!orch::ViolationsOf(config.status()).empty());
  std::vector<orch::Violation> faults;
  JobFacts facts;
  facts.settings = ReadSettings({}, text, &faults);
  if (!faults.empty()) return 0;
  orch::AttemptWork work;
  work.name.key = "abcdefghij234567abcd";
  work.name.step = text.substr(0, 100);
  std::replace(work.name.step.begin(), work.name.step.end(), '\0', '0');  // which no step's name has
  work.env = {{"ORCH_TOKEN", "secret-of-the-attempt"}};
  work.command = {"/launcher", "run"};
  const nlohmann::json job = JobOf(work, Config(), facts);
  const nlohmann::json& pod = job["spec"]["template"];
  std::vector<Fault> found;
  CheckPod(pod, "PodTemplateSpec", "", false, &found);
  for (const Fault& fault : found)
    REQUIRE(fault.what == "is there twice" || fault.what == "has no value" ||
            fault.field.find("$") != std::string::npos);
  const nlohmann::json& main = pod["spec"]["containers"][0];
  REQUIRE(main["name"] == "main" && main["command"] == nlohmann::json({"/launcher", "run"}));
  REQUIRE(pod["spec"]["restartPolicy"] == "Never");
  REQUIRE(pod["metadata"]["labels"][kKeyLabel] == work.name.key);
  const std::string name = job["metadata"]["name"];
  REQUIRE(name.size() <= 63);
  for (const char c : name) REQUIRE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
  return 0;
}
