#include "server/base/json.h"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "server/base/utf8.h"

namespace orch {

std::string JsonQuote(absl::string_view text) {
  bool plain = true;
  for (const char c : text) plain = plain && c >= ' ' && c != '"' && c != '\\' && c != 0x7f;
  if (plain) {  // what nearly all text is
    std::string out;
    out.reserve(text.size() + 2);
    out.push_back('"');
    out.append(text.data(), text.size());
    out.push_back('"');
    return out;
  }
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string YamlQuote(absl::string_view text) {
  const std::string json = JsonQuote(text);
  std::string out;
  out.reserve(json.size());
  for (size_t at = 0; at < json.size();) {
    const size_t length = Utf8Length(json, at);
    if (!IsControl(json, at, length)) {
      out.append(json, at, length);
    } else {
      uint32_t character = static_cast<uint8_t>(json[at]) & (length == 1 ? 0x7F : length == 2 ? 0x1F : 0x0F);
      for (size_t i = 1; i < length; ++i) character = character << 6 | (static_cast<uint8_t>(json[at + i]) & 0x3F);
      absl::StrAppendFormat(&out, "\\u%04X", character);
    }
    at += length;
  }
  return out;
}

}  // namespace orch
