// Images that steps say how to build: built, and named in their place.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/cli/session.h"
#include "orch/v1/pipeline.pb.h"

namespace orch::cli {

struct ImageOptions {
  std::string host;         // of the engine; empty: the usual
  bool skip_build = false;  // only what is there
};

// Of each step with `image: {build: …}`: the image is built or found, and the step gets its reference. `folder`: of the
// pipeline's file, where `requirements_file` is looked for unless the step has a source. Equal ones are built once.
// Errors name the step.
absl::Status BuildStepImages(Session& session, const std::string& folder, const ImageOptions& options,
                             v1::Pipeline* pipeline);

// Where orch-launch is: beside this program. NOT_FOUND.
absl::StatusOr<std::string> LauncherPath();

}  // namespace orch::cli
