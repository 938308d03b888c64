// What one WatchRuns stream sends next. Knows nothing of gRPC; reads the database, so only on a worker thread. One
// thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"

namespace orch::rpc {

class WatchFeed {
 public:
  static constexpr int64_t kBookmarkMicros = 4'000'000;  // so that one arrives within 5 s

  WatchFeed(const ApiContext* api, CallContext context, v1::WatchRunsRequest request);

  enum class Next {
    kMessage,  // `message` is to be sent
    kIdle,     // nothing now: wait for hub().WakeAfter(run(), after()) or until bookmark_due()
    kDone,     // until_done, and the run has ended
  };
  // Errors end the stream. OUT_OF_RANGE (RESUME_TOKEN_COMPACTED), FAILED_PRECONDITION (RESUME_TOKEN_FOREIGN),
  // NOT_FOUND; UNAVAILABLE (DRAINING) once the hub is closed, after a last bookmark.
  absl::StatusOr<Next> Fill(v1::WatchRunsResponse* message, int64_t now_mono);

  // The token of the last message that was taken; while one is being written.
  std::string last_token() const { return taken_token_; }
  // Events of runs themselves are all that can be passed on.
  bool runs_only() const { return !terms_.states.empty(); }

  RunKey run() const { return run_; }
  int64_t after() const { return after_; }
  int64_t bookmark_due() const { return last_sent_mono_ + kBookmarkMicros; }

 private:
  enum class Phase { kNew, kRunsSnapshot, kStepsSnapshot, kLive };

  absl::Status Begin();
  absl::Status FillRuns(v1::WatchRunsResponse* message);
  absl::Status FillSteps(v1::WatchRunsResponse* message);
  // The snapshot is complete: what was kept for it goes.
  void BeginLive();
  absl::Status ReadMore();
  absl::Status ReadTable();
  // What is read of the log, if it passes the filter.
  absl::Status Keep(std::shared_ptr<const EventRow> event);
  void FillEvents(v1::WatchRunsResponse* message);
  void NoteEnd(const EventRow& event);
  void SetToken(int64_t sequence, v1::WatchRunsResponse* message);

  const ApiContext& api_;
  const CallContext context_;
  const v1::WatchRunsRequest request_;
  std::string filter_;       // what resume tokens are bound to
  store::RunFilter terms_;   // of the request's filter
  std::string made_token_;   // of the newest message
  std::string taken_token_;  // of the one before
  RunKey run_ = 0;
  std::unique_ptr<FoundRun> found_;  // of a named run, as long as a snapshot of it is to be sent
  bool ended_ = false;               // the named run's newest known state is terminal
  bool greeted_ = false;             // the first message has been made
  bool said_goodbye_ = false;        // the last bookmark has been made
  Phase phase_ = Phase::kNew;
  int64_t after_ = 0;            // everything up to here is in `pending_` or has been sent
  int64_t sent_ = 0;             // everything up to here has been sent
  int64_t end_is_known_at_ = 0;  // `ended_` was read no earlier than this sequence
  RunKey next_run_ = 0;
  StepIx next_step_ = 0;
  std::vector<std::shared_ptr<const EventRow>> pending_;  // in reverse; thousands of streams have none
  int64_t last_sent_mono_ = 0;
};

}  // namespace orch::rpc
