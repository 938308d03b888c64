// What is said of pods and Jobs: whatever it is, an end has a reason and a message, and a pod that ended well ended
// well.
#include <nlohmann/json.hpp>

#include "backends/kubernetes/job_end.h"
#include "backends/kubernetes/pending.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orch::kubernetes;  // NOLINT: a small file
  const auto view = orch::fuzz::View(data, size);
  const nlohmann::json object = nlohmann::json::parse(view.begin(), view.end(), nullptr, false);
  const PodView pod = ReadPod(object);
  const JobView job = ReadJob(object, "a=1,b=2");
  REQUIRE(!job.ours || !job.key.empty());
  const Pending pending = PendingOf(pod, 60);
  REQUIRE((pending.reason == orch::Reason::kNone) == pending.message.empty());
  (void)WarningOf(object);
  for (const bool stopped : {false, true}) {
    JobFate fate;
    fate.stop_sent = stopped;
    const JobEnd end = EndOf(pod, job, fate);
    if (end.lost) {
      REQUIRE(!end.end.message.empty() && !stopped);
    } else if (end.end.reason == orch::Reason::kNone) {
      REQUIRE(end.end.exit_code == 0);
    }
    if (pod.succeeded()) REQUIRE(!end.lost && end.end.exit_code == 0);
  }
  return 0;
}
