// What a handler knows of a call, whatever transport it came by.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/engine/engine.h"

namespace orch::rpc {

// Who calls.
struct Identity {
  enum class Kind : uint8_t {
    kNobody,  // no token: only what is open to everybody
    kOwner,   // the daemon's user: the token, or the 0600 socket
    kToken,   // a client with a token that the owner made
    kStep,    // an attempt's own token
    kTask,    // that of a whole run's task, which asks for attempts alone
  };
  Kind kind = Kind::kNobody;
  TokenIdentity token;      // kToken
  AttemptIdentity attempt;  // kStep
  TaskIdentity task;        // kTask
};

// Whom a cookie is for: empty for the owner, else the token it came from.
inline std::string SubjectOf(const Identity& identity) {
  return identity.kind == Identity::Kind::kToken ? absl::StrCat(identity.token.name, "@", identity.token.created, "@",
                                                                static_cast<int>(identity.token.scope))
                                                 : std::string();
}

struct CallContext {
  Identity identity;
  int64_t deadline_micros = 30'000'000;  // how long the caller still waits
  // True once nobody waits for the answer any more. Any thread; may be empty.
  std::function<bool()> cancelled;
  // Gives back the memory of the request, which must not be used any more: a pipeline of very many steps takes more of
  // it as a message than all that is made of it. The guard sets it.
  std::function<void()> let_go;
};

}  // namespace orch::rpc
