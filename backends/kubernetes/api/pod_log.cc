#include "backends/kubernetes/api/pod_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace orch::kubernetes {
namespace {

constexpr int64_t kNanos = 1'000'000'000;
constexpr size_t kLongestStamp = 40;
constexpr int kReadSeconds = 600;  // of a log that has ended

// 0 if it is none.
int64_t NanosOf(const std::string& stamp) {
  absl::Time time;
  std::string ignored;
  if (stamp.size() < 20 || !absl::ParseTime(absl::RFC3339_full, stamp, &time, &ignored)) return 0;
  return absl::ToUnixNanos(time);
}

}  // namespace

void StampedLines::Restart() {
  catching_up_ = position_.second > 0;
  again_ = skip_ = 0;
  in_ = In::kStamp;
  stamp_text_.clear();
}

void StampedLines::Begin(int64_t stamp) {
  stamp_ = stamp;
  in_ = In::kPassed;
  if (catching_up_ && stamp <= position_.newest) {
    if (stamp / kNanos < position_.second) return;
    if (again_++ < position_.lines) return;
    skip_ = position_.bytes;
  } else if (catching_up_) {
    position_.bytes = 0;  // the rest of a line is lost with the file that it was in
  }
  catching_up_ = false;
  in_ = In::kText;
  if (stamp / kNanos > position_.second) {
    position_.second = stamp / kNanos;
    position_.lines = position_.bytes = 0;
  }
  position_.newest = std::max(position_.newest, stamp);
}

void StampedLines::Feed(absl::string_view piece, const Take& take) {
  while (!piece.empty()) {
    if (in_ == In::kStamp) {
      const char c = piece.front();
      piece.remove_prefix(1);
      if (c == '\n') {  // a word of the node's, or nothing
        stamp_text_.clear();
      } else if (c != ' ') {
        stamp_text_.push_back(c);
        if (stamp_text_.size() > kLongestStamp) in_ = In::kPassed;
      } else if (const int64_t stamp = NanosOf(std::exchange(stamp_text_, {})); stamp > 0) {
        Begin(stamp);
      } else {
        in_ = In::kPassed;
      }
      continue;
    }
    const size_t end = piece.find('\n');
    const bool ends = end != absl::string_view::npos;
    absl::string_view text = piece.substr(0, ends ? end + 1 : end);
    piece.remove_prefix(text.size());
    if (in_ == In::kText) {
      const auto known = static_cast<size_t>(std::min<int64_t>(skip_, static_cast<int64_t>(text.size())));
      skip_ -= static_cast<int64_t>(known);
      text.remove_prefix(known);
      if (!text.empty()) take(text, stamp_);
      position_.bytes += static_cast<int64_t>(text.size());
      if (ends) {
        if (stamp_ / kNanos >= position_.second) ++position_.lines;
        position_.bytes = skip_ = 0;
      }
    }
    if (!ends) continue;
    in_ = In::kStamp;
    stamp_text_.clear();
  }
}

PodLog::PodLog(Client* client, std::string path, std::string container, LogPosition from, Calls calls)
    : client_(client),
      path_(std::move(path)),
      container_(std::move(container)),
      calls_(std::move(calls)),
      lines_(from) {}

PodLog::~PodLog() { client_->Abort(call_); }

void PodLog::Start() {
  if (call_ == 0) Open();
}

void PodLog::Finish(bool leaving) {
  leaving_ = leaving_ || leaving;
  if (std::exchange(finishing_, true)) return;
  failures_ = 0;
  if (leaving_ && streaming_) return;
  // A stream that follows comes to its end by itself, but a node that is busy may be long about it, and one that was
  // restarted lets go of its followers early: it is read once more, without following.
  client_->Abort(std::exchange(call_, 0));
  Open();
}

void PodLog::Open() {
  lines_.Restart();
  last_ = finishing_;
  Request request;
  request.path =
      absl::StrCat(path_, "/log?container=", UrlEscape(container_), "&timestamps=true", last_ ? "" : "&follow=true");
  if (const int64_t second = lines_.position().second; second > 0) {
    const auto since = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(second), absl::UTCTimeZone());
    absl::StrAppend(&request.path, "&sinceTime=", UrlEscape(since));
  }
  request.seconds = last_ ? kReadSeconds : 0;
  streaming_ = true;
  call_ = client_->Stream(
      std::move(request),
      [this](absl::string_view piece) {
        failures_ = 0;
        lines_.Feed(piece, calls_.text);
        if (calls_.moved) calls_.moved();
      },
      [this](Answer answer) { OnEnd(answer); });
}

void PodLog::OnEnd(const Answer& answer) {
  call_ = 0;
  streaming_ = false;
  if (answer.ok() && last_) return calls_.ended();
  if (finishing_ && !last_) return Open();
  if (leaving_ && last_ && !answer.later()) return calls_.ended();
  // 400: the container waits to start, or its log is not to be had yet.
  const bool again = answer.ok() || answer.later() || (answer.code == 400 && !last_);
  if (!again) return calls_.failed(answer);
  ++failures_;
  const int64_t pause = std::max(answer.retry_after, client_->Pause(failures_));
  call_ = client_->After(pause, [this] {
    call_ = 0;
    Open();
  });
}

}  // namespace orch::kubernetes
