// The parsed text as a compact tree: 24 bytes a node, all text in one buffer, no recursion to build or free it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/spec/parse.h"

namespace orch::spec {

using NodeId = uint32_t;
inline constexpr NodeId kNoNode = UINT32_MAX;

enum class Kind : uint8_t { kScalar, kSequence, kMapping, kAlias };

// How a scalar's type is found: by its text (plain), always text (quoted, block, `!!str`), or by its text but demanded
// by a tag.
enum class Tag : uint8_t { kPlain, kText, kNull, kBool, kInt, kFloat };

struct Node {
  uint32_t line = 0;
  uint32_t column = 0;
  NodeId next = kNoNode;     // the next of the same parent; a mapping's children are key, value, key, value, …
  uint32_t first = kNoNode;  // collections: the first child; scalars: where the text begins; aliases: the node meant
  uint32_t size = 0;         // collections: number of children; scalars: bytes of text
  Kind kind = Kind::kScalar;
  Tag tag = Tag::kPlain;
};

class Tree {
 public:
  NodeId root = kNoNode;

  // kNoNode if the tree is full.
  NodeId Add(const Node& node);
  // False if the buffer is full.
  bool SetText(NodeId id, absl::string_view text);
  void ReserveText(size_t bytes) { text_.reserve(bytes); }

  Node& at(NodeId id) { return chunks_[id / kChunk][id % kChunk]; }
  const Node& at(NodeId id) const { return chunks_[id / kChunk][id % kChunk]; }
  size_t size() const { return size_; }

  // The node itself, or what it stands for if it is an alias.
  NodeId Resolve(NodeId id) const { return id != kNoNode && at(id).kind == Kind::kAlias ? at(id).first : id; }
  Kind KindOf(NodeId id) const { return at(Resolve(id)).kind; }
  // The text of a scalar; empty for others.
  absl::string_view Text(NodeId id) const;
  Position PositionOf(NodeId id) const;

  // The value of a key in a mapping (the last one, if it is there twice); kNoNode if there is none.
  NodeId Lookup(NodeId mapping, absl::string_view key) const;
  NodeId Child(NodeId sequence, size_t index) const;

  // All nodes below and with this one, aliases expanded. Recurses as deep as the tree, which the loader bounds.
  int64_t Count(NodeId id) const;

  // The items of the longest list, so that finding one is not linear: set once by the reader.
  void IndexItems(NodeId sequence);

  Position Find(absl::string_view field) const;

 private:
  static constexpr size_t kChunk = 1 << 15;
  bool Walk(NodeId from, absl::string_view path, NodeId* place) const;

  std::vector<std::unique_ptr<Node[]>> chunks_;
  size_t size_ = 0;
  std::string text_;
  NodeId indexed_ = kNoNode;
  std::vector<NodeId> items_;
};

}  // namespace orch::spec
