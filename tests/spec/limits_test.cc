// Hostile and huge texts: a clear answer, soon, and never a crash.
#include <sys/resource.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "client/spec/parse.h"
#include "gmock/gmock.h"

namespace orch::spec {
namespace {

using testing::HasSubstr;

// Of this process's own work: a busy machine must not fail a test.
double SecondsOf(const std::function<void()>& work) {
  const std::clock_t begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

int64_t PeakMebibytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

std::string OneProblem(absl::string_view text, const ParseLimits& limits = {}) {
  std::string out;
  const double seconds = SecondsOf([&] {
    const ParsedPipeline parsed = ParsePipeline(text, limits);
    out = parsed.problems.empty() ? "good"
                                  : absl::StrCat(parsed.problems[0].reason, ": ", Format("", parsed.problems[0]));
  });
  EXPECT_LT(seconds, 10) << text.substr(0, 40);
  return out;
}

std::string Repeated(absl::string_view piece, size_t bytes) {
  std::string out;
  out.reserve(bytes + piece.size());
  while (out.size() < bytes) out.append(piece.data(), piece.size());
  return out;
}

constexpr size_t kThirtyMebibytes = 30 << 20;

TEST(Limits, BytesAreCountedBeforeAnythingIsRead) {
  EXPECT_THAT(OneProblem(std::string(64 << 20, '[')), HasSubstr("67108864 bytes; at most 33554432"));
  ParseLimits limits;
  limits.bytes = 3;
  EXPECT_THAT(OneProblem("a: 1", limits), HasSubstr("4 bytes; at most 3"));
}

TEST(Limits, DepthEndsAtOnce) {
  for (const char* piece : {"[", "{a: ", "{\"a\":", "[{", "- ", "? ", "- - ", "[\n"}) {
    EXPECT_THAT(OneProblem(Repeated(piece, kThirtyMebibytes)), HasSubstr("TOO_LARGE")) << piece;
  }
  std::string indented;
  for (int i = 0; i < 5000; ++i) absl::StrAppend(&indented, std::string(static_cast<size_t>(i), ' '), "a:\n");
  EXPECT_THAT(OneProblem(indented), HasSubstr("deeper than 64"));
  const auto nested = [](size_t depth) {
    return absl::StrCat("{name: a, steps: [{name: a, command: [x], settings: {k: {a: ", std::string(depth, '['),
                        std::string(depth, ']'), "}}}]}");
  };
  EXPECT_EQ(OneProblem(nested(59)), "good");
  EXPECT_THAT(OneProblem(nested(60)), HasSubstr("deeper than 64"));
}

TEST(Limits, LongTextsAreReadInLinearTime) {
  for (const char* piece : {"a",
                            "a ",
                            "a\n",
                            "a b\n ",
                            "'",
                            "\"",
                            "''",
                            "\\",
                            "#",
                            "#\n",
                            "a: ",
                            "a:b ",
                            "&a ",
                            "*a ",
                            "!t ",
                            "- a\n",
                            "a,",
                            "]",
                            "}",
                            "|\n",
                            "\n",
                            " ",
                            "\t",
                            "\r",
                            "---\n",
                            "...\n",
                            "%a\n",
                            "\xC3\xA9",
                            "? a\n",
                            "a: b\n",
                            "- [a]\n",
                            "a: |\n x\n",
                            "\"\\uD83D\\uDE00\"\n",
                            "\\uD83D\\uDE00",
                            "x: [\n"}) {
    for (const char* before : {"", "a: ", "[", "a: \"", "a: '", "a: |\n "}) {
      const std::string text = absl::StrCat(before, Repeated(piece, 1 << 20));
      EXPECT_NE(OneProblem(text), "good");
    }
  }
  EXPECT_THAT(OneProblem(std::string(kThirtyMebibytes, 'a')), HasSubstr("must be a mapping"));
  EXPECT_NE(OneProblem("name: " + Repeated("a ", kThirtyMebibytes)), "good");
  EXPECT_NE(OneProblem("name: \"" + Repeated("\\uD83D\\uDE00", kThirtyMebibytes) + "\""), "good");
}

TEST(Limits, ManyKeysAndManyProblemsAreReadInLinearTime) {
  std::string keys = "name: a\nsteps: [{name: a, command: [x]}]\nlabels:\n";
  for (int i = 0; i < 500'000; ++i) absl::StrAppend(&keys, "  k", i, ": v\n");
  EXPECT_THAT(OneProblem(keys), HasSubstr("more than 64 labels"));
  std::string steps = "name: a\nsteps:\n";
  for (int i = 0; i < 200'000; ++i) absl::StrAppend(&steps, "  - {nam: a}\n");
  const ParsedPipeline parsed = ParsePipeline(steps);
  EXPECT_LT(parsed.problems.size(), 20'000U);
  EXPECT_THAT(parsed.problems.back().description, HasSubstr("more problems"));
}

TEST(Limits, AliasesAreExpandedUnderABudget) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    absl::StrAppend(&bomb, "a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) absl::StrAppend(&bomb, j > 0 ? ", " : "", "*a", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(OneProblem(bomb), HasSubstr("aliases expand to more than 100000"));
  std::string chain = "a0: &a0 [x]\n";
  for (int i = 1; i < 400; ++i) absl::StrAppend(&chain, "a", i, ": &a", i, " [*a", i - 1, "]\n");
  EXPECT_THAT(OneProblem(chain), HasSubstr("deeper than 64"));
}

TEST(Limits, InheritedValuesAreCounted) {
  std::string text = "name: a\ndefaults: {settings: {local: {list: [" + Repeated("x, ", 1 << 20) + "]}}}\nsteps:\n";
  for (int i = 0; i < 100'000; ++i) absl::StrAppend(&text, "- {name: s", i, ", command: [x]}\n");
  EXPECT_THAT(OneProblem(text), HasSubstr("steps that inherit"));
}

TEST(Limits, NodesAreCounted) {
  ParseLimits limits;
  limits.nodes = 5;
  EXPECT_THAT(OneProblem("{a: 1, b: 2, c: 3}", limits), HasSubstr("more than 5 values"));
}

TEST(Mutations, NeverCrash) {
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(ORCH_SPEC_VECTORS)) {
    if (entry.path().extension() != ".yaml" && entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    seeds.push_back(out.str());
  }
  std::sort(seeds.begin(), seeds.end());
  std::mt19937 random(20261124);
  const auto below = [&](size_t n) { return n == 0 ? size_t{0} : static_cast<size_t>(random() % n); };
  const std::string pieces[] = {"[",
                                "]",
                                "{",
                                "}",
                                ": ",
                                ", ",
                                "- ",
                                "\n",
                                "  ",
                                "\"",
                                "'",
                                "&a ",
                                "*a",
                                "!!int ",
                                "|\n",
                                ">",
                                "? ",
                                "#",
                                "%",
                                "---\n",
                                "\t",
                                "null",
                                "\\uD83D\\uDE00",
                                "\\u",
                                "<<: ",
                                "\xFF",
                                "0x",
                                "é"};
  int good = 0;
  int bad = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = seeds[below(seeds.size())];
    for (size_t change = below(6) + 1; change > 0; --change) {
      const size_t at = below(text.size() + 1);
      switch (below(4)) {
        case 0:
          text.insert(at, pieces[below(std::size(pieces))]);
          break;
        case 1:
          text.erase(at, below(12) + 1);
          break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        default: {
          const std::string& other = seeds[below(seeds.size())];
          text.insert(at, other, below(other.size() + 1), below(200));
          break;
        }
      }
    }
    const ParsedPipeline parsed = ParsePipeline(text);
    (parsed.problems.empty() ? good : bad) += 1;
    for (const Problem& problem : parsed.problems) (void)parsed.map.Find(problem.field);
    (void)ParseConfig(text);
    (void)ParseParameterValue(text);
  }
  // Otherwise the mutations would not test what they shall.
  EXPECT_GT(good, 100);
  EXPECT_GT(bad, 1000);
}

std::string ManySteps(bool json) {
  std::string out =
      json ? "{\"name\": \"big\", \"steps\": ["
           : "name: big\ndefaults: {retry: {max_attempts: 3, on: [failed]}, resources: {disk: 1G}}\nsteps:\n";
  for (int i = 0; i < 100'000; ++i) {
    if (json) {
      absl::StrAppend(
          &out, i > 0 ? ", " : "", "{\"name\": \"train-", i,
          "\", \"command\": [\"python3\", \"train.py\", \"--model\", \"${item.model}\"], \"inputs\": {\"table\": "
          "\"ingest.table\"}, \"outputs\": {\"model\": {\"type\": \"model\"}, \"score\": {\"value\": true}}, "
          "\"resources\": {\"cpu\": 1, \"memory\": \"512Mi\"}}");
    } else {
      absl::StrAppend(
          &out, "  - name: train-", i,
          "\n    command: [python3, train.py, --model, \"${item.model}\"]\n    inputs: {table: "
          "ingest.table}\n    outputs: {model: {type: model}, score: {value: true}}\n    resources: {cpu: 1, "
          "memory: 512Mi}\n");
    }
  }
  if (json) out += "]}";
  return out;
}

TEST(Timing, OneHundredThousandSteps) {
  for (const bool json : {false, true}) {
    const std::string text = ManySteps(json);
    const int64_t before = PeakMebibytes();
    ParsedPipeline parsed;
    const double seconds = SecondsOf([&] { parsed = ParsePipeline(text); });
    EXPECT_THAT(parsed.problems, testing::IsEmpty());
    EXPECT_EQ(parsed.pipeline.steps_size(), 100'000);
    EXPECT_LT(seconds, 10);
    std::cout << (json ? "JSON" : "YAML") << ", 100,000 steps, " << text.size() / 1'000'000 << " MB: " << seconds
              << " s; peak memory of the process " << PeakMebibytes() << " MiB (before " << before << ")\n";
    const double places = SecondsOf([&] {
      for (int i = 0; i < 100'000; ++i) {
        EXPECT_GT(parsed.map.Find(absl::StrCat("steps[", i, "].resources.memory")).line, 0);
      }
    });
    std::cout << "  100,000 places found in " << places << " s\n";
    EXPECT_LT(places, 10);
  }
}

}  // namespace
}  // namespace orch::spec
