// build-image, and the images of steps that are submitted.
#include <unistd.h>

#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/step_images.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "client/image/build.h"
#include "google/protobuf/struct.pb.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostRequirements = 1 << 20;

// Lines of a requirements file, without comments and empty ones.
absl::Status AddRequirements(const std::string& path, std::vector<std::string>* out) {
  ASSIGN_OR_RETURN(const std::string text, ReadInput(path, kMostRequirements));
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty() && line[0] != '#') out->emplace_back(line);
  }
  return absl::OkStatus();
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  return fs::absolute(path, error).lexically_normal().string();
}

class BuildImageVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Text("--base", &request_.recipe.base, "IMAGE", "The image to start from");
    flags.List("--apt", &request_.recipe.apt_packages, "PACKAGE", "A Debian package to install (repeat for several)");
    flags.List("--requirement", &requirements_, "LINE", "A line of pip requirements (repeat for several)");
    flags.Text("--requirements-file", &requirements_file_, "FILE", "A file of pip requirements", Kind::kFile);
    flags.List("--env", &env_, "NAME=VALUE", "A variable of the image (repeat for several)");
    flags.Text("--source", &source_, "FOLDER", "Files to copy to /orch/source, which becomes the working directory",
               Kind::kFile);
    flags.Text("--ignore-file", &request_.ignore_file, "FILE",
               "What of the source is left out [its .orchignore, or .dockerignore]", Kind::kFile);
    flags.Text("--platform", &request_.recipe.platform, "OS/ARCH", "Such as linux/amd64 [the engine's own]");
    flags.Text("--registry", &request_.registry, "HOST[/PATH]", "Where it is pushed, as `docker login` knows it");
    flags.Switch("--skip-build", &request_.skip_build, "Only say what is there; exit code 3 if it is not");
    flags.Text("--host", &host_, "ADDRESS", "The engine [DOCKER_HOST, then the usual socket]");
  }

  absl::StatusOr<int> Run(Session& session) override {
    for (const std::string& word : env_) {
      const auto pair = KeyValue(word);
      if (!pair.has_value()) return UsageError(absl::StrCat("--env `", word, "` is not NAME=VALUE"));
      request_.recipe.env[pair->first] = pair->second;
    }
    request_.recipe.requirements = requirements_;
    if (!requirements_file_.empty()) {
      RETURN_IF_ERROR(AddRequirements(requirements_file_, &request_.recipe.requirements));
    }
    if (!source_.empty()) {
      request_.recipe.source = true;
      request_.source_dir = Absolute(source_);
    }
    RETURN_IF_ERROR(image::CheckRecipe(request_.recipe));
    ASSIGN_OR_RETURN(request_.launcher, LauncherPath());
    ASSIGN_OR_RETURN(const image::Engine engine, image::Engine::Connect(host_));
    ASSIGN_OR_RETURN(const image::BuiltImage built, image::BuildImage(engine, request_, [&](absl::string_view line) {
                       session.Note(Clean(std::string(line)));
                     }));
    session.Note(absl::StrCat(built.tag, built.built ? " is built" : " was there"));
    google::protobuf::Struct answer;
    (*answer.mutable_fields())["image"].set_string_value(built.reference);
    (*answer.mutable_fields())["tag"].set_string_value(built.tag);
    (*answer.mutable_fields())["built"].set_bool_value(built.built);
    RETURN_IF_ERROR(session.Show(answer, [&] { return built.reference + "\n"; }, {built.reference}));
    return kOk;
  }

 private:
  image::BuildRequest request_;
  std::vector<std::string> requirements_, env_;
  std::string requirements_file_, source_, host_;
};

}  // namespace

absl::StatusOr<std::string> LauncherPath() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const std::string path = (self.parent_path() / "orch-launch").string();
  if (!error && access(path.c_str(), X_OK) == 0) return path;
  return Error(absl::StatusCode::kNotFound, "NO_LAUNCHER", absl::StrCat(path, " is not there; it comes with orchctl"));
}

namespace {

// Where a stack has its images pushed; "" if nowhere.
absl::StatusOr<std::string> RegistryOf(Session& session, const ImageOptions& options) {
  ASSIGN_OR_RETURN(client::Client * client, session.Connect(options.start));
  ASSIGN_OR_RETURN(const v1::ListStacksResponse answer, client->ListStacks());
  for (const v1::Stack& stack : answer.stacks()) {
    if (options.stack.empty() ? stack.is_default() : stack.name() == options.stack) return stack.image_registry();
  }
  if (options.stack.empty()) return std::string();
  return Error(absl::StatusCode::kNotFound, "STACK_NOT_FOUND",
               absl::StrCat("there is no stack `", options.stack, "`; see orchctl list-stacks"));
}

}  // namespace

absl::Status BuildStepImages(Session& session, const std::string& folder, const ImageOptions& options,
                             v1::Pipeline* pipeline) {
  std::map<std::string, std::string> made;  // by the build's own text
  std::unique_ptr<image::Engine> engine;
  std::optional<std::string> registry;  // of the stack
  for (v1::StepSpec& step : *pipeline->mutable_steps()) {
    if (!step.has_image() || !step.image().has_build()) continue;
    const v1::Image::Build& build = step.image().build();
    const std::string source = step.has_source() && !step.source().path().empty() ? step.source().path() : folder;
    const auto named = [&](const absl::Status& status) {
      std::string words(status.message());
      for (const Violation& v : ViolationsOf(status)) absl::StrAppend(&words, "; ", v.field, ": ", v.description);
      return Error(status.code(), ReasonOf(status).empty() ? "BUILD_FAILED" : ReasonOf(status),
                   absl::StrCat("the image of step `", step.name(), "`: ", words));
    };
    const std::string key = absl::StrCat(source, "\n", build.ShortDebugString());
    std::string& reference = made[key];
    if (reference.empty()) {
      image::BuildRequest request;
      request.recipe.base = build.base();
      request.recipe.apt_packages.assign(build.apt_packages().begin(), build.apt_packages().end());
      request.recipe.requirements.assign(build.requirements().begin(), build.requirements().end());
      request.recipe.env = {build.env().begin(), build.env().end()};
      request.recipe.platform = build.platform();
      if (build.registry().empty() && !registry.has_value()) {
        ASSIGN_OR_RETURN(registry, RegistryOf(session, options));
      }
      request.registry = build.registry().empty() ? *registry : build.registry();
      request.skip_build = options.skip_build;
      if (!build.requirements_file().empty()) {
        const absl::Status read =
            AddRequirements((fs::path(source) / build.requirements_file()).string(), &request.recipe.requirements);
        if (!read.ok()) return named(read);
      }
      if (const absl::Status good = image::CheckRecipe(request.recipe); !good.ok()) return named(good);
      if (engine == nullptr) {
        auto connected = image::Engine::Connect(options.host);
        if (!connected.ok()) return named(connected.status());
        engine = std::make_unique<image::Engine>(*std::move(connected));
      }
      ASSIGN_OR_RETURN(request.launcher, LauncherPath());
      const auto built =
          image::BuildImage(*engine, request, [&](absl::string_view line) { session.Note(Clean(std::string(line))); });
      if (!built.ok()) return named(built.status());
      session.Note(absl::StrCat("step ", step.name(), ": ", built->tag, built->built ? " is built" : " was there"));
      reference = built->reference;
    }
    step.mutable_image()->set_reference(reference);
  }
  return absl::OkStatus();
}

std::unique_ptr<Verb> MakeBuildImage() { return std::make_unique<BuildImageVerb>(); }

}  // namespace orch::cli
