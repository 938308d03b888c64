#include "server/rpc/convert_pipeline.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

constexpr int64_t kMaxMapEntries = 1000;
constexpr int64_t kMaxSecrets = 64;  // of a step: their values go to its platform in one message
constexpr size_t kMaxDescription = 10'000;
constexpr size_t kMaxArgumentBytes = 128 << 10;  // what the kernel takes as one argument
constexpr size_t kMaxTextBytes = 4096;
constexpr int64_t kTwoTo53 = int64_t{1} << 53;
constexpr int64_t kMillisecond = 1000;

// The entries of a map in the order of their keys.
template <typename V>
std::vector<std::pair<std::string, const V*>> Sorted(const google::protobuf::Map<std::string, V>& map) {
  std::vector<std::pair<std::string, const V*>> out;
  out.reserve(map.size());
  for (const auto& [key, value] : map) out.emplace_back(key, &value);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return out;
}

std::vector<std::pair<std::string, std::string>> Pairs(const google::protobuf::Map<std::string, std::string>& map) {
  std::vector<std::pair<std::string, std::string>> out(map.begin(), map.end());
  std::sort(out.begin(), out.end());
  return out;
}

bool Fits(v1::Parameter::Type type, const google::protobuf::Value& value) {
  switch (type) {
    case v1::Parameter::STRING:
      return value.has_string_value();
    case v1::Parameter::INT:
      return value.has_number_value() && value.number_value() == std::floor(value.number_value()) &&
             std::fabs(value.number_value()) <= static_cast<double>(kTwoTo53);
    case v1::Parameter::FLOAT:
      return value.has_number_value() && std::isfinite(value.number_value());
    case v1::Parameter::BOOL:
      return value.has_bool_value();
    default:
      return true;
  }
}

class Converter {
 public:
  Converter(const Limits& limits, Checks* checks) : limits_(limits), checks_(*checks) {}

  PipelineSpec Convert(const v1::Pipeline& in) {
    PipelineSpec out;
    checks_.Name("name", in.name(), /*dots=*/true);
    out.name = in.name();
    checks_.Text("description", in.description(), kMaxDescription);
    checks_.Count("parameters", static_cast<int64_t>(in.parameters().size()), kMaxMapEntries);
    for (const auto& [name, parameter] : Sorted(in.parameters())) out.parameters.push_back(Parameter(name, *parameter));
    if (Enum("execution_mode", in.execution_mode(), v1::Pipeline::ExecutionMode_IsValid(in.execution_mode())) &&
        in.execution_mode() != 0) {
      out.execution_mode = static_cast<ExecutionMode>(in.execution_mode());
    }
    if (in.has_timeout()) out.timeout_micros = checks_.Duration("timeout", in.timeout(), kMillisecond);
    checks_.Labels("labels", in.labels(), limits_.labels);
    out.labels = Pairs(in.labels());
    prefix_.clear();
    out.hooks = ToHooks(in.hooks());
    checks_.Range("max_parallel", int64_t{in.max_parallel()}, 0, 1'000'000);
    out.max_parallel = in.max_parallel();
    if (in.steps().empty()) checks_.Add("steps", "REQUIRED", "a pipeline needs at least one step");
    if (in.steps_size() > limits_.steps_per_run) {
      checks_.Count("steps", in.steps_size(), limits_.steps_per_run);
      return out;
    }
    out.steps.reserve(static_cast<size_t>(in.steps_size()));
    for (int i = 0; i < in.steps_size(); ++i) {
      prefix_ = absl::StrCat("steps[", i, "].");
      out.steps.push_back(Step(in.steps(i)));
    }
    return out;
  }

 private:
  std::string At(absl::string_view rest) const { return absl::StrCat(prefix_, rest); }
  template <typename... Args>
  std::string At(const Args&... parts) const {
    return absl::StrCat(prefix_, parts...);
  }

  bool Enum(const std::string& field, int value, bool valid) {
    if (!valid) checks_.Add(field, "WRONG_TYPE", absl::StrCat(value, " is none of the words of this field"));
    return valid;
  }

  Hooks ToHooks(const v1::Hooks& in) {
    Hooks out;
    if (in.has_on_success()) out.on_success = ToHook(in.on_success(), "hooks.on_success");
    if (in.has_on_failure()) out.on_failure = ToHook(in.on_failure(), "hooks.on_failure");
    return out;
  }

