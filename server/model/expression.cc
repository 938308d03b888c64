#include "server/model/expression.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"

namespace orch {
namespace {

// What they answer depends on more than the input, or reaches outside.
constexpr std::array<absl::string_view, 18> kRefused = {
    "now",       "env",           "input",      "inputs",          "import",         "include",
    "debug",     "stderr",        "halt",       "halt_error",      "input_filename", "input_line_number",
    "localtime", "strflocaltime", "modulemeta", "get_search_list", "$ENV",           "$__prog_args"};

enum class Kind { kEnd, kField, kDot, kWord, kVariable, kString, kNumber, kSign };

struct Token {
  Kind kind = Kind::kEnd;
  std::string text;   // of a field or a string: what it names
  bool plain = true;  // a string without an interpolation
};

bool IsWordStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsWordPart(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

class Lexer {
 public:
  explicit Lexer(absl::string_view text) : text_(text) {}
  Lexer(const Lexer&) = delete;

  Token Next() {
    SkipBlanks();
    return Read();
  }

  // Texts of interpolations `\(…)`, which are expressions of their own over the same input.
  const std::vector<std::string>& interpolations() const { return interpolations_; }

 private:
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  void SkipBlanks() {
    while (at_ < text_.size()) {
      if (absl::ascii_isspace(static_cast<unsigned char>(text_[at_]))) {
        ++at_;
      } else if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        break;
      }
    }
  }

  std::string Word() {
    const size_t from = at_;
    while (IsWordPart(Peek())) ++at_;
    return std::string(text_.substr(from, at_ - from));
  }

  Token Read() {
    if (at_ >= text_.size()) return {};
    const char c = Peek();
    if (c == '.' && IsWordStart(Peek(1))) {
      ++at_;
      return {Kind::kField, Word()};
    }
    if (c == '.' && Peek(1) == '"') {
      ++at_;
      Token field = String();
      field.kind = Kind::kField;
      return field;
    }
    if (c == '.' && absl::ascii_isdigit(static_cast<unsigned char>(Peek(1)))) return Number();
    if (c == '.' && Peek(1) == '.') {
      at_ += 2;
      return {Kind::kWord, ".."};
    }
    if (c == '.') {
      ++at_;
      return {Kind::kDot, "."};
    }
    if (c == '"') return String();
    if (IsWordStart(c)) return {Kind::kWord, Word()};
    if (c == '$' && IsWordStart(Peek(1))) {
      ++at_;
      return {Kind::kVariable, "$" + Word()};
    }
    if (c == '@' && IsWordStart(Peek(1))) {
      ++at_;
      return {Kind::kWord, "@" + Word()};
    }
    if (absl::ascii_isdigit(static_cast<unsigned char>(c))) return Number();
    for (const absl::string_view sign :
         {"?//=", "?//", "//=", "|=", "+=", "-=", "*=", "/=", "%=", "==", "!=", "<=", ">=", "//"}) {
      if (text_.substr(at_, sign.size()) == sign) {
        at_ += sign.size();
        return {Kind::kSign, std::string(sign)};
      }
    }
    ++at_;
    return {Kind::kSign, std::string(1, c)};
  }

  Token Number() {
    const size_t from = at_;
    while (IsWordPart(Peek()) || Peek() == '.') ++at_;
    return {Kind::kNumber, std::string(text_.substr(from, at_ - from))};
  }

  Token String() {
    Token token{Kind::kString, ""};
    if (depth_ >= kMaxDepth) {  // nobody writes that; jq refuses it or not
      at_ = text_.size();
      token.plain = false;
      return token;
    }
    ++depth_;
    ++at_;  // the quote
    while (at_ < text_.size() && Peek() != '"') {
      if (Peek() != '\\') {
        token.text.push_back(text_[at_++]);
        continue;
      }
      if (Peek(1) == '(') {
        token.plain = false;
        at_ += 2;
        const size_t from = at_;
        for (int depth = 1; at_ < text_.size(); ++at_) {
          if (Peek() == '"') {
            (void)String();
            --at_;
            continue;
          }
          if (Peek() == '(') ++depth;
          if (Peek() == ')' && --depth == 0) break;
        }
        // Those inside it are found when its text is read.
        if (depth_ == 1) interpolations_.emplace_back(text_.substr(from, at_ - from));
        if (at_ < text_.size()) ++at_;
        continue;
      }
      token.text.push_back(Peek(1));  // names hold nothing that needs an escape
      at_ += std::min<size_t>(2, text_.size() - at_);
    }
    if (at_ < text_.size()) ++at_;
    --depth_;
    return token;
  }

  static constexpr int kMaxDepth = 32;  // of strings in interpolations of strings
  int depth_ = 0;
  const absl::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> interpolations_;
};

// Walks the tokens, keeping for each open bracket whether the input inside is the expression's own.
class Reader {
 public:
  Reader(absl::string_view text, int depth) : lexer_(text), depth_(depth) {
    for (Token token = lexer_.Next(); token.kind != Kind::kEnd; token = lexer_.Next()) tokens_.push_back(token);
    tokens_.emplace_back();
  }

