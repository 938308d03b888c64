// The one place where an error becomes something a client sees.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"

namespace orch::rpc {

// Hides what only the operator may see: INTERNAL and UNKNOWN are logged with an id, and the caller gets the id.
// Others gain a reason word if they have none.
absl::Status Seal(absl::Status status, absl::string_view method);

// google.rpc.Status with ErrorInfo (domain `orchd`), BadRequest and RetryInfo.
google::rpc::Status ToRpcStatus(const absl::Status& status);

// The same for gRPC, the details in the binary trailer.
grpc::Status ToGrpc(const absl::Status& status);

// `not_found`: the code's name in the Connect protocol.
absl::string_view ConnectCode(absl::StatusCode code);
// The HTTP status of the Connect protocol's unary form.
int ConnectHttpStatus(absl::StatusCode code);

}  // namespace orch::rpc
