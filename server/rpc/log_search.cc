#include "server/rpc/log_search.h"

#include <re2/re2.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/rpc/checks.h"

namespace orch::rpc {
namespace {

constexpr int64_t kPiece = 256 << 10;
constexpr size_t kMaxLine = 64 << 10;
constexpr size_t kSplitLine = 1 << 20;
constexpr size_t kMaxContextLine = 4 << 10;
constexpr size_t kMaxPattern = 1000;
constexpr int64_t kPatternMemory = 8 << 20;

RE2::Options OptionsOf(bool ignore_case) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_case_sensitive(!ignore_case);
  options.set_max_mem(kPatternMemory);
  return options;
}

// Words of people and of programs that say that something went wrong.
constexpr char kError[] =
    R"(Traceback \(most recent call last\))"
    R"(|(^|[^A-Za-z])[A-Za-z_.]*(Error|Exception)(:|$|\s*\())"
    R"(|(?i:(^|[^a-z0-9_])(error|fatal|panic|exception|assertion failed|segmentation fault|core dumped|out of memory|)"
    R"(command not found|permission denied|no such file or directory|killed)([^a-z0-9_]|$)))";
// What only counts them, or says that there are none.
constexpr char kNoError[] =
    R"((?i)\b(no|0|zero|without)( any)? (errors?|exceptions?|failures?)\b|\b(errors?|exceptions?|failures?)\s*[:=]\s*(0|none|null|false)\b)";

absl::string_view CutLine(absl::string_view line, size_t most) { return line.substr(0, most); }

// Splits what is read into lines.
class Lines {
 public:
  Lines(LogReader* reader, int64_t at, int64_t size) : reader_(reader), at_(at), size_(size) {}

  // The next line, at most kMaxLine of it; false at the end. `*cut`: there was more of it. One without an end counts as
  // several, so that no call reads for ever.
  absl::StatusOr<bool> Next(std::string* line, bool* cut) {
    line->clear();
    *cut = false;
    bool any = false;
    for (size_t passed = 0; passed < kSplitLine;) {
      if (pos_ == piece_.size()) {
        if (at_ >= size_) return any;
        ASSIGN_OR_RETURN(piece_, reader_->Read(at_, std::min(kPiece, size_ - at_)));
        if (piece_.empty()) return any;  // it became shorter
        at_ += static_cast<int64_t>(piece_.size());
        pos_ = 0;
      }
      any = true;
      const size_t newline = piece_.find('\n', pos_);
      const size_t end = newline == std::string::npos ? piece_.size() : newline;
      const size_t room = kMaxLine - line->size();
      line->append(piece_, pos_, std::min(room, end - pos_));
      *cut = *cut || end - pos_ > room;
      passed += end - pos_;
      pos_ = newline == std::string::npos ? end : end + 1;
      if (newline != std::string::npos) return true;
    }
    return true;
  }
  // Where the next line begins.
  int64_t offset() const { return at_ - static_cast<int64_t>(piece_.size() - pos_); }

 private:
  LogReader* const reader_;
  int64_t at_;  // the file is read up to here
  const int64_t size_;
  std::string piece_;
  size_t pos_ = 0;
};

// The lines before `offset`, which begins one: as many as are wanted, of the last 64 KiB.
absl::StatusOr<std::deque<std::string>> LinesBefore(LogReader* reader, int64_t offset, int count) {
  std::deque<std::string> out;
  if (count == 0 || offset == 0) return out;
  const int64_t from = std::max<int64_t>(0, offset - static_cast<int64_t>(kMaxLine));
  Lines lines(reader, from, offset);
  std::string line;
  bool cut = false;
  for (bool first = from > 0;; first = false) {
    ASSIGN_OR_RETURN(const bool any, lines.Next(&line, &cut));
    if (!any) return out;
    if (first) continue;  // its beginning is not there
    out.emplace_back(CutLine(line, kMaxContextLine));
    if (static_cast<int>(out.size()) > count) out.pop_front();
  }
}

}  // namespace

