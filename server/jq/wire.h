// What the daemon and its expression helper say to each other over a stream socket: frames of a length and bytes.
#pragma once

#include <cstdint>
#include <string>

namespace orch::jq {

// What became of one request. `text` of the reply is the result as compact JSON, or why there is none.
enum class Outcome : uint8_t {
  kCompiled = 0,  // asked without input: it is an expression
  kResult = 1,    // exactly one
  kInvalid = 2,   // it is no jq expression
  kFailed = 3,    // jq's own error at run time, no result, or more than one
};

struct Request {
  bool compile_only = false;
  std::string expression;
  std::string input;  // JSON; unused by compile_only
};
struct Reply {
  Outcome outcome = Outcome::kFailed;
  std::string text;
};

// Blocking; false at the end of the stream, for a broken frame, or one that would be larger than 256 MiB.
bool Write(int fd, const Request& request);
bool Read(int fd, Request* request);
bool Write(int fd, const Reply& reply);
bool Read(int fd, Reply* reply);

}  // namespace orch::jq
