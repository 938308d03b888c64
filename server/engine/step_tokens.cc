#include "server/engine/step_tokens.h"

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"

namespace orch {
namespace {

constexpr size_t kSignatureBytes = 32;

}  // namespace

std::string StepTokens::Of(const std::string& key) const {
  return absl::StrCat(key, ".", Hex(HmacSha256(secret_, key)));
}

std::optional<std::string> StepTokens::KeyOf(absl::string_view token) const {
  const size_t dot = token.find('.');
  if (dot == absl::string_view::npos || token.size() != dot + 1 + 2 * kSignatureBytes) return std::nullopt;
  std::string key(token.substr(0, dot));
  if (!ConstantTimeEquals(token, Of(key))) return std::nullopt;
  return key;
}

// No key of an attempt begins like that.
std::string StepTokens::FingerprintOf(absl::string_view bytes) const {
  return HmacSha256(secret_, absl::StrCat("fingerprint\n", bytes));
}

}  // namespace orch
