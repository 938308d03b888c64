#include "server/core/explain.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/core/upstreams.h"

namespace orch {
namespace {

std::string Quote(absl::string_view name) { return absl::StrCat("`", name, "`"); }

std::string More(int64_t more) { return more > 0 ? absl::StrCat(" and ", more, " more") : std::string(); }

// `` `train[2]` (RUNNING) and 7 more``.
std::string Named(const Graph& graph, const StepsFound& found) {
  const BriefStep& first = found.steps.front();
  return absl::StrCat(Quote(graph.StepName(first.ix)), " (", Name(first.state), ")", More(found.total - 1));
}

void Explain(const Graph& graph, const std::string& run, const StepsFound& found, Cause* cause) {
  const BriefStep& first = found.steps.front();
  cause->run = run;
  cause->step = graph.StepName(first.ix);
  cause->step_state = first.state;
  cause->more = found.total - 1;
}

}  // namespace

std::string ClockWords(int64_t wall_micros) {
  const int64_t second = wall_micros / 1'000'000 % 86'400;
  return absl::StrFormat("%02d:%02d:%02d UTC", second / 3600, second / 60 % 60, second % 60);
}

std::string EndInWords(Reason reason, const std::optional<int>& exit_code, const std::optional<int>& signal,
                       int64_t peak_memory, const std::string& message) {
  std::string out;
  if (reason == Reason::kOutOfMemory) {
    out = "out of memory";
  } else if (reason == Reason::kExitCode && exit_code.has_value()) {
    out = absl::StrCat("exit code ", *exit_code);
  } else if (reason == Reason::kSignaled && signal.has_value()) {
    out = absl::StrCat("ended by signal ", *signal);
  } else {
    out = std::string(Name(reason));
  }
  // Backends say much the same in their words.
  const bool said = absl::StartsWith(message, out);
  if (said) out = message;
  const bool of_memory = reason == Reason::kOutOfMemory || (reason == Reason::kSignaled && signal == 9);
  if (of_memory && peak_memory > 0) {
    absl::StrAppend(&out, absl::StrFormat(", memory peaked at %.1f MiB", static_cast<double>(peak_memory) / (1 << 20)));
  }
  if (!message.empty() && !said) absl::StrAppend(&out, ": ", message);
  return out;
}

std::vector<Cause> ExplainUpstreams(const Graph& graph, const std::string& run, StepIx ix, uint32_t states,
                                    const StepFinder& find) {
  const StepSpec& spec = graph.SpecOf(ix);
  const auto words = [&spec](const Upstream& upstream) -> std::string {
    switch (upstream.why) {
      case Upstream::Why::kGroup:
        return "it is an instance of";
      case Upstream::Why::kList:
        return absl::StrCat("it fans out over ", Quote(spec.foreach[upstream.number].from), ", from");
      case Upstream::Why::kItems:
        return "it has the instances of";
      case Upstream::Why::kInput:
        return absl::StrCat("input ", Quote(spec.inputs[upstream.number].name), " comes from");
      case Upstream::Why::kAfter:
        return "it comes after";
    }
    return "";
  };
  std::vector<Cause> out;
  for (const Upstream& upstream : UpstreamsOf(graph, ix)) {
    if (out.size() >= kMostCauses) break;
    StepsFound found;
    for (const StepRange& range : upstream.steps) {
      StepsFound more = find(range.first, range.count, states, 1);
      found.total += more.total;
      if (found.steps.empty()) found.steps = std::move(more.steps);
    }
    if (found.total == 0) continue;
    Cause& cause = out.emplace_back();
    Explain(graph, run, found, &cause);
    if (upstream.why == Upstream::Why::kInput) cause.input = spec.inputs[upstream.number].name;
    cause.text = absl::StrCat(words(upstream), " ", Named(graph, found));
  }
  return out;
}

namespace {

constexpr int kMostLinks = 1000;

// Where a chain of steps skipped because of one another began: the first that ended for a reason of its own. `ix` is
// one of those skipped.
std::optional<BriefStep> RootOf(const Graph& graph, StepIx ix, const StepFinder& find) {
  std::optional<BriefStep> root;
  for (int n = 0; n < kMostLinks; ++n) {
    StepsFound found;
    for (const Upstream& upstream : UpstreamsOf(graph, ix)) {
      for (const StepRange& range : upstream.steps) {
        if (found.steps.empty()) found = find(range.first, range.count, kBadStates, 1);
      }
    }
    if (found.steps.empty()) return root;
    root = std::move(found.steps.front());
    ix = root->ix;
    const bool for_another = root->reason == Reason::kUpstreamFailed || root->reason == Reason::kUpstreamSkipped;
    if (root->state != StepState::kSkipped || !for_another) return root;
  }
  return root;
}

// Says of the first cause how it came about.
void AddRoot(const Graph& graph, const std::string& run, StepIx ix, const StepFinder& find, Explained* out) {
  if (out->causes.empty()) return;
  const std::optional<BriefStep> root = RootOf(graph, ix, find);
  if (!root.has_value()) return;
  // How a step failed its message says best.
  const bool said = root->state == StepState::kFailed && !root->text.empty();
  std::string why(said || root->reason == Reason::kNone ? "" : Name(root->reason));
  if (!root->text.empty()) absl::StrAppend(&why, why.empty() ? "" : ", ", root->text);
  if (why.empty()) return;
  const std::string step = graph.StepName(root->ix);
  if (step == out->causes[0].step) {
    absl::StrAppend(&out->causes[0].text, ": ", why);
    return;
  }
  Cause& cause = out->causes.emplace_back();
  cause.reason = root->reason;
  cause.run = run;
  cause.step = step;
  cause.step_state = root->state;
  cause.text = absl::StrCat("it began with ", Quote(step), " (", Name(root->state), "): ", why);
}

}  // namespace

Explained ExplainEnded(const Graph& graph, const std::string& run, const RunRow& run_row, const StepRow& row,
                       const StepFinder& find) {
  Explained out;
  out.run_state = run_row.state;
  out.state = row.state;
  out.reason = row.reason;
  out.attempt = row.attempt;
  out.asked = row.state == StepState::kCached || row.attempt > 0;
  const std::string name = Quote(graph.StepName(row.ix));
  const auto cause = [&](std::string text) {
    Cause c;
    c.reason = row.reason;
    c.text = std::move(text);
    out.causes.push_back(std::move(c));
  };
  switch (row.state) {
    case StepState::kSucceeded:
      out.summary = absl::StrCat(name, " succeeded", row.attempt > 1 ? absl::StrCat(" in attempt ", row.attempt) : "",
                                 graph.IsGroup(row.ix) && !row.message.empty() ? ": " : "",
                                 graph.IsGroup(row.ix) ? row.message : "");
      break;
    case StepState::kCached:
      out.summary = absl::StrCat(name, " was cached: ", row.message);
      cause(row.message);
      out.causes.back().run = row.cached_from;
      break;
    case StepState::kFailed:
      out.summary =
          absl::StrCat(name, " failed", row.attempt > 1 ? absl::StrCat(" after ", row.attempt, " attempts") : "", ": ",
                       EndInWords(row.reason, row.exit_code, row.signal, 0, row.message));
      cause(EndInWords(row.reason, row.exit_code, row.signal, 0, row.message));
      break;
    case StepState::kCancelled:
      out.summary =
          absl::StrCat(name, " was cancelled", row.reason == Reason::kRunHalted ? " because another step failed" : "");
      cause(row.reason == Reason::kRunHalted ? run_row.message : std::string("somebody asked for it"));
      break;
    case StepState::kSkipped: {
      const TriggerRule rule = graph.SpecOf(row.ix).options().trigger_rule;
      if (row.reason == Reason::kUpstreamFailed || row.reason == Reason::kUpstreamSkipped ||
          row.reason == Reason::kTriggerRule) {
        out.causes = ExplainUpstreams(graph, run, row.ix,
                                      row.reason == Reason::kTriggerRule
                                          ? Bit(StepState::kSucceeded) | Bit(StepState::kCached) | kBadStates
                                          : kBadStates,
                                      find);
        for (Cause& c : out.causes) c.reason = row.reason;
        const size_t direct = out.causes.size();
        if (row.reason != Reason::kTriggerRule) AddRoot(graph, run, row.ix, find, &out);
        out.summary = absl::StrCat(name, " was skipped: its rule ", Quote(Name(rule)), " was not met",
                                   out.causes.empty() ? "" : ", ", out.causes.empty() ? "" : out.causes[0].text,
                                   out.causes.size() > direct ? "; " : "",
                                   out.causes.size() > direct ? out.causes.back().text : "");
      } else {
        out.summary =
            absl::StrCat(name, " was skipped: ", Name(row.reason), row.message.empty() ? "" : ", ", row.message);
      }
      if (!row.message.empty() && out.causes.empty()) cause(row.message);
      break;
    }
    default:
      break;
  }
  return out;
}

Explained ExplainEnded(const Graph& graph, const std::string& run, const RunRow& run_row, const StepFinder& find) {
  Explained out;
  out.run_state = run_row.state;
  out.reason = run_row.reason;
  out.summary = absl::StrCat(Quote(run), " ended ", Name(run_row.state),
                             run_row.message.empty() ? "" : absl::StrCat(": ", run_row.message));
  StepsFound bad = find(0, graph.step_count(), Bit(StepState::kFailed), kMostCauses);
  for (BriefStep& step : bad.steps) {
    if (out.causes.size() < 5) {
      Cause& cause = out.causes.emplace_back();
      cause.reason = step.reason;
      cause.run = run;
      cause.step = graph.StepName(step.ix);
      cause.step_state = step.state;
      cause.text = absl::StrCat(Quote(cause.step), " failed: ", Name(step.reason));
    }
    out.steps.push_back(std::move(step));
  }
  return out;
}

}  // namespace orch
