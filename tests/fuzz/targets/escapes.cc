// Addresses and texts in other texts: what is escaped for a URL comes back, HTML cannot be broken out of, an address
// that was accepted is accepted again as it was understood.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/lib/discovery.h"
#include "server/http/html.h"
#include "server/http/listen.h"
#include "server/rpc/checks.h"
#include "server/rpc/urls.h"
#include "tests/fuzz/fuzz.h"

namespace {

bool IsUtf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(orch::fuzz::View(data, size));
  const std::string escaped = orch::rpc::UrlEscape(text);
  REQUIRE(orch::rpc::UrlUnescape(escaped) == text);
  REQUIRE(escaped.find_first_of("/?#&\"'<> \n\r") == std::string::npos);
  (void)orch::rpc::UrlUnescape(text);

  const std::string html = orch::http::HtmlEscape(text);
  REQUIRE(html.find_first_of("<>\"'") == std::string::npos);
  REQUIRE(IsUtf8(html));

  if (const auto address = orch::client::NormalAddress(text); address.ok()) {
    const auto again = orch::client::NormalAddress(*address);
    REQUIRE(again.ok() && *again == *address);
  }
  if (const auto address = orch::http::ParseAddress(text); address.ok()) {
    const bool v6 = address->host.find(':') != std::string::npos;
    const auto again =
        orch::http::ParseAddress(absl::StrCat(v6 ? "[" : "", address->host, v6 ? "]" : "", ":", address->port));
    REQUIRE(again.ok() && again->host == address->host && again->port == address->port);
  }
  const std::string quoted = orch::rpc::Quoted(text);
  for (const char c : quoted) REQUIRE(static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
  REQUIRE(quoted.size() < 100);
  if (IsUtf8(text)) REQUIRE(IsUtf8(quoted));  // a cut does not go through a character
  return 0;
}
