#include "server/core/numbering.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/packed.h"
#include "server/base/status.h"
#include "server/core/fanout.h"

namespace orch {
namespace {

enum class Kind : uint8_t { kPlain, kFanOut, kFanOutAtRunTime };

Kind KindOf(const StepTemplate& step) {
  return !step.fan_out ? Kind::kPlain : step.at_run_time() ? Kind::kFanOutAtRunTime : Kind::kFanOut;
}

StepNumbers NumbersOf(const StepTemplate& step) {
  StepNumbers numbers;
  numbers.group = step.group;
  step.ForEachRange(0, step.numbered(), [&](StepRange range) { numbers.instances.push_back(range); });
  return numbers;
}

uint32_t CountOf(const StepNumbers& numbers) {
  uint32_t count = 0;
  for (const StepRange& range : numbers.instances) count += range.count;
  return count;
}

absl::Status Corrupt(const Graph& pipeline, absl::string_view what) {
  return Error(
      absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
      absl::StrCat("the numbers of the steps of a run of pipeline `", pipeline.spec().name, "` are damaged: ", what));
}

// Each of 0, 1, … once.
bool AreWhole(const Numbering& numbering) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // [first, end)
  for (const NumberedStep& step : numbering) {
    const uint64_t group = step.numbers.group;
    if (group != StepTemplate::kNoGroup) ranges.emplace_back(group, group + 1);
    for (const StepRange& range : step.numbers.instances) {
      if (range.count > 0) ranges.emplace_back(range.first, uint64_t{range.first} + range.count);
    }
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t next = 0;
  for (const auto& [first, end] : ranges) {
    if (first != next) return false;
    next = end;
  }
  return next < StepTemplate::kNoGroup;
}

}  // namespace

Numbering Renumber(const Graph& before, const Graph& pipeline) {
  std::map<std::pair<std::string, Kind>, uint32_t> known;
  for (uint32_t t = 0; t < before.templates().size(); ++t) {
    known.emplace(std::make_pair(before.spec().steps[t].name, KindOf(before.step(t))), t);
  }
  StepIx next = before.step_count();
  const auto number = [&next](uint32_t count, StepNumbers* numbers) {
    if (count == 0) return;
    numbers->instances.push_back({next, count});
    next += count;
  };
  Numbering out;
  for (uint32_t t = 0; t < pipeline.templates().size(); ++t) {
    const StepTemplate& step = pipeline.step(t);
    NumberedStep& numbered = out.emplace_back();
    numbered.name = pipeline.spec().steps[t].name;
    numbered.fan_out = step.fan_out;
    const auto found = known.find({numbered.name, KindOf(step)});
    if (found != known.end()) {
      numbered.numbers = NumbersOf(before.step(found->second));
      known.erase(found);
    } else if (step.at_run_time()) {
      numbered.numbers.group = next++;
    }
    const uint32_t has = CountOf(numbered.numbers);
    if (step.count > has) number(step.count - has, &numbered.numbers);
  }
  std::vector<uint32_t> gone;
  for (const auto& [name, t] : known) gone.push_back(t);
  std::sort(gone.begin(), gone.end());
  for (const uint32_t t : gone) {
    const StepTemplate& step = before.step(t);
    out.push_back({before.spec().steps[t].name, step.fan_out, true, NumbersOf(step)});
  }
  return out;
}

absl::StatusOr<std::shared_ptr<const Graph>> WithNumbering(const Graph& pipeline, const Numbering& numbering) {
  const size_t steps = pipeline.templates().size();
  if (numbering.size() < steps) return Corrupt(pipeline, "steps are missing");
  if (!AreWhole(numbering)) return Corrupt(pipeline, "a number is missing, or there twice");
  PipelineSpec spec = pipeline.spec();
  std::vector<StepTemplate> templates;
  std::vector<StepNumbers> numbers;
  templates.reserve(numbering.size());
  numbers.reserve(numbering.size());
  for (uint32_t t = 0; t < numbering.size(); ++t) {
    const NumberedStep& numbered = numbering[t];
    if (numbered.removed != (t >= steps)) return Corrupt(pipeline, "a step is where it does not belong");
    if (t < steps) {
      const StepTemplate& step = pipeline.step(t);
      const bool group = numbered.numbers.group != StepTemplate::kNoGroup;
      if (numbered.name != spec.steps[t].name || numbered.fan_out != step.fan_out || group != step.at_run_time() ||
          CountOf(numbered.numbers) < step.count || (!step.fan_out && CountOf(numbered.numbers) != 1)) {
        return Corrupt(pipeline, absl::StrCat("step `", spec.steps[t].name, "` is another"));
      }
      templates.push_back(step);
    } else {
      StepTemplate& gone = templates.emplace_back();
      gone.count = 0;
      gone.fan_out = numbered.fan_out;
      gone.removed = true;
      spec.steps.emplace_back().name = numbered.name;
    }
    numbers.push_back(numbered.numbers);
  }
  return std::make_shared<const Graph>(std::move(spec), std::move(templates), numbers);
}

std::string EncodeNumbering(const Numbering& numbering) {
  std::string out;
  PackNumber(static_cast<uint32_t>(numbering.size()), &out);
  for (const NumberedStep& step : numbering) {
    PackText(step.name, &out);
    PackNumber((step.fan_out ? 1 : 0) | (step.removed ? 2 : 0), &out);
    PackNumber(step.numbers.group, &out);
    PackNumber(static_cast<uint32_t>(step.numbers.instances.size()), &out);
    for (const StepRange& range : step.numbers.instances) {
      PackNumber(range.first, &out);
      PackNumber(range.count, &out);
    }
  }
  return out;
}

bool DecodeNumbering(absl::string_view bytes, Numbering* numbering) {
  numbering->clear();
  uint32_t steps = 0;
  if (!UnpackNumber(&bytes, &steps)) return false;
  for (uint32_t s = 0; s < steps; ++s) {
    NumberedStep& step = numbering->emplace_back();
    uint32_t flags = 0;
    uint32_t ranges = 0;
    if (!UnpackText(&bytes, &step.name) || !UnpackNumber(&bytes, &flags) || flags > 3 ||
        !UnpackNumber(&bytes, &step.numbers.group) || !UnpackNumber(&bytes, &ranges)) {
      return false;
    }
    step.fan_out = (flags & 1) != 0;
    step.removed = (flags & 2) != 0;
    for (uint32_t r = 0; r < ranges; ++r) {
      StepRange range;
      if (!UnpackNumber(&bytes, &range.first) || !UnpackNumber(&bytes, &range.count)) return false;
      step.numbers.instances.push_back(range);
    }
  }
  return bytes.empty();
}

absl::StatusOr<std::shared_ptr<const Graph>> StoredGraph(std::shared_ptr<const Graph> pipeline,
                                                         absl::string_view numbering,
                                                         const std::vector<FanoutRow>& fanouts) {
  if (!numbering.empty()) {
    Numbering numbers;
    if (!DecodeNumbering(numbering, &numbers)) return Corrupt(*pipeline, "they cannot be read");
    ASSIGN_OR_RETURN(pipeline, WithNumbering(*pipeline, numbers));
  }
  return WithFanouts(std::move(pipeline), fanouts);
}

}  // namespace orch
