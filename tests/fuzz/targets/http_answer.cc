// The answer that orch-launch reads from its daemon: the same in any pieces, whole or refused.
#include "client/launch/http_answer.h"

#include "tests/fuzz/fuzz.h"

namespace orch::launch {
namespace {

// Fed in pieces whose sizes repeat `pattern`; reading stops where PostJson would stop.
HttpAnswer Read(std::string_view text, const std::vector<size_t>& pattern) {
  AnswerReader reader;
  size_t turn = 0;
  while (!text.empty() && !reader.complete()) {
    const size_t n = std::min(text.size(), pattern[turn++ % pattern.size()]);
    reader.Append(text.substr(0, n));
    text.remove_prefix(n);
  }
  return reader.Finish();
}

}  // namespace
}  // namespace orch::launch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::launch::HttpAnswer;
  const std::string_view text = orch::fuzz::View(data, size);
  const HttpAnswer whole = orch::launch::Read(text, {size + 1});
  for (const auto& pattern : {std::vector<size_t>{1}, std::vector<size_t>{3, 1, 7}}) {
    const HttpAnswer pieces = orch::launch::Read(text, pattern);
    REQUIRE(pieces.status == whole.status && pieces.error == whole.error && pieces.body == whole.body);
  }
  REQUIRE((whole.status == 0) == !whole.error.empty());
  if (whole.status != 0) REQUIRE(whole.status >= 100 && whole.status <= 599);
  REQUIRE(whole.body.size() <= text.size());
  return 0;
}
