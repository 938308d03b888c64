#include "server/core/estimate.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/core/pools.h"
#include "server/core/ready_queue.h"

namespace orch {
namespace {

constexpr StepIx kNobody = UINT32_MAX;

class Play {
 public:
  explicit Play(const EstimateInput& input) : in_(input), graph_(*input.graph), templates_(graph_.templates()) {
    const size_t n = graph_.step_count();
    out_.starts.assign(n, 0);
    open_.assign(n, 0);
    longest_.assign(n, 0);
    before_.assign(n, kNobody);
    longest_instance_.assign(templates_.size(), {0, kNobody});
    std::map<std::string, uint32_t> orchestrators;
    PoolId own = 0;
    if (in_.max_parallel > 0) {
      own = pools_.Intern("run");
      pools_.SetCapacity(own, in_.max_parallel);
    }
    for (uint32_t t = 0; t < templates_.size(); ++t) {
      const std::string& named = graph_.spec().steps[t].options().orchestrator;
      const std::string& name = named.empty() ? in_.orchestrator : named;
      SlotDemand demand;
      const auto need = [&](const std::string& pool, int64_t amount) {
        const PoolId id = pools_.Intern(pool);
        const auto offered = in_.capacity.find(pool);
        if (offered != in_.capacity.end()) pools_.SetCapacity(id, offered->second);
        demand.emplace_back(id, amount);
      };
      for (const Demand& d : templates_[t].demands) {
        need(absl::StartsWith(d.pool, "pool/") ? d.pool : absl::StrCat(name, "/", d.pool), d.amount);
      }
      need(absl::StrCat(name, "/parallel"), 1);
      if (in_.max_parallel > 0) demand.emplace_back(own, 1);
      const auto number = orchestrators.emplace(name, static_cast<uint32_t>(orchestrators.size())).first->second;
      lines_.push_back(ready_.Line(number, demand));
      const StepTemplate& step = templates_[t];
      open_instances_.push_back(step.count + (step.at_run_time() ? 1 : 0));
      // Instances made at run time are there when their group has ended.
      const uint32_t group = step.at_run_time() ? 1 : 0;
      for (uint32_t i = 0; i < step.count; ++i) open_[step.at(i)] = step.upstreams + group;
      if (step.at_run_time()) open_[step.group] = step.group_upstreams;
    }
  }

  Estimate Run() {
    for (const StepTemplate& step : templates_) {  // an empty fan-out has ended
      if (step.count > 0 || step.at_run_time()) continue;
      for (const Edge& edge : step.edges) ForEachConsumer(edge, [this](StepIx ix) { --open_[ix]; });
    }
    for (StepIx ix = 0; ix < graph_.step_count(); ++ix) {
      if (open_[ix] == 0) Ready(ix);
    }
    for (;;) {
      WorkOff();
      (void)ready_.Pass(
          &pools_, [](uint32_t) { return 1 << 30; }, now_, INT64_MAX, INT32_MAX,
          [this](uint32_t, const ReadyQueue::Entry& entry) { Start(entry.ix); });
      if (running_.empty()) break;
      now_ = running_.top().first;
      while (!running_.empty() && running_.top().first == now_) {
        const StepIx ix = running_.top().second;
        running_.pop();
        pools_.Give(ready_.demand(lines_[graph_.TemplateOf(ix)]));
        ended_.push_back(ix);
      }
    }
    out_.total_micros = now_;
    TraceCritical();
    return std::move(out_);
  }

 private:
  // What takes no time takes no slots either: it is cached, or nobody knows.
  void Ready(StepIx ix) {
    const uint32_t t = graph_.TemplateOf(ix);
    if (in_.micros[ix] == 0) {
      out_.starts[ix] = now_;
      out_.order.push_back(ix);
      ended_.push_back(ix);
      return;
    }
    const int priority = in_.priority + graph_.spec().steps[t].options().priority;
    ready_.Add(lines_[t], priority, templates_[t].below, 1, ix, now_);
  }