absl::StatusOr<LineMatcher> MatchPattern(const std::string& pattern, bool ignore_case) {
  const auto invalid = [](absl::string_view why) {
    return InvalidInput("PATTERN_INVALID", absl::StrCat("pattern: ", why),
                        {{"request.pattern", std::string(why), "PATTERN_INVALID"}});
  };
  if (pattern.size() > kMaxPattern) return invalid(absl::StrCat("it is longer than ", kMaxPattern, " bytes"));
  const auto re = std::make_shared<const RE2>(pattern, OptionsOf(ignore_case));
  if (!re->ok()) return invalid(absl::StrCat(Quoted(pattern), " is no regular expression (RE2): ", re->error()));
  return LineMatcher(
      [re](absl::string_view line) { return RE2::PartialMatch(re2::StringPiece(line.data(), line.size()), *re); });
}

LineMatcher MatchErrors() {
  static const auto* const kErrors = new RE2(kError, OptionsOf(false));
  static const auto* const kNone = new RE2(kNoError, OptionsOf(false));
  return [](absl::string_view line) {
    const re2::StringPiece text(line.data(), line.size());
    return RE2::PartialMatch(text, *kErrors) && !RE2::PartialMatch(text, *kNone);
  };
}

absl::StatusOr<bool> SearchLog(LogReader* reader, int64_t size, const LogSearch& search, LogPlace* place,
                               std::vector<LogMatch>* found) {
  ASSIGN_OR_RETURN(std::deque<std::string> before, LinesBefore(reader, place->offset, search.before));
  const int64_t begin = place->offset;
  Lines lines(reader, begin, size);
  const size_t first = found->size();
  std::string line;
  LogPlace at = *place;
  bool over = false;  // no more matches are taken, only what follows the last ones
  bool ended = false;
  for (;;) {
    bool cut = false;
    ASSIGN_OR_RETURN(const bool any, lines.Next(&line, &cut));
    if (!any) {
      if (!over) {
        *place = {lines.offset(), at.line};
        ended = true;
      }
      return ended;
    }
    bool wanted = false;  // by a match above
    for (size_t i = found->size(); i-- > first;) {
      LogMatch& match = (*found)[i];
      if (static_cast<int>(match.after.size()) >= search.after) break;
      match.after.emplace_back(CutLine(line, kMaxContextLine));
      wanted = wanted || static_cast<int>(match.after.size()) < search.after;
    }
    if (over && !wanted) return false;
    if (!over) {
      if (search.matches(line)) {
        LogMatch match;
        match.place = at;
        match.text = line;
        match.cut = cut;
        match.before.assign(before.begin(), before.end());
        found->push_back(std::move(match));
        wanted = search.after > 0;
      }
      if (search.before > 0) {
        before.emplace_back(CutLine(line, kMaxContextLine));
        if (static_cast<int>(before.size()) > search.before) before.pop_front();
      }
      at = {lines.offset(), at.line == 0 ? 0 : at.line + 1};
      *place = at;
      over = static_cast<int>(found->size() - first) >= search.max_matches || at.offset - begin >= search.max_bytes;
      if (over && at.offset >= size) return true;
      if (over && !wanted) return false;
    }
  }
}

absl::StatusOr<int64_t> LineStart(LogReader* reader, int64_t offset) {
  const int64_t from = std::max<int64_t>(0, offset - static_cast<int64_t>(kMaxLine));
  ASSIGN_OR_RETURN(const std::string piece, reader->Read(from, offset - from));
  const size_t newline = piece.rfind('\n');
  return newline == std::string::npos ? from : from + static_cast<int64_t>(newline) + 1;
}

int64_t OffsetOf(LogReader* reader, int64_t size, int64_t time) {
  int64_t low = 0;
  int64_t high = size;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    const int64_t written = reader->TimeOf(middle);
    if (written == 0 || written >= time) {  // of the newest bytes nobody knows yet when they came: just now
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace orch::rpc
