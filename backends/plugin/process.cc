#include "backends/plugin/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/detached_process.h"
#include "server/base/status.h"

namespace orch::plugin {
namespace {

constexpr int64_t kPatience = 3'000'000;
constexpr size_t kReadyBytes = 4096;
constexpr size_t kLastLineBytes = 500;

void Close(int* fd) {
  if (*fd >= 0) close(std::exchange(*fd, -1));
}

// When a process began, in the kernel's ticks; empty: there is none.
std::string BeginOf(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << in.rdbuf();
  const std::string all = text.str();
  const size_t name = all.rfind(')');
  if (name == std::string::npos) return "";
  std::istringstream fields(all.substr(name + 1));
  std::string field;
  for (int i = 3; i <= 22 && fields >> field; ++i) {
    if (i == 3 && field == "Z") return "";
  }
  return field;
}

// Of a daemon that was killed: its plug-in should have seen its stdin end, but it may hang.
void EndLeftOver(const std::string& pid_file) {
  std::ifstream in(pid_file);
  pid_t pid = 0;
  std::string begin;
  if (in >> pid >> begin && pid > 1 && begin == BeginOf(pid)) kill(-pid, SIGKILL);
  unlink(pid_file.c_str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(Options options, Handlers handlers) {
  const auto failed = [&](const std::string& what) {
    return Error(absl::StatusCode::kFailedPrecondition, "PLUGIN_START_FAILED",
                 absl::StrCat("the plug-in `", options.program, "` cannot be started: ", what));
  };
  struct stat st {};
  if (stat(options.program.c_str(), &st) != 0) return failed(strerror(errno));
  if (!S_ISREG(st.st_mode) || access(options.program.c_str(), X_OK) != 0) {
    return failed("it is no program that may be executed; chmod +x it");
  }
  EndLeftOver(options.pid_file);
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0) return failed(strerror(errno));
  if (pipe2(out, O_CLOEXEC) != 0) {
    close(in[0]);
    close(in[1]);
    return failed(strerror(errno));
  }
  if (pipe2(err, O_CLOEXEC) != 0) {
    for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
    return failed(strerror(errno));
  }
  std::unique_ptr<Process> process(new Process());
  const int error = DetachedProcess()
                        .Duplicate(in[0], 0)
                        .Duplicate(out[1], 1)
                        .Duplicate(err[1], 2)
                        .CloseFrom(3)
                        .ChangeFolder("/")
                        .Start({options.program}, &options.environment, &process->pid_);
  for (const int fd : {in[0], out[1], err[1]}) close(fd);
  process->in_ = in[1];
  process->out_ = out[0];
  process->err_ = err[0];
  if (error != 0) {
    process->pid_ = 0;
    return failed(error == ENOEXEC || error == ENOENT ? "it is no program, or its interpreter is not here"
                                                      : strerror(error));
  }
  process->pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, process->pid_, 0));
  std::ofstream(options.pid_file) << process->pid_ << " " << BeginOf(process->pid_) << "\n";
  for (const int fd : {process->out_, process->err_}) fcntl(fd, F_SETFL, O_NONBLOCK);
  process->log_fd_ = open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (process->log_fd_ >= 0 && fstat(process->log_fd_, &st) == 0) process->log_size_ = st.st_size;
  process->options_ = std::move(options);
  process->handlers_ = std::move(handlers);
  process->thread_ = std::thread([p = process.get()] { p->Read(); });
  return process;
}

Process::~Process() {
  Close(&in_);
  if (thread_.joinable()) {
    kill(pid_, SIGTERM);
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kPatience);
    {
      MutexLock lock(&mutex_);
      while (!ended_) {
        const auto left =
            std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
        if (left.count() <= 0) break;
        changed_.WaitFor(&mutex_, left);
      }
      if (!ended_) kill(-pid_, SIGKILL);
    }
    thread_.join();
    unlink(options_.pid_file.c_str());
  }
  for (int* fd : {&out_, &err_, &pidfd_, &log_fd_}) Close(fd);
}

void Process::Kill() {
  MutexLock lock(&mutex_);
  if (!ended_) kill(-pid_, SIGKILL);
}

void Process::Append(const std::string& bytes) {
  for (const char c : bytes) {
    if (c == '\n') {
      if (!last_line_.empty() && last_line_.back() != '\n') last_line_ += '\n';
      continue;
    }
    if (!last_line_.empty() && last_line_.back() == '\n') last_line_.clear();
    if (last_line_.size() < kLastLineBytes) last_line_ += c;
  }
  if (log_size_ + static_cast<int64_t>(bytes.size()) > options_.log_bytes / 2) {  // with the older half: the limit
    (void)rename(options_.log.c_str(), (options_.log + ".1").c_str());
    Close(&log_fd_);
    log_fd_ = open(options_.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    log_size_ = 0;
  }
  if (log_fd_ >= 0 && write(log_fd_, bytes.data(), bytes.size()) > 0) log_size_ += static_cast<int64_t>(bytes.size());
}

void Process::TakeOutput(const std::string& bytes) {
  if (ready_) return Append(bytes);
  first_line_ += bytes;
  const size_t end = first_line_.find('\n');
  if (end == std::string::npos && first_line_.size() < kReadyBytes) return;
  ready_ = true;
  handlers_.ready(first_line_.substr(0, std::min(end, kReadyBytes)));
  if (end != std::string::npos && end + 1 < first_line_.size()) Append(first_line_.substr(end + 1));
  first_line_.clear();
}

std::string Process::HowItEnded() const {
  int status = 0;
  std::string how = "it ended";
  pid_t got = 0;
  while ((got = waitpid(pid_, &status, 0)) < 0 && errno == EINTR) {
  }
  if (got == pid_ && WIFEXITED(status)) how = absl::StrCat("it ended with exit code ", WEXITSTATUS(status));
  if (got == pid_ && WIFSIGNALED(status)) {
    how = absl::StrCat("it was ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  std::string last = last_line_;
  while (!last.empty() && last.back() == '\n') last.pop_back();
  return last.empty() ? how : absl::StrCat(how, "; its last word: ", last);
}

void Process::Read() {
  char buffer[65536];
  bool out_open = true, err_open = true, gone = false;
  const auto drain = [&](int fd, bool is_out) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    const std::string bytes(buffer, static_cast<size_t>(n));
    is_out ? TakeOutput(bytes) : Append(bytes);
    return true;
  };
  while (!gone) {
    pollfd waits[3] = {{out_open ? out_ : -1, POLLIN, 0}, {err_open ? err_ : -1, POLLIN, 0}, {pidfd_, POLLIN, 0}};
    if (poll(waits, 3, pidfd_ >= 0 ? -1 : 200) < 0 && errno != EINTR) break;
    if (waits[0].revents != 0) out_open = drain(out_, true);
    if (waits[1].revents != 0) err_open = drain(err_, false);
    gone = waits[2].revents != 0 || (pidfd_ < 0 && !out_open && !err_open);
  }
  // What it had said before its end; not what others that hold its pipes say after it.
  for (int i = 0; i < 64 && err_open; ++i) {
    const ssize_t n = read(err_, buffer, sizeof(buffer));
    if (n <= 0) break;
    Append(std::string(buffer, static_cast<size_t>(n)));
  }
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    kill(-pid_, SIGKILL);  // what it left behind in its group, while the number is still its own
    changed_.NotifyAll();
  }
  handlers_.ended(HowItEnded());
}

}  // namespace orch::plugin
