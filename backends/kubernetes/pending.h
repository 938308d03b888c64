// Why a pod has not begun yet, and whether that is worth waiting for: pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "backends/kubernetes/views.h"
#include "server/model/states.h"

namespace orch::kubernetes {

struct Pending {
  Reason reason = Reason::kNone;  // kNone: nothing is the matter
  std::string message;            // in the cluster's own words
  // So long this may last before it is taken for good, in microseconds; 0: at once; negative: for ever, which is a
  // matter of the step's queue time-out.
  int64_t patience = -1;
  std::string of;  // the container that waits; empty: it is the pod
};

// Of a pod that is not over and has not begun. `image_seconds`: as configured.
Pending PendingOf(const PodView& pod, int64_t image_seconds);

// What the cluster's events say of an object that makes no progress: the newest warning, `REASON: message`. Empty if
// there is none. `list`: the answer to a list of them.
std::string WarningOf(const nlohmann::json& list);

}  // namespace orch::kubernetes
