// A submission as the engine wants it.
#pragma once

#include "absl/status/statusor.h"
#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/checks.h"

namespace orch::rpc {

// All faults of the request and of its pipeline's fields in one INVALID_ARGUMENT: PIPELINE_INVALID if any is the
// pipeline's, else REQUEST_INVALID. Paths of the request's own fields begin with `request.`. A pipeline_ref is read
// from the store: NOT_FOUND (PIPELINE_NOT_FOUND).
absl::StatusOr<SubmitCommand> ToSubmitCommand(const ApiContext& api, const v1::SubmitRunRequest& request);

// Values of parameters as compact JSON.
std::map<std::string, std::string> ToParameters(
    const google::protobuf::Map<std::string, google::protobuf::Value>& parameters, const Limits& limits,
    Checks* checks);

}  // namespace orch::rpc
