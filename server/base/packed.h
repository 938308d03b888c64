// Numbers and texts one behind the other, as the store keeps what no query looks into. Numbers take 4 bytes, the least
// first.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace orch {

inline void PackNumber(uint32_t number, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(number >> shift & 0xFF));
}

inline void PackText(absl::string_view text, std::string* out) {
  PackNumber(static_cast<uint32_t>(text.size()), out);
  out->append(text.data(), text.size());
}

// Take the first from `bytes`; false if it is not whole, and then nothing is taken.
inline bool UnpackNumber(absl::string_view* bytes, uint32_t* number) {
  if (bytes->size() < sizeof(*number)) return false;
  *number = 0;
  for (size_t i = 0; i < sizeof(*number); ++i) {
    *number |= static_cast<uint32_t>(static_cast<unsigned char>((*bytes)[i])) << (8 * i);
  }
  bytes->remove_prefix(sizeof(*number));
  return true;
}

inline bool UnpackText(absl::string_view* bytes, std::string* text) {
  absl::string_view rest = *bytes;
  uint32_t size = 0;
  if (!UnpackNumber(&rest, &size) || size > rest.size()) return false;
  *text = std::string(rest.substr(0, size));
  rest.remove_prefix(size);
  *bytes = rest;
  return true;
}

}  // namespace orch
