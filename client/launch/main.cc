// orch-launch: what a step's command can ask of its daemon. One static binary without run-time dependencies.
//
// Exit codes: 0 done, 1 the daemon refused, 2 usage, 7 the daemon cannot be reached.
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "client/launch/http.h"

namespace {

using nlohmann::json;

constexpr int kReachSeconds = 60;  // a daemon that restarts is back within this
constexpr int kCallMillis = 30'000;

constexpr char kHelp[] =
    "orch-launch publish OUTPUT [--metadata KEY=VALUE]…\n"
    "    Publishes an output of this step before the step ends: its bytes must be complete at $ORCH_OUTPUT_<NAME>.\n"
    "    Steps whose input says `early: true` start now. A publication is final.\n"
    "    Prints the artifact's id. Retries for 60 s while the daemon restarts.\n"
    "orch-launch heartbeat\n"
    "    Says that this step is alive; of use to a step with `heartbeat`. Retries for 60 s while the daemon restarts.\n"
    "orch-launch --version | --help\n"
    "\n"
    "It runs inside a step, where ORCH_ENDPOINT and ORCH_TOKEN are set.\n";

int Fail(int code, const std::string& message) {
  fprintf(stderr, "orch-launch: %s\n", message.c_str());
  return code;
}

void Pause(int millis) {
  const timespec time{millis / 1000, millis % 1000 * 1'000'000};
  nanosleep(&time, nullptr);
}

// A value that is JSON stays what it is, anything else is text.
json ValueOf(const std::string& text) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? json(text) : value;
}

// One call of the daemon, tried again while it restarts. 0 and the answer, or the exit code after the word of it.
int Ask(const char* method, const json& request, const std::string& failure, json* out) {
  const char* endpoint = getenv("ORCH_ENDPOINT");
  const char* token = getenv("ORCH_TOKEN");
  if (endpoint == nullptr || token == nullptr || getenv("ORCH_FENCE") == nullptr) {
    return Fail(2, "ORCH_ENDPOINT, ORCH_TOKEN and ORCH_FENCE are not set: this runs inside a step of orchd");
  }
  if (strncmp(endpoint, "unix:", 5) != 0) return Fail(2, std::string("cannot use the endpoint `") + endpoint + "`");
  const std::string path = std::string("/orch.v1.") + method;
  const std::string body = request.dump(-1, ' ', false, json::error_handler_t::replace);
  const time_t until = time(nullptr) + kReachSeconds;
  int wait = 20;
  for (;;) {
    const orch::launch::HttpAnswer answer = orch::launch::PostJson(endpoint + 5, path, token, body, kCallMillis);
    const json parsed = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
    if (answer.status == 200) {
      *out = parsed.is_object() ? parsed : json::object();
      return 0;
    }
    const bool again = answer.status == 0 || answer.status == 503 || answer.status == 429 || answer.status == 504;
    if (!again) {
      const std::string why = parsed.is_object() && parsed.contains("message") && parsed["message"].is_string()
                                  ? parsed["message"].get<std::string>()
                                  : "HTTP status " + std::to_string(answer.status);
      return Fail(1, failure + ": " + why);
    }
    if (time(nullptr) >= until) {
      return Fail(7, "the daemon at " + std::string(endpoint) + " did not answer for " + std::to_string(kReachSeconds) +
                         " s (" + answer.error + ")");
    }
    Pause(wait);
    if (wait < 1000) wait *= 2;
  }
}

int Publish(int argc, char** argv) {
  std::string output;
  json metadata = json::object();
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--metadata" && i + 1 < argc) {
      const std::string pair = argv[++i];
      const size_t equals = pair.find('=');
      if (equals == std::string::npos || equals == 0) return Fail(2, "--metadata takes KEY=VALUE, not `" + pair + "`");
      metadata[pair.substr(0, equals)] = ValueOf(pair.substr(equals + 1));
    } else if (word[0] == '-') {
      return Fail(2, "unknown flag `" + word + "`; see orch-launch --help");
    } else if (output.empty()) {
      output = word;
    } else {
      return Fail(2, "one output at a time: `" + output + "` and `" + word + "`");
    }
  }
  if (output.empty()) return Fail(2, "publish needs the name of an output; see orch-launch --help");
  json request = {{"output", output}};
  if (const char* fence = getenv("ORCH_FENCE")) request["fence"] = fence;
  if (const char* run = getenv("ORCH_RUN_ID")) request["run"] = run;
  if (const char* step = getenv("ORCH_STEP")) request["step"] = step;
  if (const char* attempt = getenv("ORCH_ATTEMPT")) request["attempt"] = atoi(attempt);
  if (!metadata.empty()) request["metadata"] = metadata;
  json answer;
  if (const int code = Ask("ArtifactService/PublishArtifact", request, "`" + output + "` is not published", &answer)) {
    return code;
  }
  puts(answer.value("id", "").c_str());
  return 0;
}

int Heartbeat(int argc, char** argv) {
  if (argc > 0) return Fail(2, std::string("heartbeat takes no argument, not `") + argv[0] + "`");
  json answer;
  return Ask("RunService/SendHeartbeat", json::object(), "no heartbeat", &answer);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "publish" && argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
    fputs(kHelp, stdout);
    return 0;
  }
  if (verb == "publish") return Publish(argc - 2, argv + 2);
  if (verb == "heartbeat") return Heartbeat(argc - 2, argv + 2);
  if (verb == "--version") {
    puts("orch-launch " ORCH_VERSION);
    return 0;
  }
  if (verb == "--help" || verb == "-h") {
    fputs(kHelp, stdout);
    return 0;
  }
  return Fail(2, (verb.empty() ? "a verb is needed" : "unknown verb `" + verb + "`") + "; see orch-launch --help");
}
