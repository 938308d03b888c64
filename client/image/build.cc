#include "client/image/build.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/image/context.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::image {
namespace {

using nlohmann::json;

constexpr char kRepository[] = "orch-build";
constexpr char kLabel[] = "io.orchd.build";

std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::Status Failed(const char* reason, const std::string& message) {
  return Error(absl::StatusCode::kFailedPrecondition, reason, message);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(in), {});
  if (!in) return Error(absl::StatusCode::kNotFound, "NO_SUCH_FILE", absl::StrCat("cannot read ", path));
  return bytes;
}

// The id of an image that the engine has; empty if it has none of that name.
absl::StatusOr<std::string> IdOf(const Engine& engine, const std::string& image) {
  Engine::Call call;
  call.path = absl::StrCat("/images/", image, "/json");
  ASSIGN_OR_RETURN(const EngineAnswer answer, engine.Do(call));
  if (answer.status == 404) return "";
  const json parsed = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  const std::string id = parsed.is_object() ? Text(parsed, "Id") : "";
  if (!answer.ok() || id.empty())
    return Failed("BUILD_FAILED", absl::StrCat("image `", image, "`: ", answer.message()));
  return id;
}

// What an engine sends while it works: objects a line, the last of them may be a fault although HTTP said 200.
struct Progress {
  const std::function<void(absl::string_view)>& show;
  std::string fault;
  std::string digest;

  void Line(absl::string_view line) {
    const json object = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) return;
    if (const std::string error = Text(object, "error"); !error.empty()) fault = error;
    if (object.contains("aux") && object["aux"].is_object()) {
      if (const std::string of = Text(object["aux"], "Digest"); !of.empty()) digest = of;
    }
    const std::string said(absl::StripAsciiWhitespace(Text(object, "stream")));
    const std::string status = Text(object, "status");
    if (!said.empty()) show(said);
    if (status.empty() || (object.contains("progressDetail") && !object["progressDetail"].empty())) return;
    const std::string id = Text(object, "id");
    show(id.empty() ? status : absl::StrCat(id, ": ", status));
  }
};

// A file of a source folder with what is left out; none is no fault unless it was named.
absl::StatusOr<IgnoreRules> RulesOf(const BuildRequest& request) {
  if (!request.ignore_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(request.ignore_file));
    return IgnoreRules(text);
  }
  for (const char* name : {"/.orchignore", "/.dockerignore"}) {
    if (const auto text = ReadFile(request.source_dir + name); text.ok()) return IgnoreRules(*text);
  }
  return IgnoreRules(".git/\n__pycache__/\n*.pyc\n");
}

// The credentials that `docker login` left for a registry, as the engine wants them; empty if there are none.
std::string LoginFor(const std::string& registry) {
  const char* folder = getenv("DOCKER_CONFIG");
  const char* home = getenv("HOME");
  const auto text = ReadFile(folder != nullptr ? absl::StrCat(folder, "/config.json")
                                               : absl::StrCat(home == nullptr ? "" : home, "/.docker/config.json"));
  if (!text.ok()) return "";
  const json config = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("auths") || !config["auths"].is_object()) return "";
  const std::string host = registry.substr(0, registry.find('/'));
  const auto found = config["auths"].find(host);
  std::string pair;
  if (found == config["auths"].end() || !found->is_object() || !absl::Base64Unescape(Text(*found, "auth"), &pair))
    return "";
  const size_t colon = pair.find(':');
  if (colon == std::string::npos) return "";
  const json who = {{"username", pair.substr(0, colon)}, {"password", pair.substr(colon + 1)}, {"serveraddress", host}};
  std::string out = absl::Base64Escape(who.dump(-1, ' ', false, json::error_handler_t::replace));
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

// The base's id, after it was pulled if need be.
absl::StatusOr<std::string> Base(const Engine& engine, const Recipe& recipe,
                                 const std::function<void(absl::string_view)>& show) {
  ASSIGN_OR_RETURN(std::string id, IdOf(engine, recipe.base));
  if (!id.empty()) return id;
  const size_t slash = recipe.base.rfind('/');
  const size_t colon = recipe.base.rfind(':');
  const bool digest = recipe.base.find('@') != std::string::npos;
  const bool tagged = !digest && colon != std::string::npos && (slash == std::string::npos || colon > slash);
  Progress progress{show, "", ""};
  Engine::Call call;
  call.method = "POST";
  call.path = absl::StrCat("/images/create?fromImage=", Escape(tagged ? recipe.base.substr(0, colon) : recipe.base),
                           digest ? "" : absl::StrCat("&tag=", tagged ? recipe.base.substr(colon + 1) : "latest"),
                           recipe.platform.empty() ? "" : absl::StrCat("&platform=", Escape(recipe.platform)));
  if (const std::string login = LoginFor(recipe.base); !login.empty())
    call.headers.emplace_back("X-Registry-Auth", login);
  call.line = [&](absl::string_view line) { progress.Line(line); };
  ASSIGN_OR_RETURN(const EngineAnswer answer, engine.Do(call));
  const std::string fault = answer.ok() ? progress.fault : answer.message();
  if (!fault.empty()) {
    return Failed("BASE_NOT_FOUND", absl::StrCat("the base `", recipe.base, "` cannot be pulled: ", fault));
  }
  ASSIGN_OR_RETURN(id, IdOf(engine, recipe.base));
  if (id.empty())
    return Failed("BASE_NOT_FOUND", absl::StrCat("the base `", recipe.base, "` is not there after its pull"));
  return id;
}

