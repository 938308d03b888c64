#include "server/core/compile.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/core/condition.h"
#include "server/model/template.h"

namespace orch {
namespace {

constexpr size_t kMaxViolations = 200;
constexpr size_t kMaxExpression = 10'000;

class Compiler {
 public:
  Compiler(PipelineSpec spec, const CompileLimits& limits) : spec_(std::move(spec)), limits_(limits) {}

  Compiled Run() {
    IndexNames();
    CountInstances();
    for (uint32_t t = 0; t < spec_.steps.size() && !Full(); ++t) CompileStep(t);
    CheckHooks(UINT32_MAX, spec_.hooks);
    if (result_.violations.empty()) FindCycle();
    if (result_.violations.empty()) {
      result_.graph = std::make_shared<Graph>(std::move(spec_), std::move(templates_));
    }
    return std::move(result_);
  }

 private:
  // An upstream of one step, to count each only once.
  using UpstreamId = std::tuple<uint32_t, EdgeKind, uint32_t>;  // producer, kind, index

  bool Full() const { return result_.violations.size() >= kMaxViolations; }

  void Add(absl::string_view field, absl::string_view reason, absl::string_view description) {
    if (!Full()) result_.violations.push_back({std::string(field), std::string(description), std::string(reason)});
  }
  std::string Field(uint32_t t, absl::string_view rest) const { return absl::StrCat("steps[", t, "].", rest); }

  void IndexNames() {
    for (uint32_t t = 0; t < spec_.steps.size(); ++t) {
      const auto [it, fresh] = by_name_.emplace(spec_.steps[t].name, t);
      if (!fresh) {
        Add(Field(t, "name"), "DUPLICATE_NAME",
            absl::StrCat("steps[", it->second, "] is called `", spec_.steps[t].name, "` too; give one another name"));
      }
    }
    for (uint32_t p = 0; p < spec_.parameters.size(); ++p) parameters_.insert(spec_.parameters[p].name);
  }

  void CountInstances() {
    templates_.resize(spec_.steps.size());
    uncounted_.resize(spec_.steps.size());
    int64_t total = 0;
    int64_t outputs = 0;
    for (uint32_t t = 0; t < spec_.steps.size(); ++t) {
      int64_t width = 1;
      const std::vector<ForeachKey>& keys = spec_.steps[t].foreach;
      std::set<std::string> seen;
      for (size_t k = 0; k < keys.size(); ++k) {
        if (!seen.insert(keys[k].key).second) {
          Add(Field(t, absl::StrCat("foreach[", k, "].key")), "DUPLICATE_NAME",
              absl::StrCat("the key `", keys[k].key, "` is there twice"));
        }
        if (!keys[k].from.empty()) {
          templates_[t].group = 0;  // numbered by the graph
          continue;
        }
        width *= static_cast<int64_t>(keys[k].values_json.size());
        if (width > limits_.fanout_width) {
          Add(Field(t, "foreach"), "TOO_LARGE",
              absl::StrCat("it makes more than ", limits_.fanout_width, " instances (limit fanout_width)"));
          width = 1;
          uncounted_[t] = true;
          break;
        }
      }
      if (templates_[t].at_run_time()) width = 1;  // its group; the instances are counted when they are known
      templates_[t].count = static_cast<uint32_t>(width);
      templates_[t].fan_out = !keys.empty();
      templates_[t].outputs = static_cast<uint16_t>(spec_.steps[t].outputs.size());
      total += width;
      if (!templates_[t].at_run_time()) outputs += width * static_cast<int64_t>(spec_.steps[t].outputs.size());
    }
    if (total > limits_.steps_per_run) {
      Add("steps", "TOO_LARGE",
          absl::StrCat("the run has ", total, " steps after fan-out; at most ", limits_.steps_per_run,
                       " are allowed (limit steps_per_run)"));
    }
    if (outputs > limits_.outputs_per_run) {
      Add("steps", "TOO_LARGE",
          absl::StrCat("the run has ", outputs, " outputs after fan-out; at most ", limits_.outputs_per_run,
                       " are allowed (limit outputs_per_run)"));
    }
  }

