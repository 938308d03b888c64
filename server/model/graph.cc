#include "server/model/graph.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/json.h"

namespace orch {

StepIx StepTemplate::Behind(uint32_t instance) const {
  instance -= head;
  for (const StepRange& range : more) {
    if (instance < range.count) return range.first + instance;
    instance -= range.count;
  }
  CHECK(false);
}

uint32_t StepTemplate::InstanceBehind(StepIx ix) const {
  uint32_t before = head;
  for (const StepRange& range : more) {
    if (ix - range.first < range.count) return before + (ix - range.first);
    before += range.count;
  }
  CHECK(false);
}

uint32_t StepTemplate::numbered() const {
  uint32_t numbered = head;
  for (const StepRange& range : more) numbered += range.count;
  return numbered;
}

Graph::Graph(PipelineSpec spec, std::vector<StepTemplate> templates) {
  auto base = std::make_shared<Base>();
  base->spec = std::move(spec);
  base->templates = std::move(templates);
  CHECK(base->spec.steps.size() == base->templates.size());
  base->firsts.reserve(base->templates.size());
  base->by_name.reserve(base->templates.size());
  for (uint32_t t = 0; t < base->templates.size(); ++t) {
    StepTemplate& step = base->templates[t];
    step.first = step_count_;
    step.output_base = output_count_;
    if (step.at_run_time()) {
      step.group = step_count_++;
      step.count = 0;
      base->at_run_time = true;
    }
    step.head = step.count;
    step_count_ += step.count;
    output_count_ += step.count * step.outputs;
    base->firsts.push_back(step.first);
    base->by_name.emplace(base->spec.steps[t].name, t);
  }
  base->step_count = step_count_;
  base_ = std::move(base);
}

Graph::Graph(PipelineSpec spec, std::vector<StepTemplate> templates, const std::vector<StepNumbers>& numbers) {
  auto base = std::make_shared<Base>();
  base->spec = std::move(spec);
  base->templates = std::move(templates);
  CHECK(base->spec.steps.size() == base->templates.size() && numbers.size() == base->templates.size());
  const auto number = [&](StepRange range, uint32_t t) {
    if (range.count > 0) base->ordered.emplace_back(range.first, t);
    step_count_ += range.count;
  };
  for (uint32_t t = 0; t < base->templates.size(); ++t) {
    StepTemplate& step = base->templates[t];
    step.group = numbers[t].group;
    if (step.at_run_time()) {
      step.count = 0;
      base->at_run_time = true;
      number({step.group, 1}, t);
    }
    const std::vector<StepRange>& instances = numbers[t].instances;
    step.first = instances.empty() ? 0 : instances[0].first;
    step.head = instances.empty() ? 0 : instances[0].count;
    step.more.assign(instances.begin() + (instances.empty() ? 0 : 1), instances.end());
    for (const StepRange& range : instances) number(range, t);
    step.output_base = output_count_;
    output_count_ += step.count * step.outputs;
    // What is not there any more gives its name to what is.
    const auto [named, fresh] = base->by_name.emplace(base->spec.steps[t].name, t);
    if (!fresh && base->templates[named->second].removed) named->second = t;
  }
  std::sort(base->ordered.begin(), base->ordered.end());
  base->step_count = step_count_;
  base_ = std::move(base);
}

std::shared_ptr<StepTemplate> Graph::Copy(uint32_t t) {
  auto copy = std::make_shared<StepTemplate>(step(t));
  changed_[t] = copy;
  return copy;
}

std::shared_ptr<const Graph> Graph::With(Fanout fanout) const {
  std::shared_ptr<Graph> graph(new Graph(*this));
  graph->Unmake(fanout.step);
  const auto made = graph->Copy(fanout.step);
  CHECK(made->at_run_time());
  made->expanded = true;
  made->count = static_cast<uint32_t>(fanout.items->size());
  made->items = std::move(fanout.items);
  made->output_base = output_count_;
  graph->output_count_ += made->count * made->outputs;
  if (const uint32_t numbered = made->numbered(); made->count > numbered) {
    const StepRange fresh = {step_count_, made->count - numbered};
    if (numbered == 0) {
      made->first = fresh.first;
      made->head = fresh.count;
    } else {
      made->more.push_back(fresh);
    }
    graph->behind_.emplace_back(fresh.first, fanout.step);
    graph->step_count_ += fresh.count;
  }
  for (size_t i = 0; i < fanout.item_producer.size(); ++i) {
    if (made->inputs[i].kind != EdgeKind::kItem) continue;
    made->inputs[i].item_producer = std::move(fanout.item_producer[i]);
    const InputBinding& input = made->inputs[i];
    const auto producer = graph->Copy(input.producer);
    for (Edge& edge : producer->edges) {
      if (edge.consumer == fanout.step && edge.kind == EdgeKind::kItem) {
        LinkByItem(input.item_producer, producer->count, &edge);
      }
    }
  }
  return graph;
}

std::shared_ptr<const Graph> Graph::Without(const std::vector<uint32_t>& fanouts) const {
  std::shared_ptr<Graph> graph(new Graph(*this));
  for (const uint32_t t : fanouts) graph->Unmake(t);
  return graph;
}

void Graph::Unmake(uint32_t t) {
  if (!step(t).expanded) return;
  const auto unmade = Copy(t);
  unmade->expanded = false;
  unmade->count = 0;
  unmade->items = nullptr;
  for (InputBinding& input : unmade->inputs) {
    if (input.kind != EdgeKind::kItem) continue;
    input.item_producer.clear();
    const auto producer = Copy(input.producer);
    for (Edge& edge : producer->edges) {
      if (edge.consumer != t || edge.kind != EdgeKind::kItem) continue;
      edge.item_offsets.clear();
      edge.item_consumers.clear();
    }
  }
  for (const Edge& edge : unmade->edges) {
    if (edge.kind == EdgeKind::kItem) Unmake(edge.consumer);
  }
}

void LinkByItem(const std::vector<uint32_t>& item_producer, uint32_t producers, Edge* edge) {
  edge->item_offsets.assign(producers + 1, 0);
  for (const uint32_t p : item_producer) ++edge->item_offsets[p + 1];
  for (uint32_t p = 0; p < producers; ++p) edge->item_offsets[p + 1] += edge->item_offsets[p];
  std::vector<uint32_t> next = edge->item_offsets;
  edge->item_consumers.resize(item_producer.size());
  for (uint32_t i = 0; i < item_producer.size(); ++i) edge->item_consumers[next[item_producer[i]]++] = i;
}

uint32_t Graph::TemplateOf(StepIx ix) const {
  CHECK(ix < step_count_);
  if (ix >= base_->step_count) {
    const auto after = std::upper_bound(behind_.begin(), behind_.end(), std::make_pair(ix, UINT32_MAX));
    return std::prev(after)->second;
  }
  if (!base_->ordered.empty()) {
    const auto after = std::upper_bound(base_->ordered.begin(), base_->ordered.end(), std::make_pair(ix, UINT32_MAX));
    return std::prev(after)->second;
  }
  const std::vector<StepTemplate>& templates = base_->templates;
  if (ix < templates.size() && templates[ix].first == ix && templates[ix].count == 1)
    return ix;  // no fan-out before it
  // The last template that begins at or before ix; empty fan-outs share their first with the next.
  const std::vector<StepIx>& firsts = base_->firsts;
  return static_cast<uint32_t>(std::upper_bound(firsts.begin(), firsts.end(), ix) - firsts.begin()) - 1;
}

std::string Graph::StepName(StepIx ix) const {
  const uint32_t t = TemplateOf(ix);
  const StepTemplate& of = step(t);
  if (!of.fan_out || of.group == ix) return spec().steps[t].name;
  return absl::StrCat(spec().steps[t].name, "[", of.InstanceOf(ix), "]");
}

std::optional<StepIx> Graph::FindStep(absl::string_view name) const {
  const size_t bracket = name.find('[');
  const StepTemplate* found = FindTemplate(std::string(name.substr(0, bracket)));
  if (found == nullptr) return std::nullopt;
  if (bracket == absl::string_view::npos) {
    if (found->at_run_time()) return found->group;
    if (found->fan_out) return std::nullopt;
    return found->at(0);
  }
  absl::string_view number = name.substr(bracket + 1);
  uint32_t instance = 0;
  if (number.empty() || number.back() != ']' || !found->fan_out) return std::nullopt;
  number.remove_suffix(1);
  if (number.find_first_not_of("0123456789") != absl::string_view::npos) return std::nullopt;
  if (!absl::SimpleAtoi(number, &instance) || instance >= found->numbered()) return std::nullopt;
  return found->at(instance);
}

const StepTemplate* Graph::FindTemplate(const std::string& name) const {
  const auto found = base_->by_name.find(name);
  return found == base_->by_name.end() ? nullptr : &step(found->second);
}

std::vector<std::string> Graph::ItemOf(StepIx ix) const {
  const uint32_t t = TemplateOf(ix);
  const StepTemplate& of = step(t);
  if (of.group == ix || !of.Has(ix)) return {};
  uint32_t rest = of.InstanceOf(ix);
  if (of.at_run_time()) return (*of.items)[rest];
  const std::vector<ForeachKey>& keys = spec().steps[t].foreach;
  std::vector<std::string> item(keys.size());
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
  for (size_t k = 0; k < item.size(); ++k) {
    absl::StrAppend(&out, k == 0 ? "" : ",", JsonQuote(keys[k].key), ":", item[k]);
  }
  return out + "}";
}

std::pair<uint32_t, uint32_t> Graph::WhenInstances(StepIx ix, const WhenSource& source) const {
  if (source.input == WhenSource::kEvery) return {0, step(source.producer).count};
  const StepTemplate& consumer = step(TemplateOf(ix));
  const InputBinding& input = consumer.inputs[source.input];
  const uint32_t one = input.kind == EdgeKind::kItem ? input.item_producer[consumer.InstanceOf(ix)] : input.index;
  return {one, one + 1};
}

uint32_t Graph::OutputSlot(StepIx ix, uint32_t output) const {
  const StepTemplate& of = step(TemplateOf(ix));
  return of.output_base + of.InstanceOf(ix) * of.outputs + output;
}

}  // namespace orch
