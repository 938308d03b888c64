// One step, or the defaults of all steps.
#pragma once

#include "client/spec/reader.h"
#include "orch/v1/pipeline.pb.h"

namespace orch::spec {

// Reads a step merged over the defaults in `ref.base`. Refuses one without name or command.
void ReadStep(Reader& reader, Ref ref, orch::v1::StepSpec* out);

// Reads `defaults` for the sake of its problems alone: a mapping of a step's fields other than its name.
void ReadDefaults(Reader& reader, Ref ref);

}  // namespace orch::spec
