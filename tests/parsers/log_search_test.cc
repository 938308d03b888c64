// Searching a log: every way to cut it into calls finds the same lines.
#include "server/rpc/log_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class TextLog : public LogReader {
 public:
  explicit TextLog(std::string text) : text_(std::move(text)) {}
  absl::StatusOr<std::string> Read(int64_t offset, int64_t max_bytes) override {
    if (offset >= static_cast<int64_t>(text_.size())) return std::string();
    read_ += std::min<int64_t>(max_bytes, static_cast<int64_t>(text_.size()) - offset);
    return text_.substr(static_cast<size_t>(offset), static_cast<size_t>(max_bytes));
  }
  absl::StatusOr<int64_t> Size() override { return static_cast<int64_t>(text_.size()); }
  int64_t TimeOf(int64_t offset) override { return offset >= 90 ? 0 : 1000 + offset / 10; }
  int64_t read() const { return read_; }

 private:
  const std::string text_;
  int64_t read_ = 0;
};

struct Found {
  std::vector<std::string> lines;
  std::vector<LogMatch> matches;
  int calls = 0;
};

Found All(TextLog& log, LogSearch search) {
  Found found;
  LogPlace place;
  const int64_t size = *log.Size();
  for (bool over = false; !over; ++found.calls) {
    EXPECT_LT(found.calls, 100'000);
    const auto done = SearchLog(&log, size, search, &place, &found.matches);
    EXPECT_TRUE(done.ok()) << done.status();
    over = *done;
  }
  for (const LogMatch& m : found.matches) found.lines.push_back(absl::StrCat(m.place.line, ":", m.text));
  return found;
}

TEST(LogSearchTest, EveryCutFindsTheSame) {
  std::string text;
  std::vector<std::string> expected;
  for (int i = 1; i <= 300; ++i) {
    const std::string line = i % 7 == 0 ? absl::StrCat("hit ", i) : absl::StrCat(std::string(i % 40, 'x'), i);
    if (i % 7 == 0) expected.push_back(absl::StrCat(i, ":", line));
    absl::StrAppend(&text, line, i < 300 ? "\n" : "");
  }
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  TextLog log(text);
  LogSearch search;
  search.matches = *MatchPattern("^hit", false);
  for (const int64_t bytes : {int64_t{1}, int64_t{50}, int64_t{1000}, int64_t{1} << 20}) {
    for (const int most : {1, 3, 1000}) {
      for (const int context : {0, 2, 9}) {
        search.max_bytes = bytes;
        search.max_matches = most;
        search.before = search.after = context;
        const Found found = All(log, search);
        EXPECT_EQ(found.lines, expected);
        for (const LogMatch& m : found.matches) {
          const auto at = static_cast<int>(m.place.line) - 1;
          std::vector<std::string> before, after;
          for (int i = std::max(0, at - context); i < at; ++i) before.push_back(lines[static_cast<size_t>(i)]);
          for (int i = at + 1; i <= at + context && i < 300; ++i) after.push_back(lines[static_cast<size_t>(i)]);
          EXPECT_EQ(m.before, before) << m.text;
          EXPECT_EQ(m.after, after) << m.text << " bytes " << bytes << " most " << most;
          EXPECT_EQ(text.substr(static_cast<size_t>(m.place.offset), 3), "hit");
        }
      }
    }
  }
}

TEST(LogSearchTest, OneCallReadsNoMoreThanItMay) {
  TextLog log(std::string(50 << 20, 'y'));  // no newline at all
  LogSearch search;
  search.matches = *MatchPattern("z", false);
  search.max_bytes = 4 << 20;
  LogPlace place;
  std::vector<LogMatch> found;
  const auto done = SearchLog(&log, *log.Size(), search, &place, &found);
  ASSERT_TRUE(done.ok());
  EXPECT_FALSE(*done);
  EXPECT_LE(log.read(), 6 << 20);
  EXPECT_GE(place.offset, 4 << 20);
}

TEST(LogSearchTest, LongLinesAreCutAndSaidToBe) {
  TextLog log(absl::StrCat("needle", std::string(200'000, 'a'), "\n", std::string(100'000, 'b'), "needle\n"));
  LogSearch search;
  search.matches = *MatchPattern("needle", false);
  const Found found = All(log, search);
  ASSERT_EQ(found.matches.size(), 1u);  // the other stands behind what is looked at
  EXPECT_TRUE(found.matches[0].cut);
  EXPECT_EQ(found.matches[0].text.size(), size_t{64} << 10);
}

TEST(LogSearchTest, PatternsThatAreNone) {
  for (const std::string& wrong :
       {std::string("("), std::string("a{2000}{2000}"), std::string("(?<x"), std::string(1001, 'a')}) {
    const auto matcher = MatchPattern(wrong, false);
    EXPECT_EQ(ReasonOf(matcher.status()), "PATTERN_INVALID") << wrong;
  }
  EXPECT_TRUE((*MatchPattern("ERR", true))("an err here"));
  EXPECT_FALSE((*MatchPattern("ERR", false))("an err here"));
  EXPECT_TRUE(
      (*MatchPattern("a.c", false))("\xff"
                                    "abc"));
}

TEST(LogSearchTest, WhatLooksLikeAnError) {
  const LineMatcher errors = MatchErrors();
  for (const char* line : {"Traceback (most recent call last):", "ValueError: no such column", "error: expected ';'",
                           "[ERROR] it went wrong", "2026-11-24 ERROR it", "fatal: not a git repository",
                           "Segmentation fault (core dumped)", "sh: 1: nope: command not found", "make: *** Error 2",
                           "java.lang.NullPointerException", "panic: runtime error", "Killed",
                           "cp: cannot stat 'x': No such file or directory", "E   AssertionError: 1 != 2"}) {
    EXPECT_TRUE(errors(line)) << line;
  }
  for (const char* line : {"0 errors", "no errors found", "finished without errors", "errors: 0", "error=none",
                           "terrorise", "mean_squared_errors 0.3", "loss 0.1", "Errors: 0, failures: 0"}) {
    EXPECT_FALSE(errors(line)) << line;
  }
}

TEST(LogSearchTest, PlacesByTime) {
  TextLog log("first line here\nsecond line is longer than it\nthird\n" + std::string(100, 'z'));
  const int64_t size = *log.Size();
  EXPECT_EQ(OffsetOf(&log, size, 0), 0);
  EXPECT_EQ(OffsetOf(&log, size, 1003), 30);
  EXPECT_EQ(OffsetOf(&log, size, 5000), 90);  // of what comes after nobody knows the time yet
  EXPECT_EQ(*LineStart(&log, 30), 16);
  EXPECT_EQ(*LineStart(&log, 0), 0);
  EXPECT_EQ(*LineStart(&log, 16), 16);
}

}  // namespace
}  // namespace orch::rpc
