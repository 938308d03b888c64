#include "server/core/fanout.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/packed.h"
#include "server/base/status.h"

namespace orch {
namespace {

absl::Status Invalid(std::string message) {
  return Error(absl::StatusCode::kInvalidArgument, "FANOUT_INVALID", std::move(message));
}

// Items as keys of a map: texts are compact JSON, so no two are one text with another cut.
std::string Joined(const std::vector<std::string>& values) { return absl::StrJoin(values, "\n"); }

}  // namespace

absl::Status CheckRoom(const Graph& graph, uint32_t t, int64_t width, const CompileLimits& limits) {
  // Numbers that it has from an earlier generation are used again.
  const int64_t steps = int64_t{graph.step_count()} + std::max<int64_t>(0, width - graph.step(t).numbered());
  if (steps > limits.steps_per_run) {
    return Invalid(absl::StrCat("with its ", width, " instances the run has ", steps, " steps; at most ",
                                limits.steps_per_run, " are allowed (limit steps_per_run)"));
  }
  const int64_t outputs = int64_t{graph.output_count()} + width * graph.step(t).outputs;
  if (outputs > limits.outputs_per_run) {
    return Invalid(absl::StrCat("with its ", width, " instances the run has ", outputs, " outputs; at most ",
                                limits.outputs_per_run, " are allowed (limit outputs_per_run)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Items> ProductOf(const Graph& graph, uint32_t t, const std::vector<std::vector<std::string>>& values,
                                const CompileLimits& limits) {
  const std::vector<ForeachKey>& keys = graph.spec().steps[t].foreach;
  int64_t width = 1;
  for (size_t k = 0; k < keys.size(); ++k) {
    const std::vector<std::string>& of = keys[k].from.empty() ? keys[k].values_json : values[k];
    if (__builtin_mul_overflow(width, static_cast<int64_t>(of.size()), &width) || width > limits.fanout_width) {
      return Invalid(absl::StrCat("it makes more than ", limits.fanout_width, " instances (limit fanout_width)"));
    }
  }
  RETURN_IF_ERROR(CheckRoom(graph, t, width, limits));
  int64_t bytes = 0;
  for (size_t k = 0; k < keys.size(); ++k) {
    const std::vector<std::string>& of = keys[k].from.empty() ? keys[k].values_json : values[k];
    for (const std::string& value : of)
      bytes += static_cast<int64_t>(value.size()) * (width / static_cast<int64_t>(of.size()));
  }
  if (bytes > limits.item_bytes) {
    return Invalid(absl::StrCat("the items of its ", width, " instances take ", bytes, " bytes; at most ",
                                limits.item_bytes, " are allowed (limit message_bytes)"));
  }
  Items items(static_cast<size_t>(width));
  for (int64_t i = 0; i < width; ++i) {
    std::vector<std::string>& item = items[static_cast<size_t>(i)];
    item.resize(keys.size());
    int64_t rest = i;
    for (size_t k = keys.size(); k-- > 0;) {
      const std::vector<std::string>& of = keys[k].from.empty() ? keys[k].values_json : values[k];
      item[k] = of[static_cast<size_t>(rest) % of.size()];
      rest /= static_cast<int64_t>(of.size());
    }
  }
  return items;
}

absl::StatusOr<Fanout> LinkFanout(const Graph& graph, uint32_t t, std::shared_ptr<const Items> items) {
  const StepTemplate& step = graph.step(t);
  const std::vector<ForeachKey>& mine = graph.spec().steps[t].foreach;
  Fanout fanout;
  fanout.step = t;
  fanout.items = std::move(items);
  fanout.item_producer.resize(step.inputs.size());
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const InputBinding& input = step.inputs[i];
    if (input.kind != EdgeKind::kItem) continue;
    const StepTemplate& producer = graph.step(input.producer);
    std::vector<size_t> shared;  // for each key of the producer, which of mine it is
    for (const ForeachKey& key : graph.spec().steps[input.producer].foreach) {
      for (size_t k = 0; k < mine.size(); ++k) {
        if (mine[k].key == key.key) shared.push_back(k);
      }
    }
    std::unordered_map<std::string, uint32_t> by_item;
    for (uint32_t p = 0; p < producer.count; ++p) by_item.emplace(Joined(graph.ItemOf(producer.at(p))), p);
    std::vector<std::string> wanted(shared.size());
    for (const std::vector<std::string>& item : *fanout.items) {
      for (size_t k = 0; k < shared.size(); ++k) wanted[k] = item[shared[k]];
      const auto found = by_item.find(Joined(wanted));
      if (found == by_item.end()) {
        return Invalid(absl::StrCat("input `", graph.spec().steps[t].inputs[i].name, "`: no instance of `",
                                    graph.spec().steps[input.producer].name, "` has the item ",
                                    absl::StrJoin(wanted, ", ")));
      }
      fanout.item_producer[i].push_back(found->second);
    }
  }
  return fanout;
}

absl::StatusOr<std::shared_ptr<const Graph>> WithFanouts(std::shared_ptr<const Graph> graph,
                                                         const std::vector<FanoutRow>& rows) {
  for (const FanoutRow& row : rows) {
    const auto corrupt = Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                               absl::StrCat("the fan-out of step ", row.step, " of run ", row.run, " is damaged"));
    auto items = std::make_shared<Items>();
    if (row.step >= graph->templates().size() || !graph->step(row.step).at_run_time() ||
        graph->step(row.step).removed || row.first != graph->step_count() || !DecodeItems(row.items, items.get())) {
      return corrupt;
    }
    for (const std::vector<std::string>& item : *items) {
      if (item.size() != graph->spec().steps[row.step].foreach.size()) return corrupt;
    }
    auto fanout = LinkFanout(*graph, row.step, std::move(items));
    if (!fanout.ok()) return corrupt;
    graph = graph->With(*std::move(fanout));
  }
  return graph;
}

std::shared_ptr<const Graph> WithoutOpenFanouts(std::shared_ptr<const Graph> graph, const std::vector<StepRow>& rows) {
  if (!graph->fans_out_at_run_time()) return graph;
  std::vector<bool> made(graph->templates().size(), false);
  for (const StepRow& row : rows) {
    if (graph->IsGroup(row.ix) && row.state == StepState::kSucceeded) made[graph->TemplateOf(row.ix)] = true;
  }
  std::vector<uint32_t> open;
  for (uint32_t t = 0; t < made.size(); ++t) {
    if (graph->step(t).expanded && !made[t]) open.push_back(t);
  }
  return open.empty() ? graph : graph->Without(open);
}

std::string EncodeItems(const Items& items) {
  std::string out;
  PackNumber(static_cast<uint32_t>(items.size()), &out);
  PackNumber(items.empty() ? 0 : static_cast<uint32_t>(items[0].size()), &out);
  for (const std::vector<std::string>& item : items) {
    for (const std::string& value : item) PackText(value, &out);
  }
  return out;
}

bool DecodeItems(absl::string_view bytes, Items* items) {
  uint32_t count = 0;
  uint32_t keys = 0;
  if (!UnpackNumber(&bytes, &count) || !UnpackNumber(&bytes, &keys)) return false;
  // Each value takes its length at least: nothing is reserved for what is not there.
  if (uint64_t{count} * keys > bytes.size() / sizeof(uint32_t) || (keys == 0) != (count == 0)) return false;
  items->assign(count, std::vector<std::string>(keys));
  for (std::vector<std::string>& item : *items) {
    for (std::string& value : item) {
      if (!UnpackText(&bytes, &value)) return false;
    }
  }
  return bytes.empty();
}

}  // namespace orch