  ExpressionFacts Read() {
    while (at(0).kind != Kind::kEnd) Step();
    for (const std::string& text : lexer_.interpolations()) {
      if (depth_ >= kMaxDepth) {
        facts_.only_known_paths = false;
        break;
      }
      const ExpressionFacts inner = Reader(text, depth_ + 1).Read();
      for (const std::string& word : inner.refused) Refuse(word);
      if (!inner.paths.empty() || !inner.only_known_paths) facts_.only_known_paths = false;
    }
    return std::move(facts_);
  }

 private:
  struct Group {
    char open = '(';
    bool own = true;        // the input is the expression's own
    bool own_start = true;  // as it was when the group began
    bool key = true;        // of an object: a key comes next
  };

  const Token& at(size_t ahead) const { return tokens_[std::min(next_ + ahead, tokens_.size() - 1)]; }
  bool IsSign(size_t ahead, absl::string_view sign) const {
    return at(ahead).kind == Kind::kSign && at(ahead).text == sign;
  }
  Group& group() { return groups_.back(); }

  void Refuse(const std::string& word) {
    if (std::find(facts_.refused.begin(), facts_.refused.end(), word) == facts_.refused.end()) {
      facts_.refused.push_back(word);
    }
  }

  void AddPath(std::string head, std::string field) {
    for (const ExpressionFacts::Path& path : facts_.paths) {
      if (path.head == head && path.field == field) return;
    }
    facts_.paths.push_back({std::move(head), std::move(field)});
  }

  // A term has just been read: what follows may go on from it.
  void AfterTerm() { after_term_ = true; }

  void Step() {
    const Token& token = at(0);
    const bool continues = after_term_;
    after_term_ = false;
    switch (token.kind) {
      case Kind::kField:
        if (continues) {  // `.a.b`, `$x.b`, `f.b`: of whatever came before
          ++next_;
          AfterTerm();
          return;
        }
        Path();
        return;
      case Kind::kDot:
        if (continues) {
          ++next_;
          after_term_ = true;  // `.a.[0]`
          return;
        }
        Dot();
        return;
      case Kind::kWord:
        Word(token);
        return;
      case Kind::kVariable:
        if (std::find(kRefused.begin(), kRefused.end(), token.text) != kRefused.end()) Refuse(token.text);
        ++next_;
        AfterTerm();
        return;
      case Kind::kString:
        if (group().open == '{' && !continues && !(at(1).kind == Kind::kSign && at(1).text == ":")) {
          facts_.only_known_paths = false;  // `{"a"}` may be short for `{a: .a}`
        }
        ++next_;
        AfterTerm();
        return;
      case Kind::kNumber:
        ++next_;
        AfterTerm();
        return;
      case Kind::kSign:
        Sign(token.text, continues);
        return;
      case Kind::kEnd:
        return;
    }
  }

