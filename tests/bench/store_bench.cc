// What the store costs: rows per second by batch size, commits, syncs, and the load of a big run. Prints a table.
// Usage: store_bench [FOLDER [RUNS]]; the folder's file system is what is measured (default: a new one under TMPDIR or
// /tmp), lists are taken from RUNS runs (default 200,000).
//        store_bench --fill FOLDER RUNS: only makes a data directory with that many ended runs, for a daemon to serve.
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/store/queries.h"
#include "server/store/store.h"

namespace orch::store {
namespace {

int64_t Micros() { return Clock::Real().Now().mono; }

int64_t CpuMicros() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * int64_t{1'000'000} + usage.ru_utime.tv_usec +
         usage.ru_stime.tv_usec;
}

double ResidentMegabytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE)) / 1e6;
}

struct Bench {
  std::unique_ptr<Writer> writer;
  int64_t sequence = 0;
  int64_t next_run = 0;

  void Commit(Batch* batch) {
    const absl::Status status = writer->Commit(batch);
    if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    CHECK(status.ok());
  }

  RunRow NewRun(int64_t steps, Batch* batch, const std::string& pipeline = "bench") {
    RunHeader h;
    h.key = next_run++;
    h.id = absl::StrCat("0192f0a1-0000-7000-8000-", 100000000000 + h.key);
    h.project = "default";
    h.name = absl::StrCat(pipeline, "-20261124-", 1000000 + h.key);
    h.pipeline = pipeline;
    h.orchestrator = h.key % 10 == 0 ? "kube" : "local";
    h.parameters_json = "{\"folds\":3}";
    h.labels = {{"team", absl::StrCat("t", h.key % 100)}};
    h.environment = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/home/u"}, {"USER", "u"}, {"LANG", "C.UTF-8"}};
    h.step_count = steps;
    RunRow row;
    row.key = h.key;
    row.state = RunState::kRunning;
    batch->new_runs.push_back(std::move(h));
    batch->runs.push_back(row);
    return row;
  }

  static StepRow Step(RunKey run, StepIx ix, StepState state) {
    StepRow s;
    s.run = run;
    s.ix = ix;
    s.name = absl::StrCat("train[", ix, "]");
    s.state = state;
    s.attempt = 1;
    s.ready = s.started = 1'790'000'000'000'000 + ix;
    s.orchestrator = "local";
    if (IsTerminal(state)) s.exit_code = 0;
    return s;
  }

  static AttemptRow Attempt(RunKey run, StepIx ix, AttemptState state) {
    AttemptRow a;
    a.run = run;
    a.ix = ix;
    a.number = 1;
    a.state = state;
    a.key = "abcdefghijklmnopqrst";
    a.orchestrator = "local";
    a.handle = "12345:678910";
    a.created = a.started = 1'790'000'000'000'000 + ix;
    a.created_mono = a.started_mono = 86'400'000'000 + ix;
    if (IsTerminal(state)) a.exit_code = 0;
    return a;
  }

  void Event(RunKey run, StepIx ix, StepState state, Batch* batch) {
    EventRow e;
    e.sequence = ++sequence;
    e.time = 1'790'000'000'000'000 + sequence;
    e.type = EventType::kStepStateChanged;
    e.run = run;
    e.ix = ix;
    e.attempt = 1;
    e.state = static_cast<uint8_t>(state);
    batch->events.push_back(std::move(e));
  }

  // The end of step `ix` and the start of the next: what one link of a chain commits.
  void Link(RunRow* run, StepIx ix, Batch* batch) {
    batch->steps.push_back(Step(run->key, ix, StepState::kSucceeded));
    batch->attempts.push_back(Attempt(run->key, ix, AttemptState::kSucceeded));
    Event(run->key, ix, StepState::kSucceeded, batch);
    batch->steps.push_back(Step(run->key, ix + 1, StepState::kRunning));
    batch->attempts.push_back(Attempt(run->key, ix + 1, AttemptState::kRunning));
    Event(run->key, ix + 1, StepState::kReady, batch);
    Event(run->key, ix + 1, StepState::kRunning, batch);
    ++run->counts[static_cast<size_t>(StepState::kSucceeded)];
    ++run->version;
    run->last_sequence = sequence;
  }

  // Ended runs of 50 pipelines, 100 teams, two orchestrators; one in a thousand has failed.
  void Fill(int count) {
    for (int i = 0; i < count;) {
      Batch runs;
      for (int k = 0; k < 100; ++k, ++i) {
        (void)NewRun(10, &runs, absl::StrCat("p", i % 50));
        runs.runs.back().state = i % 1000 == 0 ? RunState::kFailed : RunState::kSucceeded;
      }
      Commit(&runs);
      writer->MaybeCheckpoint(true);
    }
  }

  void Links(int per_commit, int commits) {
    Batch first;
    RunRow run = NewRun(per_commit * commits, &first);
    Commit(&first);
    const Writer::Stats before = writer->stats();
    StepIx ix = 0;
    int64_t build = 0;
    const int64_t start = Micros();
    const int64_t cpu = CpuMicros();
    for (int i = 0; i < commits; ++i) {
      const int64_t t = Micros();
      Batch batch;
      for (int k = 0; k < per_commit; ++k) Link(&run, ix++, &batch);
      batch.runs.push_back(run);
      build += Micros() - t;
      Commit(&batch);
      writer->MaybeCheckpoint(true);
    }
    const double took = static_cast<double>(Micros() - start - build) / 1e6;
    const double used = static_cast<double>(CpuMicros() - cpu - build);
    const Writer::Stats after = writer->stats();
    const double rows = static_cast<double>(after.rows - before.rows);
    std::printf(
        "%8d steps a commit: %8.0f rows/s  %7.3f ms a commit  %6.1f us CPU a commit  %5.2f us CPU a row  %.3f syncs a "
        "commit\n",
        per_commit, rows / took, took * 1e3 / commits, used / commits, used / rows,
        static_cast<double>(after.syncs - before.syncs) / commits);
  }
};

