#include "server/store/encoding.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace orch::store {
namespace {

void AppendText(const std::string& text, std::string* out) {
  const auto size = static_cast<uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>((size >> shift) & 0xff));
  out->append(text);
}

bool TakeText(absl::string_view* bytes, std::string* out) {
  if (bytes->size() < 4) return false;
  uint32_t size = 0;
  for (size_t i = 0; i < 4; ++i) size |= static_cast<uint32_t>(static_cast<unsigned char>((*bytes)[i])) << (8 * i);
  bytes->remove_prefix(4);
  if (bytes->size() < size) return false;
  out->assign(bytes->data(), size);
  bytes->remove_prefix(size);
  return true;
}

}  // namespace

std::string EncodePairs(const Pairs& pairs) {
  std::string out;
  for (const auto& [key, value] : pairs) {
    AppendText(key, &out);
    AppendText(value, &out);
  }
  return out;
}

Pairs DecodePairs(absl::string_view bytes) {
  Pairs out;
  std::string key, value;
  while (TakeText(&bytes, &key) && TakeText(&bytes, &value)) out.emplace_back(std::move(key), std::move(value));
  return out;
}

std::string EncodeCounts(const std::array<int64_t, kStepStateCount>& counts) {
  std::string out;
  out.reserve(48);
  for (size_t i = 1; i < counts.size(); ++i) absl::StrAppend(&out, i == 1 ? "" : ",", counts[i]);
  return out;
}

std::array<int64_t, kStepStateCount> DecodeCounts(absl::string_view text) {
  std::array<int64_t, kStepStateCount> out{};
  size_t i = 1;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    if (i >= out.size()) break;
    (void)absl::SimpleAtoi(part, &out[i++]);  // what is no number counts as 0
  }
  return out;
}

std::string EncodeIds(const std::vector<int64_t>& ids) { return absl::StrJoin(ids, ","); }

std::vector<int64_t> DecodeIds(absl::string_view text) {
  std::vector<int64_t> out;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    int64_t id = 0;
    if (absl::SimpleAtoi(part, &id)) out.push_back(id);
  }
  return out;
}

std::string EncodeGroups(const std::vector<std::vector<int64_t>>& groups) {
  std::string out;
  for (const std::vector<int64_t>& group : groups) absl::StrAppend(&out, EncodeIds(group), ";");
  return out;
}

std::vector<std::vector<int64_t>> DecodeGroups(absl::string_view text) {
  std::vector<std::vector<int64_t>> out;
  for (size_t end = text.find(';'); end != absl::string_view::npos; end = text.find(';')) {
    out.push_back(DecodeIds(text.substr(0, end)));
    text.remove_prefix(end + 1);
  }
  return out;
}

std::string EscapeLike(absl::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '%' || c == '_' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

}  // namespace orch::store
