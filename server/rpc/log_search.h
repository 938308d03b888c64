// Lines of a log that match, found with bounded time and memory: a call looks at so many bytes and says where to go on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"

namespace orch::rpc {

// Says whether a line (without its newline) is looked for. Any thread.
using LineMatcher = std::function<bool(absl::string_view line)>;

// A regular expression of RE2's syntax, found anywhere in the line; its time is linear in the line, whatever it is.
// INVALID_ARGUMENT (PATTERN_INVALID) says what is wrong with it.
absl::StatusOr<LineMatcher> MatchPattern(const std::string& pattern, bool ignore_case);
// Lines that look like an error: a traceback's head, `ValueError: …`, `ERROR`, `fatal:`, `Segmentation fault`; not
// `0 errors`.
LineMatcher MatchErrors();

struct LogPlace {
  int64_t offset = 0;  // where a line begins
  int64_t line = 1;    // its number, from 1; 0: not known
};

struct LogMatch {
  LogPlace place;
  std::string text;  // without the newline
  bool cut = false;  // the line was longer than is looked at
  std::vector<std::string> before, after;
};

struct LogSearch {
  LineMatcher matches;
  int before = 0;  // lines of context
  int after = 0;
  int max_matches = 100;
  int64_t max_bytes = int64_t{16} << 20;
};

// Looks from `*place` up to the byte `size`, and moves `*place` to where to go on. True: there is nothing more up to
// `size`. Only the first 64 KiB of a line are looked at; one of more than 1 MiB counts as several.
absl::StatusOr<bool> SearchLog(LogReader* reader, int64_t size, const LogSearch& search, LogPlace* place,
                               std::vector<LogMatch>* found);

// The first byte written at `time` or later (microseconds UTC), to 100 ms; `size` if there is none.
int64_t OffsetOf(LogReader* reader, int64_t size, int64_t time);

// Where the line begins that `offset` is in; no further back than 64 KiB.
absl::StatusOr<int64_t> LineStart(LogReader* reader, int64_t offset);

}  // namespace orch::rpc
