#include "client/launch/http_answer.h"

#include <strings.h>

#include <algorithm>
#include <charconv>

namespace orch::launch {
namespace {

constexpr size_t kMaxAnswer = 16u << 20;
constexpr std::string_view kEnd = "\r\n\r\n";
constexpr std::string_view kLastChunk = "0\r\n\r\n";

std::string_view Stripped(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool SameWord(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The value of a header, or empty; names in any case.
std::string_view HeaderOf(std::string_view head, std::string_view name) {
  for (size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && SameWord(line.substr(0, colon), name)) {
      return Stripped(line.substr(colon + 1));
    }
  }
  return {};
}

// The whole of `text` as a number.
bool ReadNumber(std::string_view text, int base, size_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out, base);
  return error == std::errc() && !text.empty() && end == text.data() + text.size();
}

// Joins the pieces of a chunked body; false if it is not whole.
bool Unchunk(std::string_view in, std::string* out) {
  for (;;) {
    const size_t end = in.find("\r\n");
    if (end == std::string_view::npos) return false;
    const std::string_view line = in.substr(0, end);
    size_t size = 0;
    if (!ReadNumber(Stripped(line.substr(0, line.find(';'))), 16, &size)) return false;
    if (size == 0) return true;
    in.remove_prefix(end + 2);
    if (size > kMaxAnswer || in.size() < size + 2 || in.substr(size, 2) != "\r\n") return false;
    out->append(in.substr(0, size));
    in.remove_prefix(size + 2);
  }
}

// `HTTP/1.1 200 …`
bool ReadStatus(std::string_view text, size_t* status) {
  return text.size() >= 12 && text.substr(0, 7) == "HTTP/1." && text[8] == ' ' &&
         ReadNumber(text.substr(9, 3), 10, status) && *status >= 100 && *status <= 599;
}

}  // namespace

std::string HttpAnswer::Header(std::string_view name) const { return std::string(HeaderOf(head, name)); }

bool ReadHead(std::string_view head, AnswerHead* out) {
  size_t status = 0;
  size_t length = 0;
  if (!ReadStatus(head, &status)) return false;
  out->status = static_cast<int>(status);
  const std::string_view text = HeaderOf(head, "Content-Length");
  const bool chunked = SameWord(HeaderOf(head, "Transfer-Encoding"), "chunked");
  out->sized = !text.empty() && !chunked;
  if (!out->sized) return true;
  if (!ReadNumber(text, 10, &length) || length > static_cast<size_t>(INT64_MAX)) return false;
  out->length = static_cast<int64_t>(length);
  return true;
}

void AnswerReader::Append(std::string_view bytes) {
  const size_t from = text_.size() < kEnd.size() ? 0 : text_.size() - kEnd.size() + 1;
  text_.append(bytes);
  if (head_end_ != std::string::npos) return;
  head_end_ = text_.find(kEnd, from);
  if (head_end_ == std::string::npos) return;
  const std::string_view head = std::string_view(text_).substr(0, head_end_ + 2);
  chunked_ = SameWord(HeaderOf(head, "Transfer-Encoding"), "chunked");
  const std::string_view length = HeaderOf(head, "Content-Length");
  if (chunked_ || length.empty()) return;
  has_length_ = true;
  bad_ = !ReadNumber(length, 10, &length_) || length_ > kMaxAnswer;
}

bool AnswerReader::complete() const {
  if (bad_ || text_.size() > kMaxAnswer) return true;
  if (chunked_) {
    const std::string_view body = std::string_view(text_).substr(head_end_ + kEnd.size());
    std::string ignored;
    return body.size() >= kLastChunk.size() && body.substr(body.size() - kLastChunk.size()) == kLastChunk &&
           Unchunk(body, &ignored);
  }
  return has_length_ && text_.size() >= head_end_ + kEnd.size() + length_;
}

HttpAnswer AnswerReader::Finish() {
  HttpAnswer answer;
  size_t status = 0;
  const std::string_view text = text_;
  if (text.size() > kMaxAnswer) {
    answer.error = "the answer is too large";
    return answer;
  }
  if (bad_ || head_end_ == std::string::npos || !ReadStatus(text.substr(0, head_end_), &status)) {
    answer.error = "the answer is no HTTP";
    return answer;
  }
  std::string_view body = text.substr(head_end_ + kEnd.size());
  if (has_length_ && body.size() < length_) {
    answer.error = "the answer is not whole";
    return answer;
  }
  if (chunked_) {
    if (!Unchunk(body, &answer.body)) {
      answer.error = "the answer is not whole";
      answer.body.clear();
      return answer;
    }
  } else {
    answer.body = std::string(has_length_ ? body.substr(0, length_) : body);
  }
  answer.head = std::string(text.substr(0, head_end_ + 2));
  answer.status = static_cast<int>(status);
  return answer;
}

}  // namespace orch::launch
