// What only steps have: edges, fan-out, retries, time-outs, resources, cache, image, pools.
#include <cmath>
#include <limits>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/spec/fields.h"
#include "client/spec/words.h"

namespace orch::spec {
namespace {

using v1::Cache;
using v1::ForeachKey;
using v1::Image;
using v1::Input;
using v1::Output;
using v1::Resources;
using v1::Retry;
using v1::Timeout;

constexpr size_t kMaxEntries = 1000;

// A mapping of inputs or outputs: names that differ also as ORCH_…_<NAME>.
template <typename Fn>
void ReadNamed(Reader& reader, Ref ref, absl::string_view what, absl::string_view wanted, Fn read) {
  std::map<std::string, absl::string_view> variables;
  size_t count = 0;
  reader.ReadMap(ref, wanted, [&](const Entry& entry) {
    if (!IsName(entry.key, /*dots=*/false)) {
      reader.Add(entry.key_node, absl::StrCat(Quote(entry.key), " is no name: ", NameRule(false)), "INVALID_NAME");
    }
    if (++count == kMaxEntries + 1) reader.Add(entry.key_node, absl::StrCat("more than 1000 ", what), "TOO_LARGE");
    const auto [other, is_new] = variables.emplace(VariableName(entry.key), entry.key);
    if (!is_new) {
      reader.Add(entry.key_node,
                 absl::StrCat("has the same variable name (`", other->first, "`) as ", Quote(other->second)),
                 "DUPLICATE_NAME");
    }
    read(entry);
  });
}

// Text that must not be empty.
bool ReadFilled(Reader& reader, Ref ref, std::string* out, absl::string_view wanted) {
  std::string text;
  if (!reader.ReadText(ref, &text, wanted)) return false;
  if (text.empty()) {
    reader.Add(ref.node, "must not be empty", "REQUIRED");
    return false;
  }
  *out = std::move(text);
  return true;
}

constexpr absl::string_view kInputWanted = "step.output, or a mapping with `from`, `artifact` or `uri`";

void ReadInput(Reader& reader, Ref ref, Input* out) {
  std::string text;
  if (!reader.IsMapping(ref)) {
    if (ReadFilled(reader, ref, &text, kInputWanted)) out->set_from(text);
    return;
  }
  int sources = 0;
  NodeId early = kNoNode;
  reader.ReadFields(ref, *Input::descriptor(), kInputWanted, [&](int number, Ref value) {
    if (number == Input::kEarlyFieldNumber) {
      bool truth = false;
      if (!reader.ReadBoolField(value, &truth)) return;
      out->set_early(truth);
      if (truth) early = value.node;
      return;
    }
    ++sources;
    if (!ReadFilled(reader, value, &text, "text")) return;
    if (number == Input::kFromFieldNumber) out->set_from(text);
    if (number == Input::kArtifactFieldNumber) out->set_artifact(text);
    if (number == Input::kUriFieldNumber) {
      if (!absl::StrContains(text, ':')) {
        reader.Add(value.node, absl::StrCat("must be a URI such as file:///data/x.csv, is ", Quote(text)),
                   "WRONG_TYPE");
      }
      out->set_uri(text);
    }
  });
  if (sources == 0) reader.Add(ref.node, "needs one of `from`, `artifact`, `uri`", "REQUIRED");
  if (sources > 1) reader.Add(ref.node, "has more than one of `from`, `artifact`, `uri`", "CONFLICT");
  if (early != kNoNode && sources == 1 && (out->has_artifact() || out->has_uri())) {
    reader.AddBelow("early", early, "goes only with `from`", "CONFLICT");
  }
}

constexpr absl::string_view kForeachWanted = "a mapping such as {model: [a, b]}";

// A key's values: a list, or `{from: step.output}`.
void ReadForeachKey(Reader& reader, Ref ref, bool with_key, ForeachKey* out) {
  int sources = 0;
  bool named = false;
  reader.ReadFields(ref, *ForeachKey::descriptor(), "a list, or {from: step.output}", [&](int number, Ref value) {
    std::string text;
    if (number == ForeachKey::kKeyFieldNumber) {
      named = true;
      if (!with_key) {
        reader.Add(value.node, "unknown key; known are from, values", "UNKNOWN_FIELD");
      } else {
        reader.ReadName(value, /*dots=*/false, out->mutable_key());
      }
      return;
    }
    ++sources;
    if (number == ForeachKey::kFromFieldNumber) {
      if (ReadFilled(reader, value, &text, "step.output")) out->set_from(text);
    } else {
      reader.ReadListValue(value.node, out->mutable_values());
    }
  });
  if (!reader.IsMapping(ref)) return;
  if (with_key && !named) reader.AddBelow("key", ref.node, "is missing; name the key", "REQUIRED");
  if (sources == 0) reader.Add(ref.node, "needs a list, or {from: step.output}", "REQUIRED");
  if (sources > 1) reader.Add(ref.node, "has both `from` and `values`", "CONFLICT");
}

void ReadBackoff(Reader& reader, Ref ref, Retry::Backoff* out) {
  reader.ReadFields(ref, *Retry::Backoff::descriptor(), "a mapping such as {initial: 1s, multiplier: 2, max: 60s}",
                    [&](int number, Ref value) {
                      double share = 0;
                      google::protobuf::Duration wait;
                      switch (number) {
                        case Retry::Backoff::kInitialFieldNumber:
                          if (reader.ReadDurationField(value, true, &wait)) *out->mutable_initial() = wait;
                          break;
                        case Retry::Backoff::kMultiplierFieldNumber:
                          if (reader.ReadNumber(value, 1, 100, &share)) out->set_multiplier(share);
                          break;
                        case Retry::Backoff::kMaxFieldNumber:
                          if (reader.ReadDurationField(value, true, &wait)) *out->mutable_max() = wait;
                          break;
                        case Retry::Backoff::kJitterFieldNumber:
                          if (reader.ReadNumber(value, 0, 1, &share)) out->set_jitter(share);
                          break;
                      }
                    });
}

void ReadBuild(Reader& reader, Ref ref, Image::Build* out) {
  using Build = Image::Build;
  reader.ReadFields(ref, *Build::descriptor(), "a mapping such as {base: debian:12, requirements: [numpy]}",
                    [&](int number, Ref value) {
                      switch (number) {
                        case Build::kBaseFieldNumber:
                          reader.ReadText(value, out->mutable_base());
                          break;
                        case Build::kAptPackagesFieldNumber:
                          reader.ReadTexts(value, "a list of packages", out->mutable_apt_packages());
                          break;
                        case Build::kRequirementsFieldNumber:
                          reader.ReadTexts(value, "a list of requirements", out->mutable_requirements());
                          break;
                        case Build::kRequirementsFileFieldNumber:
                          reader.ReadText(value, out->mutable_requirements_file());
                          break;
                        case Build::kEnvFieldNumber:
                          ReadEnv(reader, value, out->mutable_env());
                          break;
                        case Build::kPlatformFieldNumber:
                          reader.ReadText(value, out->mutable_platform());
                          break;
                        case Build::kRegistryFieldNumber:
                          reader.ReadText(value, out->mutable_registry());
                          break;
                      }
                    });
}

// A whole number that JSON of the message writes in quotes.
bool ReadQuotedInt(Reader& reader, Ref ref, int64_t low, int64_t high, int64_t* out) {
  if (reader.KindOf(ref) == Kind::kScalar) {
    const absl::string_view text = reader.tree().Text(ref.node);
    const auto value = TypeOf(text) == Type::kInt ? ReadInt(text) : std::nullopt;
    if (value && *value >= low && *value <= high) {
      *out = *value;
      return true;
    }
  }
  return reader.ReadIntField(ref, low, high, out);
}

}  // namespace

void ReadInputs(Reader& reader, Ref ref, v1::StepSpec* out) {
  ReadNamed(reader, ref, "inputs", "a mapping of names to inputs", [&](const Entry& entry) {
    ReadInput(reader, entry.value, &(*out->mutable_inputs())[std::string(entry.key)]);
  });
}

void ReadOutputs(Reader& reader, Ref ref, v1::StepSpec* out) {
  ReadNamed(reader, ref, "outputs", "a mapping of names to outputs", [&](const Entry& entry) {
    Output& output = (*out->mutable_outputs())[std::string(entry.key)];
    reader.ReadFields(entry.value, *Output::descriptor(), "a mapping such as {type: csv} or {value: true}",
                      [&](int number, Ref value) {
                        bool truth = false;
                        switch (number) {
                          case Output::kTypeFieldNumber:
                            reader.ReadText(value, output.mutable_type(), "a word");
                            break;
                          case Output::kValueFieldNumber:
                            if (reader.ReadBoolField(value, &truth)) output.set_value(truth);
                            break;
                          case Output::kAsFieldNumber:
                            reader.ReadName(value, /*dots=*/true, output.mutable_as());
                            break;
                        }
                      });
  });
}

void ReadForeach(Reader& reader, Ref ref, v1::StepSpec* out) {
  if (reader.IsNull(ref)) {
    reader.Add(ref.node, absl::StrCat("must not be empty; give ", kForeachWanted), "REQUIRED");
    return;
  }
  if (reader.KindOf(ref) == Kind::kSequence) {  // as the message has it
    reader.ReadList(ref, kForeachWanted,
                    [&](size_t, NodeId item) { ReadForeachKey(reader, {item}, true, out->add_foreach()); });
  } else {
    const bool read = reader.ReadMap(ref, kForeachWanted, [&](const Entry& entry) {
      if (!IsName(entry.key, /*dots=*/false)) {
        reader.Add(entry.key_node, absl::StrCat(Quote(entry.key), " is no name: ", NameRule(false)), "INVALID_NAME");
      }
      ForeachKey* key = out->add_foreach();
      key->set_key(std::string(entry.key));
      if (reader.KindOf(entry.value) == Kind::kSequence) {
        reader.ReadListValue(entry.value.node, key->mutable_values());
      } else {
        ReadForeachKey(reader, entry.value, false, key);
      }
    });
    if (!read) return;
  }
  if (reader.tree().at(reader.tree().Resolve(ref.node)).size == 0 && out->foreach ().empty()) {
    reader.Add(ref.node, absl::StrCat("must not be empty; give ", kForeachWanted), "REQUIRED");
  }
}

void ReadRetry(Reader& reader, Ref ref, Retry* out) {
  constexpr int32_t kMaxAttempts = 1000;
  reader.ReadFields(ref, *Retry::descriptor(), "a mapping such as {max_attempts: 3}", [&](int number, Ref value) {
    int32_t count = 0;
    switch (number) {
      case Retry::kMaxAttemptsFieldNumber:
        if (reader.ReadInt32(value, 1, kMaxAttempts, &count)) out->set_max_attempts(count);
        break;
      case Retry::kBackoffFieldNumber:
        ReadBackoff(reader, value, out->mutable_backoff());
        break;
      case Retry::kOnFieldNumber:
        reader.ReadList(value, "a list of failed, timeout, lost, oom", [&](size_t, NodeId item) {
          int word = 0;
          if (reader.ReadWord({item}, *Retry::Condition_descriptor(), &word)) {
            out->add_on(static_cast<Retry::Condition>(word));
          }
        });
        break;
      case Retry::kExitCodesFieldNumber:
        reader.ReadList(value, "a list of exit codes", [&](size_t, NodeId item) {
          int32_t code = 0;
          if (reader.ReadInt32({item}, 0, 255, &code)) out->add_exit_codes(code);
        });
        break;
      case Retry::kPlatformAttemptsFieldNumber:
        if (reader.ReadInt32(value, 1, kMaxAttempts, &count)) out->set_platform_attempts(count);
        break;
    }
  });
}

void ReadTimeout(Reader& reader, Ref ref, Timeout* out) {
  google::protobuf::Duration limit;
  if (!reader.IsMapping(ref)) {
    if (reader.ReadDurationField(ref, false, &limit)) *out->mutable_run() = limit;
    return;
  }
  reader.ReadFields(ref, *Timeout::descriptor(), "a duration", [&](int number, Ref value) {
    if (!reader.ReadDurationField(value, false, &limit)) return;
    *(number == Timeout::kQueueFieldNumber ? out->mutable_queue() : out->mutable_run()) = limit;
  });
}

void ReadResources(Reader& reader, Ref ref, Resources* out) {
  constexpr int64_t kMaxCount = 1'000'000;
  constexpr int32_t kMaxGpus = 1024;
  constexpr int kMaxCustom = 32;
  reader.ReadFields(
      ref, *Resources::descriptor(), "a mapping such as {cpu: 1, memory: 512Mi}", [&](int number, Ref value) {
        double cpu = 0;
        int64_t bytes = 0;
        int32_t count = 0;
        switch (number) {
          case Resources::kCpuFieldNumber:
            if (!reader.ReadNumber(value, 0, static_cast<double>(kMaxCount), &cpu)) break;
            if (const double thousandths = cpu * 1000; std::abs(thousandths - std::round(thousandths)) > 1e-6) {
              reader.Add(value.node, "must be in steps of 0.001", "OUT_OF_RANGE");
              break;
            }
            out->set_cpu(cpu);
            break;
          case Resources::kMemoryFieldNumber:
            if (reader.ReadSizeField(value, &bytes)) out->set_memory(bytes);
            break;
          case Resources::kDiskFieldNumber:
            if (reader.ReadSizeField(value, &bytes)) out->set_disk(bytes);
            break;
          case Resources::kGpuFieldNumber:
            if (!reader.IsMapping(value)) {
              if (reader.ReadInt32(value, 0, kMaxGpus, &count)) out->mutable_gpu()->set_count(count);
              break;
            }
            (void)out->mutable_gpu();
            reader.ReadFields(value, *Resources::Gpu::descriptor(), "a number of GPUs", [&](int part, Ref inner) {
              if (part == Resources::Gpu::kKindFieldNumber) {
                reader.ReadText(inner, out->mutable_gpu()->mutable_kind(), "a word");
              } else if (reader.ReadInt32(inner, 0, kMaxGpus, &count)) {
                out->mutable_gpu()->set_count(count);
              }
            });
            break;
          case Resources::kCustomFieldNumber:
            reader.ReadMap(value, "a mapping of names to numbers", [&](const Entry& entry) {
              if (entry.key.empty()) reader.Add(entry.key_node, "a name must not be empty", "INVALID_NAME");
              int64_t amount = 0;
              if (ReadQuotedInt(reader, entry.value, 0, kMaxCount, &amount)) {
                (*out->mutable_custom())[std::string(entry.key)] = amount;
              }
            });
            if (out->custom_size() > kMaxCustom) reader.Add(value.node, "more than 32 custom resources", "TOO_LARGE");
            break;
        }
      });
}

void ReadCache(Reader& reader, Ref ref, Cache* out) {
  reader.ReadFields(ref, *Cache::descriptor(), "a mapping such as {enabled: true}", [&](int number, Ref value) {
    bool truth = false;
    google::protobuf::Duration age;
    switch (number) {
      case Cache::kEnabledFieldNumber:
        if (reader.ReadBoolField(value, &truth)) out->set_enabled(truth);
        break;
      case Cache::kKeyFieldNumber:
        reader.ReadText(value, out->mutable_key());
        break;
      case Cache::kTtlFieldNumber:
        if (reader.ReadDurationField(value, false, &age)) *out->mutable_ttl() = age;
        break;
    }
  });
}

void ReadImage(Reader& reader, Ref ref, Image* out) {
  std::string text;
  if (!reader.IsMapping(ref)) {
    if (ReadFilled(reader, ref, &text, "an image's name, or {build: …}")) out->set_reference(text);
    return;
  }
  int sources = 0;
  reader.ReadFields(ref, *Image::descriptor(), "an image's name", [&](int number, Ref value) {
    ++sources;
    if (number == Image::kBuildFieldNumber) {
      ReadBuild(reader, value, out->mutable_build());
    } else if (ReadFilled(reader, value, &text, "an image's name")) {
      out->set_reference(text);
    }
  });
  if (sources == 0) reader.Add(ref.node, "needs `build` or `reference`", "REQUIRED");
  if (sources > 1) reader.Add(ref.node, "has both `build` and `reference`; give one", "CONFLICT");
}

void ReadPools(Reader& reader, Ref ref, v1::StepSpec* out) {
  auto& pools = *out->mutable_pools();
  if (reader.KindOf(ref) != Kind::kSequence) {
    reader.ReadMap(ref, "a mapping such as {db: 1}, or a list of names", [&](const Entry& entry) {
      if (entry.key.empty()) reader.Add(entry.key_node, "a pool's name must not be empty", "INVALID_NAME");
      int32_t slots = 0;
      if (reader.ReadInt32(entry.value, 1, std::numeric_limits<int32_t>::max(), &slots)) {
        pools[std::string(entry.key)] = slots;
      }
    });
    return;
  }
  reader.ReadList(ref, "a list of names", [&](size_t, NodeId item) {
    std::string name;
    if (!ReadFilled(reader, {item}, &name, "a pool's name")) return;
    if (!pools.insert({name, 1}).second) {
      reader.Add(item, absl::StrCat("the pool ", Quote(name), " is there twice; write {", name, ": 2} for two slots"),
                 "DUPLICATE_NAME");
    }
  });
}

}  // namespace orch::spec
