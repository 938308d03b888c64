// Secrets taken out of streams: whole and in pieces, overlapping, handed on in the middle.
#include "server/base/redactor.h"

#include <random>

#include "gtest/gtest.h"

namespace orch::local {
namespace {

std::string Whole(const std::vector<std::string>& values, const std::string& text) {
  Redactor redactor(values);
  std::string out;
  redactor.Feed(text, &out);
  redactor.Flush(&out);
  return out;
}

TEST(RedactorTest, EachValueBecomesAMark) {
  EXPECT_EQ(Whole({"hunter2!"}, "pw=hunter2! and hunter2!hunter2!"), "pw=*** and ******");
  EXPECT_EQ(Whole({"hunter2!"}, "hunter2"), "hunter2") << "not whole";
  EXPECT_EQ(Whole({}, "anything"), "anything");
  EXPECT_EQ(Whole({"abcde"}, "abcde"), "abcde") << "too short to be looked for";
  EXPECT_EQ(Whole({"abcdef"}, "abcdef"), "***") << "6 bytes are enough";
  EXPECT_EQ(Whole({std::string("a\0b\0cd", 6)}, std::string("xa\0b\0cdx", 8)), "x***x");
}

TEST(RedactorTest, OverlappingOnesAreOne) {
  EXPECT_EQ(Whole({"abcdef", "defghi"}, "abcdefghi."), "***.");
  EXPECT_EQ(Whole({"abcdef", "abcdefgh"}, "abcdefgh abcdefg"), "*** ***g");
  EXPECT_EQ(Whole({"aaaaaa"}, "aaaaaaaa b aaaaa"), "*** b aaaaa");
  EXPECT_EQ(Whole({"bcdefg", "abcdefgh"}, "abcdefgX abcdefgh"), "a***X ***") << "a longer one that does not come";
  EXPECT_EQ(Whole({"aabaab"}, "aabaabaabx"), "***x");
}

TEST(RedactorTest, LinesOfASecret) {
  EXPECT_EQ(Whole({"first line\nsecond line"}, "> first line\nsecond line<"), "> ***<");
  EXPECT_EQ(Whole({"hunter2!\n"}, "hunter2!\nhunter2! "), "****** ")
      << "also without the line end that a shell takes off";
}

TEST(RedactorTest, NoMoreIsHeldBackThanMayBeAValue) {
  Redactor redactor({"secret-value"});
  std::string out;
  redactor.Feed("all of this, then secr", &out);
  EXPECT_EQ(out, "all of this, then ");
  redactor.Feed("et-valu", &out);
  EXPECT_EQ(out, "all of this, then ");
  redactor.Feed("x", &out);
  EXPECT_EQ(out, "all of this, then secret-valux");
  redactor.Feed("secret-value", &out);
  EXPECT_EQ(out, "all of this, then secret-valux***") << "nothing that comes could overlap it";
  Redactor endless({"aaaaaa"});
  std::string none;
  for (int i = 0; i < 1000; ++i) endless.Feed(std::string(1000, 'a'), &none);
  EXPECT_EQ(none, "");
  EXPECT_LT(endless.state().held.size(), 10u) << "what is taken out is not kept";
  endless.Flush(&none);
  EXPECT_EQ(none, "***");
}

// What must come out, by looking at the whole text again and again.
std::string Plainly(const std::vector<std::string>& values, const std::string& text) {
  std::vector<std::pair<size_t, size_t>> found;
  for (const std::string& value : values) {
    if (value.size() < Redactor::kMinValue) continue;
    for (size_t at = text.find(value); at != std::string::npos; at = text.find(value, at + 1)) {
      found.emplace_back(at, at + value.size());
    }
  }
  std::sort(found.begin(), found.end());
  std::string out;
  size_t at = 0;
  for (size_t i = 0; i < found.size();) {
    size_t end = found[i].second;
    size_t next = i + 1;
    for (; next < found.size() && found[next].first < end; ++next) end = std::max(end, found[next].second);
    out += text.substr(at, found[i].first - at) + "***";
    at = end;
    i = next;
  }
  return out + text.substr(at);
}

TEST(RedactorTest, AnyPiecesAndAnyHandOverGiveTheSame) {
  std::mt19937 random(20261127);
  const auto draw = [&](size_t below) { return random() % below; };
  for (int round = 0; round < 3000; ++round) {
    const size_t letters = 1 + draw(3);
    const auto word = [&](size_t size) {
      std::string out;
      while (out.size() < size) out.push_back(static_cast<char>('a' + draw(letters)));
      return out;
    };
    std::vector<std::string> values;
    for (size_t i = 0; i < 1 + draw(4); ++i) values.push_back(word(5 + draw(6)));
    std::string text = word(draw(60));
    for (size_t i = 0; i < draw(4); ++i) text += values[draw(values.size())] + word(draw(5));
    const std::string expected = Plainly(values, text);
    ASSERT_EQ(Whole(values, text), expected) << text;
    auto redactor = std::make_unique<Redactor>(values);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t piece = std::min(1 + draw(7), text.size() - at);
      redactor->Feed(text.substr(at, piece), &out);
      at += piece;
      if (draw(4) != 0) continue;
      const Redactor::State state = redactor->state();  // another process goes on
      redactor = std::make_unique<Redactor>(values);
      redactor->Resume(state, &out);
    }
    redactor->Flush(&out);
    ASSERT_EQ(out, expected) << text;
  }
}

}  // namespace
}  // namespace orch::local
