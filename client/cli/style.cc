#include "client/cli/style.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "absl/strings/str_cat.h"

namespace orch::cli {
namespace {

const char* Code(Color color) {
  switch (color) {
    case Color::kNone:
      return "";
    case Color::kBold:
      return "\x1b[1m";
    case Color::kDim:
      return "\x1b[2m";
    case Color::kRed:
      return "\x1b[31m";
    case Color::kGreen:
      return "\x1b[32m";
    case Color::kYellow:
      return "\x1b[33m";
    case Color::kBlue:
      return "\x1b[34m";
    case Color::kCyan:
      return "\x1b[36m";
  }
  return "";
}

// One character of UTF-8 at the head of `text`: its code point, and its length in bytes. A broken one is U+FFFD, 1
// long.
char32_t Decode(absl::string_view text, size_t* length) {
  const auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char head = byte(0);
  size_t need = 1;
  char32_t point = head;
  if (head >= 0xF0 && head < 0xF5) {
    need = 4;
    point = head & 0x07u;
  } else if (head >= 0xE0) {
    need = 3;
    point = head & 0x0Fu;
  } else if (head >= 0xC2) {
    need = 2;
    point = head & 0x1Fu;
  }
  *length = 1;
  if ((head >= 0x80 && need == 1) || head >= 0xF5 || text.size() < need) return 0xFFFD;
  for (size_t i = 1; i < need; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return 0xFFFD;
    point = (point << 6) | (byte(i) & 0x3Fu);
  }
  *length = need;
  return point;
}

int PointWidth(char32_t point) {
  if (point < 0x300) return 1;
  // wcwidth() knows more than ASCII only in a UTF-8 locale; the user's may be another.
  static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (utf8 == nullptr) return 1;
  const locale_t before = uselocale(utf8);
  const int width = wcwidth(static_cast<wchar_t>(point));
  uselocale(before);
  return width < 0 ? 1 : width;
}

}  // namespace

Style Style::For(int fd, bool no_color) {
  const char* forbidden = getenv("NO_COLOR");
  const char* term = getenv("TERM");
  const bool dumb = term == nullptr || strcmp(term, "dumb") == 0;
  return Style(!no_color && (forbidden == nullptr || *forbidden == '\0') && !dumb && isatty(fd) == 1);
}

std::string Style::Paint(absl::string_view text, Color color) const {
  if (!color_ || color == Color::kNone || text.empty()) return std::string(text);
  return absl::StrCat(Code(color), text, "\x1b[0m");
}

Color ColorOf(v1::Run::State state) {
  switch (state) {
    case v1::Run::SUCCEEDED:
      return Color::kGreen;
    case v1::Run::FAILED:
    case v1::Run::HALTING:
      return Color::kRed;
    case v1::Run::CANCELLED:
    case v1::Run::CANCELLING:
    case v1::Run::PAUSED:
      return Color::kYellow;
    case v1::Run::RUNNING:
      return Color::kBlue;
    default:
      return Color::kDim;
  }
}

Color ColorOf(v1::Step::State state) {
  switch (state) {
    case v1::Step::SUCCEEDED:
      return Color::kGreen;
    case v1::Step::CACHED:
      return Color::kCyan;
    case v1::Step::FAILED:
      return Color::kRed;
    case v1::Step::CANCELLED:
    case v1::Step::STOPPING:
    case v1::Step::BACKOFF:
      return Color::kYellow;
    case v1::Step::RUNNING:
    case v1::Step::SUBMITTING:
    case v1::Step::QUEUED:
      return Color::kBlue;
    default:
      return Color::kDim;
  }
}

int Width(absl::string_view text) {
  int width = 0;
  while (!text.empty()) {
    size_t length = 1;
    width += PointWidth(Decode(text, &length));
    text.remove_prefix(length);
  }
  return width;
}

std::string Fit(absl::string_view text, int columns) {
  if (columns <= 0) return "";
  if (Width(text) <= columns) return std::string(text);
  int width = 0;
  size_t used = 0;
  while (used < text.size()) {
    size_t length = 1;
    const int more = PointWidth(Decode(text.substr(used), &length));
    if (width + more > columns - 1) break;
    width += more;
    used += length;
  }
  return absl::StrCat(text.substr(0, used), "…");
}

std::string Clean(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    size_t length = 1;
    const char32_t point = Decode(text, &length);
    const absl::string_view bytes = text.substr(0, length);
    if (point == '\n' || point == '\t' || point == '\r') {
      out += ' ';
    } else if (point < 0x20 || (point >= 0x7F && point < 0xA0)) {
      out += '?';
    } else if (point == 0xFFFD && length == 1) {
      out += "\xEF\xBF\xBD";
    } else {
      out.append(bytes.data(), bytes.size());
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace orch::cli
