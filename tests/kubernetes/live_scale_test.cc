// Many Jobs at once on simulated nodes, through one client: ORCH_TEST_SIMULATED says how many.
// tests/kubernetes/test_simulated.py starts the cluster.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/api/watch.h"
#include "tests/kubernetes/live_cluster.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

// Of this process, KiB.
int64_t Resident() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    int64_t out = 0;
    if (absl::StartsWith(line, "VmRSS:") && absl::SimpleAtoi(line.substr(6, line.rfind(' ') - 6), &out)) return out;
  }
  return 0;
}

class LiveScaleTest : public LiveTest {};

TEST_F(LiveScaleTest, ManyJobsAreMadeOnceAndFollowedByOneWatch) {
  const char* said = getenv("ORCH_TEST_SIMULATED");
  size_t many = 0;
  if (said == nullptr || !absl::SimpleAtoi(said, &many)) GTEST_SKIP() << "ORCH_TEST_SIMULATED names no number";
  std::map<std::string, std::string> state;  // by name
  size_t ended = 0;
  bool listed = false;
  int failures = 0;
  Watch watch(
      client_.get(), jobs_, Selector(),
      {[] {},
       [&](const json& job) {
         std::string& known = state[MetadataText(job, "name")];
         for (const json& condition : job.value("/status/conditions"_json_pointer, json::array())) {
           if (condition["status"] != "True" || (condition["type"] != "Complete" && condition["type"] != "Failed"))
             continue;
           if (known.empty()) ++ended;
           known = condition["type"];
         }
       },
       [&](const json& job) { state.erase(MetadataText(job, "name")); }, [&] { listed = true; },
       [&](const Answer& answer) {
         ++failures;
         fprintf(stderr, "%s\n", answer.Words().c_str());
       }});
  watch.Start();
  ASSERT_TRUE(Wait([&] { return listed; }));
  const int64_t memory = Resident();

  const int64_t began = client_->now();
  std::vector<int64_t> took;
  size_t made = 0;
  for (size_t i = 0; i < many; ++i) {
    json job = Job(absl::StrCat(name_, "-", i), "true");
    json& pod = job["spec"]["template"];
    pod["spec"]["nodeSelector"] = {{"type", "simulated"}};
    pod["spec"]["tolerations"] = json::array({{{"key", "simulated"}, {"operator", "Exists"}}});
    if (i % 10 == 3) pod["metadata"]["annotations"] = {{"simulated/exit-code", "3"}};
    const auto accepted = [&, began](const Answer& answer) {
      EXPECT_EQ(answer.code, 201) << answer.Words();
      ++made;
      took.push_back(client_->now() - began);
    };
    client_->Call({"POST", jobs_, job.dump()}, accepted);
  }
  ASSERT_TRUE(Wait([&] { return made == many; }));
  const double seconds = static_cast<double>(client_->now() - began) / 1e6;
  ASSERT_TRUE(Wait([&] { return ended == many; })) << ended << " of " << many;
  const double all = static_cast<double>(client_->now() - began) / 1e6;
  const int64_t more = Resident() - memory;
  EXPECT_EQ(watch.lists(), 1) << "no list but the first";
  EXPECT_EQ(state.size(), many);
  size_t failed = 0;
  for (const auto& [name, how] : state) failed += how == "Failed" ? 1 : 0;
  EXPECT_EQ(failed, (many + 6) / 10);
  printf("%zu jobs: accepted in %.1f s (%.0f/s), all ended after %.1f s; memory +%lld KiB, %d failures of the watch\n",
         many, seconds, static_cast<double>(many) / seconds, all, static_cast<long long>(more), failures);
  EXPECT_LT(more, 100 << 10);

  // One that is listed anew comes in pages, and each is seen once.
  std::map<std::string, int> seen;
  bool whole = false;
  Watch again(client_.get(), jobs_, Selector(),
              {[&] { seen.clear(); }, [&](const json& job) { seen[MetadataText(job, "name")] += whole ? 0 : 1; },
               [](const json&) {}, [&] { whole = true; }, [](const Answer&) {}});
  again.Start();
  ASSERT_TRUE(Wait([&] { return whole; }));
  EXPECT_EQ(seen.size(), many);
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& entry) { return entry.second == 1; }));

  size_t deleted = 0;
  for (const auto& [name, how] : state) {
    client_->Call({"DELETE", absl::StrCat(jobs_, "/", name, "?propagationPolicy=Background")},
                  [&](const Answer& answer) {
                    EXPECT_TRUE(answer.ok()) << answer.Words();
                    ++deleted;
                  });
  }
  EXPECT_TRUE(Wait([&] { return deleted == many && state.empty(); })) << state.size();
}

TEST_F(LiveScaleTest, OneAfterTheOtherIsAcceptedSoon) {
  const char* said = getenv("ORCH_TEST_SIMULATED");
  if (said == nullptr) GTEST_SKIP() << "ORCH_TEST_SIMULATED names no number";
  std::vector<int64_t> took;
  for (int i = 0; i < 100; ++i) {
    json job = Job(absl::StrCat(name_, "-", i), "true");
    job["spec"]["suspend"] = true;
    const int64_t began = client_->now();
    const Answer answer = Ask({"POST", jobs_, job.dump()});
    took.push_back(client_->now() - began);
    EXPECT_EQ(answer.code, 201) << answer.Words();
  }
  std::sort(took.begin(), took.end());
  printf("one job is accepted in %lld us (p50), %lld us (p95)\n", static_cast<long long>(took[50]),
         static_cast<long long>(took[95]));
  for (int i = 0; i < 100; ++i) Delete(absl::StrCat(name_, "-", i));
}

}  // namespace
}  // namespace orch::kubernetes
