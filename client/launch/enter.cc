#include "client/launch/enter.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "client/launch/out_of_memory.h"
#include "server/base/redactor.h"

extern char** environ;

namespace orch::launch {
namespace {

constexpr int kOwnFault = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// Sets the variables of one of the folders. False: one of its files cannot be read.
bool Take(const std::string& folder, bool path, std::vector<std::string>* values) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return errno == ENOENT;
  bool good = true;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    std::ifstream in(folder + "/" + name, std::ios::binary);
    std::string value(std::istreambuf_iterator<char>(in), {});
    good = good && in.good() + in.eof() > 0 && !in.bad();
    setenv(name.c_str(), path ? (folder + "/" + name).c_str() : value.c_str(), 1);
    if (values != nullptr) values->push_back(std::move(value));
  }
  closedir(dir);
  return good;
}

int CannotExecute(const std::string& program, int error) {
  fprintf(stderr, "%s`%s`: %s\n", kCannotExecute, program.c_str(), strerror(error));
  return error == ENOENT ? kNotFound : kNotExecutable;
}

// One of the command's two streams, on its way out.
struct Stream {
  int from = -1;
  int to = -1;
  Redactor redactor;

  // False: it has ended.
  bool Pump() {
    char buffer[65536];
    const ssize_t n = read(from, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    std::string out;
    if (n > 0) {
      redactor.Feed(std::string_view(buffer, static_cast<size_t>(n)), &out);
    } else {
      redactor.Flush(&out);
    }
    if (WriteAll(to, out) && n > 0) return true;
    close(from);  // what cannot be written the command hears of by its own next write
    from = -1;
    return false;
  }

  // The command has ended. Whoever holds the pipe all the same is not waited for.
  void Drain() {
    int unread = 1;
    while (from >= 0 && unread > 0 && Pump()) {
      if (ioctl(from, FIONREAD, &unread) != 0) unread = 0;
    }
    if (from < 0) return;
    std::string rest;
    redactor.Flush(&rest);
    (void)WriteAll(to, rest);
  }
};

// The command as a child, with its streams on pipes.
int Spawn(std::vector<char*>& words, int out, int err, pid_t* pid) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, out, 1);
  posix_spawn_file_actions_adddup2(&files, err, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = posix_spawnp(pid, words[0], &files, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

}  // namespace

int Enter(const std::string& folder, const std::vector<std::string>& command, bool stay) {
  std::vector<std::string> values;
  if (folder != "-" && (!Take(folder + "/plain", false, nullptr) || !Take(folder + "/env", false, &values) ||
                        !Take(folder + "/file", true, &values))) {
    fprintf(stderr, "orch-launch: cannot read what is in %s: %s\n", folder.c_str(), strerror(errno));
    return kOwnFault;
  }
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  if (values.empty() && !stay) {
    execvp(words[0], words.data());
    return CannotExecute(command[0], errno);
  }

  sigset_t watched;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  for (const int signal : kPassedOn) sigaddset(&watched, signal);
  sigprocmask(SIG_BLOCK, &watched, nullptr);  // before there is a child whose end could be missed
  signal(SIGPIPE, SIG_IGN);
  const int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
  Stream streams[2];
  int ends[2][2] = {{-1, 1}, {-1, 2}};
  for (int i = 0; i < 2 && !values.empty(); ++i) {
    if (pipe2(ends[i], O_CLOEXEC) != 0) {
      fprintf(stderr, "orch-launch: %s\n", strerror(errno));
      return kOwnFault;
    }
    fcntl(ends[i][0], F_SETFL, O_NONBLOCK);
    streams[i] = {ends[i][0], i + 1, Redactor(values)};
  }
  pid_t pid = 0;
  const int error = signals < 0 ? errno : Spawn(words, ends[0][1], ends[1][1], &pid);
  for (auto& end : ends) {
    if (end[0] >= 0) close(end[1]);
  }
  if (error != 0) return CannotExecute(command[0], error);

  for (;;) {
    pollfd polled[3] = {{signals, POLLIN, 0}, {streams[0].from, POLLIN, 0}, {streams[1].from, POLLIN, 0}};
    if (poll(polled, 3, -1) < 0 && errno != EINTR) return kOwnFault;
    for (int i = 0; i < 2; ++i) {
      if (polled[i + 1].revents != 0) (void)streams[i].Pump();
    }
    signalfd_siginfo info{};
    while (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      if (info.ssi_signo != SIGCHLD) kill(pid, static_cast<int>(info.ssi_signo));
    }
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) != pid) continue;
    for (Stream& stream : streams) stream.Drain();
    if (status != 0 && OomKills() > 0) {
      fprintf(stderr, "%sthe kernel ended a process of this step\n", kOutOfMemory);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
}

}  // namespace orch::launch
