// SHA-256 and random ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace orch {

// Incremental SHA-256.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(absl::string_view bytes);
  // The 32 raw bytes. Once.
  std::string Finish();

 private:
  void* context_;
};

// 32 raw bytes.
std::string Sha256Of(absl::string_view bytes);
// Lower-case hex.
std::string Hex(absl::string_view bytes);
// RFC 4648 base32, lower case, no padding: fit for names on every platform.
std::string Base32(absl::string_view bytes);
// HMAC-SHA-256, 32 raw bytes.
std::string HmacSha256(absl::string_view key, absl::string_view message);
// From the kernel's generator.
std::string RandomBytes(int n);
// A time-ordered UUID (version 7).
std::string NewUuid(int64_t wall_micros);
// Takes the same time for equal and different contents of equal length.
bool ConstantTimeEquals(absl::string_view a, absl::string_view b);

}  // namespace orch
