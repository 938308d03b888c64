#include "client/cli/run_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/table.h"
#include "client/cli/text.h"

namespace orch::cli {
namespace {

constexpr int kFailuresShown = 5;
constexpr int kLogLinesShown = 10;

std::string UrlOf(const v1::Run& run) {
  const auto it = run.run_metadata().find("orchestrator_url");
  return it == run.run_metadata().end() ? "" : it->second;
}

std::string ExitText(const v1::Step& step) {
  if (step.has_exit_code()) return absl::StrCat(step.exit_code());
  return step.has_signal() ? absl::StrCat("signal ", step.signal()) : "";
}

std::string LabelsText(const google::protobuf::Map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : labels) parts.push_back(absl::StrCat(key, "=", value));
  std::sort(parts.begin(), parts.end());
  return absl::StrJoin(parts, ", ");
}

std::string StepsText(const v1::Run& run) {
  const std::string words = CountsInWords(run.step_counts());
  return words.empty() ? absl::StrCat(run.step_count()) : absl::StrCat(run.step_count(), " (", words, ")");
}

// `2 (1: FAILED in 3.2s, 1 step failed)`; nothing of a run that was never retried.
std::string GenerationText(const v1::Run& run) {
  if (run.generation() <= 1) return "";
  std::vector<std::string> earlier;
  for (const v1::Run::Generation& generation : run.earlier_generations()) {
    const std::string took = RunTime(generation, 0);
    earlier.push_back(absl::StrCat(generation.number(), ": ", v1::Run::State_Name(generation.state()),
                                   took.empty() ? "" : " in ", took, generation.message().empty() ? "" : ", ",
                                   generation.message()));
  }
  return absl::StrCat(run.generation(), earlier.empty() ? "" : absl::StrCat(" (", absl::StrJoin(earlier, "; "), ")"));
}

// `3.0s`, of this generation; of a run that was retried also of all, without the pauses between them:
// `3.0s (7.0s in 2 generations)`. That is left out if one of them started nothing.
std::string TimeText(const v1::Run& run, int64_t now) {
  const std::string time = RunTime(run, now);
  if (time.empty() || run.earlier_generations().empty()) return time;
  int64_t all = (run.has_end_time() ? Micros(run.end_time()) : now) - Micros(run.start_time());
  for (const v1::Run::Generation& generation : run.earlier_generations()) {
    if (!generation.has_start_time() || !generation.has_end_time()) return time;
    all += Micros(generation.end_time()) - Micros(generation.start_time());
  }
  return absl::StrCat(time, " (", Elapsed(all), " in ", run.generation(), " generations)");
}

// The newest lines that a step wrote, indented.
std::string LastLines(client::Client& client, const v1::Step& step) {
  v1::TailLogsRequest request;
  request.set_run(step.run());
  request.set_step(step.name());
  request.set_attempt(step.attempt());
  request.set_tail_lines(kLogLinesShown);
  std::string text;
  const absl::Status status = client.TailLogs(request, [&text](const v1::TailLogsResponse& chunk) {
    text += chunk.data();
    return text.size() < (1 << 20);
  });
  if (!status.ok()) return "";
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  while (!lines.empty() && absl::StripAsciiWhitespace(lines.back()).empty()) lines.pop_back();
  if (lines.size() > kLogLinesShown) lines.erase(lines.begin(), lines.end() - kLogLinesShown);
  std::string out;
  for (absl::string_view line : lines) absl::StrAppend(&out, "    | ", Clean(line), "\n");
  return out;
}

}  // namespace