  HookSpec ToHook(const v1::Hook& in, absl::string_view field) {
    HookSpec out;
    if (in.has_webhook()) {
      checks_.Text(At(field, ".webhook"), in.webhook(), kMaxTextBytes);
      out.webhook = in.webhook();
      if (out.webhook.empty()) checks_.Add(At(field, ".webhook"), "REQUIRED", "a web hook needs its URL");
      return out;
    }
    const auto& words = in.command().command();
    if (words.empty() || words.Get(0).empty()) {
      checks_.Add(At(field), "REQUIRED", "a hook needs a command of at least one word");
    }
    checks_.Count(At(field, ".command.command"), words.size(), kMaxMapEntries);
    for (int i = 0; i < words.size() && i < kMaxMapEntries; ++i) {
      checks_.Text(At(field, ".command.command[", i, "]"), words.Get(i), kMaxArgumentBytes);
      out.command.push_back(words.Get(i));
    }
    return out;
  }

  ParameterSpec Parameter(const std::string& name, const v1::Parameter& in) {
    const std::string field = absl::StrCat("parameters.", name.substr(0, 200));
    checks_.Name(field, name, /*dots=*/false);
    checks_.Text(absl::StrCat(field, ".description"), in.description(), kMaxDescription);
    ParameterSpec out;
    out.name = name;
    if (!Enum(absl::StrCat(field, ".type"), in.type(), v1::Parameter::Type_IsValid(in.type()))) return out;
    out.type = static_cast<ParameterType>(in.type());
    if (in.has_default_()) {
      checks_.Json(absl::StrCat(field, ".default"), in.default_());
      if (!Fits(in.type(), in.default_())) {
        checks_.Add(absl::StrCat(field, ".default"), "WRONG_TYPE",
                    absl::StrCat(Quoted(ToJson(in.default_())), " is no ", v1::Parameter::Type_Name(in.type())));
      }
      out.default_json = ToJson(in.default_());
      checks_.Text(absl::StrCat(field, ".default"), *out.default_json, static_cast<size_t>(limits_.value_bytes));
      if (out.type == ParameterType::kUnset) out.type = TypeOf(in.default_());
    } else if (out.type == ParameterType::kUnset) {
      out.type = ParameterType::kString;
    }
    return out;
  }

  static ParameterType TypeOf(const google::protobuf::Value& value) {
    if (value.has_string_value()) return ParameterType::kString;
    if (value.has_bool_value()) return ParameterType::kBool;
    if (value.has_number_value()) return Fits(v1::Parameter::INT, value) ? ParameterType::kInt : ParameterType::kFloat;
    return ParameterType::kJson;
  }

  StepSpec Step(const v1::StepSpec& in) {
    StepSpec out;
    checks_.Name(At("name"), in.name(), /*dots=*/false);
    if (in.name() == "params") checks_.Add(At("name"), "NAME_INVALID", "`params` is reserved; choose another name");
    out.name = in.name();
    Command(in, &out);
    Inputs(in, &out);
    Outputs(in, &out);
    Foreach(in, &out);
    out.after.assign(in.after().begin(), in.after().end());
    if (HasOptions(in)) SetOptions(Options(in), &out);
    return out;
  }

  // Many steps of a pipeline say the same, mostly those that follow each other; then they share it.
  void SetOptions(StepOptions options, StepSpec* out) {
    if (last_options_.get() == nullptr || *last_options_.get() != options) {
      last_options_ = {};
      last_options_.make() = std::move(options);
    }
    out->set_options = last_options_;
  }

  void Command(const v1::StepSpec& in, StepSpec* out) {
    if (in.command().empty() || in.command(0).empty()) {
      checks_.Add(At("command"), "REQUIRED", "a step needs a command of at least one word");
    }
    for (int i = 0; i < in.command_size(); ++i) {
      if (in.command(i).size() > kMaxArgumentBytes || in.command(i).find('\0') != std::string::npos) {
        checks_.Text(At("command[", i, "]"), in.command(i), kMaxArgumentBytes);
      }
    }
    out->command.assign(in.command().begin(), in.command().end());
  }

