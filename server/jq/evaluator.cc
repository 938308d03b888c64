#include "server/jq/evaluator.h"

#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::jq {
namespace {

constexpr int kSeconds = 10;  // wall time of one request; the helper's CPU limit is shorter

}  // namespace

Evaluator::Evaluator(std::string program) : program_(std::move(program)) {}

Evaluator::~Evaluator() {
  MutexLock lock(&mutex_);
  End();
}

absl::Status Evaluator::Launch() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error(absl::StatusCode::kInternal, "EXPRESSION_HELPER",
                 absl::StrCat("cannot make a socket for ", program_, ": ", strerror(errno)));
  }
  const timeval limit{kSeconds, 0};
  setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const char* argv[] = {program_.c_str(), nullptr};
  const char* env[] = {nullptr};
  const int error = posix_spawn(&pid_, program_.c_str(), &actions, &attributes, const_cast<char* const*>(argv),
                                const_cast<char* const*>(env));
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    pid_ = 0;
    return Error(absl::StatusCode::kInternal, "EXPRESSION_HELPER",
                 absl::StrCat("cannot start ", program_, ": ", strerror(error)));
  }
  fd_ = ends[0];
  return absl::OkStatus();
}

void Evaluator::End() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {  // another thread may have taken it
  }
  pid_ = 0;
}

absl::StatusOr<Reply> Evaluator::Ask(const Request& request) {
  MutexLock lock(&mutex_);
  for (int tries = 0;; ++tries) {
    const bool fresh = fd_ < 0;
    if (fresh) RETURN_IF_ERROR(Launch());
    Reply reply;
    if (Write(fd_, request) && Read(fd_, &reply)) return reply;
    End();
    // One that was there may have ended on its own; what a fresh one dies of is the expression.
    if (fresh || tries > 0) {
      return Error(absl::StatusCode::kResourceExhausted, "EXPRESSION_LIMIT",
                   "it took more than 2 s of CPU time or 1 GiB of memory");
    }
  }
}

absl::Status Evaluator::Compile(const std::string& expression) {
  ASSIGN_OR_RETURN(const Reply reply, Ask({true, expression, ""}));
  if (reply.outcome == Outcome::kCompiled) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, "EXPRESSION_INVALID", reply.text);
}

absl::StatusOr<std::string> Evaluator::Evaluate(const std::string& expression, const std::string& input) {
  ASSIGN_OR_RETURN(Reply reply, Ask({false, expression, input}));
  if (reply.outcome == Outcome::kResult) return std::move(reply.text);
  return Error(absl::StatusCode::kInvalidArgument,
               reply.outcome == Outcome::kInvalid ? "EXPRESSION_INVALID" : "EXPRESSION_FAILED", reply.text);
}

}  // namespace orch::jq