std::string RunsTable(const std::vector<v1::Run>& runs, const Style& style, bool wide) {
  std::vector<std::string> headers = {"NAME", "STATE", "STEPS", "PIPELINE", "CREATED", "TIME"};
  if (wide) headers.insert(headers.end(), {"ORCHESTRATOR", "LABELS", "REASON", "ID", "URL"});
  Table table(headers);
  const int64_t now = WallNow();
  for (const v1::Run& run : runs) {
    std::vector<Cell> row = {run.name(),
                             {v1::Run::State_Name(run.state()), ColorOf(run.state())},
                             absl::StrCat(EndedSteps(run.step_counts()), "/", run.step_count()),
                             absl::StrCat(run.pipeline(), run.pipeline_version() > 0 ? "@" : "",
                                          run.pipeline_version() > 0 ? absl::StrCat(run.pipeline_version()) : ""),
                             run.has_create_time() ? Ago(Micros(run.create_time()), now) : "",
                             RunTime(run, now)};
    if (wide) {
      for (const std::string& text :
           {run.orchestrator(), LabelsText(run.labels()), ReasonName(run.reason()), run.id(), UrlOf(run)}) {
        row.emplace_back(text);
      }
    }
    table.Add(std::move(row));
  }
  return table.Render(style);
}

std::string RunFacts(const v1::Run& run, const Style& style) {
  const int64_t now = WallNow();
  const auto time = [now](bool has, const google::protobuf::Timestamp& t) {
    return has ? absl::StrCat(t.seconds() == 0 ? "" : Ago(Micros(t), now)) : std::string();
  };
  return RenderFacts({{"Name", run.name()},
                      {"State", {v1::Run::State_Name(run.state()), ColorOf(run.state())}},
                      {"Reason", ReasonName(run.reason())},
                      {"Message", run.message()},
                      {"Steps", StepsText(run)},
                      {"Generation", GenerationText(run)},
                      {"Pipeline", absl::StrCat(run.pipeline(), "@", run.pipeline_version())},
                      {"Orchestrator", run.orchestrator()},
                      {"Labels", LabelsText(run.labels())},
                      {"Created", time(run.has_create_time(), run.create_time())},
                      {"Ended", time(run.has_end_time(), run.end_time())},
                      {"Time", TimeText(run, now)},
                      {"ID", run.id()},
                      {"orchestrator_url", UrlOf(run)}},
                     style);
}

std::string HooksText(const google::protobuf::RepeatedPtrField<v1::HookRun>& hooks, const std::string& run,
                      const Style& style) {
  if (hooks.empty()) return "";
  Table table({"HOOK", "STATE", "TIME", "WHY", "LOG"});
  for (const v1::HookRun& hook : hooks) {
    const bool bad = hook.state() == v1::HookRun::FAILED || hook.state() == v1::HookRun::TIMED_OUT;
    table.Add({hook.event(),
               {v1::HookRun::State_Name(hook.state()), bad ? Color::kRed : Color::kDim},
               RunTime(hook, WallNow()),
               Clean(hook.message()),
               absl::StrCat("orchctl logs ", run, " --hook ", hook.id())});
  }
  return absl::StrCat("\n", table.Render(style));
}

std::string Why(v1::Reason::Code reason, bool has_exit_code, int exit_code, absl::string_view message) {
  std::string text = ReasonName(reason);
  if (has_exit_code && exit_code != 0) absl::StrAppend(&text, text.empty() ? "" : " ", exit_code);
  if (has_exit_code && message == absl::StrCat("exit code ", exit_code)) return text;  // said already
  if (!message.empty()) absl::StrAppend(&text, text.empty() ? "" : ": ", message);
  return text;
}

