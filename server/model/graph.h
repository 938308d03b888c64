// The graph of a run after fan-out, compiled once per pipeline version by core/compile.h; immutable, shared by all
// runs.
//
// A step as written is a template; its instances are numbered [first, first + count) in the run. Edges stay between
// templates, so that a fan-in of 10,000 is one edge with a counter and not 10,000 edges.
//
// A fan-out over a list known only at run time is one step at first, its *group*, which ends when the list has landed:
// then the run goes on with a graph derived from this one, in which the template has instances behind all others.
//
// A step keeps its number for the life of its run. Run retried with other steps, or over other lists, its graph numbers
// what is new behind all others, and still knows the numbers of what is not there any more: of such a template not all
// the instances that have a number take part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/model/pipeline.h"
#include "server/model/rows.h"

namespace orch {

// Which instances of the producer an instance of the consumer depends on.
enum class EdgeKind : uint8_t {
  kAll,    // all of them: a plain step, a fan-in, `after` a fan-out
  kItem,   // the one with the same item
  kIndex,  // one by number
  kGroup,  // the producer's group alone, which waits for no instance
};

struct Edge {
  uint32_t consumer = 0;  // template
  EdgeKind kind = EdgeKind::kAll;
  bool early = false;     // closed as soon as `output` is published
  bool to_group = false;  // the consumer's group waits for it, not its instances
  uint32_t index = 0;     // kIndex: the producer's instance number
  uint32_t output = 0;    // early: the output's number in the producer
  // kItem: consumers of producer instance i are item_consumers[item_offsets[i] .. item_offsets[i+1]), as instance
  // numbers of the consumer.
  std::vector<uint32_t> item_offsets;
  std::vector<uint32_t> item_consumers;
};

// Fills in the links of a kItem edge: for each consumer instance which of the `producers` instances it reads.
void LinkByItem(const std::vector<uint32_t>& item_producer, uint32_t producers, Edge* edge);

// Where an input's data comes from.
struct InputBinding {
  InputSpec::Source source = InputSpec::Source::kFrom;
  bool early = false;
  bool fan_in = false;  // `step[*].output`: a folder, or a list of values
  bool value = false;   // of a value output
  EdgeKind kind = EdgeKind::kAll;
  uint32_t producer = 0;                // template
  uint32_t output = 0;                  // number of the output in the producer
  uint32_t index = 0;                   // kIndex
  std::vector<uint32_t> item_producer;  // kItem: for each consumer instance the producer's instance number
};

// One upstream step whose values a `when` sees.
struct WhenSource {
  static constexpr uint32_t kEvery = UINT32_MAX;
  uint32_t producer = 0;    // template
  uint32_t input = kEvery;  // the input that chooses one instance of the producer; kEvery: all of them
};

// Slots by pool, resolved to numbers by the dispatcher. Thousandths for cpu, bytes for memory, units otherwise.
struct Demand {
  std::string pool;  // `cpu`, `memory`, `gpu`, `custom/NAME` of the orchestrator; or `pool/NAME`
  int64_t amount = 0;
  bool operator==(const Demand&) const = default;
  auto operator<=>(const Demand&) const = default;
};

// Of the instances of a fan-out, in their order, the values of its keys as compact JSON, in the order of the keys.
using Items = std::vector<std::vector<std::string>>;

// The numbers [first, first + count).
struct StepRange {
  StepIx first = 0;
  uint32_t count = 0;
};

struct StepTemplate {
  static constexpr StepIx kNoGroup = UINT32_MAX;
  uint32_t count = 1;  // instances, of which the i-th has the number at(i)
  StepIx first = 0;    // of the first `head` instances; the others have theirs in `more`
  uint32_t head = 1;
  std::vector<StepRange> more;  // of a fan-out that grew when its run was retried
  bool removed = false;         // the run's pipeline does not have it any more: no instance, no edge
  uint32_t upstreams = 0;       // edges that must close before an instance is judged
  uint32_t below = 0;           // steps on the longest way from here to an end of the run, this one not counted
  uint32_t output_base = 0;     // the first of its count × outputs slots in the run's table of outputs
  uint16_t outputs = 0;
  bool fan_out = false;                  // named with [i] even if count is 1
  bool hook_data = false;                // a hook of it names inputs, values or outputs
  bool needs_resolve = false;            // a `when`, a cache or external inputs: asked about before it starts
  std::vector<Edge> edges;               // out
  std::vector<InputBinding> inputs;      // as StepSpec.inputs
  std::vector<WhenSource> when_sources;  // of a step with a `when`, by name