  void CompileStep(uint32_t t) {
    const StepSpec& step = spec_.steps[t];
    const StepOptions& options = step.options();
    RefuseWhatIsNotHere(t, options);
    templates_[t].needs_resolve = options.cache_enabled || !options.when.empty();
    std::set<UpstreamId> upstreams;
    std::map<std::pair<UpstreamId, uint32_t>, bool> early;  // (upstream, output)
    std::map<std::string, std::string> variables;

    for (const InputSpec& input : step.inputs) {
      const std::string variable = VariableName("ORCH_INPUT_", input.name);
      if (const auto [it, fresh] = variables.emplace(variable, input.name); !fresh) {
        Add(Field(t, absl::StrCat("inputs.", input.name)), "NAME_CONFLICT",
            absl::StrCat("`", input.name, "` and `", it->second, "` are both ", variable));
      }
      templates_[t].inputs.push_back(BindInput(t, input, &upstreams, &early));
    }
    variables.clear();
    for (const OutputSpec& output : step.outputs) {
      const std::string variable = VariableName("ORCH_OUTPUT_", output.name);
      if (const auto [it, fresh] = variables.emplace(variable, output.name); !fresh) {
        Add(Field(t, absl::StrCat("outputs.", output.name)), "NAME_CONFLICT",
            absl::StrCat("`", output.name, "` and `", it->second, "` are both ", variable));
      }
    }
    for (size_t a = 0; a < step.after.size(); ++a) {
      const auto found = by_name_.find(step.after[a]);
      if (found == by_name_.end()) {
        Add(Field(t, absl::StrCat("after[", a, "]")), "UNKNOWN_REFERENCE", Unknown(step.after[a]));
      } else if (found->second == t) {
        Add(Field(t, absl::StrCat("after[", a, "]")), "CYCLE", "a step cannot come after itself");
      } else {
        upstreams.insert({found->second, EdgeKind::kAll, 0});
      }
    }
    std::set<UpstreamId> group_upstreams;
    if (templates_[t].at_run_time()) BindLists(t, &group_upstreams);
    CheckTemplates(t);
    CheckHooks(t, options.hooks);
    for (size_t p = 0; p < options.params.size(); ++p) {
      if (parameters_.count(options.params[p]) == 0) {
        Add(Field(t, absl::StrCat("params[", p, "]")), "UNKNOWN_REFERENCE",
            absl::StrCat("the pipeline has no parameter `", options.params[p], "`"));
      }
    }
    if (!options.when.empty()) CompileWhen(t, options.when);
    AddEdges(t, upstreams, early);
    for (const UpstreamId& id : group_upstreams) AddEdge(t, id, false, 0, true);
    templates_[t].demands = DemandsOf(options);
  }

  // `t` is UINT32_MAX for those of the run.
  void CheckHooks(uint32_t t, const Hooks& hooks) {
    const auto check = [&](const HookSpec& hook, absl::string_view name) {
      const std::string field = absl::StrCat("hooks.", name);
      if (!hook.webhook.empty()) {
        Add(t == UINT32_MAX ? field + ".webhook" : Field(t, field + ".webhook"), "NOT_IN_THIS_BUILD",
            "web hooks are not in this build; use a command, such as [curl, --json, …]");
      }
      for (size_t c = 0; c < hook.command.size(); ++c) {
        CheckHookTemplate(t, absl::StrCat(field, ".command.command[", c, "]"), hook.command[c]);
      }
    };
    check(hooks.on_success, "on_success");
    check(hooks.on_failure, "on_failure");
  }

  void CheckHookTemplate(uint32_t t, const std::string& field, const std::string& text) {
    if (text.find("${") == std::string::npos) return;
    if (t != UINT32_MAX) {
      CheckTemplate(t, field, text);
      for (const char* scope : {"${inputs.", "${outputs.", "${values."}) {
        if (text.find(scope) != std::string::npos) templates_[t].hook_data = true;
      }
      return;
    }
    const auto pieces = ParseTemplate(text);
    if (!pieces.ok()) return Add(field, "TEMPLATE_INVALID", pieces.status().message());
    for (const TemplatePiece& piece : *pieces) {
      const bool known = piece.scope == TemplateScope::kLiteral ||
                         (piece.scope == TemplateScope::kParams && parameters_.count(piece.text) > 0) ||
                         (piece.scope == TemplateScope::kRun && piece.text == "name");
      if (!known) {
        Add(field, "UNKNOWN_REFERENCE",
            absl::StrCat("a hook of the run knows ${run.name} and the pipeline's ${params.…} alone"));
      }
    }
  }

