#include "backends/docker/log_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"

namespace orch::docker {
namespace {

constexpr int64_t kRetryMicros = 1'000'000;
constexpr int64_t kLastRetryMicros = 60'000'000;
constexpr int kTries = 4;  // to read and write the log of a container that has ended

}  // namespace

LogStream::LogStream(EngineClient* client, std::string prefix, int64_t limit, Calls calls)
    : client_(client), prefix_(std::move(prefix)), limit_(limit), calls_(std::move(calls)) {}

LogStream::~LogStream() {
  if (transfer_ != 0) client_->Abort(transfer_);
}

void LogStream::TryAt(int64_t mono) {
  retry_at_ = mono;
  calls_.wake(mono);
}

void LogStream::Follow(const std::string& container) {
  container_ = container;
  if (transfer_ == 0 && retry_at_ == 0 && !let_go_ && !ended_) Open(/*follow=*/true);
}

void LogStream::Finish(const std::string& container) {
  container_ = container;
  ended_ = true;
  if (transfer_ == 0 && retry_at_ == 0 && !done_) Open(/*follow=*/false);
}

void LogStream::Wake(int64_t now, bool engine_is_there) {
  if (retry_at_ == 0) return;
  if (retry_at_ > now) return calls_.wake(retry_at_);
  if (!engine_is_there) return TryAt(now + kRetryMicros);
  retry_at_ = 0;
  if (transfer_ == 0 && !done_) Open(/*follow=*/!ended_);
}

void LogStream::Open(bool follow) {
  log_.Open(prefix_);
  transfer_ = client_->Stream(
      "GET",
      calls_.path(absl::StrCat("/containers/", container_, "/logs?stdout=1&stderr=1", follow ? "&follow=1" : "")),
      [this](absl::string_view bytes) {
        if (!log_.Feed(bytes)) return Failed(log_.fault());
        if (limit_ > 0 && log_.total() > limit_ && !std::exchange(over_limit_, true)) calls_.over_limit();
      },
      [this, follow](Answer answer) { Ended(answer, follow); });
}

void LogStream::Ended(const Answer& answer, bool follow) {
  transfer_ = 0;
  log_.Close();
  if (answer.status == 0) return TryAt(Clock::Real().Now().mono + kRetryMicros);  // it broke off, alone or with all
  if (follow) {
    let_go_ = true;
    return ended_ ? Open(/*follow=*/false) : calls_.let_go();
  }
  if (!answer.ok()) return Failed(absl::StrCat("the engine says: ", answer.message()));
  done_ = true;
  fault_.clear();
  calls_.finished();
}

// The engine keeps the log until the container is removed, so it is asked for again later, when there may be room or
// the engine may be well. A container that has ended is not waited for much longer: its end says then that its log is
// not whole.
void LogStream::Failed(const std::string& why) {
  if (fault_.empty()) calls_.faulty(why);
  fault_ = why;
  log_.Close();
  if (transfer_ != 0) client_->Abort(std::exchange(transfer_, 0));
  ++faults_;
  if (ended_ && faults_ >= kTries) {
    done_ = true;
    return calls_.finished();
  }
  const int64_t wait = ended_ ? kRetryMicros : std::min(kRetryMicros << std::min(faults_ - 1, 10), kLastRetryMicros);
  TryAt(Clock::Real().Now().mono + wait);
}

}  // namespace orch::docker
