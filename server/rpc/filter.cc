#include "server/rpc/filter.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/rpc/checks.h"

namespace orch::rpc {
namespace {

constexpr size_t kMaxFilterBytes = 4096;
constexpr size_t kMaxTerms = 32;

struct Term {
  std::string key;
  char op = '=';  // `=` or `:`
  std::string value;
};

absl::Status Invalid(absl::string_view why) {
  return InvalidInput("FILTER_INVALID", absl::StrCat("filter: ", why),
                      {{"request.filter", std::string(why), "FILTER_INVALID"}});
}

// Reads one value: a quoted text, or everything up to a space.
absl::StatusOr<std::string> TakeValue(absl::string_view* rest) {
  std::string value;
  if (!absl::ConsumePrefix(rest, "\"")) {
    const size_t end = std::min(rest->find(' '), rest->size());
    value = std::string(rest->substr(0, end));
    rest->remove_prefix(end);
    return value;
  }
  while (!rest->empty() && rest->front() != '"') {
    if (rest->front() == '\\' && rest->size() > 1) rest->remove_prefix(1);
    value.push_back(rest->front());
    rest->remove_prefix(1);
  }
  if (!absl::ConsumePrefix(rest, "\"")) return Invalid("a quote is not closed");
  return value;
}

absl::StatusOr<std::vector<Term>> Split(absl::string_view rest) {
  if (rest.size() > kMaxFilterBytes) return Invalid(absl::StrCat("it is longer than ", kMaxFilterBytes, " bytes"));
  std::vector<Term> terms;
  rest = absl::StripAsciiWhitespace(rest);
  while (!rest.empty()) {
    Term term;
    const size_t op = rest.find_first_of("=:");
    if (op == absl::string_view::npos || op == 0) {
      return Invalid(absl::StrCat(Quoted(rest), " is no term; write `key=value`"));
    }
    term.key = std::string(absl::StripAsciiWhitespace(rest.substr(0, op)));
    term.op = rest[op];
    rest = absl::StripLeadingAsciiWhitespace(rest.substr(op + 1));
    ASSIGN_OR_RETURN(term.value, TakeValue(&rest));
    if (term.value.empty()) return Invalid(absl::StrCat(Quoted(term.key), " has no value"));
    terms.push_back(std::move(term));
    if (terms.size() > kMaxTerms) return Invalid(absl::StrCat("it has more than ", kMaxTerms, " terms"));
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (rest.empty()) break;
    if (!absl::ConsumePrefix(&rest, "AND ")) {
      return Invalid(absl::StrCat("terms are joined by AND, found ", Quoted(rest)));
    }
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (rest.empty()) return Invalid("nothing follows AND");
  }
  return terms;
}

// The states that are both in `states` (empty: all) and `wanted`.
template <typename State>
absl::Status Narrow(absl::string_view word, int low, int high, std::vector<State>* states) {
  for (int s = low; s <= high; ++s) {
    const auto state = static_cast<State>(s);
    if (!absl::EqualsIgnoreCase(Name(state), word)) continue;
    if (!states->empty() && (*states)[0] != state) return Invalid("two different states cannot both hold");
    *states = {state};
    return absl::OkStatus();
  }
  std::string known;
  for (int s = low; s <= high; ++s) absl::StrAppend(&known, s == low ? "" : " ", Name(static_cast<State>(s)));
  return Invalid(absl::StrCat(Quoted(word), " is no state; there are ", known));
}

}  // namespace

absl::StatusOr<store::RunFilter> ParseRunFilter(absl::string_view text) {
  store::RunFilter out;
  ASSIGN_OR_RETURN(const std::vector<Term> terms, Split(text));
  for (const Term& term : terms) {
    if (term.op == ':' && term.key == "name") {
      out.name_contains = term.value;
    } else if (term.op == ':') {
      return Invalid(absl::StrCat("`:` (contains) goes with `name`, not with ", Quoted(term.key)));
    } else if (term.key == "state") {
      RETURN_IF_ERROR(Narrow(term.value, 1, static_cast<int>(RunState::kCancelled), &out.states));
    } else if (term.key == "pipeline") {
      out.pipeline = term.value;
    } else if (term.key == "orchestrator") {
      out.orchestrator = term.value;
    } else if (absl::StartsWith(term.key, "label.") && term.key.size() > 6) {
      out.labels.emplace_back(term.key.substr(6), term.value);
    } else {
      return Invalid(absl::StrCat(Quoted(term.key),
                                  " is unknown; there are state=, pipeline=, orchestrator=, label.KEY= and name:"));
    }
  }
  return out;
}

absl::StatusOr<StepTerms> ParseStepFilter(absl::string_view text) {
  StepTerms out;
  ASSIGN_OR_RETURN(const std::vector<Term> terms, Split(text));
  for (const Term& term : terms) {
    if (term.op == ':' && term.key == "name") {
      out.name_contains = term.value;
    } else if (term.op == ':') {
      return Invalid(absl::StrCat("`:` (contains) goes with `name`, not with ", Quoted(term.key)));
    } else if (term.key == "state") {
      RETURN_IF_ERROR(Narrow(term.value, 1, static_cast<int>(StepState::kSkipped), &out.states));
    } else if (term.key == "template_name") {
      out.template_name = term.value;
    } else {
      return Invalid(absl::StrCat(Quoted(term.key), " is unknown; there are state=, template_name= and name:"));
    }
  }
  return out;
}

}  // namespace orch::rpc
