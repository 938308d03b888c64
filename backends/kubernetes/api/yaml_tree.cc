#include "backends/kubernetes/api/yaml_tree.h"

#include <yaml.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::kubernetes {
namespace {

constexpr int kMaxDepth = 32;

class Builder {
 public:
  explicit Builder(absl::string_view text) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    // An empty view may have no address, which the parser does not take.
    const char* bytes = text.empty() ? "" : text.data();
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(bytes), text.size());
  }
  ~Builder() {
    Drop();
    yaml_parser_delete(&parser_);
  }
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  absl::StatusOr<YamlNode> Build() {
    YamlNode root;
    RETURN_IF_ERROR(Next());  // the stream begins
    RETURN_IF_ERROR(Next());
    if (event_.type == YAML_STREAM_END_EVENT) return root;
    RETURN_IF_ERROR(Next());  // the document has begun
    RETURN_IF_ERROR(Fill(&root, 0));
    RETURN_IF_ERROR(Next());  // it ends
    RETURN_IF_ERROR(Next());
    if (event_.type != YAML_STREAM_END_EVENT) return Fault("a second document; one is read");
    return root;
  }

 private:
  void Drop() {
    if (held_) yaml_event_delete(&event_);
    held_ = false;
  }

  absl::Status Fault(absl::string_view what) {
    const size_t line = held_ ? event_.start_mark.line : parser_.problem_mark.line;
    return Error(absl::StatusCode::kInvalidArgument, "YAML_INVALID", absl::StrCat("line ", line + 1, ": ", what));
  }

  absl::Status Next() {
    Drop();
    if (yaml_parser_parse(&parser_, &event_) == 0) {
      return Fault(parser_.problem == nullptr ? "it is no YAML" : parser_.problem);
    }
    held_ = true;
    return absl::OkStatus();
  }

  std::string Text() const {
    return {reinterpret_cast<const char*>(event_.data.scalar.value), event_.data.scalar.length};
  }

  // From the present event, which begins the node, to its last.
  absl::Status Fill(YamlNode* out, int depth) {
    if (depth > kMaxDepth) return Fault("it is nested too deep");
    out->line = static_cast<int>(event_.start_mark.line) + 1;
    switch (event_.type) {
      case YAML_SCALAR_EVENT: {
        out->text = Text();
        const bool plain = event_.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        const bool null = plain && (out->text.empty() || out->text == "~" || out->text == "null");
        out->kind = null ? YamlNode::Kind::kNull : YamlNode::Kind::kText;
        if (null) out->text.clear();
        if (out->text.find('\0') != std::string::npos) return Fault("a text has a zero byte");
        return absl::OkStatus();
      }
      case YAML_SEQUENCE_START_EVENT:
        out->kind = YamlNode::Kind::kList;
        for (;;) {
          RETURN_IF_ERROR(Next());
          if (event_.type == YAML_SEQUENCE_END_EVENT) return absl::OkStatus();
          RETURN_IF_ERROR(Fill(&out->list.emplace_back(), depth + 1));
        }
      case YAML_MAPPING_START_EVENT:
        out->kind = YamlNode::Kind::kMap;
        for (;;) {
          RETURN_IF_ERROR(Next());
          if (event_.type == YAML_MAPPING_END_EVENT) return absl::OkStatus();
          if (event_.type != YAML_SCALAR_EVENT) return Fault("a key must be a text");
          std::string key = Text();
          if (out->Find(key) != nullptr) return Fault("a key is there twice");
          RETURN_IF_ERROR(Next());
          RETURN_IF_ERROR(Fill(&out->list.emplace_back(), depth + 1));
          out->keys.push_back(std::move(key));
        }
      case YAML_ALIAS_EVENT:
        return Fault("aliases are not read here; write the value out");
      default:
        return Fault("a value is needed here");
    }
  }

  yaml_parser_t parser_{};
  yaml_event_t event_{};
  bool held_ = false;
};

}  // namespace

const YamlNode* YamlNode::Find(absl::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &list[i];
  }
  return nullptr;
}

absl::StatusOr<YamlNode> ParseYamlTree(absl::string_view text) { return Builder(text).Build(); }

}  // namespace orch::kubernetes
