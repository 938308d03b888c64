// Fan-outs over lists that are known only at run time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/compile.h"
#include "server/model/graph.h"

namespace orch {

// So many instances more have room in the run. INVALID_ARGUMENT (FANOUT_INVALID) names the limit.
absl::Status CheckRoom(const Graph& graph, uint32_t t, int64_t width, const CompileLimits& limits);

// The product of a template's keys: `values` holds for each key its values as compact JSON, in order (of a key that is
// written out they are taken from the pipeline). The last key varies fastest. INVALID_ARGUMENT (FANOUT_INVALID) beyond
// the limits `fanout_width` and, with what the run has already, `steps_per_run` and `outputs_per_run`.
absl::StatusOr<Items> ProductOf(const Graph& graph, uint32_t t, const std::vector<std::vector<std::string>>& values,
                                const CompileLimits& limits);

// What the template becomes with these items. INVALID_ARGUMENT (FANOUT_INVALID) if an input by `[item]` has no instance
// with the same item. Pure; the same items give the same links, so a restart makes them again.
absl::StatusOr<Fanout> LinkFanout(const Graph& graph, uint32_t t, std::shared_ptr<const Items> items);

// The graph of a run whose fan-outs became this, in the order of `first`. DATA_LOSS (DATABASE_CORRUPT) for rows that
// this graph cannot have had.
absl::StatusOr<std::shared_ptr<const Graph>> WithFanouts(std::shared_ptr<const Graph> graph,
                                                         const std::vector<FanoutRow>& rows);

// The graph of a run in which only those are made whose group has SUCCEEDED: what became of the others in an earlier
// generation does not count until their lists have landed in this one.
std::shared_ptr<const Graph> WithoutOpenFanouts(std::shared_ptr<const Graph> graph, const std::vector<StepRow>& rows);

// As the store keeps them.
std::string EncodeItems(const Items& items);
// False for bytes that EncodeItems did not make.
bool DecodeItems(absl::string_view bytes, Items* items);

}  // namespace orch
