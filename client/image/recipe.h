// How an image is made, as the text an engine reads: pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace orch::image {

struct Recipe {
  std::string base;                       // the image to start from; required
  std::vector<std::string> apt_packages;  // of Debian
  std::vector<std::string> requirements;  // lines of a pip requirements file
  std::map<std::string, std::string> env;
  std::string platform;  // `linux/amd64`; empty: the engine's own
  bool source = false;   // a folder is copied to kSourceDir, which becomes the working directory
};

// Where things are in the context and in the image.
inline constexpr char kLauncherFile[] = ".orch/bin/orch-launch";
inline constexpr char kRequirementsFile[] = ".orch/requirements.txt";
inline constexpr char kSourceFolder[] = "source";
inline constexpr char kSourceDir[] = "/orch/source";

// INVALID_ARGUMENT (RECIPE_INVALID) with all that is wrong, by the fields of orch.v1.Image.Build.
absl::Status CheckRecipe(const Recipe& recipe);

// The Dockerfile of a good one. No shell sees a word of it. `base`: as the engine shall find it.
std::string Dockerfile(const Recipe& recipe);
// What kRequirementsFile holds.
std::string RequirementsText(const Recipe& recipe);

}  // namespace orch::image
