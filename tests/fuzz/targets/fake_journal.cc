// The fake platform's journal: damaged lines are passed over, and what was read is read again after more was written.
#include "backends/fake/journal.h"
#include "tests/fuzz/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::fake::Journal;
  using orch::fake::StoredJob;
  static const orch::fuzz::Scratch scratch;
  const std::string path = scratch.Write("journal", orch::fuzz::View(data, size));
  std::map<std::string, StoredJob> jobs;
  {
    Journal journal;
    REQUIRE(journal.Open(path, &jobs).ok());
    StoredJob job;
    job.key = "new";
    job.step = "s";
    job.outputs = {"a", "b"};
    job.submitted = 7;
    journal.Submitted(job);
    journal.Cancelled("new", 8);
  }
  std::map<std::string, StoredJob> again;
  Journal journal;
  REQUIRE(journal.Open(path, &again).ok());
  REQUIRE(again.count("new") == 1);
  if (jobs.count("new") == 0) {
    REQUIRE(again["new"].cancelled == 8 && again["new"].outputs.size() == 2);
    REQUIRE(again.size() == jobs.size() + 1);
  }
  for (const auto& [key, job] : jobs) {
    REQUIRE(again.count(key) == 1 && again[key].step == job.step && again[key].settings_json == job.settings_json);
  }
  return 0;
}
