#include "client/spec/tree.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace orch::spec {
namespace {

// `path` begins with the name `key` as a whole.
bool BeginsWithName(absl::string_view path, absl::string_view key) {
  return absl::StartsWith(path, key) &&
         (path.size() == key.size() || path[key.size()] == '.' || path[key.size()] == '[');
}

// Takes `[N]` off the path.
bool TakeIndex(absl::string_view* path, size_t* index) {
  if (path->empty() || path->front() != '[') return false;
  const size_t close = path->find(']');
  if (close == absl::string_view::npos || close == 1) return false;
  uint32_t number = 0;
  if (!absl::SimpleAtoi(path->substr(1, close - 1), &number)) return false;
  *index = number;
  path->remove_prefix(close + 1);
  return true;
}

bool TakeName(absl::string_view* path, absl::string_view name) {
  if (!BeginsWithName(*path, name)) return false;
  path->remove_prefix(name.size());
  return true;
}

}  // namespace

NodeId Tree::Add(const Node& node) {
  if (size_ >= kNoNode) return kNoNode;
  if (size_ == chunks_.size() * kChunk) chunks_.push_back(std::make_unique<Node[]>(kChunk));
  const auto id = static_cast<NodeId>(size_++);
  at(id) = node;
  return id;
}

bool Tree::SetText(NodeId id, absl::string_view text) {
  if (text_.size() + text.size() >= UINT32_MAX) return false;
  at(id).first = static_cast<uint32_t>(text_.size());
  at(id).size = static_cast<uint32_t>(text.size());
  text_.append(text.data(), text.size());
  return true;
}

absl::string_view Tree::Text(NodeId id) const {
  const Node& node = at(Resolve(id));
  if (node.kind != Kind::kScalar) return {};
  return absl::string_view(text_).substr(node.first, node.size);
}

Position Tree::PositionOf(NodeId id) const {
  if (id == kNoNode || id >= size_) return {};
  return {static_cast<int>(at(id).line), static_cast<int>(at(id).column)};
}

NodeId Tree::Lookup(NodeId mapping, absl::string_view key) const {
  mapping = Resolve(mapping);
  if (mapping == kNoNode || at(mapping).kind != Kind::kMapping) return kNoNode;
  NodeId found = kNoNode;
  for (NodeId k = at(mapping).first; k != kNoNode; k = at(at(k).next).next) {
    if (KindOf(k) == Kind::kScalar && Text(k) == key) found = at(k).next;
  }
  return found;
}

NodeId Tree::Child(NodeId sequence, size_t index) const {
  sequence = Resolve(sequence);
  if (sequence == kNoNode || at(sequence).kind == Kind::kScalar || index >= at(sequence).size) return kNoNode;
  if (sequence == indexed_) return items_[index];
  NodeId child = at(sequence).first;
  while (index-- > 0) child = at(child).next;
  return child;
}

int64_t Tree::Count(NodeId id) const {
  const Node& node = at(Resolve(id));
  int64_t count = 1;
  if (node.kind == Kind::kScalar) return count;
  for (NodeId child = node.first; child != kNoNode; child = at(child).next) count += Count(child);
  return count;
}

void Tree::IndexItems(NodeId sequence) {
  sequence = Resolve(sequence);
  items_.clear();
  items_.reserve(at(sequence).size);
  for (NodeId item = at(sequence).first; item != kNoNode; item = at(item).next) items_.push_back(item);
  indexed_ = sequence;
}

// Follows `path` as far as it goes; `*place` is the last node reached. True if that was all of the path.
bool Tree::Walk(NodeId from, absl::string_view path, NodeId* place) const {
  NodeId node = from;
  *place = from;
  while (!path.empty()) {
    node = Resolve(node);
    const Node& here = at(node);
    size_t index = 0;
    if (TakeIndex(&path, &index)) {
      if (here.kind == Kind::kSequence) {
        node = Child(node, index);
      } else if (here.kind == Kind::kMapping && index < here.size / 2) {
        // A list of the message that is written as a mapping: foreach.
        const NodeId key = Child(node, 2 * index);
        *place = key;
        if (path == ".key") return true;
        node = at(key).next;
        if (TakeName(&path, ".values")) TakeName(&path, ".values");  // a ListValue has `values` of its own
      } else {
        return false;
      }
      if (node == kNoNode) return false;
      *place = node;
      continue;
    }
    if (path.front() == '.') path.remove_prefix(1);
    if (path.empty() || path.front() == '[') return false;
    if (here.kind == Kind::kSequence) {
      // A command is a message with one field; `values` likewise; pools may be a list of names.
      if (TakeName(&path, "command") || TakeName(&path, "values")) continue;
      for (NodeId item = here.first; item != kNoNode; item = at(item).next) {
        if (KindOf(item) == Kind::kScalar && Text(item) == path) {
          *place = item;
          return true;
        }
      }
      return false;
    }
    if (here.kind != Kind::kMapping) return false;
    // Keys may have dots and brackets: the longest that fits.
    NodeId best = kNoNode;
    for (NodeId key = here.first; key != kNoNode; key = at(at(key).next).next) {
      if (KindOf(key) != Kind::kScalar || !BeginsWithName(path, Text(key))) continue;
      if (best == kNoNode || Text(key).size() >= Text(best).size()) best = key;
    }
    if (best == kNoNode) return false;
    path.remove_prefix(Text(best).size());
    node = at(best).next;
    *place = node;
  }
  return true;
}

Position Tree::Find(absl::string_view field) const {
  if (root == kNoNode) return {};
  NodeId place = root;
  if (Walk(root, field, &place)) return PositionOf(place);
  absl::string_view rest = field;
  size_t index = 0;
  const NodeId defaults = Lookup(root, "defaults");
  if (defaults != kNoNode && TakeName(&rest, "steps") && TakeIndex(&rest, &index) && !rest.empty()) {
    NodeId inherited = defaults;
    if (Walk(defaults, rest, &inherited)) return PositionOf(inherited);
    // What neither has exactly: the enclosing field of the one that comes nearer.
    const NodeId step = Child(Lookup(root, "steps"), index);
    if (inherited != defaults && place == step) return PositionOf(inherited);
  }
  return PositionOf(place);
}

Position SourceMap::Find(absl::string_view field) const { return tree_ == nullptr ? Position{} : tree_->Find(field); }

}  // namespace orch::spec
