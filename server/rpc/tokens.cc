#include "server/rpc/tokens.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {

constexpr int kMaxPage = 1000;

std::string HashOf(absl::string_view filter) { return Hex(Sha256Of(filter).substr(0, 8)); }

std::string Seal(absl::string_view text) { return absl::WebSafeBase64Escape(text); }

absl::Status PageInvalid(absl::string_view why) {
  return Error(absl::StatusCode::kInvalidArgument, "PAGE_TOKEN_INVALID",
               absl::StrCat("page_token: ", why, "; begin again without it"));
}

}  // namespace

std::string MakePageToken(absl::string_view position, absl::string_view filter) {
  return Seal(absl::StrCat("p1|", HashOf(filter), "|", position));
}

absl::StatusOr<std::string> ReadPageToken(absl::string_view token, absl::string_view filter) {
  if (token.empty()) return std::string();
  std::string text;
  if (token.size() > 1000 || !absl::WebSafeBase64Unescape(token, &text)) return PageInvalid("it is none of orchd's");
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('|', 2));
  if (parts.size() != 3 || parts[0] != "p1" || parts[2].empty()) return PageInvalid("it is none of orchd's");
  if (parts[1] != HashOf(filter)) return PageInvalid("it belongs to another list, filter or order");
  return parts[2];
}

absl::StatusOr<int64_t> ReadPageNumber(absl::string_view token, absl::string_view filter) {
  ASSIGN_OR_RETURN(const std::string position, ReadPageToken(token, filter));
  if (position.empty()) return 0;
  int64_t number = 0;
  if (!absl::SimpleAtoi(position, &number) || number <= 0) return PageInvalid("it is none of orchd's");
  return number;
}

absl::StatusOr<int> PageSize(int32_t asked, int usual) {
  if (asked < 0) {
    return InvalidInput("PAGE_SIZE_INVALID", "page_size is negative",
                        {{"request.page_size", "it is negative; 0 means the usual size", "OUT_OF_RANGE"}});
  }
  if (asked == 0) return usual;
  return asked > kMaxPage ? kMaxPage : asked;
}

std::string MakeResumeToken(absl::string_view instance, int64_t sequence, absl::string_view filter) {
  return Seal(absl::StrCat("w1|", instance, "|", sequence, "|", HashOf(filter)));
}

absl::StatusOr<int64_t> ReadResumeToken(absl::string_view token, absl::string_view instance, absl::string_view filter) {
  std::string text;
  const absl::Status invalid = Error(absl::StatusCode::kInvalidArgument, "RESUME_TOKEN_INVALID",
                                     "resume_token is none of orchd's; watch again without it");
  if (token.size() > 1000 || !absl::WebSafeBase64Unescape(token, &text)) return invalid;
  const std::vector<std::string> parts = absl::StrSplit(text, '|');
  int64_t sequence = 0;
  if (parts.size() != 4 || parts[0] != "w1" || !absl::SimpleAtoi(parts[2], &sequence) || sequence < 0) return invalid;
  if (parts[1] != instance) {
    return Error(absl::StatusCode::kFailedPrecondition, "RESUME_TOKEN_FOREIGN",
                 "resume_token is of another daemon; list again, then watch without it");
  }
  if (parts[3] != HashOf(filter)) {
    return Error(absl::StatusCode::kFailedPrecondition, "RESUME_TOKEN_FOREIGN",
                 "resume_token is of a watch on something else; use it with the same run, or watch without it");
  }
  return sequence;
}

}  // namespace orch::rpc
