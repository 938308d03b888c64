// What is nobody's fault and passes by itself, told from what is wrong for good.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "server/base/status.h"

namespace orch {

// A trouble of the moment: a store that is away, a database that is busy, a disk that is full. Worth another try with
// nothing changed. What is over a limit will be so again.
inline bool IsOfTheMoment(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
      return true;
    case absl::StatusCode::kResourceExhausted: {
      const std::string reason = ReasonOf(status);
      return !absl::EndsWith(reason, "_TOO_LARGE") && !absl::EndsWith(reason, "_LIMIT");
    }
    default:
      return false;
  }
}

}  // namespace orch
