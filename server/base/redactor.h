// Takes secrets out of a stream, whatever pieces it comes in.
//
// Every byte that belongs to an occurrence of a value is taken out; occurrences that overlap are one, and each is
// replaced by `***`. Bytes that may be the beginning of a value are held back until that is known, so never more of
// them than the longest value has; Flush gives them at the end of the stream.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace orch {

class Redactor {
 public:
  // Shorter values are not looked for: any text has their bytes.
  static constexpr size_t kMinValue = 6;

  Redactor() = default;
  // Values are also found without the line ends at their end, which shells take off.
  explicit Redactor(const std::vector<std::string>& values);

  // Appends to `out` what is certain by now.
  void Feed(std::string_view bytes, std::string* out);
  void Flush(std::string* out);

  // Where it is, so that another process can go on with the same values: Resume on a fresh one, before any Feed.
  struct State {
    std::string held;
    int64_t inside = 0;  // so many bytes of `held` end an occurrence that has begun before it
  };
  State state() const;
  void Resume(const State& state, std::string* out);

 private:
  // One value, looked for by the algorithm of Knuth, Morris and Pratt.
  struct Pattern {
    std::string value;
    std::vector<uint32_t> border;  // by length of a prefix: its longest proper prefix that ends it too
    uint32_t matched = 0;
  };
  // Bytes [begin, end) of occurrences that overlap; positions count from the begin of the stream.
  struct Run {
    int64_t begin;
    int64_t end;
  };

  void Found(int64_t begin, int64_t end);
  // Gives what is before `safe`; no occurrence that is still to be found begins there.
  void Give(int64_t safe, std::string* out);

  std::vector<Pattern> patterns_;
  bool begins_[256] = {};  // by byte: a value begins with it
  int64_t position_ = 0;   // of the next byte to come
  int64_t base_ = 0;       // of the first byte that is held
  std::string held_;
  std::deque<Run> runs_;  // in order; only the first may begin before base_
};

}  // namespace orch
