#include "server/base/json.h"

#include <nlohmann/json.hpp>

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

}  // namespace orch