  // Of a fan-out made at run time.
  StepIx group = kNoGroup;
  uint32_t group_upstreams = 0;                    // edges that must close before the group is judged
  std::vector<std::optional<InputBinding>> lists;  // by foreach key: where its list comes from; none: it is written out
  bool expanded = false;
  std::shared_ptr<const Items> items;  // once expanded

  std::vector<Demand> demands;

  bool at_run_time() const { return group != kNoGroup; }
  StepIx at(uint32_t instance) const { return instance < head ? first + instance : Behind(instance); }
  // How many instances have a number; `count` or more.
  uint32_t numbered() const;
  // Of a number that is one of this template's instances.
  uint32_t InstanceOf(StepIx ix) const { return ix - first < head ? ix - first : InstanceBehind(ix); }
  // Whether the group or instance with this number, which is one of this template's, takes part.
  bool Has(StepIx ix) const { return ix == group ? !removed : InstanceOf(ix) < count; }
  // Calls visit(StepRange) for the numbers of the instances [from, to), in order.
  template <typename F>
  void ForEachRange(uint32_t from, uint32_t to, const F& visit) const;
  template <typename F>
  void ForEachRange(const F& visit) const {
    ForEachRange(0, count, visit);
  }

 private:
  StepIx Behind(uint32_t instance) const;
  uint32_t InstanceBehind(StepIx ix) const;
};

template <typename F>
void StepTemplate::ForEachRange(uint32_t from, uint32_t to, const F& visit) const {
  uint32_t begin = 0;  // the range's first instance
  const auto part = [&](StepRange range) {
    const uint32_t low = from > begin ? from - begin : 0;
    const uint32_t high = to > begin ? std::min(to - begin, range.count) : 0;
    if (low < high) visit(StepRange{range.first + low, high - low});
    begin += range.count;
  };
  part({first, head});
  for (const StepRange& range : more) part(range);
}

// The numbers that a template has in a run that was retried with other steps.
struct StepNumbers {
  StepIx group = StepTemplate::kNoGroup;  // of a fan-out made at run time
  std::vector<StepRange> instances;       // in order; `count` of them, or more
};

// What a fan-out made at run time became.
struct Fanout {
  uint32_t step = 0;  // the template
  std::shared_ptr<const Items> items;
  std::vector<std::vector<uint32_t>> item_producer;  // by input, as InputBinding.item_producer; empty for others
};

class Graph {
 public:
  // `first`, `head`, `group` and `output_base` are given here; `group` other than kNoGroup asks for one.
  Graph(PipelineSpec spec, std::vector<StepTemplate> templates);
  // With these numbers, by template: each of 0, 1, … is there once.
  Graph(PipelineSpec spec, std::vector<StepTemplate> templates, const std::vector<StepNumbers>& numbers);

  // The graph in which this fan-out has these instances, instead of those that it had: the first of them have the
  // numbers it has already, the others are numbered from step_count() on. Shares what it can.
  std::shared_ptr<const Graph> With(Fanout fanout) const;
  // The graph in which these fan-outs, made at run time, have not been made, nor those linked to them by item.
  std::shared_ptr<const Graph> Without(const std::vector<uint32_t>& fanouts) const;

