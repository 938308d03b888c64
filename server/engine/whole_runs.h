// Runs that are on their platform as a whole: which can be, how they look there, and what the launchers in their tasks
// are told.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "server/engine/deliveries.h"
#include "server/engine/engine.h"
#include "server/engine/run_context.h"
#include "server/engine/step_tokens.h"
#include "server/store/queries.h"

namespace orch {

// Why each step of the run has to be a unit of its own on this orchestrator, for people; empty: nothing is in the way.
// Of the pipeline and the submission alone, so that it is the same whenever it is asked.
std::vector<std::string> WhyStepByStep(const Graph& graph, const RunHeader& header);

// Where a launcher runs, of what it calls itself: `ID@PLACE`.
absl::string_view PlaceOfLauncher(absl::string_view launcher);

// Any thread.
class WholeRuns {
 public:
  // All of them outlive it.
  WholeRuns(const EngineOptions& options, std::string instance, const StepTokens* tokens, store::Queries* queries,
            Deliveries* deliveries)
      : options_(options),
        instance_(std::move(instance)),
        tokens_(*tokens),
        queries_(*queries),
        deliveries_(*deliveries) {}

  // True if the run is a whole one on this backend.
  bool IsWhole(const RunContext& run, const std::string& flavor, const Backend& backend) const {
    return backend.takes_runs() && WhyNot(run, flavor, backend).empty();
  }
  // Why it is not, on one that takes whole runs; for people.
  std::vector<std::string> WhyNot(const RunContext& run, const std::string& flavor, const Backend& backend) const;
  // With what is left of it. NOT_FOUND; UNAVAILABLE if the database cannot be read.
  absl::StatusOr<RunOutline> OutlineOf(const RunContext& run, const std::string& flavor,
                                       const std::string& endpoint) const;

  // As it would be for a plan: without the steps that are `done`, whatever its name says, and without tokens.
  RunOutline Sketch(const RunContext& run, const std::string& flavor, const std::string& endpoint,
                    const std::vector<bool>& done) const;

  // Which step's task a launcher is in, by its token.
  std::optional<TaskIdentity> TaskOf(absl::string_view token) const;
  // What the launcher of a task is to do now. `live` tells whether an attempt with this key is known and its task
  // ready.
  absl::StatusOr<NextAttempt> Next(const TaskIdentity& task, absl::string_view launcher,
                                   const std::function<bool(const std::string& key)>& live) const;

 private:
  RunOutline Skeleton(const RunContext& run, const std::string& flavor, const std::vector<bool>& done) const;
  std::vector<std::pair<std::string, std::string>> EnvOf(const RunContext& run, const std::string& endpoint) const;

  const EngineOptions& options_;
  const std::string instance_;
  const StepTokens& tokens_;
  store::Queries& queries_;
  Deliveries& deliveries_;
};

}  // namespace orch
