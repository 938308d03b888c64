// Reading fields from the tree: problems with their places, mappings merged over defaults, and the plain types.
//
// Every Read function returns false after it has added a problem, or if the value is null (absent); the output is then
// as it was. The path of the field being read is kept here, so that readers only name the next part.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "client/spec/parse.h"
#include "client/spec/scalar.h"
#include "client/spec/tree.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/struct.pb.h"

namespace orch::spec {

// A value as written and, where it is a mapping over a mapping of `defaults`, that one.
struct Ref {
  NodeId node = kNoNode;
  NodeId base = kNoNode;
};

// One key of a mapping.
struct Entry {
  NodeId key_node = kNoNode;
  absl::string_view key;
  Ref value;
};

class Reader {
 public:
  explicit Reader(const Tree* tree) : tree_(*tree) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  const Tree& tree() const { return tree_; }

  // Adds a problem at the present path; the same words at the same place only once.
  void Add(NodeId node, absl::string_view description, absl::string_view reason);
  // Adds a problem at a field below the present path.
  void AddBelow(absl::string_view name, NodeId node, absl::string_view description, absl::string_view reason);
  // All problems, by place. Ends the reader's use.
  std::vector<Problem> TakeProblems();

  // Runs `read` with `.name` or `[index]` at the end of the path.
  template <typename Fn>
  auto In(absl::string_view name, Fn read) {
    const Scope scope(this, name);
    return read();
  }
  template <typename Fn>
  auto InItem(size_t index, Fn read) {
    const Scope scope(this, index);
    return read();
  }

  Kind KindOf(Ref ref) const { return tree_.KindOf(ref.node); }
  bool IsMapping(Ref ref) const { return KindOf(ref) == Kind::kMapping; }
  bool IsNull(Ref ref) const;
  bool IsText(Ref ref) const;  // a scalar that is not null

  // The keys of a mapping, those of its defaults first in their order. Refuses duplicate keys, keys that are no text
  // and merge keys; `wanted` describes the value for the case that it is no mapping. A mapping that names another key
  // of the oneof `choice` than its defaults do replaces them.
  std::optional<std::vector<Entry>> ReadEntries(Ref ref, absl::string_view wanted,
                                                const google::protobuf::OneofDescriptor* choice = nullptr);
  // The same, calling `read` for each key with the path set; keys are those of `names`, by the field's number.
  // Null values are passed over, except those of the fields in `even_null`. A key named `extra` is read as number 0.
  using ReadField = absl::FunctionRef<void(int number, Ref value)>;
  bool ReadFields(Ref ref, const google::protobuf::Descriptor& names, absl::string_view wanted, ReadField read,
                  std::initializer_list<int> even_null = {}, absl::string_view extra = {});
  // Mappings with free keys. `read` gets every value that is not null; null ones are refused.
  using ReadEntry = absl::FunctionRef<void(const Entry& entry)>;
  bool ReadMap(Ref ref, absl::string_view wanted, ReadEntry read);
  // Lists; the path has the index.
  using ReadItem = absl::FunctionRef<void(size_t index, NodeId item)>;
  bool ReadList(Ref ref, absl::string_view wanted, ReadItem read);

  // Any scalar as it is written; refuses null, lists, mappings.
  bool ReadText(Ref ref, std::string* out, absl::string_view wanted = "text");
  bool ReadBoolField(Ref ref, bool* out);
  // A whole number from `low` to `high`, by the core schema.
  bool ReadIntField(Ref ref, int64_t low, int64_t high, int64_t* out);
  bool ReadInt32(Ref ref, int32_t low, int32_t high, int32_t* out);
  bool ReadNumber(Ref ref, double low, double high, double* out);
  bool ReadDurationField(Ref ref, bool zero_allowed, google::protobuf::Duration* out);
  bool ReadSizeField(Ref ref, int64_t* out);
  bool ReadTexts(Ref ref, absl::string_view wanted, google::protobuf::RepeatedPtrField<std::string>* out);
  // A word of the enum in lower case (or, as JSON of the message has it, upper case).
  bool ReadWord(Ref ref, const google::protobuf::EnumDescriptor& words, int* out);
  bool ReadName(Ref ref, bool dots, std::string* out);

  // Any value as JSON. Refuses infinite numbers and integers beyond 2^53.
  bool ReadValue(NodeId node, google::protobuf::Value* out);
  bool ReadStruct(Ref ref, google::protobuf::Struct* out);
  bool ReadListValue(NodeId node, google::protobuf::ListValue* out);

 private:
  class Scope {
   public:
    Scope(Reader* reader, absl::string_view name);
    Scope(Reader* reader, size_t index);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { reader_->path_.resize(length_); }

   private:
    Reader* reader_;
    size_t length_;
  };

  // The type of a scalar; adds a problem for a list, a mapping or a wrong tag.
  std::optional<Type> ScalarType(Ref ref, absl::string_view wanted);
  bool Wrong(Ref ref, absl::string_view wanted);
  // What the node is, for messages.
  std::string Describe(NodeId node) const;
  void AppendEntries(NodeId mapping, std::vector<Entry>* out);

  const Tree& tree_;
  std::string path_;
  std::vector<Problem> problems_;
  int64_t unlisted_ = 0;
  absl::flat_hash_set<std::string> seen_;
};

}  // namespace orch::spec