  void Inputs(const v1::StepSpec& in, StepSpec* out) {
    if (in.inputs().empty()) return;
    checks_.Count(At("inputs"), static_cast<int64_t>(in.inputs().size()), kMaxMapEntries);
    for (const auto& [name, input] : Sorted(in.inputs())) {
      const std::string field = At("inputs.", name.substr(0, 200));
      checks_.Name(field, name, /*dots=*/false);
      InputSpec spec;
      spec.name = name;
      spec.early = input->early();
      switch (input->source_case()) {
        case v1::Input::kFrom:
          spec.ref = input->from();
          break;
        case v1::Input::kArtifact:
          spec.source = InputSpec::Source::kArtifact;
          spec.ref = input->artifact();
          break;
        case v1::Input::kUri:
          spec.source = InputSpec::Source::kUri;
          spec.ref = input->uri();
          break;
        case v1::Input::SOURCE_NOT_SET:
          checks_.Add(field, "REQUIRED", "an input needs one of `from`, `artifact` and `uri`");
          continue;
      }
      if (spec.ref.empty()) checks_.Add(field, "REQUIRED", "an input's source is empty");
      checks_.Text(field, spec.ref, kMaxTextBytes);
      if (spec.early && spec.source != InputSpec::Source::kFrom) {
        checks_.Add(absl::StrCat(field, ".early"), "WRONG_TYPE", "early goes only with `from`");
      }
      out->inputs.push_back(std::move(spec));
    }
  }

  void Outputs(const v1::StepSpec& in, StepSpec* out) {
    if (in.outputs().empty()) return;
    checks_.Count(At("outputs"), static_cast<int64_t>(in.outputs().size()), kMaxMapEntries);
    for (const auto& [name, output] : Sorted(in.outputs())) {
      const std::string field = At("outputs.", name.substr(0, 200));
      checks_.Name(field, name, /*dots=*/false);
      checks_.Text(absl::StrCat(field, ".type"), output->type(), 200);
      if (!output->as().empty()) checks_.Name(absl::StrCat(field, ".as"), output->as(), /*dots=*/true);
      if (output->value() && output->type() == "dir") {
        checks_.Add(absl::StrCat(field, ".type"), "WRONG_TYPE", "a value is no folder; leave out one of the two");
      }
      out->outputs.push_back({name, output->type(), output->value(), output->as()});
    }
  }

  void Foreach(const v1::StepSpec& in, StepSpec* out) {
    int64_t total = 0;
    for (int i = 0; i < in.foreach_size(); ++i) {
      const v1::ForeachKey& key = in.foreach (i);
      const std::string field = At("foreach[", i, "]");
      checks_.Name(absl::StrCat(field, ".key"), key.key(), /*dots=*/false);
      ForeachKey spec;
      spec.key = key.key();
      if (key.has_values()) {
        total += key.values().values_size();
        if (total > limits_.fanout_width) {
          checks_.Count(absl::StrCat(field, ".values"), total, limits_.fanout_width);
          return;
        }
        for (int v = 0; v < key.values().values_size(); ++v) {
          checks_.Json(absl::StrCat(field, ".values[", v, "]"), key.values().values(v));
          spec.values_json.push_back(ToJson(key.values().values(v)));
        }
      } else if (key.from().empty()) {
        checks_.Add(field, "REQUIRED", "a foreach key needs `values` or `from`");
      } else {
        spec.from = key.from();
      }
      out->foreach.push_back(std::move(spec));
    }
  }

  static bool HasOptions(const v1::StepSpec& in) {
    return !in.when().empty() || in.trigger_rule() != 0 || in.has_retry() || in.has_timeout() || in.has_resources() ||
           in.has_cache() || !in.params().empty() || in.has_image() || !in.working_dir().empty() || !in.env().empty() ||
           !in.secrets().empty() || in.priority() != 0 || !in.pools().empty() || !in.orchestrator().empty() ||
           !in.settings().empty() || !in.labels().empty() || in.has_hooks() || in.has_source() || in.has_heartbeat();
  }

