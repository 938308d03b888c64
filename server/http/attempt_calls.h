// What a launcher fetches and delivers for its attempt, under /attempt/v1: docs/artifacts.md is the contract.
//
// Knows no HTTP library. The token of the attempt is the address: no call names the attempt.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "server/engine/engine.h"
#include "server/http/message.h"
#include "server/rpc/guard.h"

namespace orch::http {

class AttemptCalls {
 public:
  // `engine` outlives it.
  explicit AttemptCalls(Engine* engine) : engine_(*engine) {}

  static bool Has(const std::string& path);
  // True for bodies that OpenSink takes.
  static bool Streams(const Request& head);

  // A refusal that the head alone deserves. On the HTTP loop.
  std::optional<Response> Precheck(const rpc::Identity& identity, const Request& head, int64_t content_length) const;
  // On a worker thread.
  Response Serve(const rpc::Identity& identity, const Request& request) const;
  // Null: `refusal` is the answer.
  std::unique_ptr<BodySink> OpenSink(const rpc::Identity& identity, const Request& head, Response* refusal) const;

 private:
  Engine& engine_;
};

// `bytes=5-9`, `bytes=5-`, `bytes=-5` of `size` bytes. False: it is none, or of several pieces, so that all is sent.
// With `*first` >= `size` nothing of it is there.
bool ParseRange(absl::string_view text, int64_t size, int64_t* first, int64_t* last);

}  // namespace orch::http
