// The log of one container, followed from where it was left, over breaks of the stream.
//
// On the client's thread; functions are called from within Client::Poll.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/answer.h"
#include "backends/kubernetes/api/client.h"

namespace orch::kubernetes {

// How far a log has been read. A server can only be asked for what came from a whole second on, so what it gives from
// there on has to be counted, and as many lines passed over when it gives them again. Stamps are not enough for that:
// two streams write into one log, and each has stamps of its own.
struct LogPosition {
  int64_t second = 0;  // UTC; 0: nothing was read
  int64_t lines = 0;   // whole lines from there on, in the log's order
  int64_t bytes = 0;   // and so much of a further one
  int64_t newest = 0;  // the latest stamp, nanoseconds UTC: what is later is new in any case, also in another file
};

// Takes stamped lines apart. Pieces in any size.
class StampedLines {
 public:
  using Take = std::function<void(absl::string_view text, int64_t nanos)>;

  explicit StampedLines(LogPosition position) : position_(position) { Restart(); }

  // `take` gets the text behind the position, as it comes, without stamps; `nanos` is the line's. Lines without a stamp
  // are the node's own words and no part of the log.
  void Feed(absl::string_view piece, const Take& take);
  // A stream begins again, at the position's second.
  void Restart();
  const LogPosition& position() const { return position_; }

 private:
  enum class In { kStamp, kText, kPassed };

  void Begin(int64_t stamp);

  LogPosition position_;
  bool catching_up_ = false;
  int64_t again_ = 0;  // lines that have come again
  int64_t skip_ = 0;   // bytes of a line that were there before
  In in_ = In::kStamp;
  std::string stamp_text_;
  int64_t stamp_ = 0;  // of the line
};

class PodLog {
 public:
  struct Calls {
    std::function<void(absl::string_view text, int64_t nanos)> text;
    // The container's end was known, and its log has been read to its end.
    std::function<void()> ended;
    // It is not to be had (any more): the pod is gone, or it is forbidden.
    std::function<void(const Answer& answer)> failed;
    // All of a piece has been given; `position` is behind it. May be left out.
    std::function<void()> moved;
  };

  // `path`: of the pod. `from`: what a former one's position was.
  PodLog(Client* client, std::string path, std::string container, LogPosition from, Calls calls);
  ~PodLog();
  PodLog(const PodLog&) = delete;
  PodLog& operator=(const PodLog&) = delete;

  // The container has begun.
  void Start();
  // The container has ended: what the stream has not brought is read, then it is `ended`. `leaving`: its pod goes away,
  // and the log with it; so a stream that is open is left to its end, and that nothing can be read any more is an end.
  void Finish(bool leaving = false);
  const LogPosition& position() const { return lines_.position(); }

 private:
  void Open();
  void OnEnd(const Answer& answer);

  Client* const client_;
  const std::string path_, container_;
  const Calls calls_;
  StampedLines lines_;
  bool finishing_ = false;
  bool leaving_ = false;
  bool last_ = false;  // the stream that runs is the last one
  int failures_ = 0;
  bool streaming_ = false;  // `call_` is a stream, not a pause
  uint64_t call_ = 0;
};

}  // namespace orch::kubernetes