std::string StepsTable(const std::vector<v1::Step>& steps, const Style& style, bool wide) {
  std::vector<std::string> headers = {"STEP", "STATE", "ATTEMPT", "TIME"};
  if (wide) headers.insert(headers.end(), {"EXIT", "ORCHESTRATOR", "STARTED"});
  const bool items =
      std::any_of(steps.begin(), steps.end(), [](const v1::Step& step) { return step.item().fields_size() > 0; });
  if (items) headers.emplace_back("ITEM");
  headers.emplace_back("REASON");
  Table table(headers);
  const int64_t now = WallNow();
  for (const v1::Step& step : steps) {
    const std::string state =
        absl::StrCat(v1::Step::State_Name(step.state()), step.phase().empty() ? "" : "/", step.phase());
    std::vector<Cell> row = {step.name(),
                             {state, ColorOf(step.state())},
                             step.attempt() > 0 ? absl::StrCat(step.attempt()) : "",
                             RunTime(step, now)};
    if (wide) {
      row.emplace_back(ExitText(step));
      row.emplace_back(step.orchestrator());
      row.emplace_back(step.has_start_time() ? ClockTime(Micros(step.start_time())) : "");
    }
    if (items) row.emplace_back(wide ? ItemText(step.item()) : Fit(ItemText(step.item()), 40));
    std::string why = Why(step.reason(), step.has_exit_code(), step.exit_code(), step.message());
    row.emplace_back(wide ? why : Fit(Clean(why), 80));
    table.Add(std::move(row));
  }
  return table.Render(style);
}

absl::StatusOr<v1::ListStepsResponse> AllSteps(client::Client& client, const std::string& run,
                                               const std::string& filter, int64_t limit, const std::string& order) {
  v1::ListStepsRequest request;
  request.set_run(run);
  request.set_filter(filter);
  request.set_order_by(order);
  v1::ListStepsResponse all;
  while (true) {
    const int64_t left = limit == 0 ? 1000 : limit - all.steps_size();
    request.set_page_size(static_cast<int32_t>(std::min<int64_t>(left, 1000)));
    absl::StatusOr<v1::ListStepsResponse> page = client.ListSteps(request);
    if (!page.ok()) return page.status();
    for (v1::Step& step : *page->mutable_steps()) *all.add_steps() = std::move(step);
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty() || (limit > 0 && all.steps_size() >= limit)) return all;
    request.set_page_token(page->next_page_token());
  }
}

void PrintSummary(Session& session, client::Client& client, const v1::Run& run, bool url) {
  const Style& style = session.err();
  if (session.globals().quiet) return;
  std::string text;
  if (run.state() == v1::Run::FAILED || run.step_counts().contains("FAILED")) {
    const auto failed = AllSteps(client, run.name(), "state=FAILED", kFailuresShown + 1);
    int shown = 0;
    const v1::ListStepsResponse steps = failed.ok() ? *failed : v1::ListStepsResponse();
    for (const v1::Step& step : steps.steps()) {
      if (++shown > kFailuresShown) {
        absl::StrAppend(&text, "  more: orchctl list-steps ", run.name(), " --filter state=FAILED\n");
        break;
      }
      const std::string item = ItemText(step.item());
      absl::StrAppend(&text, style.Paint(step.name(), Color::kBold), item.empty() ? "" : absl::StrCat(" (", item, ")"),
                      " ", style.Paint("FAILED", Color::kRed), " ",
                      Clean(Why(step.reason(), step.has_exit_code(), step.exit_code(), step.message())), "\n",
                      LastLines(client, step), "    all of it: orchctl logs ", run.name(), " '", step.name(), "'\n");
    }
  }
  const std::string time = RunTime(run, WallNow());
  const std::string counts = CountsInWords(run.step_counts());
  absl::StrAppend(&text, run.name(), " ", style.Paint(v1::Run::State_Name(run.state()), ColorOf(run.state())),
                  time.empty() ? "" : " in ", time, counts.empty() ? "" : ": ", counts, "\n");
  // How many failed is in the counts already.
  const bool more = run.state() != v1::Run::SUCCEEDED && run.reason() != v1::Reason::STEP_FAILED;
  if (!run.message().empty() && more) absl::StrAppend(&text, Clean(run.message()), "\n");
  if (const std::string at = UrlOf(run); url && !at.empty()) absl::StrAppend(&text, at, "\n");
  WriteErr(text);
}

}  // namespace orch::cli
