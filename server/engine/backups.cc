#include "server/engine/backups.h"

#include <algorithm>
#include <chrono>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch {
namespace {
constexpr int64_t kRestFactor = 9;  // of the time that the last one took
}  // namespace

absl::StatusOr<store::Backup> Backups::Make(const std::string& folder) {
  if (folder.empty() && policy_.folder.empty()) {
    return InvalidInput(
        "BACKUP_FOLDER_NEEDED", "no backup was made",
        {{"request.folder", "name a folder, or set `backup: {folder: …}` in the configuration", "REQUIRED"}});
  }
  MutexLock turn(&one_at_a_time_);
  store::BackupOptions options;
  options.data_dir = data_dir_;
  options.folder = folder.empty() ? policy_.folder : folder;
  options.keep = options.folder == policy_.folder ? static_cast<int>(policy_.keep) : 0;
  options.now_wall = Clock::Real().Now().wall;
  options.stopping = [this] { return stopping(); };
  absl::StatusOr<store::Backup> made = store::MakeBackup(options);
  // What is asked for elsewhere says nothing about whether the policy is kept, and who asked was told.
  if (!policy_.folder.empty() && options.folder != policy_.folder) return made;
  MutexLock lock(&mutex_);
  if (made.ok()) {
    latest_ = {*made, absl::OkStatus()};
  } else if (!policy_.folder.empty()) {
    latest_.failure = made.status();
  }
  return made;
}

void Backups::Start() {
  if (!policy_.folder.empty()) thread_ = std::thread([this] { Run(); });
}

void Backups::Run() {
  int64_t copied = -1;  // with so many commits
  int64_t rest = 0;
  for (;;) {
    {
      MutexLock lock(&mutex_);
      const int64_t until = Clock::Real().Now().mono + rest;
      while (!stopping_) {
        const int64_t left = until - Clock::Real().Now().mono;
        if (left <= 0) break;
        (void)changed_.WaitFor(&mutex_, std::chrono::microseconds(left));  // the loop looks again
      }
      if (stopping_) return;
    }
    rest = policy_.every_micros;
    const int64_t commits = commits_();
    if (commits == copied) continue;
    const int64_t begin = Clock::Real().Now().mono;
    const absl::StatusOr<store::Backup> made = Make("");
    rest = std::max(rest, kRestFactor * (Clock::Real().Now().mono - begin));
    if (made.ok()) {
      copied = commits;
    } else if (!stopping()) {
      Log(LogLevel::kError, "no backup was made; tried again", {{"why", made.status().message()}});
    }
  }
}

void Backups::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Backups::stopping() {
  MutexLock lock(&mutex_);
  return stopping_;
}

Backups::Latest Backups::latest() {
  MutexLock lock(&mutex_);
  return latest_;
}

}  // namespace orch
