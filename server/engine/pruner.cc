#include "server/engine/pruner.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr int kSlice = 500;       // rows in one commit
constexpr int kRunsInSlice = 50;  // each of which is several rows
constexpr int kPage = 5'000;      // rows of one read
constexpr size_t kShown = 100;

void Count(PruneGroup* group, const std::string& name, int64_t bytes) {
  ++group->count;
  group->bytes += bytes;
  if (group->names.size() < kShown) group->names.push_back(name);
}

void Keep(PruneGroup* group, const std::string& name, const std::string& why) {
  ++group->kept_count;
  if (group->kept.size() < kShown) group->kept.emplace_back(name, why);
}

// Asked about each thing, the newest first: does it go?
class Judge {
 public:
  Judge(const RetentionRule& rule, int64_t now) : rule_(rule), oldest_(now - rule.max_age_micros) {}
  // `number`: from 1, the newest.
  bool Goes(int64_t time, int64_t bytes, int64_t number) {
    bytes_ += bytes;
    const bool goes = (rule_.max_age_micros > 0 && time < oldest_) ||
                      (rule_.max_count > 0 && number > rule_.max_count) ||
                      (rule_.max_bytes > 0 && bytes_ > rule_.max_bytes);
    if (goes) bytes_ -= bytes;  // it makes room for a smaller one
    return goes;
  }

 private:
  const RetentionRule& rule_;
  const int64_t oldest_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<PruneGroup>> Pruner::Prune(const Retention& rules, bool apply, int64_t now_wall) {
  MutexLock lock(&one_at_a_time_);
  std::vector<PruneGroup> out;
  std::vector<RunKey> gone;
  Makers uncached;
  for (int k = 0; k < kKeptCount; ++k) {
    const auto kind = static_cast<Kept>(k);
    const RetentionRule& rule = rules.of(kind);
    if (!rule.any()) continue;
    absl::StatusOr<PruneGroup> group = PruneGroup();
    switch (kind) {
      case Kept::kCache:
        group = Cache(rule, apply, now_wall, &uncached);
        break;
      case Kept::kArtifacts:
        group = Artifacts(rule, apply, now_wall, uncached);
        break;
      case Kept::kRuns:
        group = Runs(rule, apply, now_wall, &gone);
        break;
      case Kept::kLogs:
        group = Logs(rule, apply, now_wall, gone);
        break;
      case Kept::kEvents:
        group = Events(rule, apply, now_wall);
        break;
    }
    if (!group.ok()) return group.status();
    group->kind = kind;
    if (apply && group->count > 0) {
      Log(LogLevel::kInfo, "pruned",
          {{"what", kKeptNames[static_cast<size_t>(k)]}, {"count", group->count}, {"bytes", group->bytes}});
    }
    out.push_back(*std::move(group));
  }
  return out;
}

absl::StatusOr<PruneGroup> Pruner::Cache(const RetentionRule& rule, bool apply, int64_t now, Makers* uncached) {
  std::vector<store::CacheEntryMark> all;
  for (int64_t after = 0;;) {
    ASSIGN_OR_RETURN(std::vector<store::CacheEntryMark> page, queries_->ListCacheMarks(after, kPage));
    for (store::CacheEntryMark& entry : page) all.push_back(std::move(entry));
    if (page.size() < kPage) break;
    after = all.back().number;
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.created > b.created; });
  PruneGroup group;
  Judge judge(rule, now);
  std::vector<store::CacheEntryMark> goes;
  int64_t number = 0;
  for (store::CacheEntryMark& entry : all) {
    if (!judge.Goes(entry.created, entry.bytes, ++number)) continue;
    Count(&group, entry.name, entry.bytes);
    uncached->insert({entry.run, entry.ix, entry.attempt});
    if (apply) goes.push_back(std::move(entry));
  }
  for (size_t at = 0; at < goes.size() && !stopping(); at += kSlice) {
    Removals removals;
    for (size_t i = at; i < std::min(goes.size(), at + kSlice); ++i) {
      removals.cache_entries.push_back({goes[i].project, goes[i].key, goes[i].created});
    }
    RETURN_IF_ERROR(remove_(std::move(removals)));
    ORCH_FAULT("prune.cache_removed");
  }
  return group;
}

