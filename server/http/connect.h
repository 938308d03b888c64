// The Connect protocol's unary form: one POST per call, JSON or protobuf, for every call of the method table.
#pragma once

#include "absl/status/status.h"
#include "server/http/message.h"
#include "server/rpc/guard.h"
#include "server/rpc/method_table.h"

namespace orch::http {

// The whole answer. On a worker thread; may take as long as the method does.
Response ServeConnect(const rpc::MethodTable& table, rpc::Guard& guard, const rpc::Identity& identity,
                      const Request& request);

// `{"code": "not_found", "message": …, "details": […]}` with the status of the protocol.
Response ConnectError(const absl::Status& status);

}  // namespace orch::http
