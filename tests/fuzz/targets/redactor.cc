// Secrets taken out of a stream: any pieces, and any hand-over between processes, give what the whole gives; no value
// is left, and nothing else is taken.
#include "server/base/redactor.h"

#include <algorithm>
#include <memory>

#include "tests/fuzz/fuzz.h"

namespace orch {
namespace {

std::string Plainly(const std::vector<std::string>& values, const std::string& text) {
  std::vector<bool> taken(text.size(), false);
  std::vector<bool> joined(text.size() + 1, false);  // two bytes of one occurrence meet here
  for (std::string value : values) {
    for (int round = 0; round < 2; ++round) {
      if (value.size() >= Redactor::kMinValue) {
        for (size_t at = text.find(value); at != std::string::npos; at = text.find(value, at + 1)) {
          for (size_t i = at; i < at + value.size(); ++i) {
            taken[i] = true;
            if (i > at) joined[i] = true;
          }
        }
      }
      value.resize(value.find_last_not_of("\r\n") + 1);
    }
  }
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!taken[i]) {
      out.push_back(text[i]);
    } else if (i == 0 || !taken[i - 1] || !joined[i]) {
      out += "***";
    }
  }
  return out;
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::Redactor;
  if (size > 4096) return 0;
  const std::vector<std::string> parts = orch::fuzz::Parts(orch::fuzz::View(data, size), 4);
  const std::vector<std::string> values(parts.begin(), parts.begin() + 2);
  const std::string& cuts = parts[2];
  const std::string& text = parts[3];
  const std::string expected = orch::Plainly(values, text);
  auto redactor = std::make_unique<Redactor>(values);
  std::string out;
  size_t cut = 0;
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(cuts.empty() ? 255 : cuts[cut++ % cuts.size()]);
    const size_t piece = std::min<size_t>(1 + (byte & 0x7f), text.size() - at);
    redactor->Feed(std::string_view(text).substr(at, piece), &out);
    at += piece;
    REQUIRE(redactor->state().held.size() < 4096);
    if ((byte & 0x80) == 0) continue;
    const Redactor::State state = redactor->state();
    redactor = std::make_unique<Redactor>(values);
    redactor->Resume(state, &out);
  }
  redactor->Flush(&out);
  REQUIRE(out == expected);
  return 0;
}
