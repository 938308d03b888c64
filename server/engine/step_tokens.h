// The token of a step: its attempt's key and a signature over it, so that no list of tokens has to be kept.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace orch {

// Any thread.
class StepTokens {
 public:
  explicit StepTokens(std::string secret) : secret_(std::move(secret)) {}
  std::string Of(const std::string& key) const;
  // The key of a token that we signed; whether its attempt is still live is not known here.
  std::optional<std::string> KeyOf(absl::string_view token) const;
  // Tells equal texts from others, and without our key nothing about them. 32 raw bytes.
  std::string FingerprintOf(absl::string_view bytes) const;

 private:
  const std::string secret_;
};

}  // namespace orch
