// The walk over a run's graph that finds what the cache has of it.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/engine/cache_key.h"
#include "server/engine/cache_lookup.h"
#include "server/engine/inputs.h"

namespace orch {
namespace {

// A new pipeline finds nothing: it does not pay for more looks than this.
constexpr int64_t kMissesBorne = 1'000;

class Walk {
 public:
  // With `looks` every step is looked at, and what was seen of it is kept.
  Walk(const RunContext& run, const Sources* sources, std::vector<StepLook>* looks)
      : run_(run), graph_(*run.graph), sources_(sources), looks_kept_(looks) {
    outputs_.resize(graph_.step_count(), kNone);
    if (looks != nullptr) looks->resize(graph_.step_count());
  }

  absl::Status Go(CacheLookup::Look look, int64_t until_mono) {
    for (const uint32_t t : InOrder()) {
      const StepTemplate& step = graph_.templates()[t];
      const StepSpec& spec = graph_.spec().steps[t];
      const bool may = MayBeFound(step, spec);
      if (!may && looks_kept_ == nullptr) continue;
      const CacheRecipe recipe(run_, t, sources_);
      if (looks_kept_ != nullptr && step.at_run_time()) (*looks_kept_)[step.group].what = StepLook::What::kDepends;
      for (uint32_t instance = 0; instance < step.count; ++instance) {
        const StepIx ix = step.at(instance);
        const bool inputs = InputsAreHits(step, instance);
        if (looks_kept_ != nullptr) {
          StepLook& seen = (*looks_kept_)[ix];
          const bool decided = recipe.cacheable() || !spec.options().when.empty();
          seen.what = decided ? StepLook::What::kDepends : StepLook::What::kNotCached;
        }
        if (!may || !inputs) continue;
        if (looks_kept_ == nullptr && misses_ > static_cast<int64_t>(found_.hits.size()) + kMissesBorne)
          return absl::OkStatus();
        if (++looks_ % 64 == 0 && Clock::Real().Now().mono > until_mono) return absl::OkStatus();
        Look(look, recipe, step, spec, ix);
      }
    }
    return absl::OkStatus();
  }

