// What every service's handlers share.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine.h"
#include "server/rpc/call.h"
#include "server/rpc/facts.h"
#include "server/rpc/run_names.h"
#include "server/rpc/sign_in.h"

namespace orch::rpc {

// Outlives all handlers.
struct ApiContext {
  Engine* engine = nullptr;
  RunNames* names = nullptr;
  Facts* facts = nullptr;
  SignIn* sign_in = nullptr;
};

// `default` for empty; INVALID_ARGUMENT (PROJECT_NOT_FOUND) for others.
absl::StatusOr<std::string> ProjectOf(absl::string_view project);

struct FoundRun {
  store::RunRecord record;
  std::shared_ptr<const Graph> run_graph;
  const Graph& graph() const { return *run_graph; }
};
// By name or id. INVALID_ARGUMENT (NAME_REQUIRED), NOT_FOUND; PERMISSION_DENIED if a step's token asks for another run.
absl::StatusOr<store::RunRecord> FindRun(const ApiContext& api, const CallContext& context, absl::string_view project,
                                         absl::string_view name);
absl::StatusOr<FoundRun> FindRunWithGraph(const ApiContext& api, const CallContext& context, absl::string_view project,
                                          absl::string_view name);
// NOT_FOUND (STEP_NOT_FOUND) says which names there are.
absl::StatusOr<StepIx> FindStep(const FoundRun& run, absl::string_view name);

}  // namespace orch::rpc
