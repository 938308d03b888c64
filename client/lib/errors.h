// gRPC's status to ours. Private to client/lib.
#pragma once

#include "absl/status/status.h"
#include "client/lib/discovery.h"
#include "client/lib/grpc.h"

namespace orch::client {

// Keeps code and message, and from google.rpc details the reason (orch::ReasonOf), the violations
// (orch::ViolationsOf) and the delay asked for (orch::RetryDelayOf).
absl::Status FromGrpc(const grpc::Status& status);

// Says in one line what to do about the failures that come from the way to the daemon and not from the daemon:
// UNAVAILABLE without a reason (becomes SERVER_UNREACHABLE), UNAUTHENTICATED, DEADLINE_EXCEEDED, UNIMPLEMENTED.
absl::Status Explain(absl::Status status, const Endpoint& endpoint);

}  // namespace orch::client
