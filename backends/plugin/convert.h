// Between the words of the backend interface and those of the protocol.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "orch/backend/v1/plugin.pb.h"

namespace orch::plugin {

namespace v1 = ::orch::backend::v1;

v1::Job ToJob(const AttemptWork& work);
v1::JobResources ToResources(const Resources& resources);
Capacity ToCapacity(const v1::Capacity& capacity);
// Why a submission was refused.
Reason ToRefusal(v1::Reason reason);

// How it ended. Without exit code, signal and reason nobody can say: `reason` is kLost then.
AttemptEnd ToEnd(const v1::End& end);

// What is wrong with an observation, for people; empty: nothing.
std::string FaultOf(const v1::Observation& observation);
// The same of where it wants its jobs to work.
std::string FaultOf(const v1::RemoteWorkspace& workspace);

// Each check that it made. One that says nothing more than whether it is well has made one.
void AddChecks(const v1::ProbeResponse& answer, ProbeReport* report);

// At most `bytes` of it, whole characters.
std::string Cut(absl::string_view text, size_t bytes);

}  // namespace orch::plugin
