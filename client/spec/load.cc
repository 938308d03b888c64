#include "client/spec/load.h"

#include <yaml.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/spec/encoding.h"
#include "client/spec/surrogates.h"

namespace orch::spec {
namespace {

constexpr absl::string_view kTagPrefix = "tag:yaml.org,2002:";

Position At(const yaml_mark_t& mark) { return {static_cast<int>(mark.line) + 1, static_cast<int>(mark.column) + 1}; }

absl::string_view View(const yaml_char_t* text) {
  return text == nullptr ? absl::string_view() : absl::string_view(reinterpret_cast<const char*>(text));
}

// One event, freed with the object.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { yaml_event_delete(&event_); }
  yaml_event_t* get() { return &event_; }
  const yaml_event_t* operator->() const { return &event_; }

 private:
  yaml_event_t event_{};
};

class Loader {
 public:
  Loader(absl::string_view text, const ParseLimits& limits, const Surrogates* surrogates)
      : text_(text), limits_(limits), surrogates_(surrogates), tree_(std::make_shared<Tree>()) {
    good_ = yaml_parser_initialize(&parser_) == 1;
    if (!good_) return;
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.empty() ? "" : text.data()),
                                 text.size());
    tree_->ReserveText(text.size());
  }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;
  ~Loader() { yaml_parser_delete(&parser_); }

  // False: see problem().
  bool Run() {
    if (!good_) return Fail({}, "out of memory", "TOO_LARGE");
    for (;;) {
      Event event;
      if (yaml_parser_parse(&parser_, event.get()) == 0) return FailSyntax();
      if (event->type == YAML_STREAM_END_EVENT || event->type == YAML_NO_EVENT) return true;
      if (!Take(*event.get())) return false;
    }
  }

  const Problem& problem() const { return problem_; }
  // The fault is an escape that might be half of a UTF-16 pair.
  bool is_surrogate() const { return is_surrogate_; }
  std::shared_ptr<Tree> tree() { return std::move(tree_); }

 private:
  struct Open {
    NodeId node;
    NodeId last;
    std::string anchor;
    int64_t expanded_before;
    int height;  // of what is inside so far
  };
  struct Anchor {
    NodeId node;
    int64_t expanded;  // nodes it stands for; 0: still open
    int height;
  };

  bool Take(const yaml_event_t& event) {
    const Position place = At(event.start_mark);
    switch (event.type) {
      case YAML_DOCUMENT_START_EVENT:
        if (documents_++ == 0) return true;
        return Fail(place, "a second document begins here; put it into a file of its own", "SYNTAX");
      case YAML_SCALAR_EVENT:
        return TakeScalar(event, place);
      case YAML_SEQUENCE_START_EVENT:
        return Begin(Kind::kSequence, View(event.data.sequence_start.tag), View(event.data.sequence_start.anchor),
                     place);
      case YAML_MAPPING_START_EVENT:
        return Begin(Kind::kMapping, View(event.data.mapping_start.tag), View(event.data.mapping_start.anchor), place);
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        return End();
      case YAML_ALIAS_EVENT:
        return TakeAlias(View(event.data.alias.anchor), place);
      default:
        return true;
    }
  }

  // Appends a node to the open collection; kNoNode after Fail.
  NodeId Attach(Kind kind, Position place) {
    Node node;
    node.kind = kind;
    node.line = static_cast<uint32_t>(place.line);
    node.column = static_cast<uint32_t>(place.column);
    const NodeId id = static_cast<int64_t>(tree_->size()) < limits_.nodes ? tree_->Add(node) : kNoNode;
    if (id == kNoNode) {
      Fail(place, absl::StrCat("more than ", limits_.nodes, " values in one file"), "TOO_LARGE");
      return kNoNode;
    }
    if (open_.empty()) {
      tree_->root = id;
      return id;
    }
    Open& parent = open_.back();
    if (parent.last == kNoNode) {
      tree_->at(parent.node).first = id;
    } else {
      tree_->at(parent.last).next = id;
    }
    parent.last = id;
    ++tree_->at(parent.node).size;
    return id;
  }

  bool TakeScalar(const yaml_event_t& event, Position place) {
    const auto& scalar = event.data.scalar;
    const NodeId id = Attach(Kind::kScalar, place);
    if (id == kNoNode) return false;
    ++expanded_;
    const absl::string_view text(reinterpret_cast<const char*>(scalar.value), scalar.length);
    const bool quoted = scalar.style != YAML_PLAIN_SCALAR_STYLE;
    std::string restored;
    absl::string_view kept = text;
    if (surrogates_ != nullptr) {
      restored = scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE
                     ? surrogates_->Join(text)
                     : surrogates_->Restore(text, event.start_mark.index, event.end_mark.index);
      kept = restored;
    }
    if (!tree_->SetText(id, kept)) return Fail(place, "the file has too much text", "TOO_LARGE");
    Tag tag = quoted ? Tag::kText : Tag::kPlain;
    const absl::string_view name = View(scalar.tag);
    if (!name.empty() && !ReadTag(name, &tag)) return FailTag(name, place);
    tree_->at(id).tag = tag;
    Remember(View(scalar.anchor), {id, 1, 0});
    return true;
  }

  static bool ReadTag(absl::string_view name, Tag* tag) {
    if (name == "!") {
      *tag = Tag::kText;
      return true;
    }
    if (!absl::StartsWith(name, kTagPrefix)) return false;
    name.remove_prefix(kTagPrefix.size());
    static constexpr std::pair<absl::string_view, Tag> kTags[] = {
        {"str", Tag::kText}, {"null", Tag::kNull}, {"bool", Tag::kBool}, {"int", Tag::kInt}, {"float", Tag::kFloat}};
    for (const auto& [word, value] : kTags) {
      if (name != word) continue;
      *tag = value;
      return true;
    }
    return false;
  }

  bool FailTag(absl::string_view name, Position place) {
    if (absl::StartsWith(name, kTagPrefix)) name.remove_prefix(kTagPrefix.size());
    return Fail(place, absl::StrCat("the tag `", name, "` is not known here; leave it out"), "SYNTAX");
  }

  bool Begin(Kind kind, absl::string_view tag, absl::string_view anchor, Position place) {
    if (!tag.empty() && tag != "!" && tag != absl::StrCat(kTagPrefix, kind == Kind::kMapping ? "map" : "seq")) {
      return FailTag(tag, place);
    }
    if (static_cast<int>(open_.size()) >= limits_.depth) return FailDepth(place);
    const NodeId id = Attach(kind, place);
    if (id == kNoNode) return false;
    Remember(anchor, {id, 0, 0});
    open_.push_back({id, kNoNode, std::string(anchor), expanded_, 0});
    ++expanded_;
    return true;
  }

  bool End() {
    const Open done = std::move(open_.back());
    open_.pop_back();
    const int height = done.height + 1;
    if (!open_.empty()) open_.back().height = std::max(open_.back().height, height);
    if (!done.anchor.empty()) {
      Anchor& anchor = anchors_[done.anchor];
      // The name may have been given to another node inside.
      if (anchor.node == done.node) anchor = {done.node, expanded_ - done.expanded_before, height};
    }
    return true;
  }

  bool TakeAlias(absl::string_view name, Position place) {
    const auto found = anchors_.find(name);
    if (found == anchors_.end()) return Fail(place, absl::StrCat("no anchor `&", name, "` before this"), "SYNTAX");
    const Anchor& anchor = found->second;
    if (anchor.expanded == 0) return Fail(place, absl::StrCat("`*", name, "` stands inside what it means"), "SYNTAX");
    alias_nodes_ += anchor.expanded;
    expanded_ += anchor.expanded;
    if (alias_nodes_ > limits_.alias_nodes) {
      return Fail(place, absl::StrCat("aliases expand to more than ", limits_.alias_nodes, " values"), "TOO_LARGE");
    }
    if (static_cast<int>(open_.size()) + anchor.height > limits_.depth) return FailDepth(place);
    const NodeId id = Attach(Kind::kAlias, place);
    if (id == kNoNode) return false;
    tree_->at(id).first = anchor.node;
    if (!open_.empty()) open_.back().height = std::max(open_.back().height, anchor.height);
    return true;
  }

  void Remember(absl::string_view name, Anchor anchor) {
    if (!name.empty()) anchors_[std::string(name)] = anchor;
  }

  bool FailDepth(Position place) {
    return Fail(place, absl::StrCat("nested deeper than ", limits_.depth, " levels"), "TOO_LARGE");
  }

  bool FailSyntax() {
    const absl::string_view what = parser_.problem == nullptr ? "cannot be read" : parser_.problem;
    is_surrogate_ = absl::StrContains(what, "invalid Unicode character escape code");
    std::string text = absl::StrCat("not YAML: ", what);
    if (is_surrogate_) {
      absl::StrAppend(&text, " (half of a UTF-16 pair?)");
    } else if (parser_.context != nullptr && parser_.context_mark.line != parser_.problem_mark.line) {
      absl::StrAppend(&text, " (", parser_.context, " that began in line ", parser_.context_mark.line + 1, ")");
    }
    Position place = At(parser_.problem_mark);
    if (absl::StrContains(what, "cannot start any token") && ByteIsTab()) {
      text = "a tab may not indent or stand before a value; use spaces";
    }
    return Fail(place, text, "SYNTAX");
  }

  // The text at problem_mark is a tab. The mark counts characters; that line's bytes are searched.
  bool ByteIsTab() const {
    const yaml_mark_t& mark = parser_.problem_mark;
    return CharacterAt(text_, mark.index) == '\t';
  }

  bool Fail(Position place, absl::string_view description, absl::string_view reason) {
    problem_ = {place, "", std::string(description), std::string(reason)};
    return false;
  }

  absl::string_view text_;
  const ParseLimits& limits_;
  const Surrogates* surrogates_;
  std::shared_ptr<Tree> tree_;
  yaml_parser_t parser_{};
  bool good_ = false;
  bool is_surrogate_ = false;
  int documents_ = 0;
  int64_t expanded_ = 0;
  int64_t alias_nodes_ = 0;
  std::vector<Open> open_;
  absl::flat_hash_map<std::string, Anchor> anchors_;
  Problem problem_;
};

}  // namespace

std::shared_ptr<Tree> Load(absl::string_view text, const ParseLimits& limits, std::vector<Problem>* problems) {
  if (static_cast<int64_t>(text.size()) > limits.bytes) {
    problems->push_back({{},
                         "",
                         absl::StrCat("the file has ", text.size(), " bytes; at most ", limits.bytes, " are read"),
                         "TOO_LARGE"});
    return nullptr;
  }
  absl::ConsumePrefix(&text, "\xEF\xBB\xBF");  // a byte order mark
  Problem encoding;
  if (!CheckEncoding(text, &encoding)) {
    problems->push_back(std::move(encoding));
    return nullptr;
  }
  Loader loader(text, limits, nullptr);
  if (loader.Run()) return loader.tree();
  Problem problem = loader.problem();
  if (loader.is_surrogate()) {
    const Surrogates surrogates(text);
    if (surrogates.found()) {
      Loader again(surrogates.text(), limits, &surrogates);
      if (again.Run()) return again.tree();
      problem = again.problem();
    }
  }
  problems->push_back(std::move(problem));
  return nullptr;
}

}  // namespace orch::spec