  // The templates, by number: indexable, with a size, iterable.
  class Templates;
  Templates templates() const;
  const StepTemplate& step(uint32_t t) const {
    if (changed_.empty()) return base_->templates[t];
    const auto found = changed_.find(t);
    return found == changed_.end() ? base_->templates[t] : *found->second;
  }

  const PipelineSpec& spec() const { return base_->spec; }
  StepIx step_count() const { return step_count_; }
  uint32_t output_count() const { return output_count_; }
  // True if a template fans out at run time: each run then has a graph of its own.
  bool fans_out_at_run_time() const { return base_->at_run_time; }

  // O(log templates).
  uint32_t TemplateOf(StepIx ix) const;
  // Not of a group.
  uint32_t InstanceOf(StepIx ix) const { return step(TemplateOf(ix)).InstanceOf(ix); }
  // False for a step that is not there any more, and for an instance of a fan-out that has yet to be made again.
  bool Has(StepIx ix) const { return step(TemplateOf(ix)).Has(ix); }
  bool IsGroup(StepIx ix) const { return base_->at_run_time && step(TemplateOf(ix)).group == ix; }
  const StepSpec& SpecOf(StepIx ix) const { return base_->spec.steps[TemplateOf(ix)]; }
  // `train`, or `train[2]`; a group is called as its template.
  std::string StepName(StepIx ix) const;
  std::optional<StepIx> FindStep(absl::string_view name) const;
  // By the step's name as written; null if there is none.
  const StepTemplate* FindTemplate(const std::string& name) const;
  // The compact JSON value of each foreach key of an instance, in the order of StepSpec.foreach; empty for a plain
  // step, for a group, and for what is not there any more.
  std::vector<std::string> ItemOf(StepIx ix) const;
  // The item as one JSON object; "{}" for a plain step.
  std::string ItemJson(StepIx ix) const;
  // The instances of a source that the `when` of an instance sees: [first, second) of the producer's.
  std::pair<uint32_t, uint32_t> WhenInstances(StepIx ix, const WhenSource& source) const;
  // The slot of an output in the run's table of outputs; of a step that takes part.
  uint32_t OutputSlot(StepIx ix, uint32_t output) const;

 private:
  struct Base {
    PipelineSpec spec;
    std::vector<StepTemplate> templates;
    std::vector<StepIx> firsts;                        // by template
    std::vector<std::pair<StepIx, uint32_t>> ordered;  // (first, template), if not in the order of the templates
    std::unordered_map<std::string, uint32_t> by_name;
    StepIx step_count = 0;
    bool at_run_time = false;
  };
  Graph() = default;
  // A copy that may be changed, instead of the template that there is.
  std::shared_ptr<StepTemplate> Copy(uint32_t t);
  void Unmake(uint32_t t);

  std::shared_ptr<const Base> base_;
  StepIx step_count_ = 0;
  uint32_t output_count_ = 0;
  std::unordered_map<uint32_t, std::shared_ptr<const StepTemplate>> changed_;
  std::vector<std::pair<StepIx, uint32_t>> behind_;  // (first, template) of fan-outs made at run time, with instances
};

class Graph::Templates {
 public:
  explicit Templates(const Graph* graph) : graph_(graph) {}
  const StepTemplate& operator[](size_t t) const { return graph_->step(static_cast<uint32_t>(t)); }
  size_t size() const { return graph_->base_->templates.size(); }
  class Iterator {
   public:
    Iterator(const Graph* graph, uint32_t t) : graph_(graph), t_(t) {}
    const StepTemplate& operator*() const { return graph_->step(t_); }
    Iterator& operator++() {
      ++t_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return t_ != other.t_; }

   private:
    const Graph* graph_;
    uint32_t t_;
  };
  Iterator begin() const { return {graph_, 0}; }
  Iterator end() const { return {graph_, static_cast<uint32_t>(size())}; }

 private:
  const Graph* graph_;
};

inline Graph::Templates Graph::templates() const { return Templates(this); }

}  // namespace orch
