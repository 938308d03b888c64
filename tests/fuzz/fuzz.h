// What the fuzz targets share: a check that ends the process, and small views of their input.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

// A property of the target that must hold for every input; libFuzzer keeps the input that breaks it.
#define REQUIRE(cond)                                                                             \
  do {                                                                                            \
    if (!(cond)) {                                                                                \
      std::fprintf(stderr, "%s:%d: the property does not hold: %s\n", __FILE__, __LINE__, #cond); \
      std::abort();                                                                               \
    }                                                                                             \
  } while (false)

namespace orch::fuzz {

inline std::string_view View(const uint8_t* data, size_t size) {
  return size == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char*>(data), size);
}

// Parts of an input that are texts themselves: separated by lines that hold only `----`, so that corpus files can be
// read and written by people. Always `count` parts; the last has whatever is left.
inline std::vector<std::string> Parts(std::string_view input, size_t count) {
  constexpr std::string_view kLine = "\n----\n";
  std::vector<std::string> parts;
  while (parts.size() + 1 < count) {
    const size_t at = input.find(kLine);
    parts.emplace_back(input.substr(0, at));
    input = at == std::string_view::npos ? std::string_view() : input.substr(at + kLine.size());
  }
  parts.emplace_back(input);
  return parts;
}

}  // namespace orch::fuzz
