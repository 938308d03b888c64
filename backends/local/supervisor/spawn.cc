#include "backends/local/supervisor/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace orch::local {
namespace {

rlimit core_limit{};  // as this program was given it
bool dumps_no_core = false;

// Where the child says why it could not become the program; shared between both.
struct Failure {
  volatile int where;  // End::Kind, 0: none
  volatile int error;
};

Failure* SharedFailure() {
  static auto* page =
      static_cast<Failure*>(mmap(nullptr, sizeof(Failure), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return page;
}

// Everything execve may be tried with, in order.
std::vector<std::string> Candidates(const Spawn& spawn) {
  const std::string& program = spawn.argv[0];
  if (program.find('/') != std::string::npos) return {program};
  std::string path = "/usr/local/bin:/usr/bin:/bin";
  for (const std::string& variable : spawn.env) {
    if (variable.compare(0, 5, "PATH=") == 0) path = variable.substr(5);
  }
  std::vector<std::string> out;
  size_t at = 0;
  while (at <= path.size()) {
    size_t end = path.find(':', at);
    if (end == std::string::npos) end = path.size();
    const std::string dir = path.substr(at, end - at);
    out.push_back((dir.empty() ? "." : dir) + "/" + program);
    at = end + 1;
  }
  return out;
}

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

// An exec sets handled signals to their defaults, ignored ones stay ignored.
std::vector<int> IgnoredSignals() {
  std::vector<int> out;
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction now {};
    if (sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) out.push_back(signal);
  }
  return out;
}

// Only what is safe between clone and exec.
[[noreturn]] void BecomeProgram(pid_t supervisor, const char* cwd, const std::vector<char*>& candidates,
                                char* const* argv, char* const* envp, int in_fd, int out_fd, int err_fd,
                                const std::vector<int>& ignored, Failure* failure) {
  setsid();
  // Nobody would know how it ends without the supervisor: it dies with it, also here, where nothing marks it yet.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != supervisor) _exit(127);
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (const int signal : ignored) sigaction(signal, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (dumps_no_core) setrlimit(RLIMIT_CORE, &core_limit);
  // The three are above 2, so that no dup2 overwrites one that is still needed.
  dup2(in_fd, 0);
  dup2(out_fd, 1);
  dup2(err_fd, 2);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  if (chdir(cwd) != 0) {
    failure->error = errno;
    failure->where = static_cast<int>(End::Kind::kChdirFailed);
    _exit(127);
  }
  int error = ENOENT;
  for (char* candidate : candidates) {
    if (candidate == nullptr) break;
    execve(candidate, argv, envp);
    if (errno == EACCES) error = EACCES;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
      error = errno;
      break;
    }
  }
  failure->error = error;
  failure->where = static_cast<int>(End::Kind::kExecFailed);
  _exit(127);
}

}  // namespace

void DumpNoCore() {
  if (dumps_no_core || getrlimit(RLIMIT_CORE, &core_limit) != 0) return;
  const rlimit none{0, core_limit.rlim_max};
  dumps_no_core = setrlimit(RLIMIT_CORE, &none) == 0;
}

void AllowCore() {
  if (dumps_no_core) setrlimit(RLIMIT_CORE, &core_limit);
  dumps_no_core = false;
}

SpawnResult SpawnProcess(const Spawn& spawn, int in_fd, int out_fd, int err_fd, int cgroup_fd) {
  const std::vector<std::string> candidates = Candidates(spawn);
  const std::vector<char*> tries = Pointers(candidates);
  const std::vector<char*> argv = Pointers(spawn.argv);
  const std::vector<char*> envp = Pointers(spawn.env);
  static const std::vector<int> ignored =
      IgnoredSignals();  // by whoever started this program, or by itself at its start
  Failure* failure = SharedFailure();
  failure->where = 0;
  failure->error = 0;

  const pid_t self = getpid();
  clone_args args{};
  args.flags = CLONE_VFORK;
  args.exit_signal = SIGCHLD;
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup_fd);
  }
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) {
    BecomeProgram(self, spawn.cwd.c_str(), tries, argv.data(), envp.data(), in_fd, out_fd, err_fd, ignored, failure);
  }
  SpawnResult result;
  if (pid < 0) {
    result.end.kind = End::Kind::kSpawnFailed;
    result.end.status = errno;
    return result;
  }
  if (failure->where != 0) {
    waitpid(static_cast<pid_t>(pid), nullptr, 0);
    result.end.kind = static_cast<End::Kind>(failure->where);
    result.end.status = failure->error;
    result.end.subject = result.end.kind == End::Kind::kChdirFailed ? spawn.cwd : spawn.argv[0];
    return result;
  }
  result.pid = static_cast<pid_t>(pid);
  return result;
}

}  // namespace orch::local
