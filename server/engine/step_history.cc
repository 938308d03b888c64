#include "server/engine/step_history.h"

#include <algorithm>

#include "server/base/status.h"

namespace orch {
namespace {

constexpr int kRunsRead = 10;   // of which some may have come from the cache
constexpr size_t kSamples = 5;  // of a step
constexpr size_t kKept = 16;    // pipelines
constexpr size_t kKeptSteps = 200'000;

}  // namespace

absl::StatusOr<std::shared_ptr<const StepHistory::Of>> StepHistory::Read(const std::string& project,
                                                                         const std::string& pipeline) {
  store::RunFilter filter;
  filter.project = project;
  filter.pipeline = pipeline;
  filter.states = {RunState::kSucceeded};
  ASSIGN_OR_RETURN(const std::vector<store::RunRecord> runs, queries_->ListRuns(filter, 0, kRunsRead));
  const RunKey newest = runs.empty() ? 0 : runs.front().header.key;
  {
    MutexLock lock(&mutex_);
    const auto found = known_.find({project, pipeline});
    if (found != known_.end() && found->second->newest == newest) return found->second;
  }
  auto out = std::make_shared<Of>();
  out->newest = newest;
  std::unordered_map<std::string, std::vector<int64_t>> samples;
  for (const store::RunRecord& run : runs) {
    const int64_t cached = run.row.counts[static_cast<size_t>(StepState::kCached)];
    if (cached == run.header.step_count && cached > 0) continue;
    ASSIGN_OR_RETURN(const auto durations, queries_->ListStepDurations(run.header.key));
    ++out->runs;
    for (const auto& [step, micros] : durations) {
      std::vector<int64_t>& of = samples[step];
      if (of.size() < kSamples) of.push_back(std::max<int64_t>(micros, 1));
    }
    if (out->runs == static_cast<int>(kSamples)) break;
  }
  out->steps.reserve(samples.size());
  for (auto& [step, of] : samples) {
    std::sort(of.begin(), of.end());
    out->steps.emplace(step, std::make_pair(of[of.size() / 2], static_cast<int>(of.size())));
  }
  if (out->steps.size() > kKeptSteps) return std::shared_ptr<const Of>(std::move(out));
  MutexLock lock(&mutex_);
  if (known_.size() >= kKept) known_.clear();  // they are only read again
  known_[{project, pipeline}] = out;
  return std::shared_ptr<const Of>(std::move(out));
}

}  // namespace orch
