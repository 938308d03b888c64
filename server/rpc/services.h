// The gRPC services: sync unary calls and callback streams in one server (callback unary calls stall on gRPC 1.51).
// Each call is one line that leads to the method table.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <vector>

#include "server/rpc/guard.h"
#include "server/rpc/method_table.h"
#include "server/rpc/streams.h"

namespace orch::rpc {

// All arguments outlive the services.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(const MethodTable* table, Guard* guard, Streams* streams);

}  // namespace orch::rpc
