#include "server/rpc/urls.h"

#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace orch::rpc {

std::string UrlEscape(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '_' || c == '.' || c == '~') {
      out.push_back(c);
    } else {
      char hex[4];
      std::snprintf(hex, sizeof(hex), "%%%02X", byte);
      out += hex;
    }
  }
  return out;
}

std::string UrlUnescape(absl::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out.push_back(static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string RunUrl(absl::string_view pages, absl::string_view run) {
  return absl::StrCat(pages, "/runs/", UrlEscape(run));
}

std::string RunLogsUrl(absl::string_view pages, absl::string_view run) {
  return absl::StrCat(RunUrl(pages, run), "#steps");
}

std::string StepLogUrl(absl::string_view pages, absl::string_view run, absl::string_view step) {
  return absl::StrCat(RunUrl(pages, run), "/steps/", UrlEscape(step), "/log");
}

}  // namespace orch::rpc