absl::Status Build(const Engine& engine, const Recipe& recipe, const std::string& tag, const std::string& key,
                   std::string context, const std::function<void(absl::string_view)>& show) {
  Progress progress{show, "", ""};
  Engine::Call call;
  call.method = "POST";
  call.path = absl::StrCat("/build?rm=1&forcerm=1&t=", Escape(tag), "&labels=", Escape(json{{kLabel, key}}.dump()),
                           recipe.platform.empty() ? "" : absl::StrCat("&platform=", Escape(recipe.platform)));
  call.content_type = "application/x-tar";
  call.body = std::move(context);
  call.line = [&](absl::string_view line) { progress.Line(line); };
  ASSIGN_OR_RETURN(const EngineAnswer answer, engine.Do(call));
  const std::string fault = answer.ok() ? progress.fault : answer.message();
  return fault.empty() ? absl::OkStatus() : Failed("BUILD_FAILED", absl::StrCat("the image was not built: ", fault));
}

absl::StatusOr<std::string> Push(const Engine& engine, const std::string& repository, const std::string& key,
                                 const std::function<void(absl::string_view)>& show) {
  Progress progress{show, "", ""};
  Engine::Call call;
  call.method = "POST";
  call.path = absl::StrCat("/images/", repository, "/push?tag=", key);
  std::string login = LoginFor(repository);
  if (login.empty()) login = "e30=";  // an engine wants some: nobody
  call.headers.emplace_back("X-Registry-Auth", std::move(login));
  call.line = [&](absl::string_view line) { progress.Line(line); };
  ASSIGN_OR_RETURN(const EngineAnswer answer, engine.Do(call));
  const std::string fault = answer.ok() ? progress.fault : answer.message();
  if (!fault.empty() || progress.digest.empty()) {
    return Failed(
        "PUSH_FAILED",
        absl::StrCat(repository, ":", key, " was not pushed: ", fault.empty() ? "the registry gave no digest" : fault));
  }
  return progress.digest;
}

}  // namespace

absl::StatusOr<BuiltImage> BuildImage(const Engine& engine, const BuildRequest& request,
                                      const std::function<void(absl::string_view)>& progress) {
  RETURN_IF_ERROR(CheckRecipe(request.recipe));
  ASSIGN_OR_RETURN(const std::string base, Base(engine, request.recipe, progress));
  Context context;
  context.AddFile("Dockerfile", Dockerfile(request.recipe), false);
  if (!request.recipe.requirements.empty()) {
    context.AddFile(kRequirementsFile, RequirementsText(request.recipe), false);
  }
  ASSIGN_OR_RETURN(std::string launcher, ReadFile(request.launcher));
  context.AddFile(kLauncherFile, std::move(launcher), true);
  if (request.recipe.source) {
    ASSIGN_OR_RETURN(const IgnoreRules rules, RulesOf(request));
    RETURN_IF_ERROR(context.AddFolder(request.source_dir, kSourceFolder, rules, request.context_limit));
  }
  std::string archive = context.Finish();
  const std::string digest = Hex(Sha256Of(absl::StrCat(base, "\n", request.recipe.platform, "\n", archive)));
  const std::string key = digest.substr(0, 32);
  const std::string repository =
      request.registry.empty() ? kRepository : absl::StrCat(request.registry, "/", kRepository);
  BuiltImage out;
  out.tag = absl::StrCat(repository, ":", key);
  ASSIGN_OR_RETURN(std::string id, IdOf(engine, out.tag));
  if (id.empty()) {
    if (request.skip_build) {
      return Error(absl::StatusCode::kNotFound, "IMAGE_NOT_BUILT",
                   absl::StrCat("the engine at ", engine.host(), " has no image ", out.tag,
                                ", and it may not be built; leave --skip-build out"));
    }
    RETURN_IF_ERROR(Build(engine, request.recipe, out.tag, digest, std::move(archive), progress));
    ASSIGN_OR_RETURN(id, IdOf(engine, out.tag));
    if (id.empty()) return Failed("BUILD_FAILED", absl::StrCat(out.tag, " is not there after its build"));
    out.built = true;
  }
  out.reference = id;
  if (!request.registry.empty()) {
    ASSIGN_OR_RETURN(const std::string pushed, Push(engine, repository, key, progress));
    out.reference = absl::StrCat(repository, "@", pushed);
  }
  return out;
}

}  // namespace orch::image
