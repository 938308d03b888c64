#include "tests/client/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>

#include "server/base/check.h"

namespace orch::client {
namespace {

constexpr auto kDeadline = std::chrono::seconds(30);

struct Pipe {
  Pipe() {
    int fds[2];
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    read_end = fds[0];
    write_end = fds[1];
  }
  int read_end, write_end;
};

Result Run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment, int in, int out,
           int err, int out_reader, int err_reader, const std::function<void(int)>& on_start = nullptr) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  std::vector<std::string> words = argv;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::vector<std::string> pairs;
  for (const auto& [name, value] : environment) pairs.push_back(name + "=" + value);
  std::vector<char*> variables;
  for (std::string& pair : pairs) variables.push_back(pair.data());
  variables.push_back(nullptr);
  pid_t pid = 0;
  CHECK(posix_spawn(&pid, arguments[0], &actions, nullptr, arguments.data(), variables.data()) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(in);
  close(out);
  close(err);
  if (on_start) on_start(pid);

  Result result;
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  pollfd fds[2] = {{out_reader, POLLIN, 0}, {err_reader, POLLIN, 0}};
  std::string* texts[2] = {&result.out, &result.err};
  bool late = false;
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0 || poll(fds, 2, static_cast<int>(left.count())) == 0) {
      late = true;
      kill(pid, SIGKILL);
      break;
    }
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = read(fds[i].fd, buffer, sizeof(buffer));
      if (n < 0 && errno == EINTR) continue;
      // A terminal whose last user is gone answers EIO.
      if (n <= 0) {
        fds[i].fd = -1;
      } else {
        texts[i]->append(buffer, static_cast<size_t>(n));
      }
    }
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  result.code = late ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  close(out_reader);
  close(err_reader);
  return result;
}

int InputOf(const std::string& input) {
  if (input.empty()) return open("/dev/null", O_RDONLY | O_CLOEXEC);
  Pipe pipe;
  CHECK(write(pipe.write_end, input.data(), input.size()) == static_cast<ssize_t>(input.size()));
  close(pipe.write_end);
  return pipe.read_end;
}

}  // namespace

Result RunProgram(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment,
                  const std::string& input, const std::function<void(int)>& on_start) {
  Pipe out, err;
  return Run(argv, environment, InputOf(input), out.write_end, err.write_end, out.read_end, err.read_end, on_start);
}

Result RunOnTerminal(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment,
                     int rows, int columns) {
  Pipe out;
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  CHECK(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  char name[128];
  CHECK(ptsname_r(terminal, name, sizeof(name)) == 0);
  const int side = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  CHECK(side >= 0);
  winsize size{static_cast<unsigned short>(rows), static_cast<unsigned short>(columns), 0, 0};
  CHECK(ioctl(terminal, TIOCSWINSZ, &size) == 0);
  return Run(argv, environment, InputOf(""), out.write_end, side, out.read_end, terminal);
}

}  // namespace orch::client
