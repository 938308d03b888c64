// Short words for pipelines: text graphs (`a->b a->c b,c->d`) and a builder.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/core/compile.h"
#include "server/model/graph.h"

namespace orch::testing {

class PipelineBuilder {
 public:
  PipelineBuilder() { spec_.name = "p"; }
  // The calls after it speak of this step.
  PipelineBuilder& Step(std::string name);
  PipelineBuilder& Command(std::vector<std::string> command);
  PipelineBuilder& After(std::vector<std::string> steps);
  PipelineBuilder& In(std::string name, std::string ref, bool early = false);
  PipelineBuilder& Uri(std::string name, std::string uri);
  PipelineBuilder& Artifact(std::string name, std::string ref);
  PipelineBuilder& Out(std::string name, bool value = false);
  PipelineBuilder& Foreach(std::string key, std::vector<std::string> values_json);
  PipelineBuilder& ForeachFrom(std::string key, std::string ref);
  PipelineBuilder& When(std::string expression);
  PipelineBuilder& Attempts(int max, int64_t initial_micros = 1'000'000);
  PipelineBuilder& Rule(TriggerRule rule);
  PipelineBuilder& Queue(int64_t micros);
  PipelineBuilder& Run(int64_t micros);
  PipelineBuilder& Cache();
  PipelineBuilder& Pool(std::string name, int64_t slots);
  PipelineBuilder& Cpu(int64_t millis);
  PipelineBuilder& Priority(int priority);
  StepOptions& options() { return spec_.steps.back().mutable_options(); }
  StepSpec& step() { return spec_.steps.back(); }
  PipelineSpec& spec() { return spec_; }

  Compiled Compile(CompileLimits limits = {});
  // Must compile.
  std::shared_ptr<const orch::Graph> Graph();

 private:
  PipelineSpec spec_;
};

// `a->b a->c b,c->d e`: edges are `after`; no step asks for anything.
PipelineBuilder Dag(absl::string_view text);

}  // namespace orch::testing
