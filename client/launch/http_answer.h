// An HTTP/1.1 answer as it arrives, in any pieces. Nothing but the standard library: orch-launch is static.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace orch::launch {

struct HttpAnswer {
  int status = 0;  // 0: there was no answer, `error` says why
  std::string head;
  std::string body;
  std::string error;

  // The value of a header, or empty; names in any case.
  std::string Header(std::string_view name) const;
};

// What the head of an answer says, up to and with its empty line. False if it is none.
struct AnswerHead {
  int status = 0;
  bool sized = false;
  int64_t length = 0;  // if `sized`
};
bool ReadHead(std::string_view head, AnswerHead* out);

class AnswerReader {
 public:
  void Append(std::string_view bytes);
  // Nothing more is wanted: the answer has the length it said, or is too large. Otherwise it ends with the connection.
  bool complete() const;
  // The answer, or what is wrong with it. Ends the reader's use.
  HttpAnswer Finish();

 private:
  std::string text_;
  size_t head_end_ = std::string::npos;  // of the empty line
  bool chunked_ = false;
  bool has_length_ = false;
  bool bad_ = false;
  size_t length_ = 0;
};

}  // namespace orch::launch
