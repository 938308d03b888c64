#include "client/spec/reader.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/spec/words.h"

namespace orch::spec {
namespace {

// More would bury the reader; the number of the others is told.
constexpr size_t kMaxProblems = 10'000;
// Up to this many keys are compared one with the other.
constexpr size_t kFewKeys = 24;

}  // namespace

Reader::Scope::Scope(Reader* reader, absl::string_view name) : reader_(reader), length_(reader->path_.size()) {
  if (length_ > 0) reader_->path_ += '.';
  reader_->path_.append(name.data(), name.size());
}

Reader::Scope::Scope(Reader* reader, size_t index) : reader_(reader), length_(reader->path_.size()) {
  absl::StrAppend(&reader_->path_, "[", index, "]");
}

void Reader::Add(NodeId node, absl::string_view description, absl::string_view reason) {
  const Position place = tree_.PositionOf(node);
  // Steps inherit a fault of `defaults` under paths that differ in their beginning.
  const absl::string_view last = absl::string_view(path_).substr(path_.rfind('.') + 1);
  if (!seen_.insert(absl::StrCat(place.line, ":", place.column, ":", last, ":", description)).second) return;
  if (problems_.size() >= kMaxProblems) {
    ++unlisted_;
    return;
  }
  problems_.push_back({place, path_, std::string(description), std::string(reason)});
}

void Reader::AddBelow(absl::string_view name, NodeId node, absl::string_view description, absl::string_view reason) {
  const Scope scope(this, name);
  Add(node, description, reason);
}

std::vector<Problem> Reader::TakeProblems() {
  const auto key = [](const Problem& p) {
    return std::tie(p.position.line, p.position.column, p.field, p.description);
  };
  std::sort(problems_.begin(), problems_.end(), [&](const Problem& a, const Problem& b) { return key(a) < key(b); });
  if (unlisted_ > 0) problems_.push_back({{}, "", absl::StrCat(unlisted_, " more problems"), "TOO_LARGE"});
  return std::move(problems_);
}

bool Reader::IsNull(Ref ref) const {
  const NodeId id = tree_.Resolve(ref.node);
  if (id == kNoNode) return true;
  const Node& node = tree_.at(id);
  return node.kind == Kind::kScalar && TypeOf(tree_.Text(id), node.tag) == Type::kNull;
}

bool Reader::IsText(Ref ref) const { return KindOf(ref) == Kind::kScalar && !IsNull(ref); }

std::string Reader::Describe(NodeId node) const {
  switch (tree_.KindOf(node)) {
    case Kind::kMapping:
      return "a mapping";
    case Kind::kSequence:
      return "a list";
    default:
      return IsNull({node}) ? "empty" : Quote(tree_.Text(node));
  }
}

bool Reader::Wrong(Ref ref, absl::string_view wanted) {
  Add(ref.node, absl::StrCat("must be ", wanted, ", is ", Describe(ref.node)), "WRONG_TYPE");
  return false;
}

void Reader::AppendEntries(NodeId mapping, std::vector<Entry>* out) {
  const size_t begin = out->size();
  const Node& node = tree_.at(tree_.Resolve(mapping));
  absl::flat_hash_map<absl::string_view, NodeId> keys;
  const bool many = node.size / 2 > kFewKeys;
  for (NodeId key = node.first; key != kNoNode; key = tree_.at(tree_.at(key).next).next) {
    const NodeId value = tree_.at(key).next;
    if (tree_.KindOf(key) != Kind::kScalar || IsNull({key})) {
      Add(key, absl::StrCat("a key must be text, is ", Describe(key)), "WRONG_TYPE");
      continue;
    }
    const absl::string_view text = tree_.Text(key);
    if (text == "<<" && tree_.at(tree_.Resolve(key)).tag == Tag::kPlain) {
      AddBelow(text, key, "merge keys are not read; use `defaults`, or write the keys out", "UNKNOWN_FIELD");
      continue;
    }
    NodeId earlier = kNoNode;
    if (many) {
      const auto [found, is_new] = keys.try_emplace(text, key);
      if (!is_new) earlier = found->second;
    } else {
      for (size_t i = begin; i < out->size(); ++i) {
        if ((*out)[i].key == text) earlier = (*out)[i].key_node;
      }
    }
    if (earlier != kNoNode) {
      AddBelow(text, key, absl::StrCat("the key is there twice, first in line ", tree_.PositionOf(earlier).line),
               "DUPLICATE_KEY");
      continue;
    }
    out->push_back({key, text, {value, kNoNode}});
  }
}

std::optional<std::vector<Entry>> Reader::ReadEntries(Ref ref, absl::string_view wanted,
                                                      const google::protobuf::OneofDescriptor* choice) {
  if (KindOf(ref) != Kind::kMapping) {
    Wrong(ref, wanted);
    return std::nullopt;
  }
  std::vector<Entry> entries;
  if (ref.base == kNoNode || tree_.KindOf(ref.base) != Kind::kMapping) {
    entries.reserve(tree_.at(tree_.Resolve(ref.node)).size / 2);
    AppendEntries(ref.node, &entries);
    return entries;
  }
  std::vector<Entry> own;
  AppendEntries(ref.node, &own);
  AppendEntries(ref.base, &entries);
  const auto is_choice = [&](const Entry& entry) {
    if (choice == nullptr) return false;
    for (int i = 0; i < choice->field_count(); ++i) {
      if (choice->field(i)->name() == std::string(entry.key)) return true;
    }
    return false;
  };
  // Of another kind (`uri` over `from`): nothing of the default's fits.
  const auto other_choice = [&](const Entry& entry) {
    return is_choice(entry) &&
           std::none_of(own.begin(), own.end(), [&](const Entry& mine) { return mine.key == entry.key; });
  };
  if (std::any_of(own.begin(), own.end(), is_choice) && std::any_of(entries.begin(), entries.end(), other_choice)) {
    return own;
  }
  absl::flat_hash_map<absl::string_view, size_t> inherited;
  for (size_t i = 0; i < entries.size(); ++i) inherited.emplace(entries[i].key, i);
  for (Entry& entry : own) {
    const auto found = inherited.find(entry.key);
    if (found == inherited.end()) {
      entries.push_back(entry);
      continue;
    }
    const NodeId base = entries[found->second].value.node;
    const bool both = tree_.KindOf(base) == Kind::kMapping && KindOf(entry.value) == Kind::kMapping;
    if (both) entry.value.base = base;
    entries[found->second] = entry;
  }
  return entries;
}

bool Reader::ReadFields(Ref ref, const google::protobuf::Descriptor& names, absl::string_view wanted, ReadField read,
                        std::initializer_list<int> even_null, absl::string_view extra) {
  const auto entries = ReadEntries(ref, wanted, names.real_oneof_decl_count() > 0 ? names.oneof_decl(0) : nullptr);
  if (!entries) return false;
  for (const Entry& entry : *entries) {
    const google::protobuf::FieldDescriptor* field = nullptr;
    for (int i = 0; i < names.field_count() && field == nullptr; ++i) {
      if (absl::string_view(names.field(i)->name()) == entry.key) field = names.field(i);
    }
    const Scope scope(this, entry.key);
    if (field == nullptr && !extra.empty() && entry.key == extra) {
      if (!IsNull(entry.value)) read(0, entry.value);
      continue;
    }
    if (field == nullptr) {
      std::vector<absl::string_view> known;
      for (int i = 0; i < names.field_count(); ++i) known.push_back(names.field(i)->name());
      if (!extra.empty()) known.push_back(extra);
      Add(entry.key_node, absl::StrCat("unknown key; ", Suggest(entry.key, known)), "UNKNOWN_FIELD");
      continue;
    }
    if (IsNull(entry.value) && std::find(even_null.begin(), even_null.end(), field->number()) == even_null.end()) {
      continue;
    }
    read(field->number(), entry.value);
  }
  return true;
}

bool Reader::ReadMap(Ref ref, absl::string_view wanted, ReadEntry read) {
  const auto entries = ReadEntries(ref, wanted);
  if (!entries) return false;
  for (const Entry& entry : *entries) {
    const Scope scope(this, entry.key);
    if (IsNull(entry.value)) {
      Add(entry.value.node, "must not be empty", "REQUIRED");
      continue;
    }
    read(entry);
  }
  return true;
}

bool Reader::ReadList(Ref ref, absl::string_view wanted, ReadItem read) {
  if (KindOf(ref) != Kind::kSequence) return Wrong(ref, wanted);
  size_t index = 0;
  for (NodeId item = tree_.at(tree_.Resolve(ref.node)).first; item != kNoNode; item = tree_.at(item).next) {
    const Scope scope(this, index);
    read(index, item);
    ++index;
  }
  return true;
}

std::optional<Type> Reader::ScalarType(Ref ref, absl::string_view wanted) {
  if (KindOf(ref) != Kind::kScalar) {
    Wrong(ref, wanted);
    return std::nullopt;
  }
  const NodeId id = tree_.Resolve(ref.node);
  const auto type = TypeOf(tree_.Text(id), tree_.at(id).tag);
  if (!type) Add(ref.node, absl::StrCat(Quote(tree_.Text(id)), " is not what its tag says"), "WRONG_TYPE");
  return type;
}

bool Reader::ReadText(Ref ref, std::string* out, absl::string_view wanted) {
  const auto type = ScalarType(ref, wanted);
  if (!type) return false;
  if (*type == Type::kNull) return Wrong(ref, wanted);
  const absl::string_view text = tree_.Text(ref.node);
  out->assign(text.data(), text.size());
  return true;
}

bool Reader::ReadBoolField(Ref ref, bool* out) {
  const auto type = ScalarType(ref, "true or false");
  if (!type) return false;
  if (*type != Type::kBool) return Wrong(ref, "true or false");
  *out = ReadBool(tree_.Text(ref.node));
  return true;
}

bool Reader::ReadIntField(Ref ref, int64_t low, int64_t high, int64_t* out) {
  const auto type = ScalarType(ref, "a whole number");
  if (!type) return false;
  if (*type != Type::kInt) return Wrong(ref, "a whole number");
  const auto value = ReadInt(tree_.Text(ref.node));
  if (!value || *value < low || *value > high) {
    Add(ref.node, absl::StrCat("must be from ", low, " to ", high, ", is ", Quote(tree_.Text(ref.node))),
        "OUT_OF_RANGE");
    return false;
  }
  *out = *value;
  return true;
}

bool Reader::ReadInt32(Ref ref, int32_t low, int32_t high, int32_t* out) {
  int64_t value = 0;
  if (!ReadIntField(ref, low, high, &value)) return false;
  *out = static_cast<int32_t>(value);
  return true;
}

bool Reader::ReadNumber(Ref ref, double low, double high, double* out) {
  const auto type = ScalarType(ref, "a number");
  if (!type) return false;
  if (*type != Type::kInt && *type != Type::kFloat) return Wrong(ref, "a number");
  const double value = ReadFloat(tree_.Text(ref.node));
  if (!(value >= low && value <= high)) {  // also .nan
    Add(ref.node, absl::StrFormat("must be from %.15g to %.15g, is %s", low, high, Quote(tree_.Text(ref.node))),
        "OUT_OF_RANGE");
    return false;
  }
  *out = value;
  return true;
}

bool Reader::ReadDurationField(Ref ref, bool zero_allowed, google::protobuf::Duration* out) {
  constexpr absl::string_view kWanted = "a duration such as 500ms, 10s, 5m, 2h or 1d";
  if (!ScalarType(ref, kWanted)) return false;
  const auto value = ReadDuration(tree_.Text(ref.node));
  if (!value) return Wrong(ref, kWanted);
  constexpr int32_t kMillisecond = 1'000'000;
  const bool is_zero = value->seconds() == 0 && value->nanos() == 0;
  if (value->seconds() == 0 && value->nanos() < kMillisecond && !(is_zero && zero_allowed)) {
    Add(ref.node, absl::StrCat("must be at least 1ms, is ", Quote(tree_.Text(ref.node))), "OUT_OF_RANGE");
    return false;
  }
  *out = *value;
  return true;
}

bool Reader::ReadSizeField(Ref ref, int64_t* out) {
  constexpr absl::string_view kWanted = "a size such as 512Mi, 2Gi, 1G or a number of bytes";
  if (!ScalarType(ref, kWanted)) return false;
  const auto value = ReadSize(tree_.Text(ref.node));
  if (!value) return Wrong(ref, kWanted);
  if (*value > kMaxExact) {
    Add(ref.node, absl::StrCat("must be at most 2^53 bytes, is ", Quote(tree_.Text(ref.node))), "OUT_OF_RANGE");
    return false;
  }
  *out = *value;
  return true;
}

bool Reader::ReadTexts(Ref ref, absl::string_view wanted, google::protobuf::RepeatedPtrField<std::string>* out) {
  const NodeId id = tree_.Resolve(ref.node);
  if (tree_.at(id).kind == Kind::kSequence) out->Reserve(out->size() + static_cast<int>(tree_.at(id).size));
  return ReadList(ref, wanted, [&](size_t, NodeId item) {
    std::string text;
    if (ReadText({item}, &text)) *out->Add() = std::move(text);
  });
}

bool Reader::ReadWord(Ref ref, const google::protobuf::EnumDescriptor& words, int* out) {
  std::string text;
  if (!ReadText(ref, &text, "a word")) return false;
  std::vector<std::string> lower;
  for (int i = 0; i < words.value_count(); ++i) {
    const auto& value = *words.value(i);
    if (value.number() == 0) continue;  // …_UNSPECIFIED
    lower.push_back(absl::AsciiStrToLower(value.name()));
    if (text != lower.back() && text != value.name()) continue;
    *out = value.number();
    return true;
  }
  const std::vector<absl::string_view> known(lower.begin(), lower.end());
  Add(ref.node, absl::StrCat(Quote(text), " is not known here; ", Suggest(text, known)), "UNKNOWN_WORD");
  return false;
}

bool Reader::ReadName(Ref ref, bool dots, std::string* out) {
  std::string text;
  if (!ReadText(ref, &text, "a name")) return false;
  if (text.empty()) {
    Add(ref.node, "must not be empty", "REQUIRED");
    return false;
  }
  if (!IsName(text, dots)) {
    Add(ref.node, absl::StrCat(Quote(text), " is no name: ", NameRule(dots)), "INVALID_NAME");
    return false;
  }
  *out = std::move(text);
  return true;
}

bool Reader::ReadListValue(NodeId node, google::protobuf::ListValue* out) {
  bool good = true;
  const bool is_list = ReadList({node}, "a list", [&](size_t, NodeId item) {
    if (!ReadValue(item, out->add_values())) good = false;
  });
  return is_list && good;
}

bool Reader::ReadStruct(Ref ref, google::protobuf::Struct* out) {
  const auto entries = ReadEntries(ref, "a mapping");
  if (!entries) return false;
  bool good = true;
  auto& fields = *out->mutable_fields();
  for (const Entry& entry : *entries) {
    const Scope scope(this, entry.key);
    auto& value = fields[std::string(entry.key)];
    const bool read = IsMapping(entry.value) ? ReadStruct(entry.value, value.mutable_struct_value())
                                             : ReadValue(entry.value.node, &value);
    if (!read) good = false;
  }
  return good;
}

bool Reader::ReadValue(NodeId node, google::protobuf::Value* out) {
  switch (tree_.KindOf(node)) {
    case Kind::kMapping:
      return ReadStruct({node}, out->mutable_struct_value());
    case Kind::kSequence:
      return ReadListValue(node, out->mutable_list_value());
    default:
      break;
  }
  const auto type = ScalarType({node}, "a value");
  if (!type) return false;
  const absl::string_view text = tree_.Text(node);
  switch (*type) {
    case Type::kNull:
      out->set_null_value(google::protobuf::NULL_VALUE);
      return true;
    case Type::kBool:
      out->set_bool_value(ReadBool(text));
      return true;
    case Type::kText:
      out->set_string_value(std::string(text));
      return true;
    case Type::kInt: {
      const auto value = ReadInt(text);
      if (value && *value <= kMaxExact && *value >= -kMaxExact) {
        out->set_number_value(static_cast<double>(*value));
        return true;
      }
      Add(node, absl::StrCat(Quote(text), ": integers are exact only up to 2^53; write it in quotes"), "OUT_OF_RANGE");
      return false;
    }
    case Type::kFloat:
      out->set_number_value(ReadFloat(text));
      if (std::isfinite(out->number_value())) return true;
      Add(node, absl::StrCat(Quote(text), ": the number must be finite"), "OUT_OF_RANGE");
      return false;
  }
  return false;
}

}  // namespace orch::spec
