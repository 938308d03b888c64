// The graph of a run after fan-out, compiled once per pipeline version by core/compile.h; immutable, shared by all
// runs.
//
// A step as written is a template; its instances are numbered [first, first + count) in the run. Edges stay between
// templates, so that a fan-in of 10,000 is one edge with a counter and not 10,000 edges.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
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
};

struct Edge {
  uint32_t consumer = 0;  // template
  EdgeKind kind = EdgeKind::kAll;
  bool early = false;   // closed as soon as `output` is published
  uint32_t index = 0;   // kIndex: the producer's instance number
  uint32_t output = 0;  // early: the output's number in the producer
  // kItem: consumers of producer instance i are item_consumers[item_offsets[i] .. item_offsets[i+1]), as instance
  // numbers of the consumer.
  std::vector<uint32_t> item_offsets;
  std::vector<uint32_t> item_consumers;
};

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

// Slots by pool, resolved to numbers by the dispatcher. Thousandths for cpu, bytes for memory, units otherwise.
struct Demand {
  std::string pool;  // `cpu`, `memory`, `gpu`, `custom/NAME` of the orchestrator; or `pool/NAME`
  int64_t amount = 0;
  bool operator==(const Demand&) const = default;
  auto operator<=>(const Demand&) const = default;
};

struct StepTemplate {
  StepIx first = 0;
  uint32_t count = 1;
  uint32_t upstreams = 0;    // edges that must close before an instance is judged
  uint32_t below = 0;        // steps on the longest way from here to an end of the run, this one not counted
  uint32_t output_base = 0;  // the first of its count × outputs slots in the run's table of outputs
  uint16_t outputs = 0;
  bool fan_out = false;              // named with [i] even if count is 1
  bool needs_resolve = false;        // cache or external inputs: asked about before it starts
  std::vector<Edge> edges;           // out
  std::vector<InputBinding> inputs;  // as StepSpec.inputs
  std::vector<Demand> demands;
};

class Graph {
 public:
  Graph(PipelineSpec spec, std::vector<StepTemplate> templates);

  const PipelineSpec& spec() const { return spec_; }
  const std::vector<StepTemplate>& templates() const { return templates_; }
  StepIx step_count() const { return step_count_; }
  uint32_t output_count() const { return output_count_; }

  // O(log templates).
  uint32_t TemplateOf(StepIx ix) const;
  uint32_t InstanceOf(StepIx ix) const { return ix - templates_[TemplateOf(ix)].first; }
  const StepSpec& SpecOf(StepIx ix) const { return spec_.steps[TemplateOf(ix)]; }
  // `train`, or `train[2]`.
  std::string StepName(StepIx ix) const;
  std::optional<StepIx> FindStep(absl::string_view name) const;
  // The compact JSON value of one foreach key of an instance, in the order of StepSpec.foreach; empty for a plain step.
  std::vector<std::string> ItemOf(StepIx ix) const;
  // The item as one JSON object; "{}" for a plain step.
  std::string ItemJson(StepIx ix) const;
  // The slot of an output in the run's table of outputs.
  uint32_t OutputSlot(StepIx ix, uint32_t output) const;

 private:
  PipelineSpec spec_;
  std::vector<StepTemplate> templates_;
  StepIx step_count_ = 0;
  uint32_t output_count_ = 0;
  std::vector<StepIx> firsts_;
  std::unordered_map<std::string, uint32_t> by_name_;
};

}  // namespace orch