  void RefuseWhatIsNotHere(uint32_t t, const StepOptions& options) {
    const auto refuse = [&](bool present, absl::string_view field, absl::string_view what) {
      if (present) Add(Field(t, field), "NOT_IN_THIS_BUILD", absl::StrCat(what, " not in this build"));
    };
    refuse(options.image_build, "image.build",
           "an image is built by `orchctl submit` or `orchctl build-image`; a daemon that builds is");
  }

  void CompileWhen(uint32_t t, const std::string& when) {
    if (when.size() > kMaxExpression) {
      Add(Field(t, "when"), "TOO_LARGE",
          absl::StrCat("it has ", when.size(), " bytes; a condition may have ", kMaxExpression));
      return;
    }
    if (expressions_.insert(when).second && static_cast<int64_t>(expressions_.size()) == limits_.expressions + 1) {
      Add(Field(t, "when"), "TOO_LARGE",
          absl::StrCat("the pipeline has more than ", limits_.expressions,
                       " different conditions (limit expressions); put what differs into parameters or values"));
    }
    Condition condition = CheckCondition(spec_, t, templates_[t].inputs, by_name_);
    for (const Violation& v : condition.violations) Add(v.field, v.reason, v.description);
    templates_[t].when_sources = std::move(condition.sources);
  }

  std::string Unknown(absl::string_view name) const {
    std::string best;
    for (const auto& [candidate, t] : by_name_) {
      if (absl::EqualsIgnoreCase(candidate, name) || absl::StartsWith(candidate, name) ||
          (candidate.size() > 2 && absl::StartsWith(name, candidate))) {
        best = candidate;
        break;
      }
    }
    return absl::StrCat("there is no step `", name, "`",
                        best.empty() ? "" : absl::StrCat("; did you mean `", best, "`?"));
  }

  InputBinding BindInput(uint32_t t, const InputSpec& input, std::set<UpstreamId>* upstreams,
                         std::map<std::pair<UpstreamId, uint32_t>, bool>* early) {
    InputBinding binding;
    binding.source = input.source;
    const std::string field = Field(t, absl::StrCat("inputs.", input.name, ".from"));
    if (input.source == InputSpec::Source::kArtifact) {
      templates_[t].needs_resolve = true;
      if (!ParseArtifactReference(input.ref)) {
        Add(Field(t, absl::StrCat("inputs.", input.name, ".artifact")), "UNKNOWN_REFERENCE",
            absl::StrCat("`", input.ref, "` must be an artifact's name, or `name@version` with a version from 1 on"));
      }
      return binding;
    }
    if (input.source == InputSpec::Source::kUri) {
      templates_[t].needs_resolve = true;
      if (!absl::StartsWith(input.ref, "file:///")) {
        Add(Field(t, absl::StrCat("inputs.", input.name, ".uri")), "WRONG_TYPE",
            absl::StrCat("`", input.ref, "` must be `file:///` and an absolute path"));
      }
      return binding;
    }
    const std::optional<StepReference> ref = ParseStepReference(input.ref);
    if (!ref) {
      Add(field, "UNKNOWN_REFERENCE",
          absl::StrCat("`", input.ref, "` must be `step.output`, `step[*].output` or `step[item].output`"));
      return binding;
    }
    if (!FindProducer(t, *ref, field, &binding)) return binding;
    binding.early = input.early;
    if (!Select(t, *ref, field, &binding)) return binding;
    if (binding.early && binding.fan_in) {
      Add(Field(t, absl::StrCat("inputs.", input.name, ".early")), "WRONG_TYPE",
          "early needs one producer; a fan-in waits for all");
      return binding;
    }
    const UpstreamId id{binding.producer, binding.kind, binding.index};
    if (binding.early) {
      early->emplace(std::make_pair(id, binding.output), true);
    } else {
      upstreams->insert(id);
    }
    return binding;
  }