absl::StatusOr<PruneGroup> Pruner::Artifacts(const RetentionRule& rule, bool apply, int64_t now,
                                             const Makers& uncached) {
  PruneGroup group;
  Judge judge(rule, now);
  std::vector<std::pair<ArtifactId, RunKey>> goes;
  for (ArtifactId before = 0;;) {  // newest first
    ASSIGN_OR_RETURN(const std::vector<store::ArtifactMark> page, queries_->ListArtifactMarks(before, kPage));
    for (const store::ArtifactMark& artifact : page) {
      before = artifact.id;
      if (!judge.Goes(artifact.created, artifact.size, artifact.newer + 1)) continue;
      const bool cached = artifact.cached && uncached.count({artifact.run, artifact.ix, artifact.attempt}) == 0;
      if (cached || !artifact.needed_by.empty()) {
        Keep(&group, artifact.name, artifact.needed_by.empty() ? "a cache entry" : artifact.needed_by);
        continue;
      }
      Count(&group, artifact.name, artifact.size);
      if (apply) goes.emplace_back(artifact.id, artifact.run);
    }
    if (page.size() < kPage) break;
  }
  for (size_t at = 0; at < goes.size() && !stopping(); at += kSlice) {
    Removals removals;
    std::set<RunKey> runs;  // in one order, as whoever holds several does
    for (size_t i = at; i < std::min(goes.size(), at + kSlice); ++i) {
      removals.pruned_artifacts.push_back(goes[i].first);
      runs.insert(goes[i].second);
    }
    // A retry that has read what there is goes on with that; one that comes after reads what is left.
    std::vector<std::shared_ptr<const void>> holds;
    for (const RunKey run : runs) holds.push_back(hold_run_(run));
    RETURN_IF_ERROR(remove_(std::move(removals)));
    ORCH_FAULT("prune.artifacts_removed");
  }
  return group;
}

absl::StatusOr<std::vector<store::EndedRun>> Pruner::EndedRuns() {
  std::vector<store::EndedRun> all;
  for (RunKey before = 0;;) {
    ASSIGN_OR_RETURN(std::vector<store::EndedRun> page, queries_->ListEndedRuns(before, kPage));
    for (store::EndedRun& run : page) all.push_back(std::move(run));
    if (page.size() < kPage) return all;
    before = all.back().key;
  }
}

absl::StatusOr<PruneGroup> Pruner::Runs(const RetentionRule& rule, bool apply, int64_t now, std::vector<RunKey>* gone) {
  ASSIGN_OR_RETURN(const std::vector<store::EndedRun> all, EndedRuns());
  PruneGroup group;
  Judge judge(rule, now);
  int64_t number = 0;
  for (const store::EndedRun& run : all) {
    int64_t bytes = 0;
    if (rule.max_bytes > 0) {
      ASSIGN_OR_RETURN(bytes, queries_->SizeOfRun(run.key));
    }
    if (!judge.Goes(run.ended, bytes, ++number)) continue;
    if (rule.max_bytes == 0) {
      ASSIGN_OR_RETURN(bytes, queries_->SizeOfRun(run.key));
    }
    Count(&group, run.name, bytes);
    gone->push_back(run.key);
  }
  for (size_t at = 0; apply && at < gone->size() && !stopping(); at += kRunsInSlice) {
    const std::vector<RunKey> slice(gone->begin() + static_cast<int64_t>(at),
                                    gone->begin() + static_cast<int64_t>(std::min(gone->size(), at + kRunsInSlice)));
    absl::Status status = delete_runs_(slice);
    // One that was opened again meanwhile stays; the others go.
    for (size_t i = 0; ReasonOf(status) == "RUN_NOT_ENDED" && i < slice.size(); ++i) {
      const absl::Status one = delete_runs_({slice[i]});
      if (!one.ok() && ReasonOf(one) != "RUN_NOT_ENDED") return one;
      if (i + 1 == slice.size()) status = absl::OkStatus();
    }
    RETURN_IF_ERROR(status);
    ORCH_FAULT("prune.runs_deleted");
  }
  return group;
}