  void Start(StepIx ix) {
    out_.starts[ix] = now_;
    out_.order.push_back(ix);
    running_.emplace(now_ + in_.micros[ix], ix);
  }

  void WorkOff() {
    while (!ended_.empty()) {
      const StepIx ix = ended_.back();
      ended_.pop_back();
      const uint32_t t = graph_.TemplateOf(ix);
      const int64_t until = longest_[ix] + in_.micros[ix];
      if (until >= longest_instance_[t].first) longest_instance_[t] = {until, ix};
      const bool closed = --open_instances_[t] == 0;
      const bool group = templates_[t].group == ix;
      for (uint32_t i = 0; group && i < templates_[t].count; ++i) Close(templates_[t].at(i), until, ix);
      for (const Edge& edge : templates_[t].edges) {
        const uint32_t instance = group ? 0 : templates_[t].InstanceOf(ix);
        switch (edge.kind) {
          case EdgeKind::kAll:
            if (!closed) break;
            ForEachConsumer(edge, [this, way = longest_instance_[t]](StepIx c) { Close(c, way.first, way.second); });
            break;
          case EdgeKind::kGroup:
            if (group) ForEachConsumer(edge, [&](StepIx c) { Close(c, until, ix); });
            break;
          case EdgeKind::kIndex:
            if (!group && edge.index == instance) ForEachConsumer(edge, [&](StepIx c) { Close(c, until, ix); });
            break;
          case EdgeKind::kItem:
            if (group || edge.item_offsets.empty()) break;
            for (uint32_t k = edge.item_offsets[instance]; k < edge.item_offsets[instance + 1]; ++k) {
              Close(templates_[edge.consumer].at(edge.item_consumers[k]), until, ix);
            }
            break;
        }
      }
    }
  }

  // Of a fan-out made at run time whose instances nobody knows only the group is played.
  template <typename F>
  void ForEachConsumer(const Edge& edge, const F& visit) {
    const StepTemplate& consumer = templates_[edge.consumer];
    if (edge.to_group) return visit(consumer.group);
    for (uint32_t i = 0; i < consumer.count; ++i) visit(consumer.at(i));
  }

  void Close(StepIx ix, int64_t until, StepIx by) {
    if (until >= longest_[ix]) {
      longest_[ix] = until;
      before_[ix] = by;
    }
    if (--open_[ix] == 0) Ready(ix);
  }

  void TraceCritical() {
    StepIx at = kNobody;
    int64_t most = 0;
    for (StepIx ix = 0; ix < graph_.step_count(); ++ix) {
      if (longest_[ix] + in_.micros[ix] > most) {
        most = longest_[ix] + in_.micros[ix];
        at = ix;
      }
    }
    for (; at != kNobody; at = before_[at]) {
      if (in_.micros[at] > 0) out_.critical.push_back(at);
    }
    std::reverse(out_.critical.begin(), out_.critical.end());
  }

  const EstimateInput& in_;
  const Graph& graph_;
  const Graph::Templates templates_;
  Estimate out_;
  Pools pools_;
  ReadyQueue ready_;
  std::vector<uint32_t> lines_;                               // by template
  std::vector<uint32_t> open_instances_;                      // by template
  std::vector<std::pair<int64_t, StepIx>> longest_instance_;  // by template
  std::vector<uint32_t> open_;                                // by step
  std::vector<int64_t> longest_;                              // by step: the longest way to its start
  std::vector<StepIx> before_;                                // by step: whom that way comes from
  std::vector<StepIx> ended_;
  std::priority_queue<std::pair<int64_t, StepIx>, std::vector<std::pair<int64_t, StepIx>>, std::greater<>> running_;
  int64_t now_ = 0;
};

}  // namespace

Estimate EstimateRun(const EstimateInput& input) { return Play(input).Run(); }

}  // namespace orch
