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
    group_longest_.assign(templates_.size(), {0, kNobody});
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
      group_open_.push_back(templates_[t].count);
      for (uint32_t i = 0; i < templates_[t].count; ++i) open_[templates_[t].first + i] = templates_[t].upstreams;
    }
  }

  Estimate Run() {
    for (const StepTemplate& step : templates_) {  // an empty fan-out has ended
      for (const Edge& edge : step.edges) {
        if (step.count > 0) continue;
        const StepTemplate& consumer = templates_[edge.consumer];
        for (uint32_t i = 0; i < consumer.count; ++i) --open_[consumer.first + i];
      }
    }
    for (StepIx ix = 0; ix < graph_.step_count(); ++ix) {
      if (open_[ix] == 0) Ready(ix);
    }
    for (;;) {
      WorkOff();
      (void)ready_.Pass(
          &pools_, [](uint32_t) { return true; }, now_, INT64_MAX, INT32_MAX,
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
      if (until >= group_longest_[t].first) group_longest_[t] = {until, ix};
      const bool closed = --group_open_[t] == 0;
      for (const Edge& edge : templates_[t].edges) {
        const StepTemplate& consumer = templates_[edge.consumer];
        const uint32_t instance = ix - templates_[t].first;
        if (edge.kind == EdgeKind::kAll) {
          if (!closed) continue;
          const auto [longest, by] = group_longest_[t];
          for (uint32_t i = 0; i < consumer.count; ++i) Close(consumer.first + i, longest, by);
        } else if (edge.kind == EdgeKind::kIndex) {
          if (edge.index != instance) continue;
          for (uint32_t i = 0; i < consumer.count; ++i) Close(consumer.first + i, until, ix);
        } else {
          for (uint32_t k = edge.item_offsets[instance]; k < edge.item_offsets[instance + 1]; ++k) {
            Close(consumer.first + edge.item_consumers[k], until, ix);
          }
        }
      }
    }
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
  const std::vector<StepTemplate>& templates_;
  Estimate out_;
  Pools pools_;
  ReadyQueue ready_;
  std::vector<uint32_t> lines_;  // by template
  std::vector<uint32_t> group_open_;
  std::vector<std::pair<int64_t, StepIx>> group_longest_;
  std::vector<uint32_t> open_;    // by step
  std::vector<int64_t> longest_;  // by step: the longest way to its start
  std::vector<StepIx> before_;    // by step: whom that way comes from
  std::vector<StepIx> ended_;
  std::priority_queue<std::pair<int64_t, StepIx>, std::vector<std::pair<int64_t, StepIx>>, std::greater<>> running_;
  int64_t now_ = 0;
};

}  // namespace

Estimate EstimateRun(const EstimateInput& input) { return Play(input).Run(); }

}  // namespace orch