  StepOptions Options(const v1::StepSpec& in) {
    StepOptions out;
    checks_.Text(At("when"), in.when(), 64 << 10);
    out.when = in.when();
    if (Enum(At("trigger_rule"), in.trigger_rule(), v1::StepSpec::TriggerRule_IsValid(in.trigger_rule())) &&
        in.trigger_rule() != 0) {
      out.trigger_rule = static_cast<TriggerRule>(in.trigger_rule());
    }
    if (in.has_retry()) out.retry = Retry(in.retry());
    if (in.timeout().has_queue()) {
      out.queue_timeout_micros = checks_.Duration(At("timeout.queue"), in.timeout().queue(), kMillisecond);
    }
    if (in.timeout().has_run()) {
      out.run_timeout_micros = checks_.Duration(At("timeout.run"), in.timeout().run(), kMillisecond);
    }
    if (in.has_heartbeat()) {
      out.heartbeat_micros = checks_.Duration(At("heartbeat"), in.heartbeat(), 1000 * kMillisecond);
    }
    if (in.has_resources()) out.resources = Needs(in.resources());
    out.cache_enabled = in.cache().enabled();
    checks_.Text(At("cache.key"), in.cache().key(), kMaxTextBytes);
    out.cache_key = in.cache().key();
    if (in.cache().has_ttl()) out.cache_ttl_micros = checks_.Duration(At("cache.ttl"), in.cache().ttl(), kMillisecond);
    out.params.assign(in.params().begin(), in.params().end());
    out.image = in.image().reference();
    out.image_build = in.image().has_build();
    checks_.Text(At("image.reference"), out.image, kMaxTextBytes);
    checks_.Text(At("working_dir"), in.working_dir(), kMaxTextBytes);
    out.working_dir = in.working_dir();
    Environment(in, &out);
    checks_.Range(At("priority"), int64_t{in.priority()}, -1000, 1000);
    out.priority = in.priority();
    Placement(in, &out);
    out.hooks = ToHooks(in.hooks());
    checks_.Text(At("source.path"), in.source().path(), kMaxTextBytes);
    if (!in.source().path().empty() && in.source().path()[0] != '/') {
      checks_.Add(At("source.path"), "WRONG_TYPE", absl::StrCat(Quoted(in.source().path()), " is no absolute path"));
    }
    out.source_path = in.source().path();
    out.source_ignore.assign(in.source().ignore().begin(), in.source().ignore().end());
    return out;
  }

  void Environment(const v1::StepSpec& in, StepOptions* out) {
    checks_.Count(At("env"), static_cast<int64_t>(in.env().size()), kMaxMapEntries);
    for (const auto& [name, value] : Sorted(in.env())) {
      const std::string field = At("env.", name.substr(0, 200));
      Variable(field, name);
      checks_.Text(field, *value, kMaxArgumentBytes);
      out->env.emplace_back(name, *value);
    }
    checks_.Count(At("secrets"), static_cast<int64_t>(in.secrets().size()), kMaxSecrets);
    for (const auto& [name, secret] : Sorted(in.secrets())) {
      const std::string field = At("secrets.", name.substr(0, 200));
      Variable(field, name);
      checks_.Name(absl::StrCat(field, ".name"), secret->name(), /*dots=*/true);
      if (in.env().contains(name)) checks_.Add(field, "DUPLICATE_NAME", "`env` sets this variable too");
      out->secrets.push_back({name, secret->name(), secret->file()});
    }
  }

  void Variable(const std::string& field, const std::string& name) {
    if (name.empty() || name.size() > 200 || name.find('=') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      checks_.Add(field, "NAME_INVALID", absl::StrCat(Quoted(name), " is no name of a variable"));
    } else if (absl::StartsWith(name, "ORCH_")) {
      checks_.Add(field, "NAME_INVALID", "names that begin with ORCH_ are orchd's own");
    }
  }

  void Placement(const v1::StepSpec& in, StepOptions* out) {
    checks_.Count(At("pools"), static_cast<int64_t>(in.pools().size()), kMaxMapEntries);
    for (const auto& [name, slots] : Sorted(in.pools())) {
      const std::string field = At("pools.", name.substr(0, 200));
      checks_.Name(field, name, /*dots=*/true);
      checks_.Range(field, int64_t{*slots}, 1, 1'000'000);
      out->pools.emplace_back(name, *slots);
    }
    if (!in.orchestrator().empty()) checks_.Name(At("orchestrator"), in.orchestrator(), /*dots=*/true);
    out->orchestrator = in.orchestrator();
    for (const auto& [flavor, settings] : Sorted(in.settings())) {
      checks_.Json(At("settings.", flavor.substr(0, 200)), *settings);
      out->settings.emplace_back(flavor, ToJson(*settings));
    }
    checks_.Labels(At("labels"), in.labels(), limits_.labels);
    out->labels = Pairs(in.labels());
  }

