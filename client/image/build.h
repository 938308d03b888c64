// Makes images, each once: what it is made of is its name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "client/image/engine.h"
#include "client/image/recipe.h"

namespace orch::image {

struct BuildRequest {
  Recipe recipe;
  std::string source_dir;   // copied into the image if `recipe.source`
  std::string ignore_file;  // of the source; empty: its .orchignore, then its .dockerignore
  std::string launcher;     // the program orch-launch
  std::string registry;     // `host[:port][/path]`, where it is pushed; empty: it stays with the engine
  bool skip_build = false;  // only what is there already
  int64_t context_limit = int64_t{1} << 30;
};

struct BuiltImage {
  std::string tag;        // for people: `orch-build:…`
  std::string reference;  // exactly this one: its id, or pushed, `repository@sha256:…`
  bool built = false;     // it was not there
};

// `progress` gets lines of what the engine says. NOT_FOUND (IMAGE_NOT_BUILT) if it is not there and may not be built,
// FAILED_PRECONDITION (BUILD_FAILED, BASE_NOT_FOUND, PUSH_FAILED) with the engine's own words, and the errors of
// CheckRecipe, Context and Engine.
absl::StatusOr<BuiltImage> BuildImage(const Engine& engine, const BuildRequest& request,
                                      const std::function<void(absl::string_view)>& progress);

}  // namespace orch::image
