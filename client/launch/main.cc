// orch-launch: what a step's command can ask of its daemon, and what runs a step elsewhere. One static binary without
// run-time dependencies.
//
// Exit codes: 0 done, 1 the daemon refused, 2 usage, 7 the daemon cannot be reached.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "client/launch/daemon.h"
#include "client/launch/deliver.h"
#include "client/launch/enter.h"
#include "client/launch/files.h"
#include "client/launch/install.h"
#include "client/launch/run.h"

namespace {

using nlohmann::json;

constexpr int kReachSeconds = 60;  // a daemon that restarts is back within this

constexpr char kHelp[] =
    "orch-launch publish OUTPUT [--metadata KEY=VALUE]…\n"
    "    Publishes an output of this step before the step ends: its bytes must be complete at $ORCH_OUTPUT_<NAME>.\n"
    "    Steps whose input says `early: true` start now. A publication is final.\n"
    "    Prints the artifact's id. Retries for 60 s while the daemon restarts.\n"
    "orch-launch heartbeat\n"
    "    Says that this step is alive; of use to a step with `heartbeat`. Retries for 60 s while the daemon restarts.\n"
    "orch-launch run [--task FILE]\n"
    "    What a platform starts for a step that shares no files with the daemon: fetches the step's inputs, runs its\n"
    "    command, delivers its outputs and tells how it ended. Its exit code is the command's, 128 and the signal, or\n"
    "    125 if it could not do its own part. With a FILE it has all of its task from there, and needs no daemon.\n"
    "orch-launch enter [--stay] FOLDER COMMAND…\n"
    "    What a container starts: sets the variables that FOLDER (-: none) has as files, and becomes the command. Its\n"
    "    secrets do not leave by the log. With --stay it waits, and says if there was not enough memory.\n"
    "orch-launch install FOLDER\n"
    "    Puts itself there, for a container that shares that folder and does not have it in its image.\n"
    "orch-launch --version | --help\n"
    "\n"
    "It runs inside a step, where ORCH_ENDPOINT and ORCH_TOKEN are set; for https:// ORCH_CA is a file with the\n"
    "certificates that sign the daemon's, or ORCH_CA_PEM their text.\n";

int Fail(int code, const std::string& message) {
  fprintf(stderr, "orch-launch: %s\n", message.c_str());
  return code;
}

// A value that is JSON stays what it is, anything else is text.
json ValueOf(const std::string& text) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? json(text) : value;
}

std::unique_ptr<orch::launch::Daemon> Connect() {
  signal(SIGPIPE, SIG_IGN);  // a connection that breaks is an answer
  std::string error;
  auto daemon = orch::launch::Daemon::FromEnvironment(kReachSeconds, &error);
  if (daemon == nullptr) Fail(2, error);
  return daemon;
}

// The exit code of a fault, after the word of it.
int Refused(const orch::launch::Daemon& daemon, const orch::launch::Fault& fault, const std::string& failure) {
  if (!fault.unreachable) return Fail(1, failure + ": " + fault.message);
  return Fail(7, "the daemon at " + daemon.name() + " did not answer for " + std::to_string(kReachSeconds) + " s (" +
                     fault.message + ")");
}

// As the name of an output becomes that of a variable.
std::string VariableOf(const std::string& output) {
  std::string out = "ORCH_OUTPUT_";
  for (const char c : output) {
    const bool small = c >= 'a' && c <= 'z';
    const bool plain = small || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out += small ? static_cast<char>(c - 'a' + 'A') : plain ? c : '_';
  }
  return out;
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
  const auto daemon = Connect();
  if (daemon == nullptr) return 2;
  const std::string failure = "`" + output + "` is not published";
  const char* artifacts = getenv("ORCH_ARTIFACTS");
  const bool deliver = artifacts != nullptr && strcmp(artifacts, "daemon") == 0;  // it shares no files with us
  if (deliver) {
    const char* path = getenv(VariableOf(output).c_str());
    if (path == nullptr) return Fail(1, failure + ": this step declares no such output");
    std::string hex;
    if (const auto fault = orch::launch::DeliverOutput(*daemon, output, path, &hex)) {
      return Refused(*daemon, *fault, failure);
    }
  }
  json answer;
  if (const auto fault = daemon->Post("/orch.v1.ArtifactService/PublishArtifact", request, &answer)) {
    return Refused(*daemon, *fault, failure);
  }
  if (const char* published = getenv("ORCH_PUBLISHED"); deliver && published != nullptr) {
    std::string error;  // without it the output is delivered once more
    (void)orch::launch::WriteFile(std::string(published) + "/" + output, "", 0444, &error);
  }
  puts(answer.value("id", "").c_str());
  return 0;
}

int Heartbeat(int argc, char** argv) {
  if (argc > 0) return Fail(2, std::string("heartbeat takes no argument, not `") + argv[0] + "`");
  const auto daemon = Connect();
  if (daemon == nullptr) return 2;
  const auto fault = daemon->Post("/orch.v1.RunService/SendHeartbeat", json::object(), nullptr);
  return fault ? Refused(*daemon, *fault, "no heartbeat") : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "publish" && argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
    fputs(kHelp, stdout);
    return 0;
  }
  if (verb == "publish") return Publish(argc - 2, argv + 2);
  if (verb == "enter") {
    const bool stay = argc > 2 && strcmp(argv[2], "--stay") == 0;
    char** words = argv + (stay ? 3 : 2);
    if (argv + argc - words < 2) return Fail(2, "enter takes a folder and a command");
    return orch::launch::Enter(words[0], {words + 1, argv + argc}, stay);
  }
  if (verb == "run") {
    const bool handed = argc == 4 && strcmp(argv[2], "--task") == 0;
    if (argc > 2 && !handed) return Fail(2, std::string("run takes `--task FILE` or nothing, not `") + argv[2] + "`");
    return orch::launch::Run(handed ? argv[3] : "");
  }
  if (verb == "install") {
    if (argc != 3) return Fail(2, "install takes a folder");
    const std::string error = orch::launch::Install(argv[2]);
    return error.empty() ? 0 : Fail(1, error);
  }
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
