// Opaque tokens that clients hand back: where a page ended, where a watch stood. Versioned, and bound to what they
// were made for.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::rpc {

// A page's end: `position` is the method's own (a key, a name). `filter`: everything of the request that chooses what
// is listed.
std::string MakePageToken(absl::string_view position, absl::string_view filter);
// The position; empty for an empty token. INVALID_ARGUMENT (PAGE_TOKEN_INVALID) if it is none of ours or of another
// filter.
absl::StatusOr<std::string> ReadPageToken(absl::string_view token, absl::string_view filter);
// The same for positions that are numbers; 0 for an empty token.
absl::StatusOr<int64_t> ReadPageNumber(absl::string_view token, absl::string_view filter);

// How many are asked for: 0 is `usual`. INVALID_ARGUMENT (PAGE_SIZE_INVALID) if negative; more than 1,000 is 1,000.
absl::StatusOr<int> PageSize(int32_t asked, int usual);

// `instance`: the data directory's UUID.
std::string MakeResumeToken(absl::string_view instance, int64_t sequence, absl::string_view filter);
// The sequence. INVALID_ARGUMENT (RESUME_TOKEN_INVALID), FAILED_PRECONDITION (RESUME_TOKEN_FOREIGN).
absl::StatusOr<int64_t> ReadResumeToken(absl::string_view token, absl::string_view instance, absl::string_view filter);

}  // namespace orch::rpc
