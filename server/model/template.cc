#include "server/model/template.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch {
namespace {

struct Prefix {
  absl::string_view text;
  TemplateScope scope;
};

constexpr Prefix kPrefixes[] = {
    {"params.", TemplateScope::kParams}, {"inputs.", TemplateScope::kInputs}, {"outputs.", TemplateScope::kOutputs},
    {"item.", TemplateScope::kItem},     {"values.", TemplateScope::kValues}, {"run.", TemplateScope::kRun},
    {"step.", TemplateScope::kStep},
};

}  // namespace

absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(absl::string_view text) {
  std::vector<TemplatePiece> pieces;
  std::string literal;
  auto flush = [&] {
    if (!literal.empty()) pieces.push_back({TemplateScope::kLiteral, std::move(literal)});
    literal.clear();
  };
  size_t i = 0;
  while (i < text.size()) {
    const size_t dollar = text.find('$', i);
    if (dollar == absl::string_view::npos || dollar + 1 == text.size()) {
      absl::StrAppend(&literal, text.substr(i));
      break;
    }
    absl::StrAppend(&literal, text.substr(i, dollar - i));
    const absl::string_view rest = text.substr(dollar + 1);
    if (rest[0] == '$') {
      literal.push_back('$');
      i = dollar + 2;
      continue;
    }
    i = dollar + 1;
    if (rest[0] != '{') {
      literal.push_back('$');
      continue;
    }
    const absl::string_view inside = rest.substr(1);
    if (absl::StartsWith(inside, "attempt}")) {
      flush();
      pieces.push_back({TemplateScope::kAttempt, ""});
      i = dollar + 2 + 8;
      continue;
    }
    const Prefix* match = nullptr;
    for (const Prefix& prefix : kPrefixes) {
      if (absl::StartsWith(inside, prefix.text)) match = &prefix;
    }
    if (match == nullptr) {
      literal.push_back('$');
      continue;
    }
    const size_t close = inside.find('}');
    if (close == absl::string_view::npos) {
      return Error(
          absl::StatusCode::kInvalidArgument, "TEMPLATE_INVALID",
          absl::StrCat("`${", inside.substr(0, 40), "` is not closed; write `}` or, for a plain dollar, `$$`"));
    }
    flush();
    pieces.push_back({match->scope, std::string(inside.substr(match->text.size(), close - match->text.size()))});
    i = dollar + 2 + close + 1;
  }
  flush();
  return pieces;
}

}  // namespace orch
