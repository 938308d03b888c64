// What one TailLogs stream sends next: both streams of an attempt in the order of time. Knows nothing of gRPC; reads
// files and the database, so only on a worker thread. One thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "orch/v1/log_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/log_api.h"

namespace orch::rpc {

class TailFeed {
 public:
  TailFeed(const ApiContext* api, CallContext context, v1::TailLogsRequest request);

  enum class Next { kMessage, kIdle, kDone };
  absl::StatusOr<Next> Fill(v1::TailLogsResponse* message);

  RunKey run() const { return found_.record.header.key; }
  // Events up to here have been looked at.
  int64_t after() const { return after_; }
  // While an attempt runs its files are looked at this often; before it starts only events wake.
  int64_t poll_micros() const { return attempt_ ? 75'000 : 5'000'000; }

 private:
  struct Stream {
    bool wanted = false;
    std::unique_ptr<LogReader> reader;
    int64_t offset = 0;
    int64_t size = 0;
  };

  absl::Status Begin();
  absl::Status OpenStreams();
  // The last `lines` of both together.
  absl::Status GoBack(int lines);
  absl::Status LookForEnd();
  absl::Status ReadSizes();

  const ApiContext& api_;
  const CallContext context_;
  const v1::TailLogsRequest request_;
  FoundRun found_;
  StepIx ix_ = 0;
  bool begun_ = false;
  std::optional<AttemptRow> attempt_;
  bool ended_ = false;  // nothing more will be written
  int64_t after_ = 0;
  std::array<Stream, 2> streams_;  // stdout, stderr
};

}  // namespace orch::rpc