Bench Open(const std::string& folder) {
  StoreOptions options;
  options.data_dir = folder;
  auto opened = Writer::Open(options, Clock::Real().Now());
  if (!opened.ok()) std::fprintf(stderr, "%s\n", std::string(opened.status().message()).c_str());
  CHECK(opened.ok());
  Bench bench;
  bench.writer = *std::move(opened);
  bench.next_run = bench.writer->meta().next_run_key;
  bench.sequence = bench.writer->meta().last_sequence;
  return bench;
}

void Main(const std::string& folder, int listed) {
  SetLogLevel(LogLevel::kError);
  utsname machine;
  uname(&machine);
  std::printf("%s %s, %ld CPUs, data in %s\n", machine.sysname, machine.release, sysconf(_SC_NPROCESSORS_ONLN),
              folder.c_str());
  const double before = ResidentMegabytes();
  Bench bench = Open(folder);
  {
    auto idle = Queries::Open({.data_dir = folder});
    CHECK(idle.ok());
    std::printf("RSS of an idle store: %.1f MB more than the program's %.1f MB\n", ResidentMegabytes() - before,
                before);
  }
  for (int round = 0; round < 2; ++round) {
    bench.Links(1, 3000);
    bench.Links(16, 600);
    bench.Links(256, 100);
  }

  Batch batch;
  RunRow big = bench.NewRun(100'000, &batch);
  for (StepIx ix = 0; ix < 100'000; ++ix) {
    batch.steps.push_back(Bench::Step(big.key, ix, StepState::kRunning));
    batch.attempts.push_back(Bench::Attempt(big.key, ix, AttemptState::kRunning));
  }
  bench.Commit(&batch);
  int64_t start = Micros();
  auto run = bench.writer->LoadRun(big.key);
  CHECK(run.ok() && run->steps.size() == 100'000 && run->attempts.size() == 100'000);
  std::printf("load of a run with 100,000 running steps: %.0f ms\n", static_cast<double>(Micros() - start) / 1e3);

  start = Micros();
  bench.Fill(listed);
  std::printf("submit, 100 a commit: %.1f us a run\n", static_cast<double>(Micros() - start) / listed);
  auto queries = Queries::Open({.data_dir = folder});
  CHECK(queries.ok());
  // Each in all four orders.
  const auto list = [&](const char* what, const RunFilter& filter) {
    std::printf("page of 50 of %d runs, %-28s", listed, what);
    for (const RunOrder order :
         {RunOrder::kNewestFirst, RunOrder::kOldestFirst, RunOrder::kByName, RunOrder::kByNameDescending}) {
      int64_t best = INT64_MAX;
      size_t n = 0;
      for (int i = 0; i < 5; ++i) {
        start = Micros();
        auto page = (*queries)->PageOfRuns(filter, order, {}, 50);
        CHECK(page.ok());
        n = page->runs.size();
        best = std::min(best, Micros() - start);
      }
      std::printf(" %6.2f ms (%2zu)", static_cast<double>(best) / 1e3, n);
    }
    std::printf("\n");
  };
  std::printf("%65s     newest first    oldest first       by name     by name desc\n", "");
  RunFilter filter;
  list("all", filter);
  filter.states = {RunState::kFailed};
  list("state", filter);
  filter = {};
  filter.pipeline = "p7";
  list("pipeline", filter);
  filter = {};
  filter.orchestrator = "kube";
  list("orchestrator", filter);
  filter = {};
  filter.labels = {{"team", "t42"}};
  list("label", filter);
  filter = {};
  filter.name_contains = "p7-";
  list("part of a name, frequent", filter);
  filter.name_contains = "nothing-like-it";
  list("part of a name, none", filter);
  filter.name_contains = "20261126";
  list("frequent pieces, none", filter);
  filter = {};
  filter.name_prefix = "p7-2026";
  list("beginning of a name", filter);
  filter = {};
  filter.pipeline = "p7";
  filter.states = {RunState::kFailed};
  list("pipeline and state", filter);
  filter = {};
  filter.labels = {{"team", "t42"}};
  filter.states = {RunState::kCancelled};
  list("label and state, none", filter);
  filter = {};
  filter.pipeline = "p7";
  filter.orchestrator = "kube";
  list("pipeline and orchestrator, none", filter);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  std::printf("largest RSS %.0f MB\n", static_cast<double>(usage.ru_maxrss) / 1e3);
}

}  // namespace
}  // namespace orch::store

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--fill") {
    std::filesystem::create_directories(argv[2]);
    orch::store::Open(argv[2]).Fill(std::atoi(argv[3]));
    return 0;
  }
  if (argc > 1) {
    orch::store::Main(argv[1], argc > 2 ? std::atoi(argv[2]) : 200'000);
    return 0;
  }
  std::string folder = (std::filesystem::temp_directory_path() / "store_bench.XXXXXX").string();
  CHECK(mkdtemp(folder.data()) != nullptr);
  orch::store::Main(folder, 200'000);
  std::filesystem::remove_all(folder);
  return 0;
}
