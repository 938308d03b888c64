// Two streams in one, for platforms that keep a single log of a process: a mark goes before bytes of another stream
// than the last ones. It is an escape sequence that terminals pass over, with the attempt's fence in it, so that a log
// which is looked at by other means stays readable, and one that has only stdout is as it was.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace orch {

// The variable that asks a launcher for it.
inline constexpr char kStreamsVariable[] = "ORCH_STREAMS";
inline constexpr char kStreamsInOne[] = "one";

// Puts them together.
class StreamMarks {
 public:
  explicit StreamMarks(std::string_view fence);

  // Appends to `out`.
  void Put(bool error, std::string_view bytes, std::string* out);

 private:
  const std::string begin_;
  bool error_ = false;  // where the last bytes belonged
};

// Takes them apart. Pieces in any size; bytes that may be the beginning of a mark are held back until that is known.
class StreamSplitter {
 public:
  using Take = std::function<void(bool error, std::string_view bytes)>;
  // Where it is, so that another process can go on.
  struct State {
    bool error = false;
    std::string held;
  };

  explicit StreamSplitter(std::string_view fence);
  StreamSplitter(std::string_view fence, State state);

  void Feed(std::string_view bytes, const Take& take);
  // At the end: what was held is no mark.
  void Flush(const Take& take);
  const State& state() const { return state_; }

 private:
  std::string begin_;
  State state_;
};

}  // namespace orch
