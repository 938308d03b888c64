#include "server/model/graph.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/json.h"

namespace orch {

Graph::Graph(PipelineSpec spec, std::vector<StepTemplate> templates)
    : spec_(std::move(spec)), templates_(std::move(templates)) {
  CHECK(spec_.steps.size() == templates_.size());
  firsts_.reserve(templates_.size());
  by_name_.reserve(templates_.size());
  for (uint32_t t = 0; t < templates_.size(); ++t) {
    StepTemplate& step = templates_[t];
    step.first = step_count_;
    step.output_base = output_count_;
    step_count_ += step.count;
    output_count_ += step.count * step.outputs;
    firsts_.push_back(step.first);
    by_name_.emplace(spec_.steps[t].name, t);
  }
}

uint32_t Graph::TemplateOf(StepIx ix) const {
  CHECK(ix < step_count_);
  if (ix < templates_.size() && templates_[ix].first == ix && templates_[ix].count == 1)
    return ix;  // no fan-out before it
  // The last template that begins at or before ix; empty fan-outs share their first with the next.
  return static_cast<uint32_t>(std::upper_bound(firsts_.begin(), firsts_.end(), ix) - firsts_.begin()) - 1;
}

std::string Graph::StepName(StepIx ix) const {
  const uint32_t t = TemplateOf(ix);
  const StepTemplate& step = templates_[t];
  if (!step.fan_out) return spec_.steps[t].name;
  return absl::StrCat(spec_.steps[t].name, "[", ix - step.first, "]");
}

std::optional<StepIx> Graph::FindStep(absl::string_view name) const {
  const size_t bracket = name.find('[');
  const auto found = by_name_.find(std::string(name.substr(0, bracket)));
  if (found == by_name_.end()) return std::nullopt;
  const StepTemplate& step = templates_[found->second];
  if (bracket == absl::string_view::npos) {
    if (step.fan_out) return std::nullopt;
    return step.first;
  }
  absl::string_view number = name.substr(bracket + 1);
  uint32_t instance = 0;
  if (number.empty() || number.back() != ']' || !step.fan_out) return std::nullopt;
  number.remove_suffix(1);
  if (number.find_first_not_of("0123456789") != absl::string_view::npos) return std::nullopt;
  if (!absl::SimpleAtoi(number, &instance) || instance >= step.count) return std::nullopt;
  return step.first + instance;
}

std::vector<std::string> Graph::ItemOf(StepIx ix) const {
  const uint32_t t = TemplateOf(ix);
  const std::vector<ForeachKey>& keys = spec_.steps[t].foreach;
  std::vector<std::string> item(keys.size());
  uint32_t rest = ix - templates_[t].first;
  for (size_t k = keys.size(); k-- > 0;) {  // the last key varies fastest
    const auto width = static_cast<uint32_t>(keys[k].values_json.size());
    item[k] = keys[k].values_json[rest % width];
    rest /= width;
  }
  return item;
}

std::string Graph::ItemJson(StepIx ix) const {
  const std::vector<ForeachKey>& keys = SpecOf(ix).foreach;
  const std::vector<std::string> item = ItemOf(ix);
  std::string out = "{";
  for (size_t k = 0; k < keys.size(); ++k) {
    absl::StrAppend(&out, k == 0 ? "" : ",", JsonQuote(keys[k].key), ":", item[k]);
  }
  return out + "}";
}

uint32_t Graph::OutputSlot(StepIx ix, uint32_t output) const {
  const StepTemplate& step = templates_[TemplateOf(ix)];
  return step.output_base + (ix - step.first) * step.outputs + output;
}

}  // namespace orch
