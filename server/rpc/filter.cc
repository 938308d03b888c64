#include "server/rpc/filter.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
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

// The one state of this name.
template <typename State>
absl::StatusOr<State> StateOf(absl::string_view word, int low, int high) {
  for (int s = low; s <= high; ++s) {
    if (absl::EqualsIgnoreCase(Name(static_cast<State>(s)), word)) return static_cast<State>(s);
  }
  std::string known;
  for (int s = low; s <= high; ++s) absl::StrAppend(&known, s == low ? "" : " ", Name(static_cast<State>(s)));
  return Invalid(absl::StrCat(Quoted(word), " is no state; there are ", known));
}

// Leaves of `states` (empty: all) those that are in `words`, a list with commas.
template <typename State>
absl::Status Narrow(absl::string_view words, int low, int high, std::vector<State>* states) {
  std::vector<State> named;
  for (const absl::string_view word : absl::StrSplit(words, ',')) {
    ASSIGN_OR_RETURN(const State state, StateOf<State>(absl::StripAsciiWhitespace(word), low, high));
    if (std::find(named.begin(), named.end(), state) == named.end()) named.push_back(state);
  }
  std::vector<State> both;
  for (const State state : named) {
    if (states->empty() || std::find(states->begin(), states->end(), state) != states->end()) both.push_back(state);
  }
  if (both.empty()) return Invalid("two different states cannot both hold");
  std::sort(both.begin(), both.end());
  *states = std::move(both);
  return absl::OkStatus();
}

// A term that can be said once.
absl::Status Set(const Term& term, std::string* value) {
  if (!value->empty() && *value != term.value) {
    return Invalid(absl::StrCat(Quoted(term.key), " cannot be two things at once"));
  }
  *value = term.value;
  return absl::OkStatus();
}

constexpr absl::string_view kRunFields =
    "state= (several with commas), pipeline=, orchestrator=, label.KEY=, name= (with * at its end: its beginning) and "
    "name: (contains)";
constexpr absl::string_view kEventFields = "type= (several with commas) and step=";
constexpr std::pair<absl::string_view, EventType> kEventTypes[] = {
    {"RUN_SUBMITTED", EventType::kRunSubmitted},
    {"RUN_STATE_CHANGED", EventType::kRunStateChanged},
    {"STEP_STATE_CHANGED", EventType::kStepStateChanged},
    {"ARTIFACT_LANDED", EventType::kArtifactLanded},
    {"RUN_DELETED", EventType::kRunDeleted},
};
constexpr absl::string_view kStepFields = "state= (several with commas), template_name=, name= and name: (contains)";

absl::Status Unknown(const Term& term, absl::string_view fields) {
  return Invalid(absl::StrCat(Quoted(absl::StrCat(term.key, std::string(1, term.op))),
                              " is no term of an index; there are ", fields));
}

// Field and direction; true: descending.
absl::StatusOr<std::pair<std::string, bool>> ParseOrder(absl::string_view text, const std::vector<std::string>& known) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(text.substr(0, kMaxFilterBytes), absl::ByAnyChar(" \t"), absl::SkipEmpty());
  const std::string field(words.empty() ? "" : words[0]);
  const bool direction = words.size() < 2 || words[1] == "asc" || words[1] == "desc";
  if (words.size() > 2 || !direction || std::find(known.begin(), known.end(), field) == known.end()) {
    const std::string why = absl::StrCat(Quoted(text), " is no order of an index; there are ",
                                         absl::StrJoin(known, ", "), ", each alone or with ` desc`");
    return InvalidInput("ORDER_BY_INVALID", absl::StrCat("order_by: ", why),
                        {{"request.order_by", why, "ORDER_BY_INVALID"}});
  }
  return std::pair<std::string, bool>(field, words.size() == 2 && words[1] == "desc");
}

}  // namespace

