#include "client/launch/run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "client/launch/child.h"
#include "client/launch/daemon.h"
#include "client/launch/deliver.h"
#include "client/launch/fetch.h"
#include "client/launch/files.h"
#include "client/launch/leave.h"
#include "client/launch/next.h"
#include "client/launch/out_of_memory.h"
#include "server/base/redactor.h"
#include "server/base/stream_marks.h"

extern char** environ;

namespace orch::launch {
namespace {

using nlohmann::json;

constexpr int kLauncherFailed = 125;
constexpr int kStoreSeconds = 60;      // with a store, where there is nothing else
constexpr int kPatienceSeconds = 600;  // with a daemon that cannot be reached
constexpr int64_t kAliveMicros = 10'000'000;
constexpr int64_t kAliveMicrosInTask = 2'000'000;  // the answer is also how it is told to stop
constexpr int kAliveMillis = 5'000;
constexpr char kUsualPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

// Where the streams go: each to its own, or both to stdout with marks, for a platform that keeps one log.
class Outlet {
 public:
  void AsOne(const char* fence) { marks_.emplace(fence); }
  bool as_one() const { return marks_.has_value(); }
  void Write(int to, std::string_view bytes) {
    std::string error;  // nobody reads it: the step goes on
    if (!marks_) {
      (void)WriteAll(to, bytes, &error);
      return;
    }
    std::string out;
    marks_->Put(to == STDERR_FILENO, bytes, &out);
    (void)WriteAll(STDOUT_FILENO, out, &error);
  }

 private:
  std::optional<StreamMarks> marks_;
};

Outlet& TheOutlet() {
  static Outlet outlet;
  return outlet;
}

void Say(const std::string& message) { TheOutlet().Write(STDERR_FILENO, "orch-launch: " + message + "\n"); }

std::string RandomId() {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) abort();
  std::string out;
  for (const unsigned char byte : bytes) {
    char hex[3];
    snprintf(hex, sizeof(hex), "%02x", byte);
    out += hex;
  }
  return out;
}

std::string OwnFolder() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (n <= 0) return "";
  const std::string full(path, static_cast<size_t>(n));
  return full.substr(0, full.rfind('/'));
}

// One stream of the command, without the step's secrets.
struct Stream {
  int from = -1;  // the end that is read; -1: it has ended
  int to = 1;
  Redactor redactor;

  // False at its end.
  void Pump() {
    char buffer[65536];
    const ssize_t n = read(from, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    std::string out;
    if (n > 0) {
      redactor.Feed(std::string_view(buffer, static_cast<size_t>(n)), &out);
    } else {
      redactor.Flush(&out);
      close(from);
      from = -1;
    }
    TheOutlet().Write(to, out);
  }
};

class Attempt {
 public:
  Attempt(Daemon* daemon, json task, std::string launcher)
      : daemon_(*daemon), task_(std::move(task)), launcher_(std::move(launcher)) {}

  int Run(int signals) {
    signals_ = signals;
    started_ = Now(CLOCK_REALTIME);
    if (auto fault = FetchAll(daemon_, task_)) return End(*fault);
    if (auto fault = Start()) return End(*fault);
    Watch();
    EndAll();
    while (out_.from >= 0) out_.Pump();
    while (err_.from >= 0) err_.Pump();
    ended_ = Now(CLOCK_REALTIME);
    if (stale_) {
      Say("the attempt is over for the daemon; its command was ended, and what it made is not taken");
      return kLauncherFailed;
    }
    unreachable_ = daemon_.nowhere();
    if (!unreachable_ && WIFEXITED(status_) && WEXITSTATUS(status_) == 0 && !stopped_) {
      for (const json& output : task_.at("outputs")) {
        const std::string name = output.at("name");
        struct stat st {};
        if (stat((published_ + "/" + name).c_str(), &st) == 0) continue;
        std::string hex;
        if (auto fault = DeliverOutput(daemon_, name, output.at("path"), &hex)) {
          unreachable_ = fault->unreachable;
          if (unreachable_) break;
          return End(*fault);
        }
      }
    }
    return End(std::nullopt);
  }

