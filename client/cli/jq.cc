#include "client/cli/jq.h"

extern "C" {
#include <jq.h>
#include <jv.h>
}

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

std::string Dump(jv value, int flags) {
  jv text = jv_dump_string(value, flags);
  std::string out(jv_string_value(text), static_cast<size_t>(jv_string_length_bytes(jv_copy(text))));
  jv_free(text);
  return out;
}

// libjq's own words, the first of them only: the rest is about its internals.
void Collect(void* data, jv message) {
  auto* first = static_cast<std::string*>(data);
  if (first->empty() && jv_get_kind(message) == JV_KIND_STRING) *first = jv_string_value(message);
  jv_free(message);
}

absl::Status Invalid(absl::string_view expression, std::string why) {
  why = absl::StrReplaceAll(why, {{"\n", " "}});
  while (!why.empty() && why.back() == ' ') why.pop_back();
  return Error(absl::StatusCode::kInvalidArgument, "JQ_INVALID",
               absl::StrCat("--jq '", expression, "': ", why, "; try it on the output of -o json"));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> RunJq(absl::string_view json, absl::string_view expression) {
  struct Closer {
    jq_state* state;
    ~Closer() { jq_teardown(&state); }
  } jq{jq_init()};
  std::string complaint;
  jq_set_error_cb(jq.state, Collect, &complaint);
  if (jq_compile(jq.state, std::string(expression).c_str()) == 0) {
    return Invalid(expression, complaint.empty() ? "it is no jq expression" : complaint);
  }
  jv input = jv_parse_sized(json.data(), static_cast<int>(json.size()));
  if (!jv_is_valid(input)) {
    jv_free(input);
    return Error(absl::StatusCode::kInternal, "JSON_INVALID", "the answer could not be read back as JSON");
  }
  jq_start(jq.state, input, 0);
  std::vector<std::string> results;
  while (true) {
    jv result = jq_next(jq.state);
    if (!jv_is_valid(result)) {
      if (!jv_invalid_has_msg(jv_copy(result))) {
        jv_free(result);
        return results;
      }
      jv message = jv_invalid_get_msg(result);
      std::string why = jv_get_kind(message) == JV_KIND_STRING ? jv_string_value(message) : Dump(jv_copy(message), 0);
      jv_free(message);
      return Invalid(expression, why);
    }
    if (jv_get_kind(result) == JV_KIND_STRING) {
      results.emplace_back(jv_string_value(result), static_cast<size_t>(jv_string_length_bytes(jv_copy(result))));
      jv_free(result);
    } else {
      results.push_back(Dump(result, 0));
    }
  }
}

}  // namespace orch::cli
