// A pipeline as the daemon works with it: orch.v1.Pipeline without protobuf. server/rpc/convert.h fills it; all text is
// as the author wrote it, references are resolved by core/compile.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/model/resources.h"

namespace orch {

enum class ExecutionMode : uint8_t { kContinueOnFailure = 1, kFailFast = 2, kStopOnFailure = 3 };

enum class TriggerRule : uint8_t {
  kAllSuccess = 1,
  kAllDone = 2,
  kOneSuccess = 3,
  kOneFailed = 4,
  kAllFailed = 5,
  kNoneFailed = 6,
};

// Lower-case as people write it: `all_success`.
absl::string_view Name(TriggerRule rule);

enum class ParameterType : uint8_t { kUnset = 0, kString = 1, kInt = 2, kFloat = 3, kBool = 4, kJson = 5 };

struct ParameterSpec {
  std::string name;
  ParameterType type = ParameterType::kUnset;
  std::optional<std::string> default_json;
};

struct InputSpec {
  enum class Source : uint8_t { kFrom, kArtifact, kUri };
  std::string name;
  Source source = Source::kFrom;
  std::string ref;  // `step.output`, `name@version`, or a URI
  bool early = false;
};

struct OutputSpec {
  std::string name;
  std::string type;  // empty: file; `dir`: a folder
  bool value = false;
  std::string as;
};

struct ForeachKey {
  std::string key;
  std::vector<std::string> values_json;  // compact JSON, in order
  std::string from;                      // set: the values come from an output at run time
};

// Which endings are repeated.
struct RetryPolicy {
  int max_attempts = 1;
  int platform_attempts = 3;
  int64_t initial_micros = 1'000'000;
  int64_t max_micros = 60'000'000;
  double multiplier = 2;
  double jitter = 0;
  bool on_failed = true;
  bool on_timeout = true;
  bool on_lost = true;
  bool on_oom = false;
  std::vector<int> exit_codes;  // with on_failed: only these; empty: all
  bool operator==(const RetryPolicy&) const = default;
};

// A variable of a step that is set from a secret.
struct SecretUse {
  std::string variable;
  std::string name;   // the secret's
  bool file = false;  // the variable holds the path of a file with the value
  bool operator==(const SecretUse&) const = default;
};

// What is done when a step or run has ended.
struct HookSpec {
  std::vector<std::string> command;
  std::string webhook;
  bool empty() const { return command.empty() && webhook.empty(); }
  bool operator==(const HookSpec&) const = default;
};
struct Hooks {
  HookSpec on_success;
  HookSpec on_failure;
  bool empty() const { return on_success.empty() && on_failure.empty(); }
  bool operator==(const Hooks&) const = default;
};

// What most steps leave at its default.
struct StepOptions {
  std::string when;
  TriggerRule trigger_rule = TriggerRule::kAllSuccess;
  RetryPolicy retry;
  int64_t queue_timeout_micros = 0;  // 0: none
  int64_t run_timeout_micros = 0;
  int64_t heartbeat_micros = 0;
  Resources resources;
  bool cache_enabled = false;
  std::string cache_key;
  int64_t cache_ttl_micros = 0;
  std::vector<std::string> params;
  std::string image;
  bool image_build = false;
  std::string working_dir;
  std::vector<std::pair<std::string, std::string>> env;
  std::vector<SecretUse> secrets;  // sorted by variable
  int priority = 0;
  std::vector<std::pair<std::string, int64_t>> pools;
  std::string orchestrator;
  std::vector<std::pair<std::string, std::string>> settings;  // flavor → compact JSON
  std::vector<std::pair<std::string, std::string>> labels;
  Hooks hooks;
  std::string source_path;
  std::vector<std::string> source_ignore;
  bool operator==(const StepOptions&) const = default;
};

// A value that is mostly not there, and then takes a pointer's room; those that are equal can be one. A copy, and what
// shares it, stays as it is when another is changed. Only one thread at a time may change those that share.
template <typename T>
class Boxed {
 public:
  const T* get() const { return value_.get(); }
  T& make() {
    if (value_ == nullptr) {
      value_ = std::make_shared<T>();
    } else if (value_.use_count() > 1) {
      value_ = std::make_shared<T>(*value_);
    }
    return *value_;
  }

 private:
  std::shared_ptr<T> value_;
};

struct StepSpec {
  std::string name;
  std::vector<std::string> command;
  std::vector<InputSpec> inputs;    // sorted by name
  std::vector<OutputSpec> outputs;  // sorted by name
  std::vector<std::string> after;
  std::vector<ForeachKey> foreach;
  Boxed<StepOptions> set_options;  // none: all defaults; keeps a plain step small

  const StepOptions& options() const;
  StepOptions& mutable_options();
};

struct PipelineSpec {
  std::string name;
  std::vector<ParameterSpec> parameters;  // sorted by name
  ExecutionMode execution_mode = ExecutionMode::kContinueOnFailure;
  std::vector<StepSpec> steps;
  int64_t timeout_micros = 0;
  int max_parallel = 0;
  std::vector<std::pair<std::string, std::string>> labels;
  Hooks hooks;
};

}  // namespace orch
