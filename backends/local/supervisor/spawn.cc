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

// What a child needs to become the program, all of it made before: it lies in the supervisor's memory.
struct Program {
  pid_t supervisor;
  const char* cwd;
  char* const* candidates;  // ends with a null pointer, as do the next two
  char* const* argv;
  char* const* envp;
  int fds[3];  // all above 2
  const std::vector<int>* ignored;
  Failure* failure;
};

// Only what is safe between clone and exec, in memory that is shared with the supervisor, which waits.
[[noreturn]] void BecomeProgram(const Program* program) {
  setsid();
  // Nobody would know how it ends without the supervisor: it dies with it, also here, where nothing marks it yet.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != program->supervisor) _exit(127);
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (const int signal : *program->ignored) sigaction(signal, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (dumps_no_core) setrlimit(RLIMIT_CORE, &core_limit);
  // The three are above 2, so that no dup2 overwrites one that is still needed.
  for (int fd = 0; fd < 3; ++fd) dup2(program->fds[fd], fd);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  Failure* const failure = program->failure;
  if (chdir(program->cwd) != 0) {
    failure->error = errno;
    failure->where = static_cast<int>(End::Kind::kChdirFailed);
    _exit(127);
  }
  int error = ENOENT;
  for (char* const* candidate = program->candidates; *candidate != nullptr; ++candidate) {
    execve(*candidate, program->argv, program->envp);
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

// The child's process id, or -1 and errno. Returns once the child has become the program or has ended. To share the
// memory with it until then, as vfork does, instead of copying it costs a quarter of the time; only clone3 can put it
// into a group at birth, and a child that shares memory must not return to the stack of its parent: hence a stack of
// its own, and a call that is made by hand. No signal has a handler here, so none can run in the child.
long CloneProgram(clone_args* args, const Program* program) {
#ifdef __x86_64__
  alignas(16) static char stack[32 << 10];
  args->flags |= CLONE_VM;
  args->stack = reinterpret_cast<uint64_t>(stack);
  args->stack_size = sizeof(stack);
  long result = SYS_clone3;
  register const Program* child_program __asm__("r12") = program;
  register void (*child_entry)(const Program*) __asm__("r13") = &BecomeProgram;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r12, %%rdi\n\t"
      "call *%%r13\n\t"
      "ud2\n"
      "1:"
      : "+a"(result)
      : "D"(args), "S"(sizeof(*args)), "r"(child_program), "r"(child_entry)
      : "rcx", "r11", "memory", "cc");
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
#else
  const long pid = syscall(SYS_clone3, args, sizeof(*args));
  if (pid == 0) BecomeProgram(program);
  return pid;
#endif
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

  const Program program{getpid(),    spawn.cwd.c_str(),       tries.data(), argv.data(),
                        envp.data(), {in_fd, out_fd, err_fd}, &ignored,     failure};
  clone_args args{};
  args.flags = CLONE_VFORK;
  args.exit_signal = SIGCHLD;
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup_fd);
  }
  const long pid = CloneProgram(&args, &program);
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
