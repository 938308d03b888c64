#include "client/launch/next.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "client/launch/daemon.h"

namespace orch::launch {
namespace {

using nlohmann::json;

constexpr int kPatienceSeconds = 600;
constexpr int kFirstMillis = 20;
constexpr int kMostMillis = 2'000;
constexpr int kFailed = 1;  // the step has, for good
constexpr int kLauncherFailed = 125;
constexpr int kStopped = 128 + SIGTERM;

bool StoppedWithin(int millis, int signals) {
  pollfd wait{signals, POLLIN, 0};
  poll(&wait, 1, millis);
  signalfd_siginfo info{};
  bool stopped = false;
  while (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    stopped |= info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
  }
  return stopped;
}

void Say(const std::string& message) { fprintf(stderr, "orch-launch: %s\n", message.c_str()); }

}  // namespace

std::optional<int> AwaitAttempt(const std::string& launcher, int signals) {
  std::string error;
  const std::unique_ptr<Daemon> daemon = Daemon::OfTask(kPatienceSeconds, &error);
  if (daemon == nullptr) {
    Say(error);
    return 2;
  }
  for (int wait = kFirstMillis;; wait = std::min(2 * wait, kMostMillis)) {
    json next;
    if (const auto fault = daemon->Post("/attempt/v1/next", {{"launcher", launcher}}, &next)) {
      Say("nothing to run from " + daemon->name() + ": " + fault->message);
      return kLauncherFailed;
    }
    try {
      if (next.contains("over")) {
        const json& over = next["over"];
        const std::string message = over.value("message", "");
        Say("the step is " + over.at("state").get<std::string>() + (message.empty() ? "" : ": " + message));
        return over.at("ok") ? 0 : kFailed;
      }
      if (next.contains("attempt")) {
        const json& attempt = next["attempt"];
        setenv("ORCH_TOKEN", attempt.at("token").get<std::string>().c_str(), 1);
        setenv("ORCH_FENCE", attempt.at("fence").get<std::string>().c_str(), 1);
        setenv("ORCH_ATTEMPT", std::to_string(attempt.at("number").get<int>()).c_str(), 1);
        return std::nullopt;
      }
    } catch (const json::exception& e) {
      Say(std::string("the daemon's answer cannot be read: ") + e.what());
      return kLauncherFailed;
    }
    if (StoppedWithin(wait, signals)) return kStopped;
  }
}

}  // namespace orch::launch
