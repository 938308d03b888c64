#include "client/spec/step_reader.h"

#include "client/spec/fields.h"

namespace orch::spec {
namespace {

using v1::StepSpec;

// Everything but what is required.
bool ReadStepFields(Reader& reader, Ref ref, StepSpec* out) {
  const auto read = [&](int number, Ref value) {
    int word = 0;
    google::protobuf::Duration time;
    switch (number) {
      case StepSpec::kNameFieldNumber:
        if (reader.IsNull(value)) {
          reader.Add(value.node, "must not be empty", "REQUIRED");
        } else if (reader.ReadName(value, /*dots=*/false, out->mutable_name()) && out->name() == "params") {
          reader.Add(value.node, "`params` is no name for a step: `when` uses it for the parameters", "INVALID_NAME");
        }
        break;
      case StepSpec::kCommandFieldNumber:
        ReadCommand(reader, value, out->mutable_command());
        break;
      case StepSpec::kInputsFieldNumber:
        ReadInputs(reader, value, out);
        break;
      case StepSpec::kOutputsFieldNumber:
        ReadOutputs(reader, value, out);
        break;
      case StepSpec::kForeachFieldNumber:
        ReadForeach(reader, value, out);
        break;
      case StepSpec::kAfterFieldNumber:
        reader.ReadTexts(value, "a list of steps", out->mutable_after());
        break;
      case StepSpec::kWhenFieldNumber:
        reader.ReadText(value, out->mutable_when(), "a jq expression");
        break;
      case StepSpec::kTriggerRuleFieldNumber:
        if (reader.ReadWord(value, *StepSpec::TriggerRule_descriptor(), &word)) {
          out->set_trigger_rule(static_cast<StepSpec::TriggerRule>(word));
        }
        break;
      case StepSpec::kRetryFieldNumber:
        ReadRetry(reader, value, out->mutable_retry());
        break;
      case StepSpec::kTimeoutFieldNumber:
        ReadTimeout(reader, value, out->mutable_timeout());
        break;
      case StepSpec::kResourcesFieldNumber:
        ReadResources(reader, value, out->mutable_resources());
        break;
      case StepSpec::kCacheFieldNumber:
        ReadCache(reader, value, out->mutable_cache());
        break;
      case StepSpec::kParamsFieldNumber:
        reader.ReadTexts(value, "a list of parameters", out->mutable_params());
        break;
      case StepSpec::kImageFieldNumber:
        ReadImage(reader, value, out->mutable_image());
        break;
      case StepSpec::kWorkingDirFieldNumber:
        reader.ReadText(value, out->mutable_working_dir(), "a folder");
        break;
      case StepSpec::kEnvFieldNumber:
        ReadEnv(reader, value, out->mutable_env());
        break;
      case StepSpec::kSecretsFieldNumber:
        ReadSecrets(reader, value, out);
        break;
      case StepSpec::kPriorityFieldNumber:
        if (reader.ReadInt32(value, -1000, 1000, &word)) out->set_priority(word);
        break;
      case StepSpec::kPoolsFieldNumber:
        ReadPools(reader, value, out);
        break;
      case StepSpec::kOrchestratorFieldNumber:
        reader.ReadText(value, out->mutable_orchestrator(), "an orchestrator's name");
        break;
      case StepSpec::kSettingsFieldNumber:
        reader.ReadMap(value, "a mapping of flavors to settings", [&](const Entry& entry) {
          reader.ReadStruct(entry.value, &(*out->mutable_settings())[std::string(entry.key)]);
        });
        break;
      case StepSpec::kLabelsFieldNumber:
        ReadLabels(reader, value, out->mutable_labels());
        break;
      case StepSpec::kHooksFieldNumber:
        ReadHooks(reader, value, out->mutable_hooks());
        break;
      case StepSpec::kSourceFieldNumber:
        ReadSource(reader, value, out->mutable_source());
        break;
      case StepSpec::kHeartbeatFieldNumber:
        if (reader.ReadDurationField(value, /*zero_allowed=*/false, &time)) *out->mutable_heartbeat() = time;
        break;
    }
  };
  return reader.ReadFields(ref, *StepSpec::descriptor(), "a mapping with `name` and `command`", read,
                           {StepSpec::kNameFieldNumber, StepSpec::kCommandFieldNumber, StepSpec::kForeachFieldNumber});
}

bool Has(const Reader& reader, Ref ref, absl::string_view key) {
  const Tree& tree = reader.tree();
  return tree.Lookup(ref.node, key) != kNoNode || (ref.base != kNoNode && tree.Lookup(ref.base, key) != kNoNode);
}

}  // namespace

void ReadStep(Reader& reader, Ref ref, StepSpec* out) {
  if (!ReadStepFields(reader, ref, out)) return;
  if (out->name().empty() && reader.tree().Lookup(ref.node, "name") == kNoNode) {
    reader.AddBelow("name", ref.node, "is missing", "REQUIRED");
  }
  if (out->command().empty() && !Has(reader, ref, "command")) {
    reader.AddBelow("command", ref.node, "is missing; give a list of words, such as [python3, train.py]", "REQUIRED");
  }
}

void ReadDefaults(Reader& reader, Ref ref) {
  if (!reader.IsMapping(ref)) {
    reader.Add(ref.node, "must be a mapping of a step's fields", "WRONG_TYPE");
    return;
  }
  StepSpec ignored;
  const NodeId name = reader.tree().Lookup(ref.node, "name");
  if (name != kNoNode) reader.AddBelow("name", name, "a step's name has no default", "UNKNOWN_FIELD");
  ReadStepFields(reader, ref, &ignored);
}

}  // namespace orch::spec
