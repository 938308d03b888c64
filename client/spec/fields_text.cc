// Fields that pipelines and steps share, and the simple ones of a step: parameters, labels, environment, commands,
// hooks.
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/spec/fields.h"
#include "client/spec/words.h"

namespace orch::spec {
namespace {

using v1::Hook;
using v1::Hooks;
using v1::Parameter;
using v1::SecretRef;
using v1::Source;

constexpr size_t kMaxEntries = 1000;  // of parameters, inputs, outputs
constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 200;
constexpr size_t kMaxLabelValue = 1000;

absl::string_view TypeWord(Parameter::Type type) {
  switch (type) {
    case Parameter::INT:
      return "a whole number";
    case Parameter::FLOAT:
      return "a number";
    case Parameter::BOOL:
      return "true or false";
    default:
      return "text";
  }
}

// The default under the declared type; a scalar of a text parameter is taken as it is written.
void ReadDefault(Reader& reader, Ref ref, Parameter* out) {
  google::protobuf::Value value;
  switch (out->type()) {
    case Parameter::STRING:
      if (!reader.ReadText(ref, value.mutable_string_value())) return;
      break;
    case Parameter::INT: {
      int64_t number = 0;
      if (!reader.ReadIntField(ref, -kMaxExact, kMaxExact, &number)) return;
      value.set_number_value(static_cast<double>(number));
      break;
    }
    case Parameter::FLOAT: {
      double number = 0;
      constexpr double kMax = std::numeric_limits<double>::max();
      if (!reader.ReadNumber(ref, -kMax, kMax, &number)) return;
      value.set_number_value(number);
      break;
    }
    case Parameter::BOOL: {
      bool truth = false;
      if (!reader.ReadBoolField(ref, &truth)) return;
      value.set_bool_value(truth);
      break;
    }
    default:
      if (out->type() != Parameter::JSON && reader.IsNull(ref)) {
        reader.Add(ref.node, "must not be empty; leave `default` out if the parameter is required", "REQUIRED");
        return;
      }
      if (!reader.ReadValue(ref.node, &value)) return;
      break;
  }
  *out->mutable_default_() = std::move(value);
}

void ReadParameter(Reader& reader, const Entry& entry, Parameter* out) {
  if (!reader.IsMapping(entry.value)) {  // a bare default
    ReadDefault(reader, entry.value, out);
    return;
  }
  Ref default_value;
  bool type_is_good = true;
  reader.ReadFields(entry.value, *Parameter::descriptor(), "a mapping such as {type: int, default: 3}",
                    [&](int number, Ref value) {
                      int word = 0;
                      switch (number) {
                        case Parameter::kTypeFieldNumber:
                          type_is_good = reader.ReadWord(value, *Parameter::Type_descriptor(), &word);
                          if (type_is_good) out->set_type(static_cast<Parameter::Type>(word));
                          break;
                        case Parameter::kDefaultFieldNumber:
                          default_value = value;
                          break;
                        case Parameter::kDescriptionFieldNumber:
                          reader.ReadText(value, out->mutable_description());
                          break;
                      }
                    },
                    {Parameter::kDefaultFieldNumber});
  if (default_value.node == kNoNode || !type_is_good) return;
  reader.In("default", [&] {
    if (out->type() != Parameter::TYPE_UNSPECIFIED && out->type() != Parameter::JSON && reader.IsNull(default_value)) {
      reader.Add(default_value.node,
                 absl::StrCat("must be ", TypeWord(out->type()), "; leave `default` out if the parameter is required"),
                 "WRONG_TYPE");
      return;
    }
    ReadDefault(reader, default_value, out);
  });
}

void ReadHook(Reader& reader, Ref ref, Hook* out) {
  int actions = 0;
  const bool is_mapping = reader.ReadFields(
      ref, *Hook::descriptor(), "a mapping such as {command: […]} or {webhook: URL}", [&](int number, Ref value) {
        ++actions;
        if (number == Hook::kCommandFieldNumber) {
          auto* words = out->mutable_command()->mutable_command();
          if (!reader.IsMapping(value)) {
            ReadCommand(reader, value, words);
            return;
          }
          reader.ReadFields(value, *Hook::Command::descriptor(), "a list of words",
                            [&](int, Ref list) { ReadCommand(reader, list, words); });
          return;
        }
        std::string url;
        if (!reader.ReadText(value, &url, "a URL")) return;
        if (!absl::StartsWith(url, "http://") && !absl::StartsWith(url, "https://")) {
          reader.Add(value.node, absl::StrCat("must be an http or https URL, is ", Quote(url)), "WRONG_TYPE");
        }
        if (!out->has_command()) out->set_webhook(url);
      });
  if (!is_mapping) return;
  if (actions > 1) reader.Add(ref.node, "has both `command` and `webhook`; give one", "CONFLICT");
  if (actions == 0) reader.Add(ref.node, "needs `command` or `webhook`", "REQUIRED");
}

}  // namespace

void ReadParameters(Reader& reader, Ref ref, v1::Pipeline* out) {
  size_t count = 0;
  reader.ReadMap(ref, "a mapping of names to parameters", [&](const Entry& entry) {
    if (!IsName(entry.key, /*dots=*/false)) {
      reader.Add(entry.key_node, absl::StrCat(Quote(entry.key), " is no name: ", NameRule(false)), "INVALID_NAME");
    }
    if (++count == kMaxEntries + 1) reader.Add(entry.key_node, "more than 1000 parameters", "TOO_LARGE");
    ReadParameter(reader, entry, &(*out->mutable_parameters())[std::string(entry.key)]);
  });
}

void ReadLabels(Reader& reader, Ref ref, Texts* out) {
  size_t count = 0;
  reader.ReadMap(ref, "a mapping of labels", [&](const Entry& entry) {
    if (entry.key.empty()) reader.Add(entry.key_node, "a label's name must not be empty", "INVALID_NAME");
    if (entry.key.size() > kMaxLabelKey)
      reader.Add(entry.key_node, "a label's name has at most 200 bytes", "TOO_LARGE");
    if (++count == kMaxLabels + 1) reader.Add(entry.key_node, "more than 64 labels", "TOO_LARGE");
    std::string text;
    if (!reader.ReadText(entry.value, &text)) return;
    if (text.size() > kMaxLabelValue) reader.Add(entry.value.node, "a label has at most 1000 bytes", "TOO_LARGE");
    (*out)[std::string(entry.key)] = std::move(text);
  });
}

void ReadEnv(Reader& reader, Ref ref, Texts* out) {
  reader.ReadMap(ref, "a mapping of variables", [&](const Entry& entry) {
    if (entry.key.empty() || absl::StrContains(entry.key, '=') || absl::StrContains(entry.key, '\0')) {
      reader.Add(entry.key_node, absl::StrCat(Quote(entry.key), " is no name of a variable: not empty, without `=`"),
                 "INVALID_NAME");
    }
    std::string text;
    if (!reader.ReadText(entry.value, &text)) return;
    if (absl::StrContains(text, '\0')) reader.Add(entry.value.node, "must not have a NUL character", "WRONG_TYPE");
    (*out)[std::string(entry.key)] = std::move(text);
  });
}

void ReadCommand(Reader& reader, Ref ref, google::protobuf::RepeatedPtrField<std::string>* out) {
  constexpr absl::string_view kWanted = "a list of words, such as [python3, train.py]";
  if (reader.IsNull(ref)) {
    reader.Add(ref.node, absl::StrCat("must not be empty; give ", kWanted), "REQUIRED");
    return;
  }
  const auto before = out->size();
  bool all_good = true;
  const bool is_list = reader.ReadList(ref, kWanted, [&](size_t index, NodeId item) {
    std::string text;
    if (!reader.ReadText({item}, &text)) {
      all_good = false;
      return;
    }
    if (index == 0 && text.empty()) reader.Add(item, "the program must not be empty", "REQUIRED");
    if (absl::StrContains(text, '\0')) reader.Add(item, "must not have a NUL character", "WRONG_TYPE");
    *out->Add() = std::move(text);
  });
  if (is_list && all_good && out->size() == before) {
    reader.Add(ref.node, absl::StrCat("must not be empty; give ", kWanted), "REQUIRED");
  }
}

void ReadHooks(Reader& reader, Ref ref, Hooks* out) {
  reader.ReadFields(ref, *Hooks::descriptor(), "a mapping with `on_success`, `on_failure`", [&](int number, Ref value) {
    ReadHook(reader, value,
             number == Hooks::kOnSuccessFieldNumber ? out->mutable_on_success() : out->mutable_on_failure());
  });
}

void ReadSecrets(Reader& reader, Ref ref, v1::StepSpec* out) {
  reader.ReadMap(ref, "a mapping of variables to secrets", [&](const Entry& entry) {
    if (entry.key.empty() || absl::StrContains(entry.key, '=') || absl::StrContains(entry.key, '\0')) {
      reader.Add(entry.key_node, absl::StrCat(Quote(entry.key), " is no name of a variable: not empty, without `=`"),
                 "INVALID_NAME");
    }
    SecretRef& secret = (*out->mutable_secrets())[std::string(entry.key)];
    const auto read_name = [&](Ref value) {
      if (reader.ReadText(value, secret.mutable_name(), "a secret's name") && secret.name().empty()) {
        reader.Add(value.node, "must not be empty", "REQUIRED");
      }
    };
    if (!reader.IsMapping(entry.value)) {
      read_name(entry.value);
      return;
    }
    bool named = false;
    const bool read =
        reader.ReadFields(entry.value, *SecretRef::descriptor(), "a secret's name", [&](int number, Ref value) {
          if (number == SecretRef::kFileFieldNumber) {
            bool file = false;
            if (reader.ReadBoolField(value, &file)) secret.set_file(file);
            return;
          }
          named = true;
          read_name(value);
        });
    if (read && !named) reader.AddBelow("name", entry.value.node, "is missing; name the secret", "REQUIRED");
  });
}

void ReadSource(Reader& reader, Ref ref, Source* out) {
  const auto read_path = [&](Ref value) {
    if (reader.ReadText(value, out->mutable_path(), "a folder") && out->path().empty()) {
      reader.Add(value.node, "must not be empty", "REQUIRED");
    }
  };
  if (!reader.IsMapping(ref)) {
    read_path(ref);
    return;
  }
  reader.ReadFields(ref, *Source::descriptor(), "a folder", [&](int number, Ref value) {
    if (number == Source::kPathFieldNumber) {
      read_path(value);
    } else {
      reader.ReadTexts(value, "a list of patterns", out->mutable_ignore());
    }
  });
}

}  // namespace orch::spec
