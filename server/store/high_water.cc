#include "server/store/high_water.h"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"

namespace orch::store {

HighWater::HighWater(const std::string& data_dir)
    : path_(absl::StrCat(data_dir, "/high-water")),
      fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) {
  if (fd_ < 0) return;
  char text[128];
  const ssize_t n = pread(fd_, text, sizeof(text), 0);
  const std::vector<std::string> words = absl::StrSplit(absl::string_view(text, n > 0 ? static_cast<size_t>(n) : 0),
                                                        absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int64_t epoch = 0;
  int64_t sequence = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[1], &epoch) || !absl::SimpleAtoi(words[2], &sequence)) return;
  instance_ = words[0];
  epoch_ = epoch;
  sequence_ = sequence;
}

HighWater::~HighWater() {
  if (fd_ >= 0) close(fd_);
}

absl::Status HighWater::Check(const std::string& path, const std::string& instance, int64_t epoch,
                              int64_t sequence) const {
  if (instance_.empty()) return absl::OkStatus();
  const std::string way_out = absl::StrCat(
      "; put back the file that belongs here, or, to go on with what is there (a backup that was put back), remove ",
      path_, " and start again");
  if (instance_ != instance) {
    return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                 absl::StrCat(path, instance.empty() ? " is new" : " is another database",
                              ", but this data directory had the one with instance ", instance_, way_out));
  }
  if (epoch < epoch_ || sequence < sequence_) {
    return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                 absl::StrCat(path, " ends at event ", sequence, " of start ", epoch, ", but event ", sequence_,
                              " of start ", epoch_, " was acknowledged: its log ", path,
                              "-wal was damaged, cut or removed, or the database is an older copy", way_out));
  }
  return absl::OkStatus();
}

void HighWater::Note(const std::string& instance, int64_t epoch, int64_t sequence) {
  if (fd_ < 0) return;
  // Of fixed size, so that it is overwritten in place: no space is needed, and no name.
  const std::string text = absl::StrFormat("%s %019d %019d\n", instance, epoch, sequence);
  (void)pwrite(fd_, text.data(), text.size(), 0);  // only a later check depends on it
}

}  // namespace orch::store