  // The step and the output that a reference names; false after a violation.
  bool FindProducer(uint32_t t, const StepReference& ref, const std::string& field, InputBinding* binding) {
    const auto found = by_name_.find(ref.step);
    if (found == by_name_.end()) {
      Add(field, "UNKNOWN_REFERENCE", Unknown(ref.step));
      return false;
    }
    const uint32_t producer = found->second;
    if (producer == t) {
      Add(field, "CYCLE", "a step cannot read its own output");
      return false;
    }
    const std::vector<OutputSpec>& outputs = spec_.steps[producer].outputs;
    const auto output =
        std::find_if(outputs.begin(), outputs.end(), [&](const OutputSpec& o) { return o.name == ref.output; });
    if (output == outputs.end()) {
      std::vector<std::string> names;
      for (const OutputSpec& o : outputs) names.push_back(o.name);
      Add(field, "UNKNOWN_REFERENCE",
          absl::StrCat("step `", ref.step, "` has no output `", ref.output, "`; it has ",
                       names.empty() ? "none" : absl::StrJoin(names, ", ")));
      return false;
    }
    binding->producer = producer;
    binding->output = static_cast<uint32_t>(output - outputs.begin());
    binding->value = output->value;
    return true;
  }

  // Where the lists of a fan-out made at run time come from, and what its group waits for: them, and that the fan-outs
  // whose instances are matched by item have theirs.
  void BindLists(uint32_t t, std::set<UpstreamId>* upstreams) {
    const std::vector<ForeachKey>& keys = spec_.steps[t].foreach;
    templates_[t].lists.resize(keys.size());
    for (size_t k = 0; k < keys.size(); ++k) {
      if (keys[k].from.empty()) continue;
      const std::string field = Field(t, absl::StrCat("foreach[", k, "].from"));
      const std::optional<StepReference> ref = ParseStepReference(keys[k].from);
      if (!ref || ref->selector == StepReference::Selector::kItem) {
        Add(field, "UNKNOWN_REFERENCE",
            absl::StrCat("`", keys[k].from, "` must be `step.output` with a list, or `step[*].output` with its items"));
        continue;
      }
      InputBinding binding;
      if (!FindProducer(t, *ref, field, &binding) || !Select(t, *ref, field, &binding)) continue;
      if (!binding.value) {
        Add(field, "WRONG_TYPE",
            absl::StrCat("`", keys[k].from, "` is a file; a foreach needs an output with `value: true`"));
        continue;
      }
      upstreams->insert({binding.producer, binding.kind, binding.index});
      templates_[t].lists[k] = std::move(binding);
    }
    for (const InputBinding& input : templates_[t].inputs) {
      if (input.kind == EdgeKind::kItem && templates_[input.producer].at_run_time()) {
        upstreams->insert({input.producer, EdgeKind::kGroup, 0});
      }
    }
  }

  // Which instances of the producer are meant; false after a violation.
  bool Select(uint32_t t, const StepReference& ref, const std::string& field, InputBinding* binding) {
    const StepTemplate& producer = templates_[binding->producer];
    if (binding->early && templates_[t].at_run_time()) {
      Add(field, "WRONG_TYPE", "early is not for a step with a foreach over a list made at run time");
      return false;
    }
    if (uncounted_[t] || uncounted_[binding->producer]) return false;  // said where they are counted
    using Selector = StepReference::Selector;
    switch (ref.selector) {
      case Selector::kPlain:
        if (producer.fan_out) {
          Add(field, "WRONG_TYPE",
              absl::StrCat("`", ref.step, "` is a fan-out; write `", ref.step, "[*].", ref.output, "` for all, or `",
                           ref.step, "[item].", ref.output, "` for the one with the same item"));
          return false;
        }
        return true;
      case Selector::kAll:
        if (!producer.fan_out) {
          Add(field, "WRONG_TYPE",
              absl::StrCat("`", ref.step, "` is no fan-out; write `", ref.step, ".", ref.output, "`"));
          return false;
        }
        binding->fan_in = true;
        return true;
      case Selector::kIndex:
        if (producer.at_run_time()) {
          Add(field, "WRONG_TYPE",
              absl::StrCat("how many instances `", ref.step, "` has is known only at run time; write `", ref.step,
                           "[*].", ref.output, "` for all, or `", ref.step, "[item].", ref.output,
                           "` for the one with the same item"));
          return false;
        }
        if (!producer.fan_out || ref.index >= producer.count) {
          Add(field, "UNKNOWN_REFERENCE",
              absl::StrCat("`", ref.step, "` has ", producer.fan_out ? producer.count : 1,
                           " instances, numbered from 0"));
          return false;
        }
        binding->kind = EdgeKind::kIndex;
        binding->index = ref.index;
        return true;
      case Selector::kItem:
        binding->kind = EdgeKind::kItem;
        return MatchItems(t, ref, field, binding);
    }
    return false;
  }

