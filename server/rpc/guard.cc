#include "server/rpc/guard.h"

#include <exception>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/rpc/errors.h"

namespace orch::rpc {
namespace {

// The longest is a step's: 20 letters, a dot, 64 digits.
constexpr size_t kMaxToken = 256;
constexpr size_t kLargeRequest = 4 << 20;
constexpr int64_t kLongCallMicros = 50'000;  // a large request takes so long; no other is measured

// The bare token, or nothing if it is no bearer.
absl::string_view BearerOf(absl::string_view authorization) {
  if (authorization.size() < 7 || !absl::EqualsIgnoreCase(authorization.substr(0, 7), "bearer ")) return {};
  return absl::StripAsciiWhitespace(authorization.substr(7));
}

}  // namespace

Guard::Guard(Engine* engine, Metrics* metrics, std::string token, std::function<void()> large_call_answered)
    : engine_(engine),
      metrics_(metrics),
      token_(std::move(token)),
      large_call_answered_(std::move(large_call_answered)) {}

bool Guard::IsOwner(absl::string_view authorization) const {
  const absl::string_view bearer = BearerOf(authorization);
  return !bearer.empty() && ConstantTimeEquals(bearer, token_);
}

absl::StatusOr<Identity> Guard::Identify(Transport transport, absl::string_view authorization) {
  Identity identity;
  if (authorization.empty()) {
    if (transport == Transport::kUnix) {
      identity.kind = Identity::Kind::kOwner;
      return identity;
    }
    metrics_->refused_tokens.fetch_add(1, std::memory_order_relaxed);
    return Error(absl::StatusCode::kUnauthenticated, "TOKEN_MISSING",
                 "this call needs the token: send `authorization: Bearer TOKEN`; it is in the file `token` of the "
                 "daemon's data directory");
  }
  if (IsOwner(authorization)) {
    identity.kind = Identity::Kind::kOwner;
    return identity;
  }
  const absl::string_view bearer = BearerOf(authorization);
  if (!bearer.empty() && bearer.size() <= kMaxToken) {
    absl::StatusOr<TokenIdentity> token = engine_->AuthenticateToken(bearer);
    if (token.ok()) {
      identity.kind = Identity::Kind::kToken;
      identity.token = *std::move(token);
      return identity;
    }
    if (ReasonOf(token.status()) != "TOKEN_INVALID") {
      metrics_->refused_tokens.fetch_add(1, std::memory_order_relaxed);
      return token.status();
    }
    absl::StatusOr<AttemptIdentity> attempt = engine_->AuthenticateStep(bearer);
    if (attempt.ok()) {
      identity.kind = Identity::Kind::kStep;
      identity.attempt = *attempt;
      return identity;
    }
    if (attempt.status().code() == absl::StatusCode::kUnavailable) return attempt.status();
    if (const absl::StatusOr<TaskIdentity> task = engine_->AuthenticateTask(bearer); task.ok()) {
      identity.kind = Identity::Kind::kTask;
      identity.task = *task;
      return identity;
    }
  }
  metrics_->refused_tokens.fetch_add(1, std::memory_order_relaxed);
  return Error(absl::StatusCode::kUnauthenticated, "TOKEN_INVALID",
               "the token is none of this daemon's (or its step has ended); the owner's is in the file `token` of the "
               "daemon's data directory, and `orchctl create-token` there makes others");
}

absl::StatusOr<Identity> Guard::OfCookie(absl::string_view subject) {
  Identity identity;
  identity.kind = Identity::Kind::kOwner;
  if (subject.empty()) return identity;
  const std::vector<std::string> parts = absl::StrSplit(subject, '@');  // names have none
  int scope = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &identity.token.created) ||
      !absl::SimpleAtoi(parts[2], &scope)) {
    return absl::InternalError("a cookie of ours that says nothing");
  }
  identity.kind = Identity::Kind::kToken;
  identity.token.name = parts[0];
  identity.token.scope = static_cast<TokenScope>(scope);
  RETURN_IF_ERROR(Recheck(identity));
  return identity;
}

absl::Status Guard::Recheck(const Identity& identity) {
  return identity.kind == Identity::Kind::kToken ? engine_->CheckToken(identity.token) : absl::OkStatus();
}

absl::Status Guard::Permit(const Identity& identity, absl::string_view method, const MethodTraits& traits) const {
  switch (identity.kind) {
    case Identity::Kind::kOwner:
      return absl::OkStatus();
    case Identity::Kind::kToken:
      if (traits.for_owner) {
        return Error(absl::StatusCode::kPermissionDenied, "OWNER_ONLY",
                     absl::StrCat("only the daemon's owner may call ", method, ", not the token `", identity.token.name,
                                  "`: call it on the daemon's machine, as its user"));
      }
      if (!traits.mutates || identity.token.scope == TokenScope::kFull) return absl::OkStatus();
      return Error(absl::StatusCode::kPermissionDenied, "TOKEN_SCOPE",
                   absl::StrCat("the token `", identity.token.name, "` may only read, and ", method,
                                " changes something; one of scope full may (orchctl create-token NAME --scope full)"));
    case Identity::Kind::kStep:
      if (traits.for_steps) return absl::OkStatus();
      return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN",
                   absl::StrCat("a step's own token may not call ", method,
                                "; it publishes its outputs, says that it is alive, and reads its own run"));
    case Identity::Kind::kTask:
      return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN",
                   absl::StrCat("a task's token may not call ", method, "; it asks for the attempts of its step"));
    case Identity::Kind::kNobody:
      break;
  }
  return Error(absl::StatusCode::kUnauthenticated, "TOKEN_MISSING", "this call needs the token");
}

absl::Status Guard::Call(const Method& method, CallContext context, google::protobuf::Message* request,
                         google::protobuf::Message* response) {
  const int64_t begin = Clock::Real().Now().mono;
  method.metrics->running.fetch_add(1, std::memory_order_relaxed);
  const int64_t running = running_.fetch_add(1, std::memory_order_relaxed) + 1;
  const auto leave = absl::MakeCleanup([&] {
    running_.fetch_sub(1, std::memory_order_relaxed);
    method.metrics->running.fetch_sub(1, std::memory_order_relaxed);
  });
  absl::Status status = Permit(context.identity, method.name, method.traits);
  if (status.ok() && draining_ && method.traits.mutates) {
    status = WithRetryDelay(
        Error(absl::StatusCode::kUnavailable, "DRAINING", "orchd is stopping; try again when it is back"), 1000);
  }
  if (status.ok() && running > engine_->limits().concurrent_calls) {
    status = WithRetryDelay(Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_CALLS",
                                  absl::StrCat("more than ", engine_->limits().concurrent_calls,
                                               " calls at a time (limit concurrent_calls)")),
                            200);
  }
  size_t let_go_of = 0;
  context.let_go = [request, &let_go_of] {
    let_go_of = request->ByteSizeLong();
    request->Clear();
  };
  if (status.ok()) {
    try {
      status = method.handler(context, *request, response);
    } catch (const std::exception& e) {  // a library's, that its edge should have caught
      status = absl::InternalError(absl::StrCat("exception: ", e.what()));
    }
  }
  if (method.traits.mutates) ORCH_FAULT("answer.before");
  status = Seal(std::move(status), method.name);
  const int64_t took = Clock::Real().Now().mono - begin;
  method.metrics->Count(status.code(), took);
  if (took >= kLongCallMicros && let_go_of + request->ByteSizeLong() >= kLargeRequest) large_call_answered_();
  return status;
}

}  // namespace orch::rpc
