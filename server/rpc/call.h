// What a handler knows of a call, whatever transport it came by.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "server/engine/engine.h"

namespace orch::rpc {

// Who calls.
struct Identity {
  enum class Kind : uint8_t {
    kNobody,  // no token: only what is open to everybody
    kOwner,   // the daemon's user: the token, or the 0600 socket
    kStep,    // an attempt's own token
  };
  Kind kind = Kind::kNobody;
  AttemptIdentity attempt;  // kStep
};

struct CallContext {
  Identity identity;
  int64_t deadline_micros = 30'000'000;  // how long the caller still waits
  // True once nobody waits for the answer any more. Any thread; may be empty.
  std::function<bool()> cancelled;
};

}  // namespace orch::rpc
