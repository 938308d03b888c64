#include "client/image/recipe.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/base/json.h"
#include "server/base/status.h"

namespace orch::image {
namespace {

bool IsOneLine(absl::string_view text) {
  return text.find_first_of(absl::string_view("\r\n\0", 3)) == absl::string_view::npos;
}

bool IsPackage(absl::string_view name) {
  if (name.empty() || name[0] == '-') return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("+-.:=~_", absl::string_view(&c, 1))) {
      return false;
    }
  }
  return true;
}

bool IsVariable(absl::string_view name) {
  if (name.empty() || absl::ascii_isdigit(static_cast<unsigned char>(name[0]))) return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return true;
}

// A reference holds nothing that the file's syntax would read otherwise.
bool IsWord(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && !absl::StrContains("-._/:@", absl::string_view(&c, 1))) {
      return false;
    }
  }
  return !text.empty() && text[0] != '-';
}

// RUN with words of its own, so without a shell.
std::string Run(const std::vector<std::string>& words) {
  return absl::StrCat(
      "RUN [",
      absl::StrJoin(words, ",",
                    [](std::string* out, const std::string& word) { absl::StrAppend(out, JsonQuote(word)); }),
      "]\n");
}

}  // namespace

absl::Status CheckRecipe(const Recipe& recipe) {
  std::vector<Violation> faults;
  const auto add = [&](const std::string& field, const std::string& what, const char* reason = "INVALID") {
    faults.push_back({field, what, reason});
  };
  if (recipe.base.empty()) {
    add("base", "name the image to start from", "REQUIRED");
  } else if (!IsWord(recipe.base)) {
    add("base", absl::StrCat("`", recipe.base, "` is no name of an image"));
  }
  if (!recipe.platform.empty() && !IsWord(recipe.platform)) add("platform", "must be like linux/amd64");
  for (size_t i = 0; i < recipe.apt_packages.size(); ++i) {
    if (IsPackage(recipe.apt_packages[i])) continue;
    add(absl::StrCat("apt_packages[", i, "]"), absl::StrCat("`", recipe.apt_packages[i], "` is no Debian package"));
  }
  for (size_t i = 0; i < recipe.requirements.size(); ++i) {
    if (IsOneLine(recipe.requirements[i])) continue;
    add(absl::StrCat("requirements[", i, "]"), "must be one line");
  }
  for (const auto& [name, value] : recipe.env) {
    if (!IsVariable(name)) add(absl::StrCat("env.", name), "a variable is letters, digits and _");
    if (!IsOneLine(value)) add(absl::StrCat("env.", name), "must be one line");
  }
  if (faults.empty()) return absl::OkStatus();
  return InvalidInput("RECIPE_INVALID", "the image cannot be built", faults);
}

std::string Dockerfile(const Recipe& recipe) {
  std::string out = absl::StrCat("FROM ", recipe.base, "\n");
  if (!recipe.apt_packages.empty()) {
    std::vector<std::string> install = {"apt-get", "install", "-y", "--no-install-recommends"};
    install.insert(install.end(), recipe.apt_packages.begin(), recipe.apt_packages.end());
    absl::StrAppend(&out, Run({"apt-get", "update"}), Run(install));
  }
  if (!recipe.requirements.empty()) {
    absl::StrAppend(&out, "COPY ", kRequirementsFile, " /", kRequirementsFile, "\n",
                    Run({"pip", "install", "--no-cache-dir", "-r", absl::StrCat("/", kRequirementsFile)}));
  }
  for (const auto& [name, value] : recipe.env) {
    const std::string escaped = absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"$", "\\$"}});
    absl::StrAppend(&out, "ENV ", name, "=\"", escaped, "\"\n");
  }
  absl::StrAppend(&out, "COPY ", kLauncherFile, " /", kLauncherFile, "\n");
  if (recipe.source) {
    absl::StrAppend(&out, "COPY ", kSourceFolder, " ", kSourceDir, "\nWORKDIR ", kSourceDir, "\n");
  }
  return out;
}

std::string RequirementsText(const Recipe& recipe) {
  std::string out;
  for (const std::string& line : recipe.requirements) absl::StrAppend(&out, line, "\n");
  return out;
}

}  // namespace orch::image
