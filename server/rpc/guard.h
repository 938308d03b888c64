// Guard is the one way into a handler: identity, permission, limits, call, error mapping, metrics.
//
// gRPC and HTTP both come through here, for every unary call of the table; the streams use Identify and Permit.
// Any thread.
#pragma once

#include <google/protobuf/message.h>

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine.h"
#include "server/rpc/call.h"
#include "server/rpc/method_table.h"
#include "server/rpc/metrics.h"

namespace orch::rpc {

// How a call reached the daemon.
enum class Transport : uint8_t {
  kTcp,   // anybody on the machine: the token is needed
  kUnix,  // a 0600 socket in a 0700 folder: whoever opened it is the daemon's user; a token given is still checked
};

class Guard {
 public:
  // `engine` and `metrics` outlive the guard. `token` is the owner's.
  // After a call whose request was so large that memory should be given back, `large_call_answered` is called.
  Guard(Engine* engine, Metrics* metrics, std::string token, std::function<void()> large_call_answered);

  // Who it is, from an `authorization` value (`Bearer …`; empty: none). UNAUTHENTICATED (TOKEN_MISSING, TOKEN_INVALID,
  // TOKEN_EXPIRED, TOKEN_REVOKED) says where a good one is.
  absl::StatusOr<Identity> Identify(Transport transport, absl::string_view authorization);
  // True for the owner's token.
  bool IsOwner(absl::string_view authorization) const;
  // Who has a cookie that was made for `subject` (SubjectOf). UNAUTHENTICATED if the token it came from is good no
  // more.
  absl::StatusOr<Identity> OfCookie(absl::string_view subject);
  // As Identify, for somebody who was let in a while ago: a stream ends with what opened it.
  absl::Status Recheck(const Identity& identity);

  absl::Status Permit(const Identity& identity, absl::string_view method, const MethodTraits& traits) const;

  // Permission, the handler, the sealed error, the count. `request` is for this call alone: its handler may leave it
  // empty (CallContext::let_go, which is set here).
  absl::Status Call(const Method& method, CallContext context, google::protobuf::Message* request,
                    google::protobuf::Message* response);

  // From now on what mutates is refused with UNAVAILABLE.
  void StartDraining() { draining_ = true; }
  bool draining() const { return draining_; }

  absl::string_view token() const { return token_; }
  Metrics& metrics() { return *metrics_; }

 private:
  Engine* engine_;
  Metrics* metrics_;
  const std::string token_;
  const std::function<void()> large_call_answered_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> running_{0};
};

}  // namespace orch::rpc
