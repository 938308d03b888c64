// A call under its request_id: what a repeat must be equal in, and what was answered before.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/digest.h"
#include "server/engine/engine.h"
#include "server/rpc/convert_pipeline.h"

namespace orch::rpc {

// All but the id itself. `method` is the call's name, without the service.
template <typename Request>
RequestRow RequestRowOf(absl::string_view method, absl::string_view project, Request request) {
  RequestRow row;
  row.method = std::string(method);
  row.project = std::string(project);
  row.request_id = request.request_id();
  request.clear_request_id();
  row.fingerprint = Sha256Of(SerializeDeterministic(request));
  return row;
}

// As Engine::Ask; of what belongs to no project.
template <typename Request>
absl::StatusOr<Asked> Ask(Engine* engine, absl::string_view method, const Request& request) {
  return engine->Ask(RequestRowOf(method, "default", request));
}

}  // namespace orch::rpc