absl::StatusOr<PruneGroup> Pruner::Logs(const RetentionRule& rule, bool apply, int64_t now,
                                        const std::vector<RunKey>& gone) {
  ASSIGN_OR_RETURN(const std::vector<store::EndedRun> all, EndedRuns());
  const std::set<RunKey> deleted(gone.begin(), gone.end());
  const auto backends = backends_();
  PruneGroup group;
  Judge judge(rule, now);
  int64_t number = 0;
  for (const store::EndedRun& run : all) {
    if (deleted.count(run.key) > 0) continue;
    int64_t bytes = 0;
    for (const std::shared_ptr<Backend>& backend : backends) bytes = std::max(bytes, backend->LogBytes(run.id));
    if (bytes == 0) continue;
    if (!judge.Goes(run.ended, bytes, ++number)) continue;
    Count(&group, run.name, bytes);
    if (!apply || stopping()) continue;
    // It may have been opened again meanwhile, and is not until its logs are gone: what it writes then stays.
    const auto hold = hold_run_(run.key);
    const auto record = queries_->GetRun(run.key);
    if (!record.ok() || !IsTerminal(record->row.state)) continue;
    for (const std::shared_ptr<Backend>& backend : backends) RETURN_IF_ERROR(backend->RemoveLogs(run.id));
    ORCH_FAULT("prune.logs_removed");
  }
  return group;
}

absl::StatusOr<PruneGroup> Pruner::Events(const RetentionRule& rule, bool apply, int64_t now) {
  PruneGroup group;
  const int64_t last = hub_->last_sequence();
  ASSIGN_OR_RETURN(const store::EventMarks marks,
                   queries_->MarkEvents(last, rule.max_age_micros > 0 ? now - rule.max_age_micros : 0));
  int64_t up_to = marks.before_time;
  if (rule.max_count > 0) up_to = std::max(up_to, last - rule.max_count);
  if (rule.max_bytes > 0 && marks.bytes_each > 0) up_to = std::max(up_to, last - rule.max_bytes / marks.bytes_each);
  up_to = std::min(up_to, last);
  if (up_to < marks.first) return group;
  ASSIGN_OR_RETURN(group.count, queries_->CountEvents(up_to));
  group.bytes = group.count * marks.bytes_each;
  group.names.push_back(absl::StrCat(marks.first, "-", up_to));
  for (bool first = true; apply && !stopping(); first = false) {
    Removals removals;
    removals.compacted = {up_to, kSlice * 4};
    RETURN_IF_ERROR(remove_(std::move(removals)));
    if (first) ORCH_FAULT("prune.events_removed");
    ASSIGN_OR_RETURN(const store::EventMarks left, queries_->MarkEvents(last, 0));
    if (left.first > up_to) break;
  }
  return group;
}

bool Pruner::stopping() {
  MutexLock lock(&mutex_);
  return stopping_;
}

void Pruner::Start(Retention rules) {
  if (rules.every_micros <= 0) return;
  thread_ = std::thread([this, rules = std::move(rules)] {
    for (;;) {
      {
        MutexLock lock(&mutex_);
        const int64_t until = Clock::Real().Now().mono + rules.every_micros;
        while (!stopping_) {
          const int64_t left = until - Clock::Real().Now().mono;
          if (left <= 0) break;
          (void)changed_.WaitFor(&mutex_, std::chrono::microseconds(left));  // the loop looks again
        }
        if (stopping_) return;
      }
      const auto done = Prune(rules, true, Clock::Real().Now().wall);
      if (!done.ok() && !stopping()) {
        Log(LogLevel::kWarning, "retention was not applied; tried again", {{"why", done.status().message()}});
      }
    }
  });
}

void Pruner::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace orch