  bool MatchItems(uint32_t t, const StepReference& ref, const std::string& field, InputBinding* binding) {
    const std::vector<ForeachKey>& mine = spec_.steps[t].foreach;
    const std::vector<ForeachKey>& theirs = spec_.steps[binding->producer].foreach;
    std::vector<size_t> shared;  // for each key of the producer, which of mine it is
    for (const ForeachKey& key : theirs) {
      const auto found = std::find_if(mine.begin(), mine.end(), [&](const ForeachKey& k) { return k.key == key.key; });
      if (found == mine.end()) {
        Add(field, "WRONG_TYPE",
            absl::StrCat("`", ref.step, "[item]` needs every key of its foreach here too; `", key.key, "` is missing"));
        return false;
      }
      shared.push_back(static_cast<size_t>(found - mine.begin()));
    }
    if (theirs.empty()) {
      Add(field, "WRONG_TYPE", absl::StrCat("`", ref.step, "` is no fan-out; write `", ref.step, ".", ref.output, "`"));
      return false;
    }
    if (templates_[t].at_run_time()) return true;  // matched when the items are known
    if (templates_[binding->producer].at_run_time()) {
      Add(field, "WRONG_TYPE",
          absl::StrCat("the items of `", ref.step, "` are known only at run time, those of this step are written out; ",
                       "read `", ref.step, "[*].", ref.output, "`, or take the foreach from the same list"));
      return false;
    }
    item_links_ += int64_t{templates_[binding->producer].count} + templates_[t].count;
    if (item_links_ > limits_.item_links) {
      Add(field, "TOO_LARGE",
          absl::StrCat("the inputs by [item] up to here are more than ", limits_.item_links,
                       " pairs of instances (limit item_links)"));
      return false;
    }
    std::map<std::vector<std::string>, uint32_t> by_item;
    for (uint32_t i = 0; i < templates_[binding->producer].count; ++i) by_item.emplace(ItemOf(theirs, i), i);
    for (uint32_t i = 0; i < templates_[t].count; ++i) {
      const std::vector<std::string> item = ItemOf(mine, i);
      std::vector<std::string> wanted;
      for (const size_t k : shared) wanted.push_back(item[k]);
      const auto found = by_item.find(wanted);
      if (found == by_item.end()) {
        Add(field, "UNKNOWN_REFERENCE",
            absl::StrCat("no instance of `", ref.step, "` has the item ", absl::StrJoin(wanted, ", ")));
        return false;
      }
      binding->item_producer.push_back(found->second);
    }
    return true;
  }

  static std::vector<std::string> ItemOf(const std::vector<ForeachKey>& keys, uint32_t instance) {
    std::vector<std::string> item(keys.size());
    for (size_t k = keys.size(); k-- > 0;) {
      const auto width = static_cast<uint32_t>(keys[k].values_json.size());
      item[k] = keys[k].values_json[instance % width];
      instance /= width;
    }
    return item;
  }

  void AddEdges(uint32_t t, const std::set<UpstreamId>& upstreams,
                const std::map<std::pair<UpstreamId, uint32_t>, bool>& early) {
    for (const UpstreamId& id : upstreams) AddEdge(t, id, false, 0);
    for (const auto& [key, unused] : early) {
      // Something else of the same producer is waited for until its end anyway.
      if (upstreams.count(key.first) == 0) AddEdge(t, key.first, true, key.second);
    }
  }

  void AddEdge(uint32_t t, const UpstreamId& id, bool early, uint32_t output, bool to_group = false) {
    const auto& [producer, kind, index] = id;
    Edge edge;
    edge.consumer = t;
    edge.kind = kind;
    edge.index = index;
    edge.early = early;
    edge.output = output;
    edge.to_group = to_group;
    if (kind == EdgeKind::kItem && !templates_[t].at_run_time()) {
      const auto binding = std::find_if(
          templates_[t].inputs.begin(), templates_[t].inputs.end(), [&, p = producer](const InputBinding& b) {
            return b.producer == p && b.kind == EdgeKind::kItem && !b.item_producer.empty();
          });
      if (binding == templates_[t].inputs.end()) return;
      LinkByItem(binding->item_producer, templates_[producer].count, &edge);
    }
    ++(to_group ? templates_[t].group_upstreams : templates_[t].upstreams);
    templates_[producer].edges.push_back(std::move(edge));
  }