 private:
  // What the command will have; secrets are opened for it.
  std::optional<Fault> MakeEnvironment(std::vector<std::string>* out, std::vector<std::string>* secrets) {
    std::map<std::string, std::string> variables;
    for (char** one = environ; *one != nullptr; ++one) {
      const char* equals = strchr(*one, '=');
      if (equals == nullptr || strncmp(*one, "ORCH_", 5) == 0) continue;
      variables[std::string(*one, static_cast<size_t>(equals - *one))] = equals + 1;
    }
    const auto keep = [&](const char* name) {
      if (const char* value = getenv(name)) variables[name] = value;
    };
    for (const char* name : {"ORCH_CA", "ORCH_CA_PEM"}) keep(name);  // for calls that the command makes
    for (const json& pair : task_.at("env")) variables[pair.at(0)] = pair.at(1);
    // The way to the daemon is the launcher's own.
    for (const char* name : {"ORCH_ENDPOINT", "ORCH_TOKEN"}) {
      variables.erase(name);
      keep(name);
    }
    variables["ORCH_ARTIFACTS"] = "daemon";
    variables["ORCH_PUBLISHED"] = published_;
    std::string& path = variables["PATH"];
    if (path.empty()) path = kUsualPath;
    path += ":" + OwnFolder();
    if (task_.contains("secrets")) {
      for (const json& secret : task_["secrets"]) {
        std::string value;
        if (!absl::Base64Unescape(secret.at("value_base64").get<std::string>(), &value)) {
          return Fault{"STORE_FAILED", "a secret came damaged"};
        }
        secrets->push_back(value);
        const std::string name = secret.at("variable");
        if (!secret.value("file", false)) {
          variables[name] = value;
          continue;
        }
        // In memory only; open for as long as this process lives.
        const int fd = memfd_create("secret", MFD_CLOEXEC);
        std::string error;
        if (fd < 0 || !WriteAll(fd, value, &error)) return Fault{"STORE_FAILED", "a secret cannot be kept in memory"};
        fchmod(fd, 0400);
        variables[name] = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd);
      }
    }
    for (const auto& [name, value] : variables) out->push_back(name + "=" + value);
    return std::nullopt;
  }

