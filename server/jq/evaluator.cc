#include "server/jq/evaluator.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/detached_process.h"
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
  const std::vector<std::string> environment;
  const int error = DetachedProcess().Duplicate(ends[1], 0).CloseFrom(1).Start({program_}, &environment, &pid_);
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