  // A path that begins here.
  void Path() {
    const Token head = at(0);
    ++next_;
    AfterTerm();
    if (!head.plain) {
      facts_.only_known_paths = false;
      return;
    }
    if (IsSign(0, ":") && group().open == '{') return;  // no such key, but no path either
    if (!group().own) return;
    std::string field;
    if (at(0).kind == Kind::kField && at(0).plain) {
      field = at(0).text;
      ++next_;
    }
    AddPath(head.text, field);
  }

  // `.` alone, `.[…]`, `.["name"]`.
  void Dot() {
    ++next_;
    AfterTerm();
    if (!group().own) return;
    if (IsSign(0, "[") && at(1).kind == Kind::kString && at(1).plain && IsSign(2, "]")) {
      AddPath(at(1).text, "");
      next_ += 3;
      return;
    }
    // `. as $x | …` and `.` keep everything.
    facts_.only_known_paths = false;
  }

  void Word(const Token& token) {
    ++next_;
    const std::string& word = token.text;
    // In an object a key is no function.
    const bool key = group().open == '{' && IsSign(0, ":");
    if (key) return;
    if (group().open == '{' && (IsSign(0, ",") || IsSign(0, "}")) && group().key) {  // `{a}` is `{a: .a}`
      if (group().own) AddPath(word, "");
      AfterTerm();
      return;
    }
    if (std::find(kRefused.begin(), kRefused.end(), word) != kRefused.end()) Refuse(word);
    if (word == "and" || word == "or" || word == "try") return;
    if (word == "if") {
      groups_.push_back({'i', group().own, group().own});
      return;
    }
    if (word == "then" || word == "elif" || word == "else") {  // each branch has the input of the whole
      group().own = group().own_start;
      return;
    }
    if (word == "end") {
      Close();
      return;
    }
    // What these bind is beyond what is followed here.
    if (word == "def" || word == "reduce" || word == "foreach" || word == "label" || word == "as" || word == "catch") {
      GiveUp();
      return;
    }
    if (IsSign(0, "(")) {  // a function's arguments: over which input is its own affair
      ++next_;
      if (group().own) facts_.only_known_paths = false;
      groups_.push_back({'(', false, false});
      return;
    }
    // A function of the input: `not`, `length`, `keys`, `..`; only constants look at nothing.
    if (group().own && word != "true" && word != "false" && word != "null" && word != "empty") {
      facts_.only_known_paths = false;
    }
    AfterTerm();
  }

  void Sign(const std::string& sign, bool continues) {
    ++next_;
    if (sign == "(" || sign == "[" || sign == "{") {
      // `.a[.i]`: an index looks at the same input as what surrounds it.
      groups_.push_back({sign[0], group().own, group().own});
      return;
    }
    if (sign == ")" || sign == "]" || sign == "}") {
      Close();
      return;
    }
    if (sign == "|") {
      group().own = false;
      return;
    }
    if (group().open == '{' && (sign == "," || sign == ":")) {
      group().own = group().own_start;  // the next value starts afresh
      group().key = sign == ",";
      return;
    }
    if (sign == "?" && continues) AfterTerm();
  }

  void Close() {
    if (groups_.size() > 1) groups_.pop_back();
    AfterTerm();
  }

  // From here on nothing is certain.
  void GiveUp() {
    facts_.only_known_paths = false;
    for (Group& g : groups_) g.own = g.own_start = false;
  }

  static constexpr int kMaxDepth = 32;  // of interpolations
  Lexer lexer_;
  const int depth_;
  std::vector<Token> tokens_;
  size_t next_ = 0;
  bool after_term_ = false;
  std::vector<Group> groups_{Group{}};
  ExpressionFacts facts_;
};

}  // namespace

ExpressionFacts ReadExpression(absl::string_view text) { return Reader(text, 0).Read(); }

}  // namespace orch