  void CheckTemplates(uint32_t t) {
    const StepSpec& step = spec_.steps[t];
    const StepOptions& options = step.options();
    for (size_t c = 0; c < step.command.size(); ++c) {
      CheckTemplate(t, absl::StrCat("command[", c, "]"), step.command[c]);
    }
    for (const auto& [name, value] : options.env) CheckTemplate(t, absl::StrCat("env.", name), value);
    if (!options.working_dir.empty()) CheckTemplate(t, "working_dir", options.working_dir);
  }

  void CheckTemplate(uint32_t t, const std::string& field, const std::string& text) {
    if (text.find("${") == std::string::npos) return;
    const auto pieces = ParseTemplate(text);
    if (!pieces.ok()) {
      Add(Field(t, field), "TEMPLATE_INVALID", pieces.status().message());
      return;
    }
    const StepSpec& step = spec_.steps[t];
    const auto known = [&](const TemplatePiece& piece) {
      const auto named = [&](const auto& x) { return x.name == piece.text; };
      switch (piece.scope) {
        case TemplateScope::kLiteral:
        case TemplateScope::kAttempt:
          return true;
        case TemplateScope::kParams:
          return parameters_.count(piece.text) > 0;
        case TemplateScope::kInputs:
          return std::any_of(step.inputs.begin(), step.inputs.end(), named);
        case TemplateScope::kOutputs:
          return std::any_of(step.outputs.begin(), step.outputs.end(), named);
        case TemplateScope::kItem:
          return std::any_of(step.foreach.begin(), step.foreach.end(),
                             [&](const ForeachKey& k) { return k.key == piece.text; });
        case TemplateScope::kValues:
          return IsValueInput(t, piece.text);
        case TemplateScope::kRun:
        case TemplateScope::kStep:
          return piece.text == "name";
      }
      return false;
    };
    for (const TemplatePiece& piece : *pieces) {
      if (!known(piece)) {
        Add(Field(t, field), "UNKNOWN_REFERENCE",
            absl::StrCat("`${", ScopeWord(piece.scope), ".", piece.text, "}` names nothing that this step has"));
      }
    }
  }

  bool IsValueInput(uint32_t t, const std::string& name) const {
    const std::vector<InputSpec>& inputs = spec_.steps[t].inputs;
    for (size_t i = 0; i < inputs.size() && i < templates_[t].inputs.size(); ++i) {
      if (inputs[i].name == name) return templates_[t].inputs[i].value;
    }
    return false;
  }

  static absl::string_view ScopeWord(TemplateScope scope) {
    switch (scope) {
      case TemplateScope::kParams:
        return "params";
      case TemplateScope::kInputs:
        return "inputs";
      case TemplateScope::kOutputs:
        return "outputs";
      case TemplateScope::kItem:
        return "item";
      case TemplateScope::kValues:
        return "values";
      case TemplateScope::kRun:
        return "run";
      case TemplateScope::kStep:
        return "step";
      case TemplateScope::kLiteral:
      case TemplateScope::kAttempt:
        break;
    }
    return "";
  }

  // `order`: producers before consumers.
  void WeighPaths(const std::vector<uint32_t>& order) {
    for (auto t = order.rbegin(); t != order.rend(); ++t) {
      for (const Edge& edge : templates_[*t].edges) {
        templates_[*t].below = std::max(templates_[*t].below, templates_[edge.consumer].below + 1);
      }
    }
  }

