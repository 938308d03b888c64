// What gRPC's contexts say about a call.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/strings/match.h"
#include "server/rpc/guard.h"

namespace orch::rpc {

inline Transport TransportOf(const grpc::ServerContextBase& context) {
  return absl::StartsWith(context.peer(), "unix:") ? Transport::kUnix : Transport::kTcp;
}

inline std::string AuthorizationOf(const grpc::ServerContextBase& context) {
  const auto found = context.client_metadata().find("authorization");
  return found == context.client_metadata().end() ? std::string()
                                                  : std::string(found->second.data(), found->second.size());
}

}  // namespace orch::rpc
