#include "client/spec/words.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace orch::spec {
namespace {

constexpr size_t kMaxName = 200;

// Optimal string alignment: insertions, deletions, substitutions, neighbours swapped.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

bool IsName(absl::string_view name, bool dots) {
  if (name.empty() || name.size() > kMaxName || !absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || (dots && c == '.');
  });
}

absl::string_view NameRule(bool dots) {
  return dots ? "letters, digits, `_`, `-` and `.`, a letter or digit first, at most 200 bytes"
              : "letters, digits, `_` and `-`, a letter or digit first, at most 200 bytes";
}

std::string VariableName(absl::string_view name) {
  std::string out(name);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    c = absl::ascii_isalnum(byte) ? absl::ascii_toupper(byte) : '_';
  }
  return out;
}

std::string Suggest(absl::string_view word, const std::vector<absl::string_view>& words) {
  const std::string lower = absl::AsciiStrToLower(word.substr(0, 64));
  absl::string_view best;
  size_t nearest = SIZE_MAX;
  for (const absl::string_view candidate : words) {
    const size_t distance = Distance(lower, candidate);
    if (distance >= nearest) continue;
    nearest = distance;
    best = candidate;
  }
  // A third of the word may be wrong.
  if (nearest <= std::max<size_t>(1, best.size() / 3)) return absl::StrCat("did you mean `", best, "`?");
  // Or it begins alike (`mem`, `integer`, `retries`).
  size_t longest = 2;
  for (const absl::string_view candidate : words) {
    const auto differ = std::mismatch(lower.begin(), lower.end(), candidate.begin(), candidate.end());
    const auto common = static_cast<size_t>(differ.first - lower.begin());
    if (common <= longest) continue;
    longest = common;
    best = candidate;
  }
  if (longest > 2) return absl::StrCat("did you mean `", best, "`?");
  return absl::StrCat("known are ", absl::StrJoin(words, ", "));
}

std::string Quote(absl::string_view text) {
  constexpr size_t kMost = 60;
  std::string out = "`";
  size_t characters = 0;
  for (const char c : text) {
    if ((static_cast<uint8_t>(c) & 0xC0) != 0x80 && characters++ == kMost) {
      out += "…";
      break;
    }
    out += absl::ascii_iscntrl(static_cast<unsigned char>(c)) ? ' ' : c;
  }
  return out + "`";
}

}  // namespace orch::spec
