// What an artifact was made of, and what was made of it: derived from the graph, the artifacts and, of each attempt,
// how far artifacts had come when it was submitted. Nothing is written for an input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orch/v1/artifact_service.pb.h"
#include "server/rpc/api_base.h"

namespace orch::rpc {

struct LineageQuery {
  bool upstream = true;
  bool downstream = true;
  int depth = 5;                // steps away
  int64_t skip = 0;             // links that earlier pages had
  int limit = 100;              // links
  ArtifactId upto = INT64_MAX;  // artifacts that are newer are not looked at
};

// Where a walk begins: an artifact, or the inputs of one attempt.
struct LineageStart {
  ArtifactId artifact = 0;
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
};

struct LineagePage {
  std::vector<v1::GetLineageResponse::Link> links;
  bool more = false;       // after these
  bool truncated = false;  // the walk is longer than is looked at
};

// Links in the order of their distance; upstream first. At most kMaxLineageLinks of a walk.
constexpr int64_t kMaxLineageLinks = 10'000;
absl::StatusOr<LineagePage> WalkLineage(const ApiContext& api, const LineageStart& start, const LineageQuery& query);

}  // namespace orch::rpc
