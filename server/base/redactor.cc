#include "server/base/redactor.h"

#include <algorithm>

namespace orch {
namespace {
constexpr char kMark[] = "***";
}  // namespace

Redactor::Redactor(const std::vector<std::string>& values) {
  const auto add = [&](std::string value) {
    if (value.size() < kMinValue) return;
    for (const Pattern& known : patterns_) {
      if (known.value == value) return;
    }
    Pattern& pattern = patterns_.emplace_back();
    pattern.value = std::move(value);
    const std::string& v = pattern.value;
    pattern.border.resize(v.size() + 1);
    for (uint32_t length = 1; length < v.size(); ++length) {
      uint32_t border = pattern.border[length];
      while (border > 0 && v[border] != v[length]) border = pattern.border[border];
      pattern.border[length + 1] = v[border] == v[length] ? border + 1 : 0;
    }
    begins_[static_cast<unsigned char>(v[0])] = true;
  };
  for (const std::string& value : values) {
    add(value);
    add(value.substr(0, value.find_last_not_of("\r\n") + 1));
  }
}

void Redactor::Found(int64_t begin, int64_t end) {
  while (!runs_.empty() && begin < runs_.back().end) {
    begin = std::min(begin, runs_.back().begin);
    end = std::max(end, runs_.back().end);
    runs_.pop_back();
  }
  runs_.push_back({begin, end});
}

void Redactor::Feed(std::string_view bytes, std::string* out) {
  held_.append(bytes);
  uint32_t longest = 0;  // of the beginnings that have been matched
  for (const Pattern& pattern : patterns_) longest = std::max(longest, pattern.matched);
  for (size_t i = 0; i < bytes.size(); ++i, ++position_) {
    if (longest == 0) {
      const size_t from = i;
      while (i < bytes.size() && !begins_[static_cast<unsigned char>(bytes[i])]) ++i;
      position_ += static_cast<int64_t>(i - from);
      if (i == bytes.size()) break;
    }
    longest = 0;
    for (Pattern& pattern : patterns_) {
      uint32_t matched = pattern.matched;
      while (matched > 0 && pattern.value[matched] != bytes[i]) matched = pattern.border[matched];
      if (pattern.value[matched] == bytes[i]) ++matched;
      if (matched == pattern.value.size()) {
        Found(position_ + 1 - static_cast<int64_t>(matched), position_ + 1);
        matched = pattern.border[matched];
      }
      pattern.matched = matched;
      longest = std::max(longest, matched);
    }
  }
  Give(position_ - longest, out);
}

void Redactor::Flush(std::string* out) {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  Give(position_, out);
}

void Redactor::Give(int64_t safe, std::string* out) {
  size_t at = 0;  // in held_
  const auto advance = [&](int64_t to, bool plain) {
    const auto n = static_cast<size_t>(to - base_);
    if (plain) out->append(held_, at, n);
    at += n;
    base_ = to;
  };
  while (!runs_.empty() && runs_.front().begin < safe) {
    const Run run = runs_.front();
    if (run.begin > base_) advance(run.begin, true);
    advance(std::min(run.end, safe), false);
    if (run.end > safe) break;  // what comes may overlap it
    out->append(kMark);
    runs_.pop_front();
  }
  if (base_ < safe) advance(safe, true);
  held_.erase(0, at);
}

Redactor::State Redactor::state() const {
  State state;
  state.held = held_;
  if (!runs_.empty() && runs_.front().begin < base_) state.inside = runs_.front().end - base_;
  return state;
}

void Redactor::Resume(const State& state, std::string* out) {
  if (state.inside > 0) runs_.push_back({-1, state.inside});
  Feed(state.held, out);
}

}  // namespace orch
