#include "server/rpc/tail_feed.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/log_search.h"

namespace orch::rpc {
namespace {

constexpr int64_t kPiece = 64 << 10;
constexpr int kMaxLines = 100'000;

// Where each of the last `lines` lines begins, newest first. Reads backwards.
absl::StatusOr<std::vector<int64_t>> LineStarts(LogReader* reader, int64_t size, int lines) {
  std::vector<int64_t> starts;
  int64_t end = size;  // a newline at the very end begins no line
  bool last_byte = true;
  while (end > 0 && static_cast<int>(starts.size()) < lines) {
    const int64_t begin = std::max<int64_t>(0, end - kPiece);
    ASSIGN_OR_RETURN(const std::string piece, reader->Read(begin, end - begin));
    for (size_t i = piece.size(); i-- > 0 && static_cast<int>(starts.size()) < lines;) {
      if (piece[i] == '\n' && !last_byte) starts.push_back(begin + static_cast<int64_t>(i) + 1);
      last_byte = false;
    }
    end = begin;
  }
  if (end == 0 && size > 0 && static_cast<int>(starts.size()) < lines) starts.push_back(0);
  return starts;
}

// How many bytes from `offset` were written no later than `time`; at least 1.
int64_t BytesUpTo(LogReader* reader, int64_t offset, int64_t bytes, int64_t time) {
  int64_t low = 1;
  int64_t high = bytes;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (reader->TimeOf(offset + middle - 1) <= time) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

TailFeed::TailFeed(const ApiContext* api, CallContext context, v1::TailLogsRequest request)
    : api_(*api), context_(std::move(context)), request_(std::move(request)) {}

absl::Status TailFeed::Begin() {
  Checks checks;
  if (request_.stdout_offset() < 0) checks.Add("request.stdout_offset", "OUT_OF_RANGE", "it is negative");
  if (request_.stderr_offset() < 0) checks.Add("request.stderr_offset", "OUT_OF_RANGE", "it is negative");
  checks.Range("request.tail_lines", int64_t{request_.tail_lines()}, 0, kMaxLines);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no log was read"));
  after_ = api_.engine->hub().last_sequence();
  ASSIGN_OR_RETURN(found_, FindRunWithGraph(api_, context_, request_.project(), request_.run()));
  ASSIGN_OR_RETURN(ix_, FindStep(found_, request_.step()));
  streams_[0].wanted = request_.stream() != v1::LogStream::STDERR;
  streams_[1].wanted = request_.stream() != v1::LogStream::STDOUT;
  ASSIGN_OR_RETURN(attempt_, FindAttempt(api_, found_, ix_, request_.attempt()));
  if (attempt_) {
    RETURN_IF_ERROR(OpenStreams());
    ended_ = IsTerminal(attempt_->state);
  } else {
    ASSIGN_OR_RETURN(ended_, StepHasEnded(api_, found_, ix_));
  }
  begun_ = true;
  return absl::OkStatus();
}

absl::Status TailFeed::OpenStreams() {
  for (size_t s = 0; s < streams_.size(); ++s) {
    if (!streams_[s].wanted) continue;
    const LogStreamName name = s == 0 ? LogStreamName::kStdout : LogStreamName::kStderr;
    ASSIGN_OR_RETURN(streams_[s].reader, api_.engine->OpenLog(found_.record, ix_, *attempt_, name));
    streams_[s].offset = s == 0 ? request_.stdout_offset() : request_.stderr_offset();
    if (!request_.has_since()) continue;
    ASSIGN_OR_RETURN(const int64_t size, streams_[s].reader->Size());
    const int64_t since = request_.since().seconds() * 1'000'000 + request_.since().nanos() / 1000;
    streams_[s].offset = std::max(streams_[s].offset, OffsetOf(streams_[s].reader.get(), size, since));
  }
  return request_.tail_lines() > 0 ? GoBack(request_.tail_lines()) : absl::OkStatus();
}

absl::Status TailFeed::GoBack(int lines) {
  struct Line {
    int64_t time;
    size_t stream;
    int64_t offset;
  };
  std::vector<Line> all;
  for (size_t s = 0; s < streams_.size(); ++s) {
    if (!streams_[s].reader) continue;
    ASSIGN_OR_RETURN(const int64_t size, streams_[s].reader->Size());
    const int64_t first = streams_[s].offset;  // not before it
    streams_[s].offset = size;
    ASSIGN_OR_RETURN(const auto starts, LineStarts(streams_[s].reader.get(), size, lines));
    for (const int64_t offset : starts) {
      if (request_.has_since() && offset < first) continue;
      all.push_back({streams_[s].reader->TimeOf(offset), s, offset});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Line& a, const Line& b) { return a.time > b.time; });
  all.resize(std::min(all.size(), static_cast<size_t>(lines)));
  for (const Line& line : all) streams_[line.stream].offset = std::min(streams_[line.stream].offset, line.offset);
  return absl::OkStatus();
}

absl::Status TailFeed::LookForEnd() {
  if (ended_) return absl::OkStatus();
  Hub& hub = api_.engine->hub();
  const Hub::Page page = hub.Read(run(), after_, 1000);
  bool changed = page.behind;
  after_ = page.behind ? hub.last_sequence() : std::max(after_, page.after);
  for (const auto& event : page.events) {
    after_ = std::max(after_, event->sequence);
    changed = changed || event->ix < 0 || event->ix == int64_t{ix_};
  }
  if (!changed) return absl::OkStatus();
  // Of the attempt that is being read; a retry is a tail of its own.
  const int32_t number = attempt_ ? static_cast<int32_t>(attempt_->number) : request_.attempt();
  const bool before = attempt_.has_value();
  ASSIGN_OR_RETURN(attempt_, FindAttempt(api_, found_, ix_, number));
  if (attempt_) {
    if (!before) RETURN_IF_ERROR(OpenStreams());
    ended_ = IsTerminal(attempt_->state);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(ended_, StepHasEnded(api_, found_, ix_));
  return absl::OkStatus();
}

absl::Status TailFeed::ReadSizes() {
  for (Stream& stream : streams_) {
    if (!stream.reader) continue;
    ASSIGN_OR_RETURN(stream.size, stream.reader->Size());
  }
  return absl::OkStatus();
}

absl::StatusOr<TailFeed::Next> TailFeed::Fill(v1::TailLogsResponse* message) {
  message->Clear();
  if (!begun_) {
    RETURN_IF_ERROR(Begin());
  }
  // First whether it has ended, then the sizes: what was written before the end is then inside them.
  RETURN_IF_ERROR(LookForEnd());
  RETURN_IF_ERROR(ReadSizes());
  int chosen = -1;
  int64_t times[2] = {0, 0};
  for (int s = 0; s < 2; ++s) {
    Stream& stream = streams_[static_cast<size_t>(s)];
    if (!stream.reader || stream.offset >= stream.size) continue;
    times[s] = stream.reader->TimeOf(stream.offset);
    if (chosen < 0 || times[s] < times[chosen]) chosen = s;
  }
  if (chosen < 0) {
    if (ended_ || !request_.follow()) return Next::kDone;
    if (api_.engine->hub().closed()) {
      return WithRetryDelay(
          Error(absl::StatusCode::kUnavailable, "DRAINING", "orchd is stopping; go on from the last offsets"), 1000);
    }
    return Next::kIdle;
  }
  Stream& stream = streams_[static_cast<size_t>(chosen)];
  const Stream& other = streams_[static_cast<size_t>(1 - chosen)];
  int64_t bytes = std::min(kPiece, stream.size - stream.offset);
  if (other.reader && other.offset < other.size) {
    bytes = BytesUpTo(stream.reader.get(), stream.offset, bytes, times[1 - chosen]);
  }
  ASSIGN_OR_RETURN(*message->mutable_data(), stream.reader->Read(stream.offset, bytes));
  if (message->data().empty()) return ended_ ? Next::kDone : Next::kIdle;  // it became shorter under us
  stream.offset += static_cast<int64_t>(message->data().size());
  message->set_stream(chosen == 0 ? v1::LogStream::STDOUT : v1::LogStream::STDERR);
  message->set_next_offset(stream.offset);
  if (times[chosen] != 0) *message->mutable_time() = ToTimestamp(times[chosen]);
  message->set_attempt(static_cast<int32_t>(attempt_->number));
  return Next::kMessage;
}

}  // namespace orch::rpc
