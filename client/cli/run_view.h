// The picture of one run that a watch paints: fed with messages, asked for lines. No input or output of its own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/cli/style.h"
#include "orch/v1/run_service.pb.h"

namespace orch::cli {

struct StepView {
  std::string name;
  int64_t index = 0;
  v1::Step::State state = v1::Step::WAITING;
  int32_t attempt = 0;
  v1::Reason::Code reason = v1::Reason::REASON_UNSPECIFIED;
  std::string message;
  std::optional<int32_t> exit_code;
  // Wall clock, microseconds; 0: not yet.
  int64_t start = 0;
  int64_t end = 0;
};

class RunView {
 public:
  explicit RunView(std::string run) : run_name_(std::move(run)) {}

  // A first message of a snapshot replaces what was known. The steps whose state the message changed are appended to
  // `changed` (may be null).
  void Apply(const v1::WatchRunsResponse& message, std::vector<StepView>* changed);

  v1::Run::State state() const { return state_; }
  bool known() const { return state_ != v1::Run::STATE_UNSPECIFIED; }
  int64_t ended_steps() const { return ended_; }
  int64_t all_steps() const;

  // The live table: a head line, then steps, instances of a fan-out in one line (`train[4] 3/4`). At most `height`
  // lines of at most `width` columns; if there is no room for all, what moves and what failed goes first.
  std::vector<std::string> Lines(int64_t now, int width, int height, const Style& style) const;

 private:
  struct Row;
  void Put(StepView step);
  std::vector<Row> Rows(int64_t now) const;

  std::string run_name_;
  v1::Run::State state_ = v1::Run::STATE_UNSPECIFIED;
  int64_t step_count_ = 0;
  int64_t start_ = 0;
  int64_t end_ = 0;
  int64_t ended_ = 0;
  bool in_snapshot_ = false;
  std::map<int64_t, StepView> steps_;  // by index
};

// `train` of `train[2]`.
std::string TemplateOf(const std::string& step);

// One plain line: `14:03:22 train[0] FAILED attempt 2 (EXIT_CODE 3: …)`.
std::string PlainLine(const StepView& step, int64_t wall, const Style& style);

}  // namespace orch::cli
