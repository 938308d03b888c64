// How an attempt ended, from what the cluster says of its pod and Job and what is known here: pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backends/kubernetes/views.h"
#include "server/model/attempt_end.h"

namespace orch::kubernetes {

// What is known here of an attempt that has ended.
struct JobFate {
  std::string word = "Job";  // what its Job is called
  int64_t memory = 0;        // its limit
  bool stop_sent = false;    // we have deleted its Job
  bool over_limit = false;   // of its log
  bool job_gone = false;     // its Job is not there any more
  bool pod_gone = false;     // nor is its pod: what is known of it is its last state
  bool silent = false;       // its pod should be gone for long, and its node does not say so
  std::string log_fault;     // why its log is not whole; empty: it is
  int64_t stdout_bytes = 0;
  int64_t stderr_bytes = 0;
};

struct JobEnd {
  bool lost = false;  // nobody can say how; `end.message` says why
  AttemptEnd end;
};

// `pod`: nothing if none was ever seen. `job`: nothing if it is not there.
JobEnd EndOf(const std::optional<PodView>& pod, const std::optional<JobView>& job, const JobFate& fate);

}  // namespace orch::kubernetes
