// The filters of lists: what is read and written with quotes is read the same.
#include "server/rpc/filter.h"

#include "server/model/states.h"
#include "server/store/encoding.h"
#include "tests/fuzz/fuzz.h"

namespace orch::rpc {
namespace {

std::string Quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

class Writer {
 public:
  void Term(std::string_view key, char op, std::string_view value) {
    if (value.empty()) return;
    out_ += std::string(out_.empty() ? "" : " AND ") + std::string(key) + op + Quote(value);
  }
  const std::string& text() const { return out_; }

 private:
  std::string out_;
};

template <typename State>
std::string Names(const std::vector<State>& states) {
  std::string out;
  for (const State state : states) out += std::string(out.empty() ? "" : ",") + std::string(Name(state));
  return out;
}

// Repeated terms are written once, so only short ones are sure to fit again.
constexpr size_t kShort = 1000;

void Check(std::string_view input) {
  const absl::string_view text(input.data(), input.size());
  if (const auto filter = ParseRunFilter(text); filter.ok()) {
    Writer writer;
    writer.Term("state", '=', Names(filter->states));
    writer.Term("pipeline", '=', filter->pipeline);
    writer.Term("orchestrator", '=', filter->orchestrator);
    writer.Term("name", ':', filter->name_contains);
    writer.Term("name", '=', filter->name);
    if (!filter->name_prefix.empty()) writer.Term("name", '=', filter->name_prefix + "*");
    for (const auto& [key, value] : filter->labels) writer.Term("label." + key, '=', value);
    const auto again = ParseRunFilter(writer.text());
    if (input.size() < kShort) {
      REQUIRE(again.ok());
      REQUIRE(again->states == filter->states && again->pipeline == filter->pipeline);
      REQUIRE(again->orchestrator == filter->orchestrator && again->name_contains == filter->name_contains);
      REQUIRE(again->name == filter->name && again->name_prefix == filter->name_prefix);
      REQUIRE(again->labels == filter->labels);
    }
    (void)store::EscapeLike(filter->name_contains);
  } else {
    REQUIRE(!filter.status().message().empty());
  }
  if (const auto events = ParseEventFilter(text); events.ok()) {
    REQUIRE(events->types.size() <= 5);
    Writer writer;
    writer.Term("step", '=', events->step);
    const auto again = ParseEventFilter(writer.text());
    if (input.size() < kShort) REQUIRE(again.ok() && again->step == events->step);
  }
  if (const auto order = ParseRunOrder(text); !order.ok()) REQUIRE(!order.status().message().empty());
  if (const auto order = ParseStepOrder(text); !order.ok()) REQUIRE(!order.status().message().empty());
  if (const auto terms = ParseStepFilter(text); terms.ok()) {
    Writer writer;
    writer.Term("state", '=', Names(terms->states));
    writer.Term("template_name", '=', terms->template_name);
    writer.Term("name", '=', terms->name);
    writer.Term("name", ':', terms->name_contains);
    const auto again = ParseStepFilter(writer.text());
    if (input.size() < kShort) {
      REQUIRE(again.ok() && again->states == terms->states);
      REQUIRE(again->template_name == terms->template_name && again->name_contains == terms->name_contains);
      REQUIRE(again->name == terms->name);
    }
  }
}

}  // namespace
}  // namespace orch::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::rpc::Check(orch::fuzz::View(data, size));
  return 0;
}