  std::optional<Fault> Start() {
    ChildSpec spec;
    spec.command = task_.at("command").get<std::vector<std::string>>();
    spec.working_dir = task_.at("working_dir");
    published_ = task_.at("root").get<std::string>() + "/published";
    mkdir(published_.c_str(), 0755);
    std::vector<std::string> secrets;
    if (auto fault = MakeEnvironment(&spec.environment, &secrets)) return fault;
    struct stat st {};
    if (stat(spec.working_dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
      return Fault{"WORKING_DIR_INVALID", "the working folder " + spec.working_dir + " is not there"};
    }
    int ends[2][2] = {{-1, -1}, {-1, -1}};
    if (!secrets.empty() || TheOutlet().as_one()) {
      for (auto& pair : ends) {
        if (pipe2(pair, O_CLOEXEC) != 0) return Fault{"STORE_FAILED", std::string("no pipe: ") + strerror(errno)};
      }
      out_.redactor = Redactor(secrets);
      err_.redactor = Redactor(secrets);
      out_.from = ends[0][0];
      err_.from = ends[1][0];
      err_.to = 2;
      spec.stdout_fd = ends[0][1];
      spec.stderr_fd = ends[1][1];
    }
    started_ = Now(CLOCK_REALTIME);
    if (getenv("ORCH_OWN_CGROUP") != nullptr) oom_kills_ = OomKills();
    const int error = StartChild(spec, &child_);
    for (const auto& pair : ends) {
      if (pair[1] >= 0) close(pair[1]);
    }
    if (error == 0) return std::nullopt;
    return Fault{"COMMAND_NOT_FOUND", "the program `" + spec.command[0] + "` cannot be executed: " + strerror(error)};
  }

  void Stop(int signal) {
    SignalAll(signal);
    if (kill_at_ == 0) kill_at_ = Now(CLOCK_BOOTTIME) + task_.value("grace_millis", int64_t{10'000}) * 1000;
  }

  void OnSignals() {
    signalfd_siginfo info{};
    while (read(signals_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) continue;  // looked at below
      if (signal == SIGTERM || signal == SIGINT) {
        // Some platforms tell every process of a step by themselves.
        const char* told = getenv("ORCH_STOP");
        const bool all = told != nullptr && strcmp(told, "all") == 0;
        if (!std::exchange(stopped_, true) && !all) Stop(signal);
      } else {
        kill(child_, signal);
      }
    }
    for (;;) {
      int status = 0;
      rusage usage{};
      const pid_t pid = wait4(-1, &status, WNOHANG, &usage);
      if (pid < 0 && errno == EINTR) continue;
      if (pid <= 0) return;
      if (pid != child_) continue;
      done_ = true;
      status_ = status;
      cpu_seconds_ = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
      peak_memory_ = int64_t{usage.ru_maxrss} * 1024;
    }
  }

  // What the daemon says when it hears that the attempt is alive.
  void Obey(const std::string& answer) {
    const json parsed = json::parse(answer, nullptr, /*allow_exceptions=*/false);
    const std::string stop = parsed.is_object() ? parsed.value("stop", "") : "";
    if (stop.empty()) return;
    if (!std::exchange(stopped_, true)) Stop(SIGTERM);
    if (stop == "forced") kill_at_ = Now(CLOCK_BOOTTIME);
  }

  // Until the command's main process has ended.
  void Watch() {
    const int64_t every = getenv("ORCH_TASK") == nullptr ? kAliveMicros : kAliveMicrosInTask;
    int64_t alive_at = Now(CLOCK_BOOTTIME) + every;
    while (!done_) {
      const int64_t now = Now(CLOCK_BOOTTIME);
      if (kill_at_ > 0 && now >= kill_at_) SignalAll(SIGKILL);
      if (now >= alive_at) {
        HttpCall call;
        call.method = "POST";
        call.target = "/attempt/v1/alive";
        call.timeout_ms = kAliveMillis;
        const HttpAnswer answer = daemon_.AskOnce(std::move(call));
        if (answer.status != 0 && answer.status != 200 && FaultOf(answer).stale() && !std::exchange(stale_, true)) {
          Stop(SIGTERM);
        }
        if (answer.status == 200) Obey(answer.body);
        alive_at = Now(CLOCK_BOOTTIME) + every;
      }
      pollfd waits[3] = {{signals_, POLLIN, 0}, {out_.from, POLLIN, 0}, {err_.from, POLLIN, 0}};  // -1 is passed over
      const int64_t until = kill_at_ > 0 ? std::min(alive_at, std::max(kill_at_, now + 50'000)) : alive_at;
      poll(waits, 3, static_cast<int>(std::max<int64_t>(0, until - now) / 1000 + 1));
      if (waits[1].revents != 0) out_.Pump();
      if (waits[2].revents != 0) err_.Pump();
      OnSignals();
    }
  }

  // Tells the daemon how it ended.
  int End(const std::optional<Fault>& fault) {
    if (ended_ == 0) ended_ = Now(CLOCK_REALTIME);
    json end = {{"started_micros", started_},
                {"ended_micros", ended_},
                {"cpu_seconds", cpu_seconds_},
                {"peak_memory", peak_memory_},
                {"stopped", stopped_}};
    int code = kLauncherFailed;
    if (fault) {
      Say(fault->message);
      const bool known = fault->reason == "INPUT_MISSING" || fault->reason == "OUTPUT_INVALID" ||
                         fault->reason == "COMMAND_NOT_FOUND" || fault->reason == "WORKING_DIR_INVALID";
      end["reason"] = known ? fault->reason : "STORE_FAILED";
      end["message"] = fault->message;
      if (fault->reason == "COMMAND_NOT_FOUND") code = 127;
      if (fault->stale() || fault->unreachable) return code;
    } else if (WIFSIGNALED(status_)) {
      end["signal"] = WTERMSIG(status_);
      if (WTERMSIG(status_) == SIGKILL && oom_kills_ >= 0 && OomKills() > oom_kills_) {
        end["reason"] = "OUT_OF_MEMORY";
        end["message"] = "out of memory: the kernel ended it";
      }
      code = 128 + WTERMSIG(status_);
    } else {
      end["exit_code"] = WEXITSTATUS(status_);
      code = WEXITSTATUS(status_);
    }
    if (unreachable_) return Leave(end, code);
    if (const auto refused = daemon_.Post("/attempt/v1/end", end, nullptr)) {
      if (refused->unreachable) return Leave(end, code);
      Say("the daemon does not take the end: " + refused->message);
      return kLauncherFailed;
    }
    return code;
  }

  // The daemon has not answered for as long as it is waited for.
  int Leave(const json& end, int code) {
    if (const auto fault = LeaveBehind(daemon_, task_, launcher_, end, code == 0 && !stopped_, published_)) {
      Say("the daemon at " + daemon_.name() + " does not answer, and " + fault->message);
      return kLauncherFailed;
    }
    if (!daemon_.nowhere())
      Say("the daemon at " + daemon_.name() + " does not answer; what the step made is left for it");
    return code;
  }

  Daemon& daemon_;
  const json task_;
  const std::string launcher_;
  int signals_ = -1;
  pid_t child_ = -1;
  std::string published_;
  Stream out_;
  Stream err_;
  bool done_ = false;
  bool stopped_ = false;
  bool stale_ = false;
  bool unreachable_ = false;
  int status_ = 0;
  int64_t kill_at_ = 0;     // boot time; 0: no
  int64_t oom_kills_ = -1;  // before the command began
  int64_t started_ = 0;
  int64_t ended_ = 0;
  double cpu_seconds_ = 0;
  int64_t peak_memory_ = 0;
};

}  // namespace

int Run(const std::string& task_file) {
  sigset_t mask;
  sigemptyset(&mask);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD}) sigaddset(&mask, signal);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  const int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  signal(SIGPIPE, SIG_IGN);
  AdoptOrphans();
  std::string launcher = RandomId();
  if (const char* place = getenv("ORCH_PLACE")) launcher += std::string("@") + place;
  if (getenv("ORCH_TASK") != nullptr) {
    if (const auto code = AwaitAttempt(launcher, signals)) return *code;
  }
  const char* streams = getenv(kStreamsVariable);
  const char* fence = getenv("ORCH_FENCE");
  if (streams != nullptr && strcmp(streams, kStreamsInOne) == 0 && fence != nullptr) TheOutlet().AsOne(fence);
  std::string error;
  const bool nowhere = !task_file.empty() && getenv("ORCH_ENDPOINT") == nullptr;
  const std::unique_ptr<Daemon> daemon =
      nowhere ? Daemon::Nowhere(kStoreSeconds) : Daemon::FromEnvironment(kPatienceSeconds, &error);
  if (daemon == nullptr) {
    Say(error);
    return 2;
  }
  json task;
  if (!task_file.empty()) {
    std::string text;
    if (!ReadWhole(task_file, &text, &error)) {
      Say("the task in " + task_file + " cannot be read: " + error);
      return kLauncherFailed;
    }
    task = json::parse(text, nullptr, /*allow_exceptions=*/false);
    launcher = task.is_object() ? task.value("launcher", "") : "";
  } else if (const auto fault = daemon->Post("/attempt/v1/begin", {{"launcher", launcher}}, &task)) {
    Say("no task from " + daemon->name() + ": " + fault->message);
    return kLauncherFailed;
  }
  try {
    if (task.at("version") != 1) {
      Say("the daemon is newer than this launcher: its task has version " + task.at("version").dump());
      return kLauncherFailed;
    }
    if (!nowhere) daemon->set_patience_seconds(task.value("patience_seconds", kPatienceSeconds));
    return Attempt(daemon.get(), std::move(task), launcher).Run(signals);
  } catch (const json::exception& e) {  // what is no task
    Say(std::string("the task cannot be read: ") + e.what());
    return kLauncherFailed;
  }
}

}  // namespace orch::launch
