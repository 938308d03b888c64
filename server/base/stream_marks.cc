#include "server/base/stream_marks.h"

#include <algorithm>
#include <utility>

namespace orch {
namespace {

// An operating system command (OSC) of a number that nobody has.
std::string BeginOf(std::string_view fence) { return "\x1b]6973;" + std::string(fence) + ";"; }

constexpr char kOut = '1';
constexpr char kErr = '2';
constexpr char kEnd = '\a';

}  // namespace

StreamMarks::StreamMarks(std::string_view fence) : begin_(BeginOf(fence)) {}

void StreamMarks::Put(bool error, std::string_view bytes, std::string* out) {
  if (bytes.empty()) return;
  if (error != error_) {
    error_ = error;
    *out += begin_;
    *out += error ? kErr : kOut;
    *out += kEnd;
  }
  out->append(bytes);
}

StreamSplitter::StreamSplitter(std::string_view fence) : StreamSplitter(fence, State()) {}
StreamSplitter::StreamSplitter(std::string_view fence, State state)
    : begin_(BeginOf(fence)), state_(std::move(state)) {}

void StreamSplitter::Feed(std::string_view bytes, const Take& take) {
  std::string joined;
  if (!state_.held.empty()) {
    joined = std::exchange(state_.held, {});
    joined.append(bytes);
    bytes = joined;
  }
  const auto give = [&](size_t count) {
    if (count > 0) take(state_.error, bytes.substr(0, count));
    bytes.remove_prefix(count);
  };
  while (!bytes.empty()) {
    give(std::min(bytes.find(begin_[0]), bytes.size()));
    const size_t known = std::min(bytes.size(), begin_.size());
    if (bytes.substr(0, known) != std::string_view(begin_).substr(0, known)) {
      give(1);
      continue;
    }
    const size_t whole = begin_.size() + 2;
    const bool other = (bytes.size() > begin_.size() && bytes[begin_.size()] != kOut && bytes[begin_.size()] != kErr) ||
                       (bytes.size() >= whole && bytes[whole - 1] != kEnd);
    if (other) {
      give(1);
      continue;
    }
    if (bytes.size() < whole) {
      state_.held = std::string(bytes);
      return;
    }
    state_.error = bytes[begin_.size()] == kErr;
    bytes.remove_prefix(whole);
  }
}

void StreamSplitter::Flush(const Take& take) {
  const std::string held = std::exchange(state_.held, {});
  if (!held.empty()) take(state_.error, held);
}

}  // namespace orch