  RetryPolicy Retry(const v1::Retry& in) {
    RetryPolicy out;
    checks_.Range(At("retry.max_attempts"), int64_t{in.max_attempts()}, 0, 1000);
    checks_.Range(At("retry.platform_attempts"), int64_t{in.platform_attempts()}, 0, 1000);
    if (in.max_attempts() > 0) out.max_attempts = in.max_attempts();
    if (in.platform_attempts() > 0) out.platform_attempts = in.platform_attempts();
    const v1::Retry::Backoff& backoff = in.backoff();
    if (backoff.has_initial()) {
      out.initial_micros = checks_.Duration(At("retry.backoff.initial"), backoff.initial(), 0);
    }
    if (backoff.has_max()) out.max_micros = checks_.Duration(At("retry.backoff.max"), backoff.max(), 0);
    if (backoff.multiplier() != 0) {
      checks_.Range(At("retry.backoff.multiplier"), backoff.multiplier(), 1.0, 100.0);
      out.multiplier = backoff.multiplier();
    }
    checks_.Range(At("retry.backoff.jitter"), backoff.jitter(), 0.0, 1.0);
    out.jitter = backoff.jitter();
    if (!in.on().empty()) {
      out.on_failed = out.on_timeout = out.on_lost = false;
      for (int i = 0; i < in.on_size(); ++i) {
        switch (in.on(i)) {
          case v1::Retry::FAILED:
            out.on_failed = true;
            break;
          case v1::Retry::TIMEOUT:
            out.on_timeout = true;
            break;
          case v1::Retry::LOST:
            out.on_lost = true;
            break;
          case v1::Retry::OOM:
            out.on_oom = true;
            break;
          default:
            Enum(At("retry.on[", i, "]"), in.on(i), false);
        }
      }
    }
    checks_.Count(At("retry.exit_codes"), in.exit_codes_size(), 256);
    for (int i = 0; i < in.exit_codes_size() && i < 256; ++i) {
      checks_.Range(At("retry.exit_codes[", i, "]"), int64_t{in.exit_codes(i)}, 1, 255);
    }
    out.exit_codes.assign(in.exit_codes().begin(), in.exit_codes().end());
    return out;
  }

  Resources Needs(const v1::Resources& in) {
    Resources out;
    if (in.has_cpu()) {
      checks_.Range(At("resources.cpu"), in.cpu(), 0.0, 1e6);
      if (in.cpu() >= 0 && in.cpu() <= 1e6) out.cpu_millis = static_cast<int64_t>(std::ceil(in.cpu() * 1000 - 1e-6));
    }
    checks_.Range(At("resources.memory"), in.memory(), 0, kTwoTo53);
    out.memory = in.memory();
    checks_.Range(At("resources.disk"), in.disk(), 0, kTwoTo53);
    out.disk = in.disk();
    checks_.Range(At("resources.gpu.count"), int64_t{in.gpu().count()}, 0, 1024);
    checks_.Text(At("resources.gpu.kind"), in.gpu().kind(), 200);
    out.gpu = in.gpu().count();
    out.gpu_kind = in.gpu().kind();
    checks_.Count(At("resources.custom"), static_cast<int64_t>(in.custom().size()), 32);
    for (const auto& [name, count] : Sorted(in.custom())) {
      const std::string field = At("resources.custom.", name.substr(0, 200));
      checks_.Name(field, name, /*dots=*/true);
      checks_.Range(field, *count, 0, 1'000'000);
      out.custom.emplace(name, *count);
    }
    return out;
  }

  const Limits& limits_;
  Checks& checks_;
  std::string prefix_;
  Boxed<StepOptions> last_options_;
};

}  // namespace

PipelineSpec ToSpec(const v1::Pipeline& pipeline, const Limits& limits, Checks* checks) {
  return Converter(limits, checks).Convert(pipeline);
}

absl::StatusOr<PipelineSpec> ToSpec(const v1::Pipeline& pipeline, const Limits& limits) {
  Checks checks;
  PipelineSpec spec = ToSpec(pipeline, limits, &checks);
  if (!checks.ok()) return checks.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used");
  return spec;
}

absl::StatusOr<PipelineSpec> ParseSpec(const std::string& bytes) {
  v1::Pipeline pipeline;
  if (!pipeline.ParseFromString(bytes)) {
    return Error(absl::StatusCode::kDataLoss, "SPEC_CORRUPT", "a stored pipeline cannot be read");
  }
  // What was stored had been checked; limits may have become smaller since.
  Limits none;
  none.steps_per_run = none.fanout_width = none.value_bytes = none.labels = INT64_MAX;
  return ToSpec(pipeline, none);
}

void AddViolations(const std::vector<Violation>& from, google::protobuf::RepeatedPtrField<v1::Violation>* to) {
  for (const Violation& v : from) {
    v1::Violation* out = to->Add();
    out->set_field(v.field);
    out->set_description(v.description);
    out->set_reason(v.reason);
  }
}

std::string SerializeDeterministic(const google::protobuf::MessageLite& message) {
  std::string out;
  out.reserve(message.ByteSizeLong());
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return out;
}

}  // namespace orch::rpc
