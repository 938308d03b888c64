#include "server/http/html.h"

#include "absl/strings/str_cat.h"

namespace orch::http {
namespace {

// The length of the UTF-8 character at `i`, 0 if there is none.
size_t CharacterAt(absl::string_view text, size_t i) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(i);
  size_t length = 0;
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) length = 2;
  if (first >= 0xE0 && first <= 0xEF) length = 3;
  if (first >= 0xF0 && first <= 0xF4) length = 4;
  if (length == 0 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  if ((first == 0xE0 && byte(i + 1) < 0xA0) || (first == 0xED && byte(i + 1) > 0x9F) ||
      (first == 0xF0 && byte(i + 1) < 0x90) || (first == 0xF4 && byte(i + 1) > 0x8F)) {
    return 0;
  }
  return length;
}

}  // namespace

std::string HtmlEscape(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = CharacterAt(text, i);
    if (length != 1) {
      length == 0 ? out.append("\xEF\xBF\xBD") : out.append(text.data() + i, length);
      i += length == 0 ? 1 : length;
      continue;
    }
    const char c = text[i++];
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r') {
          out.append("\xEF\xBF\xBD");
        } else {
          out.push_back(c);
        }
    }
  }
  return out;
}

std::string HtmlPage(absl::string_view title, absl::string_view body, int refresh_seconds) {
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
      refresh_seconds > 0 ? absl::StrCat("<meta http-equiv=\"refresh\" content=\"", refresh_seconds, "\">") : "",
      "<title>", HtmlEscape(title), "</title><link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n", body,
      "\n</body></html>\n");
}

absl::string_view StyleSheet() {
  return R"css(:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#1a7f37;--bad:#c62828;--busy:#0b62c4;--dim:#59636e}
@media (prefers-color-scheme:dark){:root{--good:#56d364;--bad:#ff7b72;--busy:#79b8ff;--dim:#9aa4af}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:76rem;padding:1rem}
h1{font-size:1.4rem;margin:.5rem 0;overflow-wrap:anywhere}
a{color:var(--busy)}a:focus-visible{outline:3px solid var(--busy);outline-offset:2px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
caption{text-align:left;color:var(--dim);padding:.3rem 0}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.num{text-align:right;font-variant-numeric:tabular-nums}
.state{font-weight:600;white-space:nowrap}.SUCCEEDED,.CACHED{color:var(--good)}.FAILED{color:var(--bad)}
.RUNNING,.SUBMITTING,.QUEUED,.STOPPING,.HALTING,.CANCELLING,.BACKOFF{color:var(--busy)}
.WAITING,.READY,.PENDING,.SKIPPED,.CANCELLED,.PAUSED{color:var(--dim)}
pre{background:var(--soft);padding:.8rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
code{background:var(--soft);padding:.1rem .3rem}.dim{color:var(--dim)}
)css";
}

absl::string_view ContentSecurityPolicy() {
  return "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

}  // namespace orch::http