  FoundHits Take() {
    std::sort(found_.hits.begin(), found_.hits.end(), [](const FoundHit& a, const FoundHit& b) { return a.ix < b.ix; });
    return std::move(found_);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  // Producers before consumers.
  std::vector<uint32_t> InOrder() const {
    const auto& templates = graph_.templates();
    std::vector<uint32_t> open(templates.size(), 0);
    for (const StepTemplate& step : templates) {
      for (const Edge& edge : step.edges) ++open[edge.consumer];
    }
    std::vector<uint32_t> order;
    order.reserve(templates.size());
    for (uint32_t t = 0; t < templates.size(); ++t) {
      if (open[t] == 0) order.push_back(t);
    }
    for (size_t i = 0; i < order.size(); ++i) {
      for (const Edge& edge : templates[order[i]].edges) {
        if (--open[edge.consumer] == 0) order.push_back(edge.consumer);
      }
    }
    return order;
  }

  // Steps whose start depends on more than their inputs are looked up when they are ready.
  static bool MayBeFound(const StepTemplate& step, const StepSpec& spec) {
    const StepOptions& options = spec.options();
    if (!options.cache_enabled || !options.when.empty() || options.trigger_rule != TriggerRule::kAllSuccess)
      return false;
    return std::all_of(step.inputs.begin(), step.inputs.end(), [](const InputBinding& input) {
      return input.source == InputSpec::Source::kFrom && !input.early;
    });
  }

  template <typename F>
  bool ForEachProducer(const InputBinding& input, uint32_t instance, const F& visit) const {
    const StepTemplate& producer = graph_.templates()[input.producer];
    if (producer.at_run_time()) return false;  // nobody knows yet what it will be
    switch (input.kind) {
      case EdgeKind::kItem:
        return visit(producer.at(input.item_producer[instance]));
      case EdgeKind::kIndex:
        return visit(producer.at(input.index));
      case EdgeKind::kAll:
        for (uint32_t i = 0; i < producer.count; ++i) {
          if (!visit(producer.at(i))) return false;
        }
        return true;
      case EdgeKind::kGroup:
        break;
    }
    return false;
  }

  bool InputsAreHits(const StepTemplate& step, uint32_t instance) const {
    return std::all_of(step.inputs.begin(), step.inputs.end(), [&](const InputBinding& input) {
      return ForEachProducer(input, instance, [&](StepIx producer) { return outputs_[producer] != kNone; });
    });
  }

  const StoredOutput& OutputOf(StepIx producer, uint32_t output) const {
    return found_.outputs[outputs_[producer] + output];
  }

  // As Inputs::Make would make it, without paths.
  ReadyInput InputOf(const InputBinding& input, uint32_t instance) const {
    ReadyInput ready;
    ready.present = true;
    Sha256 folder;
    std::string list = "[";
    (void)ForEachProducer(input, instance, [&](StepIx producer) {
      const StoredOutput& output = OutputOf(producer, input.output);
      if (!input.fan_in) {
        ready.digest = output.blob.digest;
        if (input.value) ready.value_json = output.value_json.value_or("null");
      } else if (input.value) {
        list += list.size() > 1 ? "," : "";
        list += output.value_json.value_or("null");
      } else {
        folder.Update(FanInEntry(graph_.ItemJson(producer), output.blob.digest));
      }
      return true;
    });
    if (!input.fan_in) return ready;
    if (input.value) {
      ready.value_json = list + "]";
      ready.digest = Sha256Of(ready.value_json);
    } else {
      ready.digest = folder.Finish();
    }
    return ready;
  }

  void Look(CacheLookup::Look look, const CacheRecipe& recipe, const StepTemplate& step, const StepSpec& spec,
            StepIx ix) {
    std::vector<ReadyInput> inputs;
    inputs.reserve(step.inputs.size());
    for (const InputBinding& input : step.inputs) inputs.push_back(InputOf(input, step.InstanceOf(ix)));
    absl::StatusOr<CacheKey> key = recipe.Make(ix, inputs);
    if (!key.ok() || key->key.empty()) return;
    CacheLookup::Answer answer = look(spec, key->key);
    if (looks_kept_ != nullptr) {
      StepLook& seen = (*looks_kept_)[ix];
      seen.what = answer.hit ? StepLook::What::kHit : StepLook::What::kMiss;
      seen.verdict = answer.verdict;
      seen.run_name = answer.run_name;
      if (!answer.hit) seen.parts_json = std::move(key->parts_json);
    }
    if (!answer.hit) {
      ++misses_;
      return;
    }
    outputs_[ix] = static_cast<uint32_t>(found_.outputs.size());
    FoundHit& hit = found_.hits.emplace_back();
    hit.ix = ix;
    hit.key = std::move(key->key);
    hit.first_output = outputs_[ix];
    hit.outputs = static_cast<uint32_t>(answer.outputs.size());
    const auto [name, fresh] = runs_.try_emplace(std::move(answer.run_name), static_cast<uint32_t>(found_.runs.size()));
    if (fresh) found_.runs.push_back(name->first);
    hit.run = name->second;
    for (StoredOutput& output : answer.outputs) found_.outputs.push_back(std::move(output));
  }

  const RunContext& run_;
  const Graph& graph_;
  const Sources* const sources_;
  std::vector<StepLook>* const looks_kept_;
  FoundHits found_;
  std::vector<uint32_t> outputs_;  // by step: where its outputs begin in found_.outputs
  std::unordered_map<std::string, uint32_t> runs_;
  int64_t looks_ = 0;
  int64_t misses_ = 0;
};

}  // namespace

FoundHits FindHits(const RunContext& run, CacheLookup* cache, const Sources* sources, int64_t micros) {
  const auto& steps = run.graph->spec().steps;
  const bool any = std::any_of(steps.begin(), steps.end(), [](const StepSpec& s) { return s.options().cache_enabled; });
  if (!any || !run.header.use_cache) return {};
  const uint64_t as_of = cache->version();
  const Now now = Clock::Real().Now();
  Walk walk(run, sources, nullptr);
  const absl::Status status = cache->Read(run.header.project, now.wall,
                                          [&](CacheLookup::Look look) { return walk.Go(look, now.mono + micros); });
  if (!status.ok()) {
    Log(LogLevel::kWarning, "cache not asked", {{"run", run.header.name}, {"why", status.message()}});
    return {};
  }
  FoundHits found = walk.Take();
  found.as_of = as_of;
  return found;
}

absl::StatusOr<std::vector<StepLook>> LookAtAll(const RunContext& run, CacheLookup* cache, const Sources* sources) {
  std::vector<StepLook> looks;
  Walk walk(run, sources, &looks);
  RETURN_IF_ERROR(cache->Read(run.header.project, Clock::Real().Now().wall,
                              [&](CacheLookup::Look look) { return walk.Go(look, INT64_MAX); }));
  return looks;
}

}  // namespace orch
