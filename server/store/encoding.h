// How lists are kept in one column.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/model/rows.h"

namespace orch::store {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// For each text 4 bytes of length (little-endian) and its bytes; nothing for no pairs. Any bytes, order kept.
std::string EncodePairs(const Pairs& pairs);
// Stops at the first piece that is cut off.
Pairs DecodePairs(absl::string_view bytes);

// `3,0,12`: the counts of states 1 and up.
std::string EncodeCounts(const std::array<int64_t, kStepStateCount>& counts);
std::array<int64_t, kStepStateCount> DecodeCounts(absl::string_view text);

std::string EncodeIds(const std::vector<int64_t>& ids);
// Lists of ids with semicolons between: `1,2;3;;4`. Empty: no list at all.
std::string EncodeGroups(const std::vector<std::vector<int64_t>>& groups);
std::vector<std::vector<int64_t>> DecodeGroups(absl::string_view text);
std::vector<int64_t> DecodeIds(absl::string_view text);

// `text` for LIKE … ESCAPE '\': every character stands for itself.
std::string EscapeLike(absl::string_view text);

}  // namespace orch::store