  // Takes away steps without open upstreams until none is left; what remains contains a cycle.
  void FindCycle() {
    std::vector<uint32_t> open(templates_.size(), 0);
    for (const StepTemplate& step : templates_) {
      for (const Edge& edge : step.edges) ++open[edge.consumer];
    }
    std::vector<uint32_t> ready;
    std::vector<uint32_t> order;
    order.reserve(templates_.size());
    for (uint32_t t = 0; t < open.size(); ++t) {
      if (open[t] == 0) ready.push_back(t);
    }
    while (!ready.empty()) {
      const uint32_t t = ready.back();
      ready.pop_back();
      order.push_back(t);
      for (const Edge& edge : templates_[t].edges) {
        if (--open[edge.consumer] == 0) ready.push_back(edge.consumer);
      }
    }
    if (order.size() == templates_.size()) return WeighPaths(order);
    // Walk backwards among what remains: every step there has an upstream that remains.
    std::vector<uint32_t> upstream(templates_.size(), UINT32_MAX);
    for (uint32_t t = 0; t < templates_.size(); ++t) {
      if (open[t] == 0) continue;
      for (const Edge& edge : templates_[t].edges) {
        if (open[edge.consumer] > 0) upstream[edge.consumer] = t;
      }
    }
    uint32_t at = 0;
    while (open[at] == 0) ++at;
    std::vector<bool> seen(templates_.size(), false);
    while (!seen[at]) {
      seen[at] = true;
      at = upstream[at];
    }
    std::vector<std::string> names{spec_.steps[at].name};
    for (uint32_t t = upstream[at]; t != at && names.size() < 20; t = upstream[t]) names.push_back(spec_.steps[t].name);
    names.push_back(spec_.steps[at].name);
    std::reverse(names.begin(), names.end());
    Add(absl::StrCat("steps[", at, "]"), "CYCLE",
        absl::StrCat("these steps wait for each other: ", absl::StrJoin(names, " -> ")));
  }

  PipelineSpec spec_;
  const CompileLimits limits_;
  std::map<std::string, uint32_t> by_name_;
  std::set<std::string> parameters_;
  std::vector<StepTemplate> templates_;
  std::vector<bool> uncounted_;  // by template: how many instances it has is not known
  int64_t item_links_ = 0;
  std::set<std::string> expressions_;
  Compiled result_;
};

}  // namespace

std::vector<Demand> DemandsOf(const StepOptions& options) {
  std::vector<Demand> demands;
  const Resources& r = options.resources;
  if (r.cpu_millis > 0) demands.push_back({"cpu", r.cpu_millis});
  if (r.memory > 0) demands.push_back({"memory", r.memory});
  if (r.gpu > 0) demands.push_back({"gpu", r.gpu});
  for (const auto& [name, count] : r.custom) {
    if (count > 0) demands.push_back({absl::StrCat("custom/", name), count});
  }
  for (const auto& [name, slots] : options.pools) demands.push_back({absl::StrCat("pool/", name), slots});
  std::sort(demands.begin(), demands.end());
  return demands;
}

std::optional<ArtifactReference> ParseArtifactReference(absl::string_view text) {
  ArtifactReference ref;
  const size_t at = text.rfind('@');
  ref.name = std::string(text.substr(0, at));
  if (ref.name.empty()) return std::nullopt;
  if (at == absl::string_view::npos) return ref;
  const absl::string_view number = text.substr(at + 1);
  if (number.empty() || number.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(number, &ref.version) || ref.version < 1) {
    return std::nullopt;
  }
  return ref;
}

std::optional<StepReference> ParseStepReference(absl::string_view text) {
  StepReference ref;
  const size_t dot = text.rfind('.');
  if (dot == absl::string_view::npos || dot == 0 || dot + 1 == text.size()) return std::nullopt;
  ref.output = std::string(text.substr(dot + 1));
  absl::string_view step = text.substr(0, dot);
  const size_t bracket = step.find('[');
  if (bracket != absl::string_view::npos) {
    absl::string_view inside = step.substr(bracket + 1);
    if (inside.empty() || inside.back() != ']') return std::nullopt;
    inside.remove_suffix(1);
    step = step.substr(0, bracket);
    if (inside == "*") {
      ref.selector = StepReference::Selector::kAll;
    } else if (inside == "item") {
      ref.selector = StepReference::Selector::kItem;
    } else if (inside.find_first_not_of("0123456789") == absl::string_view::npos &&
               absl::SimpleAtoi(inside, &ref.index)) {
      ref.selector = StepReference::Selector::kIndex;
    } else {
      return std::nullopt;
    }
  }
  if (step.empty()) return std::nullopt;
  ref.step = std::string(step);
  return ref;
}

std::string VariableName(absl::string_view prefix, absl::string_view name) {
  std::string out(prefix);
  for (const char c : name)
    out.push_back(
        absl::ascii_isalnum(static_cast<unsigned char>(c)) ? absl::ascii_toupper(static_cast<unsigned char>(c)) : '_');
  return out;
}

Compiled Compile(PipelineSpec spec, const CompileLimits& limits) { return Compiler(std::move(spec), limits).Run(); }

}  // namespace orch
