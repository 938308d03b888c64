// Errors with a reason that programs can switch on.
//
// Every error that leaves a module is an absl::Status made here: a canonical code, one reason word
// (`RUN_NOT_FOUND`), and a text that names the thing and says what to do next. server/rpc/errors.cc turns it into
// google.rpc details.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch {

// One fault of a request: the field's path from the message (`steps[3].resources.memory`; empty: the whole), what is
// wrong and what would be right, and a reason word.
struct Violation {
  std::string field;
  std::string description;
  std::string reason;
};

// Makes an error. `reason` is UPPER_SNAKE_CASE and not empty.
absl::Status Error(absl::StatusCode code, absl::string_view reason, absl::string_view message);

// The error for bad input, with all its faults. `reason` is for the whole (`PIPELINE_INVALID`).
absl::Status InvalidInput(absl::string_view reason, absl::string_view message,
                          const std::vector<Violation>& violations);

// The reason word; empty if the status is OK or was not made by Error().
std::string ReasonOf(const absl::Status& status);

// The faults given to InvalidInput(); empty for others.
std::vector<Violation> ViolationsOf(const absl::Status& status);

// Adds how long a client should wait before it tries again, in milliseconds.
absl::Status WithRetryDelay(absl::Status status, int64_t milliseconds);
// 0 if none was set.
int64_t RetryDelayOf(const absl::Status& status);

// A fact for programs that goes with the reason: the place to go on from (`resume_token`). One at most.
absl::Status WithFact(absl::Status status, absl::string_view name, absl::string_view value);
// Name and value; both empty if none was set.
std::pair<std::string, std::string> FactOf(const absl::Status& status);

}  // namespace orch

#define ORCH_CONCAT_(a, b) a##b
#define ORCH_CONCAT(a, b) ORCH_CONCAT_(a, b)

// Returns from the function if `expr` is an error.
#define RETURN_IF_ERROR(expr)                    \
  do {                                           \
    absl::Status orch_status_ = (expr);          \
    if (!orch_status_.ok()) return orch_status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()) : declares x or returns the error.
#define ASSIGN_OR_RETURN(lhs, expr) ASSIGN_OR_RETURN_(ORCH_CONCAT(orch_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                      \
  if (!tmp.ok()) return tmp.status();     \
  lhs = *std::move(tmp)
