#include "server/base/json.h"

#include <nlohmann/json.hpp>

namespace orch {

std::string JsonQuote(absl::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace orch
