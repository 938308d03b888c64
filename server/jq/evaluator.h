// Evaluates jq expressions in a helper process (helper_main.cc), which is started when it is first needed.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/jq/wire.h"

namespace orch::jq {

class Evaluator {
 public:
  // `program` is the path of orch-jq.
  explicit Evaluator(std::string program);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  // Both from any thread; one request at a time, each for at most ten seconds.
  //
  // INVALID_ARGUMENT (EXPRESSION_INVALID): it is no jq expression. RESOURCE_EXHAUSTED (EXPRESSION_LIMIT): the helper
  // died or was ended over it. INTERNAL (EXPRESSION_HELPER): there is no helper to be had.
  absl::Status Compile(const std::string& expression);
  // The one result of `expression` over `input`, as compact JSON. INVALID_ARGUMENT (EXPRESSION_FAILED) as well: jq's
  // own error at run time, or not exactly one result.
  absl::StatusOr<std::string> Evaluate(const std::string& expression, const std::string& input);

 private:
  absl::StatusOr<Reply> Ask(const Request& request);
  absl::Status Launch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string program_;
  Mutex mutex_;
  int fd_ ABSL_GUARDED_BY(mutex_) = -1;
  pid_t pid_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace orch::jq
