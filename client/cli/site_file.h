// The file of `apply`: what shall be registered. Reading it and comparing it with what is; no calls.
#pragma once

#include <string>
#include <vector>

#include "client/spec/parse.h"
#include "orch/v1/orchestrator.pb.h"

namespace orch::cli {

struct Site {
  std::vector<v1::Orchestrator> orchestrators;
  std::vector<v1::Pool> pools;
  std::vector<v1::ArtifactStore> artifact_stores;
  std::vector<v1::Stack> stacks;
  std::string default_stack;  // of settings; empty: not said there
};

// Turns the document into messages; every fault is appended to `problems` with its place.
//
//   orchestrators: [{name, flavor, config: {…}, max_parallel}]    or  {NAME: {flavor, …}}
//   pools:         [{name, slots, description}]                   or  {NAME: SLOTS}  or  {NAME: {slots, …}}
//   artifact_stores: [{name, flavor, config: {…}}]                or  {NAME: {flavor, …}}
//   stacks:        [{name, orchestrator, artifact_store, image_registry, is_default}]   or  {NAME: {…}}
//   settings:      {default_stack: NAME}   as `is_default` there, also for one that is not in the file
Site ReadSite(const spec::ConfigDocument& document, std::vector<spec::Problem>* problems);

// One change that makes what is into what the file says.
struct Change {
  enum class Kind { kNone, kAdd, kUpdate };
  Kind kind = Kind::kNone;
  std::string thing;  // `orchestrator small`
  std::string words;  // `flavor local, config {"cpu":2}` or `slots 2 → 3`
};

// What the file does not say about a thing that exists is kept: `wanted` is completed from `present` (null: there is
// none), so that it can be sent as it is.
Change Compare(const v1::Orchestrator* present, v1::Orchestrator* wanted);
Change Compare(const v1::Pool* present, v1::Pool* wanted);
Change Compare(const v1::ArtifactStore* present, v1::ArtifactStore* wanted);
Change Compare(const v1::Stack* present, v1::Stack* wanted);

}  // namespace orch::cli
