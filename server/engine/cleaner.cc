#include "server/engine/cleaner.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr int kSlice = 2'000;  // rows of each kind in one commit: some milliseconds
constexpr std::chrono::microseconds kAgain{1'000'000};
constexpr std::chrono::microseconds kAtLeast{int64_t{3600} * 1'000'000};  // what grows old wakes nobody
constexpr int64_t kPatienceMicros = 100'000;

}  // namespace

void Cleaner::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Cleaner::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  changed_.NotifyAll();
}

void Cleaner::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Cleaner::stopping() {
  MutexLock lock(&mutex_);
  return stopping_;
}

void Cleaner::Run() {
  bool again = false;  // without being woken
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (!stopping_ && !woken_) {
        if (!changed_.WaitFor(&mutex_, again ? kAgain : kAtLeast)) break;
      }
      if (stopping_) return;
      woken_ = false;
    }
    again = false;
    absl::Status status = CleanAll();
    if (status.ok()) status = RemoveBlobs(&again);
    if (status.ok()) status = ForgetRequests();
    if (!status.ok() && !stopping()) {
      Log(LogLevel::kWarning, "not cleaned up; tried again", {{"why", status.message()}});
      again = true;
    }
  }
}

absl::Status Cleaner::CleanAll() {
  while (!stopping()) {
    ASSIGN_OR_RETURN(const std::optional<DeletedRunRow> run, queries_->NextDeletedRun());
    if (!run.has_value()) return absl::OkStatus();
    RETURN_IF_ERROR(CleanRun(*run));
  }
  return absl::OkStatus();
}

absl::Status Cleaner::CleanRun(const DeletedRunRow& run) {
  ORCH_FAULT("clean.begin");
  for (const std::shared_ptr<Backend>& backend : backends_()) {
    const absl::Status status = backend->RemoveLogs(run.id);
    if (!status.ok()) Log(LogLevel::kWarning, "logs stay behind", {{"run", run.name}, {"why", status.message()}});
  }
  ORCH_FAULT("clean.logs_removed");
  // Artifacts first: whether one has a name of its own is seen by its step.
  for (ArtifactId after = 0;;) {
    ASSIGN_OR_RETURN(std::vector<ArtifactId> artifacts, queries_->ListLooseArtifacts(run.key, after, kSlice));
    if (artifacts.empty()) break;
    after = artifacts.back();
    Removals removals;
    removals.artifacts = std::move(artifacts);
    RETURN_IF_ERROR(Commit(std::move(removals)));
    ORCH_FAULT("clean.artifacts_removed");
  }
  ASSIGN_OR_RETURN(store::Queries::RunRemains remains, queries_->FindRemains(run));
  for (StepIx from = 0; remains.last_step.has_value() && from <= *remains.last_step; from += kSlice) {
    Removals removals;
    removals.steps.push_back({run.key, from, from + kSlice});
    RETURN_IF_ERROR(Commit(std::move(removals)));
    ORCH_FAULT("clean.steps_removed");
  }
  while (remains.events) {
    Removals removals;
    removals.events.push_back({run.key, run.last_sequence, kSlice});
    RETURN_IF_ERROR(Commit(std::move(removals)));
    ASSIGN_OR_RETURN(remains, queries_->FindRemains(run));
  }
  Removals removals;
  removals.cleaned_runs.push_back(run.key);
  RETURN_IF_ERROR(Commit(std::move(removals)));
  Log(LogLevel::kInfo, "deleted run cleaned up", {{"run", run.name}});
  return absl::OkStatus();
}

absl::Status Cleaner::RemoveBlobs(bool* more) {
  std::string after;
  while (!stopping()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> listed, queries_->ListBlobRemovals(after, kSlice));
    if (listed.empty()) return absl::OkStatus();
    after = listed.back();
    Removals checked;
    for (const std::string& digest : listed) {
      if (blobs_->Condemn(digest)) {
        checked.checked_blobs.push_back(digest);
      } else {
        *more = true;
      }
    }
    if (checked.checked_blobs.empty()) continue;
    const std::vector<std::string> condemned = checked.checked_blobs;
    // From here on nobody can have got hold of one of these without the blob store having seen it.
    absl::Status status = Commit(std::move(checked));
    absl::StatusOr<std::vector<std::string>> unused = std::vector<std::string>();
    if (status.ok()) unused = queries_->FindBlobRemovals(condemned);
    if (status.ok()) status = unused.status();
    Removals removed;
    for (const std::string& digest : condemned) {
      if (!status.ok() || std::find(unused->begin(), unused->end(), digest) == unused->end()) {
        blobs_->Spare(digest);
        continue;
      }
      absl::Status gone = blobs_->Remove(digest);
      if (gone.ok()) gone = stores_->RemoveCopies(digest);
      if (gone.ok()) {
        removed.removed_blobs.push_back(digest);
      } else {
        *more = true;
        if (ReasonOf(gone) != "BLOB_WANTED") {
          Log(LogLevel::kWarning, "bytes stay behind; tried again", {{"why", gone.message()}});
        }
      }
    }
    RETURN_IF_ERROR(status);
    ORCH_FAULT("clean.bytes_removed");
    if (!removed.empty()) RETURN_IF_ERROR(Commit(std::move(removed)));
    ORCH_FAULT("clean.blobs_removed");
  }
  return absl::OkStatus();
}

absl::Status Cleaner::ForgetRequests() {
  const int64_t before = Clock::Real().Now().wall - kRequestKeptMicros;
  while (!stopping()) {
    ASSIGN_OR_RETURN(const bool some, queries_->HasRequestBefore(before));
    if (!some) return absl::OkStatus();
    Removals removals;
    removals.requests = {before, kSlice};
    RETURN_IF_ERROR(Commit(std::move(removals)));
  }
  return absl::OkStatus();
}

absl::Status Cleaner::Commit(Removals removals) {
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->removals = std::move(removals);
  post.receipt = std::make_shared<Receipt>();
  post.lazy = true;
  const std::shared_ptr<Receipt> receipt = post.receipt;
  mailbox_->Put(std::move(post));
  for (;;) {
    const absl::Status status = receipt->Wait(kPatienceMicros);
    if (ReasonOf(status) != "COMMIT_SLOW") return status;
    // The loop ends without what was put in too late.
    if (stopping()) return Error(absl::StatusCode::kUnavailable, "STOPPING", "the daemon is stopping");
  }
}

}  // namespace orch
