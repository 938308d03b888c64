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
  std::string stack;        // whose registry takes those that name none; empty: the default stack
  bool start = true;        // a daemon to ask for that, if none runs
};

// Of each step with `image: {build: …}`: the image is built or found, and the step gets its reference. `folder`: of the
// pipeline's file, where `requirements_file` is looked for unless the step has a source. Equal ones are built once.
// Errors name the step; NOT_FOUND (STACK_NOT_FOUND).
absl::Status BuildStepImages(Session& session, const std::string& folder, const ImageOptions& options,
                             v1::Pipeline* pipeline);

// Where orch-launch is: beside this program. NOT_FOUND.
absl::StatusOr<std::string> LauncherPath();

}  // namespace orch::cli
