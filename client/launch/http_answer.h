// An HTTP/1.1 answer as it arrives, in any pieces. Nothing but the standard library: orch-launch is static.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace orch::launch {

struct HttpAnswer {
  int status = 0;  // 0: there was no answer, `error` says why
  std::string body;
  std::string error;
};

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
