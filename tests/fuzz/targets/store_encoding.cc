// How lists are kept in one column: what was written is read; damaged columns give what is whole in them.
#include "server/store/encoding.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace store = orch::store;
  const std::string_view input = orch::fuzz::View(data, size);
  const absl::string_view bytes(input.data(), input.size());
  const store::Pairs pairs = store::DecodePairs(bytes);
  const std::string encoded = store::EncodePairs(pairs);
  REQUIRE(store::DecodePairs(encoded) == pairs);
  REQUIRE(input.substr(0, encoded.size()) == encoded);

  const std::vector<int64_t> ids = store::DecodeIds(bytes);
  REQUIRE(store::DecodeIds(store::EncodeIds(ids)) == ids);
  const auto groups = store::DecodeGroups(bytes);
  REQUIRE(store::DecodeGroups(store::EncodeGroups(groups)) == groups);
  const auto counts = store::DecodeCounts(bytes);
  REQUIRE(store::DecodeCounts(store::EncodeCounts(counts)) == counts);

  std::string plain;
  const std::string escaped = store::EscapeLike(bytes);
  for (size_t i = 0; i < escaped.size(); ++i) {
    REQUIRE(escaped[i] != '%' && escaped[i] != '_');
    if (escaped[i] == '\\') REQUIRE(++i < escaped.size());
    plain.push_back(escaped[i]);
  }
  REQUIRE(plain == input);
  return 0;
}
