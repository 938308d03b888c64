// Writing HTML that cannot be broken out of.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace orch::http {

// For text and for quoted attributes. Bytes that are no UTF-8 become U+FFFD.
std::string HtmlEscape(absl::string_view text);

// A whole page. `title` is text, `body` is HTML. `refresh_seconds` 0: none.
std::string HtmlPage(absl::string_view title, absl::string_view body, int refresh_seconds);

// The only style sheet.
absl::string_view StyleSheet();

// The headers of every page: nothing but our own style may load, nobody may frame it.
absl::string_view ContentSecurityPolicy();

}  // namespace orch::http
