#include "backends/docker/probe.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr int kOldestApi = 41;
constexpr int kSeconds = 3;  // of each of three calls

// There is neither: nobody listens. There is but may not be used.
bool IsForbidden(const Config& config) {
  const std::string& socket = config.address.socket;
  return !socket.empty() && access(socket.c_str(), F_OK) == 0 && access(socket.c_str(), R_OK | W_OK) != 0;
}

Answer Ask(EngineClient& client, const std::string& path) {
  std::optional<Answer> answer;
  client.Call("GET", path, "", kSeconds, [&](Answer a) { answer = std::move(a); });
  while (!answer.has_value()) client.Poll(100);
  return *std::move(answer);
}

std::string Field(const json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string FixOf(const Answer& answer, const Config& config) {
  if (answer.untrusted) {
    return absl::StrCat("look at ca.pem, cert.pem and key.pem in ", config.address.certificates,
                        ": the engine's certificate has to be signed by ca.pem for the name in `host`, and the engine "
                        "has to trust cert.pem");
  }
  if (!answer.refused) return "look at the engine's own log; restart it if it does not recover";
  return IsForbidden(config) ? "put this user into the group that owns the socket, and start orchd anew"
                             : "start an engine there, or name another with `host` in the configuration";
}

}  // namespace

std::string WordsOf(const Answer& answer, const Config& config) {
  if (!answer.refused || answer.untrusted)
    return absl::StrCat("the Docker engine at ", config.address_text, ": ", answer.message());
  if (IsForbidden(config)) {
    return absl::StrCat("this user may not use the Docker engine at ", config.address_text,
                        ": it must be in the group that owns the socket");
  }
  return absl::StrCat("no Docker engine listens at ", config.address_text, ": start one, or name another with `host`");
}

ProbeReport ProbeEngine(const Config& config) {
  ProbeReport report;
  EngineClient client(config.address);
  const Answer ping = Ask(client, "/_ping");
  if (!ping.ok()) {
    report.checks.push_back({"engine", false, WordsOf(ping, config), FixOf(ping, config)});
    return report;
  }
  report.checks.push_back({"engine", true, absl::StrCat("answers at ", config.address_text), ""});
  const std::vector<std::string> parts = absl::StrSplit(ping.api_version, '.');
  int api = kOldestApi;  // of one that does not say
  if (parts.size() == 2) (void)absl::SimpleAtoi(parts[1], &api);
  report.checks.push_back({"version", api >= kOldestApi, absl::StrCat("speaks API 1.", api),
                           api >= kOldestApi ? "" : absl::StrCat("a Docker with API 1.", kOldestApi, " or later")});
  const Answer answer = Ask(client, "/v1.41/info");
  const json info = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  if (!answer.ok() || !info.is_object()) {
    report.checks.push_back({"info", false, WordsOf(answer, config), FixOf(answer, config)});
  } else {
    report.checks.push_back(
        {"info", true,
         absl::StrCat("Docker ", Field(info, "ServerVersion"), " on ", Field(info, "OperatingSystem"), ", ",
                      Field(info, "Architecture"), ", ", Field(info, "Driver")),
         ""});
  }
  if (!config.image.empty()) {
    const Answer image = Ask(client, absl::StrCat("/v1.41/images/", UrlEscape(config.image), "/json"));
    const bool absent = image.status == 404;
    const bool good = image.ok() || (absent && config.pull != Pull::kNever);
    report.checks.push_back({"image", good,
                             image.ok() ? absl::StrCat(config.image, " is there")
                             : absent   ? absl::StrCat(config.image, " is not there",
                                                     good ? "; the first step that needs it has it pulled" : "")
                                        : WordsOf(image, config),
                             good ? "" : absl::StrCat("pull or build it on the engine: docker pull ", config.image)});
  }
  return report;
}

}  // namespace orch::docker