absl::StatusOr<store::RunFilter> ParseRunFilter(absl::string_view text) {
  store::RunFilter out;
  ASSIGN_OR_RETURN(const std::vector<Term> terms, Split(text));
  for (const Term& term : terms) {
    const bool equals = term.op == '=';
    if (!equals && term.key == "name") {
      RETURN_IF_ERROR(Set(term, &out.name_contains));
    } else if (equals && term.key == "name" && term.value.size() > 1 && term.value.back() == '*') {
      RETURN_IF_ERROR(Set({term.key, term.op, term.value.substr(0, term.value.size() - 1)}, &out.name_prefix));
    } else if (equals && term.key == "name") {
      RETURN_IF_ERROR(Set(term, &out.name));
    } else if (equals && term.key == "state") {
      RETURN_IF_ERROR(Narrow(term.value, 1, static_cast<int>(RunState::kCancelled), &out.states));
    } else if (equals && term.key == "pipeline") {
      RETURN_IF_ERROR(Set(term, &out.pipeline));
    } else if (equals && term.key == "orchestrator") {
      RETURN_IF_ERROR(Set(term, &out.orchestrator));
    } else if (equals && absl::StartsWith(term.key, "label.") && term.key.size() > 6) {
      out.labels.emplace_back(term.key.substr(6), term.value);
    } else {
      return Unknown(term, kRunFields);
    }
  }
  return out;
}

absl::StatusOr<StepTerms> ParseStepFilter(absl::string_view text) {
  StepTerms out;
  ASSIGN_OR_RETURN(const std::vector<Term> terms, Split(text));
  for (const Term& term : terms) {
    const bool equals = term.op == '=';
    if (!equals && term.key == "name") {
      RETURN_IF_ERROR(Set(term, &out.name_contains));
    } else if (equals && term.key == "name") {
      RETURN_IF_ERROR(Set(term, &out.name));
    } else if (equals && term.key == "state") {
      RETURN_IF_ERROR(Narrow(term.value, 1, static_cast<int>(StepState::kSkipped), &out.states));
    } else if (equals && term.key == "template_name") {
      RETURN_IF_ERROR(Set(term, &out.template_name));
    } else {
      return Unknown(term, kStepFields);
    }
  }
  return out;
}

bool Passes(const store::RunFilter& filter, const RunHeader& run) {
  for (const auto& label : filter.labels) {
    if (std::find(run.labels.begin(), run.labels.end(), label) == run.labels.end()) return false;
  }
  const auto lower = [](absl::string_view text) { return absl::AsciiStrToLower(text); };  // as LIKE compares
  return run.project == filter.project && (filter.pipeline.empty() || run.pipeline == filter.pipeline) &&
         (filter.orchestrator.empty() || run.orchestrator == filter.orchestrator) &&
         (filter.name.empty() || run.name == filter.name) && absl::StartsWith(run.name, filter.name_prefix) &&
         (filter.name_contains.empty() || absl::StrContains(lower(run.name), lower(filter.name_contains)));
}

absl::StatusOr<EventTerms> ParseEventFilter(absl::string_view text) {
  EventTerms out;
  ASSIGN_OR_RETURN(const std::vector<Term> terms, Split(text));
  for (const Term& term : terms) {
    if (term.op != '=' || (term.key != "type" && term.key != "step")) return Unknown(term, kEventFields);
    if (term.key == "step") {
      RETURN_IF_ERROR(Set(term, &out.step));
      continue;
    }
    if (!out.types.empty()) return Invalid("`type` comes twice; write several types with commas");
    for (absl::string_view word : absl::StrSplit(term.value, ',')) {
      word = absl::StripAsciiWhitespace(word);
      const auto* found = std::find_if(std::begin(kEventTypes), std::end(kEventTypes),
                                       [&](const auto& t) { return absl::EqualsIgnoreCase(t.first, word); });
      if (found == std::end(kEventTypes)) {
        std::string known;
        for (const auto& [name, type] : kEventTypes) absl::StrAppend(&known, known.empty() ? "" : " ", name);
        return Invalid(absl::StrCat(Quoted(word), " is no type of event; there are ", known));
      }
      if (std::find(out.types.begin(), out.types.end(), found->second) == out.types.end()) {
        out.types.push_back(found->second);
      }
    }
  }
  return out;
}

absl::StatusOr<store::RunOrder> ParseRunOrder(absl::string_view text) {
  if (text.empty()) return store::RunOrder::kNewestFirst;
  ASSIGN_OR_RETURN(const auto order, ParseOrder(text, {"create_time", "name"}));
  if (order.first == "name") return order.second ? store::RunOrder::kByNameDescending : store::RunOrder::kByName;
  return order.second ? store::RunOrder::kNewestFirst : store::RunOrder::kOldestFirst;
}

absl::StatusOr<bool> ParseStepOrder(absl::string_view text) {
  if (text.empty()) return false;
  ASSIGN_OR_RETURN(const auto order, ParseOrder(text, {"index"}));
  return order.second;
}

}  // namespace orch::rpc
