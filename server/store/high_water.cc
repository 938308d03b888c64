#include "server/store/high_water.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>
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
  char text[256];
  const ssize_t n = pread(fd_, text, sizeof(text), 0);
  const std::vector<std::string> words = absl::StrSplit(absl::string_view(text, n > 0 ? static_cast<size_t>(n) : 0),
                                                        absl::ByAnyChar(" \n"), absl::SkipEmpty());
  Mark mark;
  if (words.size() != 5 || !absl::SimpleAtoi(words[1], &mark.epoch) || !absl::SimpleAtoi(words[2], &mark.sequence) ||
      !absl::SimpleAtoi(words[3], &mark.log.salts) || !absl::SimpleAtoi(words[4], &mark.log.frames)) {
    return;
  }
  mark.instance = words[0];
  mark_ = std::move(mark);
}

HighWater::~HighWater() {
  if (fd_ >= 0) close(fd_);
}

absl::Status HighWater::Check(const std::string& path, const Mark& now) const {
  if (mark_.instance.empty()) return absl::OkStatus();
  const std::string way_out = absl::StrCat(
      "; put back the file that belongs here, or a backup (orchd --restore BACKUP), or keep what is certain of this "
      "one "
      "(orchd --salvage ",
      path, "). To go on with what is there, although it may do again what was done, remove ", path_,
      " and start again");
  if (mark_.instance != now.instance) {
    return Error(
        absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
        absl::StrCat(path, " and its log ", path, "-wal hold ", now.instance.empty() ? "nothing" : "another database",
                     ", but this data directory had the one with instance ", mark_.instance, way_out));
  }
  if (now.epoch < mark_.epoch || now.sequence < mark_.sequence) {
    return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                 absl::StrCat(path, " ends at event ", now.sequence, " of start ", now.epoch, ", but event ",
                              mark_.sequence, " of start ", mark_.epoch, " was acknowledged: its log ", path,
                              "-wal was damaged, cut or removed, or the database is an older copy", way_out));
  }
  // What the log lacks may have reached the database before; then older pages of the log would hide newer ones. A log
  // that started again has other salts, and one that is gone hides nothing.
  if (mark_.log.salts != 0 && now.log.salts == mark_.log.salts && now.log.frames < mark_.log.frames) {
    return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                 absl::StrCat(path, "-wal can be read up to frame ", now.log.frames, ", but ", mark_.log.frames,
                              " were written: it was damaged or cut", way_out));
  }
  return absl::OkStatus();
}

void HighWater::Note(const Mark& now) {
  if (fd_ < 0) return;
  // Of fixed size, so that it is overwritten in place: no space is needed, and no name.
  const std::string text = absl::StrFormat("%s %019d %019d %020u %019d\n", now.instance, now.epoch, now.sequence,
                                           now.log.salts, now.log.frames);
  (void)pwrite(fd_, text.data(), text.size(), 0);  // only a later check depends on it
}

void HighWater::NoteAndSync(const Mark& now) {
  Note(now);
  if (fd_ >= 0) (void)fdatasync(fd_);  // as Note
}

}  // namespace orch::store
