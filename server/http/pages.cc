#include "server/http/pages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "orch/v1/log_service.pb.h"
#include "orch/v1/run_service.pb.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/http/html.h"
#include "server/rpc/errors.h"
#include "server/rpc/urls.h"
#include "server/rpc/values.h"

namespace orch::http {
namespace {

constexpr int kStepsPerPage = 500;
constexpr int kEmptyPages = 120;
constexpr int kRefreshSeconds = 2;
constexpr int64_t kLogBytes = 256 << 10;

Response Html(int status, std::string html) {
  Response response;
  response.status = status;
  response.content_type = "text/html; charset=utf-8";
  response.body = std::move(html);
  response.headers = {{"Content-Security-Policy", std::string(ContentSecurityPolicy())},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-store"}};
  return response;
}

int64_t MicrosOf(const google::protobuf::Timestamp& time) { return time.seconds() * 1'000'000 + time.nanos() / 1000; }

// `2026-11-24 15:20:41 UTC`, or a dash.
std::string TimeText(bool has, const google::protobuf::Timestamp& time) {
  if (!has) return "–";
  std::string text = FormatTime(MicrosOf(time));
  if (text.size() < 19) return text;
  text[10] = ' ';
  return absl::StrCat(text.substr(0, 19), " UTC");
}

std::string DurationText(int64_t micros) {
  if (micros < 0) return "–";
  if (micros < 1'000'000) return absl::StrCat(micros / 1000, " ms");
  const int64_t seconds = micros / 1'000'000;
  if (seconds < 60) return absl::StrCat(seconds, ".", micros / 100'000 % 10, " s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min ", seconds % 60, " s");
  return absl::StrCat(seconds / 3600, " h ", seconds / 60 % 60, " min");
}

// Of what has started; until now if it has not ended.
template <typename Thing>
int64_t TookMicros(const Thing& thing) {
  const int64_t end = thing.has_end_time() ? MicrosOf(thing.end_time()) : Clock::Real().Now().wall;
  return end - MicrosOf(thing.start_time());
}

template <typename Thing>
std::string Took(const Thing& thing) {
  return thing.has_start_time() ? DurationText(TookMicros(thing)) : "–";
}

// Of this generation; of a run that was retried also of all, without the pauses between them, unless one of them
// started nothing.
std::string TookInAll(const v1::Run& run) {
  std::string time = Took(run);
  if (!run.has_start_time() || run.earlier_generations().empty()) return time;
  int64_t all = TookMicros(run);
  for (const v1::Run::Generation& generation : run.earlier_generations()) {
    if (!generation.has_start_time()) return time;
    all += TookMicros(generation);
  }
  return absl::StrCat(time, " (", DurationText(all), " in ", run.generation(), " generations)");
}

std::string StateText(const std::string& name) {
  return absl::StrCat("<span class=\"state ", name, "\">", name, "</span>");
}

bool HasEnded(v1::Run::State state) {
  return state == v1::Run::SUCCEEDED || state == v1::Run::FAILED || state == v1::Run::CANCELLED;
}

std::string Why(v1::Reason::Code reason, const std::string& message) {
  if (reason == v1::Reason::REASON_UNSPECIFIED) return HtmlEscape(message);
  return absl::StrCat("<code>", v1::Reason::Code_Name(reason), "</code> ", HtmlEscape(message));
}

std::string Fact(absl::string_view name, absl::string_view html) {
  return absl::StrCat("<dt>", name, "</dt><dd>", html, "</dd>");
}

// `Hook on_failure: FAILED exit code 3`, one for each.
std::string HookFacts(const google::protobuf::RepeatedPtrField<v1::HookRun>& hooks) {
  std::string out;
  for (const v1::HookRun& hook : hooks) {
    out += Fact(absl::StrCat("Hook ", hook.event()),
                absl::StrCat(StateText(v1::HookRun::State_Name(hook.state())), " ", HtmlEscape(hook.message())));
  }
  return out;
}

std::string StepRow(const v1::Run& run, const v1::Step& step) {
  const std::string log = rpc::StepLogUrl("", run.id(), step.name());
  return absl::StrCat(
      "<tr><th scope=\"row\">", HtmlEscape(step.name()),
      step.item().fields().empty() ? "" : absl::StrCat(" <small>", HtmlEscape(rpc::ToJson(step.item())), "</small>"),
      "</th><td>", StateText(v1::Step::State_Name(step.state())), "</td><td class=\"num\">", step.attempt(),
      "</td><td class=\"num\">", step.has_exit_code() ? absl::StrCat(step.exit_code()) : "–", "</td><td>", Took(step),
      "</td><td>", Why(step.reason(), step.message()), "</td><td>",
      step.attempt() > 0
          ? absl::StrCat("<a href=\"", log, "\" aria-label=\"Log of ", HtmlEscape(step.name()), "\">log</a>")
          : "",
      "</td></tr>\n");
}

std::string Found(const absl::Status& status, const v1::SearchLogsResponse& lines) {
  if (!status.ok()) return absl::StrCat("<p>", HtmlEscape(status.message()), "</p>");
  std::string out;
  for (const auto& match : lines.matches()) {
    absl::StrAppend(&out, "<p class=\"dim\">", match.stream() == v1::LogStream::STDERR ? "stderr" : "stdout",
                    match.line_number() > 0 ? absl::StrCat(", line ", match.line_number()) : "", "</p><pre>");
    for (const std::string& line : match.before()) absl::StrAppend(&out, HtmlEscape(line), "\n");
    absl::StrAppend(&out, "<strong>", HtmlEscape(match.line()), "</strong>\n");
    for (const std::string& line : match.after()) absl::StrAppend(&out, HtmlEscape(line), "\n");
    out += "</pre>";
  }
  if (lines.matches().empty()) out += "<p class=\"dim\">No such line.</p>";
  if (!lines.next_page_token().empty()) {
    out +=
        "<p class=\"dim\">There is more to look at: <code>orchctl logs --grep</code>, <code>--first-error</code></p>";
  }
  return out;
}

}  // namespace

template <typename In, typename Out>
absl::Status Pages::Call(const rpc::CallContext& context, const char* method, In in, Out* out) const {
  const rpc::Method* found = table_.Find(method);
  CHECK(found != nullptr);
  return guard_.Call(*found, context, &in, out);
}

Response Pages::Problem(int status, const std::string& title, const std::string& text) {
  return Html(status, HtmlPage(title,
                               absl::StrCat("<main><h1>", HtmlEscape(title), "</h1><p>", HtmlEscape(text),
                                            "</p><p><a href=\"/runs\">All runs</a></p></main>"),
                               0));
}

Response Pages::SignInNeeded(const std::string& path) {
  std::string name = "NAME";
  const std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  if (parts.size() >= 2 && parts[0] == "runs" && parts[1].size() <= 200) name = parts[1];
  Response response =
      Html(401, HtmlPage("Sign in",
                         absl::StrCat("<main><h1>Sign in first</h1><p>This page needs a sign-in. On the machine "
                                      "where orchd runs, type</p><pre>orchctl open-run ",
                                      HtmlEscape(name), "</pre><p>and open the link that it prints.</p></main>"),
                         0));
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"orchd\"");
  return response;
}

Response Pages::Serve(const rpc::Identity& identity, const Request& request) const {
  rpc::CallContext context;
  context.identity = identity;
  const std::vector<std::string> parts = absl::StrSplit(request.path, '/', absl::SkipEmpty());
  if (parts.size() == 1) return Runs(context, request);
  if (parts.size() == 2) return Run(context, request, parts[1]);
  if (parts.size() == 5 && parts[2] == "steps" && parts[4] == "log") return Log(context, request, parts[1], parts[3]);
  return Problem(404, "Not found", "There is no such page.");
}

Response Pages::Runs(const rpc::CallContext& context, const Request& request) const {
  v1::ListRunsRequest in;
  v1::ListRunsResponse out;
  in.set_filter(request.argument("filter"));
  in.set_order_by(request.argument("order_by"));
  in.set_page_token(request.argument("page"));
  const absl::Status status = Call(context, "orch.v1.RunService/ListRuns", in, &out);
  if (!status.ok()) {
    return Problem(rpc::ConnectHttpStatus(status.code()), "The runs cannot be listed", std::string(status.message()));
  }
  std::string body =
      "<main><h1>Runs</h1><div class=\"wide\"><table><caption>Newest first</caption><thead><tr>"
      "<th scope=\"col\">Run</th><th scope=\"col\">State</th><th scope=\"col\">Pipeline</th>"
      "<th scope=\"col\">Steps</th><th scope=\"col\">Submitted</th><th scope=\"col\">Took</th>"
      "</tr></thead><tbody>\n";
  for (const v1::Run& run : out.runs()) {
    absl::StrAppend(&body, "<tr><th scope=\"row\"><a href=\"", rpc::RunUrl("", run.id()), "\">", HtmlEscape(run.name()),
                    "</a></th><td>", StateText(v1::Run::State_Name(run.state())), "</td><td>",
                    HtmlEscape(run.pipeline()), " v", run.pipeline_version(), "</td><td class=\"num\">",
                    run.step_count(), "</td><td>", TimeText(run.has_create_time(), run.create_time()), "</td><td>",
                    Took(run), "</td></tr>\n");
  }
  body += "</tbody></table></div>";
  if (out.runs().empty()) body += "<p class=\"dim\">No runs. <code>orchctl submit FILE</code> makes one.</p>";
  if (!out.next_page_token().empty()) {
    absl::StrAppend(&body, "<p><a href=\"/runs?filter=", rpc::UrlEscape(request.argument("filter")),
                    "&amp;order_by=", rpc::UrlEscape(request.argument("order_by")),
                    "&amp;page=", rpc::UrlEscape(out.next_page_token()), "\">More runs</a></p>");
  }
  return Html(200, HtmlPage("Runs", body + "</main>", 0));
}

Response Pages::Run(const rpc::CallContext& context, const Request& request, const std::string& name) const {
  v1::GetRunRequest get;
  v1::Run run;
  get.set_name(name);
  absl::Status status = Call(context, "orch.v1.RunService/GetRun", get, &run);
  v1::ListStepsRequest list;
  v1::ListStepsResponse steps;
  if (status.ok()) {
    list.set_run(run.id());
    list.set_page_size(kStepsPerPage);
    list.set_page_token(request.argument("page"));
    list.set_filter(request.argument("filter"));
    status = Call(context, "orch.v1.RunService/ListSteps", list, &steps);
    // A page may be empty though more follow: it is not shown as such.
    for (int i = 0; status.ok() && i < kEmptyPages && steps.steps().empty() && !steps.next_page_token().empty(); ++i) {
      list.set_page_token(steps.next_page_token());
      steps.Clear();
      status = Call(context, "orch.v1.RunService/ListSteps", list, &steps);
    }
  }
  if (!status.ok()) {
    const bool missing = status.code() == absl::StatusCode::kNotFound;
    return Problem(rpc::ConnectHttpStatus(status.code()), missing ? "No such run" : "The run cannot be shown",
                   std::string(status.message()));
  }
  const std::string here = rpc::RunUrl("", run.id());
  const bool live = !HasEnded(run.state());
  const bool refresh = live && request.argument("refresh") != "off";
  std::string counts;
  for (int s = 1; s <= v1::Step::SKIPPED; ++s) {
    const std::string& word = v1::Step::State_Name(static_cast<v1::Step::State>(s));
    const auto found = run.step_counts().find(word);
    if (found == run.step_counts().end()) continue;
    absl::StrAppend(&counts, counts.empty() ? "" : ", ", "<a href=\"", here, "?filter=state%3D", word, "\">",
                    found->second, " ", word, "</a>");
  }
  std::string earlier;
  for (const v1::Run::Generation& generation : run.earlier_generations()) {
    absl::StrAppend(&earlier, earlier.empty() ? "" : ", ", generation.number(), " ended ",
                    StateText(v1::Run::State_Name(generation.state())),
                    generation.has_start_time() ? absl::StrCat(" after ", Took(generation)) : "");
  }
  std::string body = absl::StrCat(
      "<nav><a href=\"/runs\">All runs</a></nav><main><h1>", HtmlEscape(run.name()), " ",
      StateText(v1::Run::State_Name(run.state())), "</h1><dl>", Fact("Why", Why(run.reason(), run.message())),
      Fact("Pipeline", absl::StrCat(HtmlEscape(run.pipeline()), " v", run.pipeline_version())),
      Fact("Orchestrator", HtmlEscape(run.orchestrator())), Fact("Steps", absl::StrCat(run.step_count(), ": ", counts)),
      Fact("Submitted", TimeText(run.has_create_time(), run.create_time())),
      Fact("Started", TimeText(run.has_start_time(), run.start_time())),
      Fact("Ended", TimeText(run.has_end_time(), run.end_time())), Fact("Took", TookInAll(run)),
      earlier.empty() ? "" : Fact("Generation", absl::StrCat(run.generation(), " (", earlier, ")")),
      HookFacts(run.hooks()), "</dl>");
  if (live) {
    absl::StrAppend(&body, "<p class=\"dim\">", refresh ? "This page renews itself. <a href=\"" : "<a href=\"", here,
                    refresh ? "?refresh=off\">Stop that</a>" : "\">Renew this page by itself</a>", "</p>");
  }
  absl::StrAppend(&body, "<div class=\"wide\" id=\"steps\"><table><caption>", steps.steps_size(), " of ",
                  run.step_count(), " steps",
                  list.filter().empty() ? "" : absl::StrCat(" where ", HtmlEscape(list.filter())),
                  "</caption><thead><tr><th scope=\"col\">Step</th><th scope=\"col\">State</th>"
                  "<th scope=\"col\">Attempt</th><th scope=\"col\">Exit code</th><th scope=\"col\">Took</th>"
                  "<th scope=\"col\">Why</th><th scope=\"col\">Log</th></tr></thead><tbody>\n");
  for (const v1::Step& step : steps.steps()) body += StepRow(run, step);
  body += "</tbody></table></div>";
  if (!steps.next_page_token().empty()) {
    absl::StrAppend(&body, "<p><a href=\"", here, "?filter=", rpc::UrlEscape(list.filter()),
                    "&amp;page=", rpc::UrlEscape(steps.next_page_token()), "\">More steps</a></p>");
  }
  return Html(200, HtmlPage(absl::StrCat(run.name(), " – ", v1::Run::State_Name(run.state())), body + "</main>",
                            refresh ? kRefreshSeconds : 0));
}

std::string Pages::WhyHere(const rpc::CallContext& context, const std::string& run, const std::string& step) const {
  v1::ExplainRunRequest in;
  v1::Explanation why;
  in.set_name(run);
  in.set_step(step);
  if (!Call(context, "orch.v1.RunService/ExplainRun", in, &why).ok()) return "";
  std::string body = absl::StrCat("<h2>Why</h2><p>", HtmlEscape(why.summary()), "</p><ul>");
  for (const v1::Cause& cause : why.causes()) absl::StrAppend(&body, "<li>", HtmlEscape(cause.text()), "</li>");
  if (why.cache().outcome() != v1::CacheDecision::NOT_ENABLED) {
    absl::StrAppend(&body, "<li>", HtmlEscape(why.cache().text()), "</li>");
    for (const v1::PartChange& change : why.cache().changes()) {
      absl::StrAppend(&body, "<li><code>", HtmlEscape(change.part()), "</code>: ", HtmlEscape(change.before()), " → ",
                      HtmlEscape(change.after()), "</li>");
    }
  }
  for (const v1::FailedAttempt& failure : why.failures()) {
    absl::StrAppend(&body, "<li>attempt ", failure.attempt(), ": ", HtmlEscape(failure.text()),
                    failure.then().empty() ? "" : "; ", HtmlEscape(failure.then()), "</li>");
  }
  return body + "</ul>";
}

Response Pages::Log(const rpc::CallContext& context, const Request& request, const std::string& run,
                    const std::string& step) const {
  v1::GetStepRequest get;
  v1::Step found;
  get.set_run(run);
  get.set_step(step);
  const absl::Status status = Call(context, "orch.v1.RunService/GetStep", get, &found);
  if (!status.ok()) {
    return Problem(rpc::ConnectHttpStatus(status.code()), "The log cannot be shown", std::string(status.message()));
  }
  int32_t attempt = found.attempt();
  if (!request.argument("attempt").empty() && !absl::SimpleAtoi(request.argument("attempt"), &attempt)) attempt = 0;
  std::string body = absl::StrCat(
      "<nav><a href=\"", rpc::RunUrl("", run), "\">", HtmlEscape(found.run()), "</a></nav><main><h1>", HtmlEscape(step),
      " ", StateText(v1::Step::State_Name(found.state())), "</h1><p>Attempt ", attempt, " of ", found.attempts_size());
  for (const v1::Attempt& other : found.attempts()) {
    if (other.number() == attempt) continue;
    absl::StrAppend(&body, " · <a href=\"", rpc::StepLogUrl("", run, step), "?attempt=", other.number(), "\">attempt ",
                    other.number(), "</a>");
  }
  body += "</p>";
  if (!found.hooks().empty()) absl::StrAppend(&body, "<dl>", HookFacts(found.hooks()), "</dl>");
  body += WhyHere(context, run, step);
  const bool first_error = request.argument("first_error") == "1";
  if (attempt > 0) {
    absl::StrAppend(&body, "<p><a href=\"", rpc::StepLogUrl("", run, step), "?attempt=", attempt,
                    "&amp;first_error=1\">First error</a></p>");
  }
  if (first_error || !request.argument("grep").empty()) {
    v1::SearchLogsRequest search;
    v1::SearchLogsResponse lines;
    search.set_run(run);
    search.set_step(step);
    search.set_attempt(attempt);
    search.set_first_error(first_error);
    if (!first_error) search.set_pattern(request.argument("grep"));
    search.set_before(first_error ? 5 : 0);
    search.set_after(first_error ? 20 : 0);
    const absl::Status searched = Call(context, "orch.v1.LogService/SearchLogs", search, &lines);
    absl::StrAppend(&body, "<h2>", first_error ? "First error" : "Found", "</h2>", Found(searched, lines));
  }
  for (const v1::LogStream::Name stream : {v1::LogStream::STDOUT, v1::LogStream::STDERR}) {
    v1::ReadLogsRequest in;
    v1::ReadLogsResponse out;
    in.set_run(run);
    in.set_step(step);
    in.set_attempt(attempt);
    in.set_stream(stream);
    in.set_offset(-kLogBytes);
    in.set_max_bytes(static_cast<int32_t>(kLogBytes));
    const absl::Status read = Call(context, "orch.v1.LogService/ReadLogs", in, &out);
    const std::string word = stream == v1::LogStream::STDOUT ? "stdout" : "stderr";
    absl::StrAppend(&body, "<h2>", word, "</h2>");
    if (!read.ok()) {
      absl::StrAppend(&body, "<p>", HtmlEscape(read.message()), "</p>");
    } else if (out.data().empty()) {
      absl::StrAppend(&body, "<p class=\"dim\">Nothing", out.end() ? "." : " yet.", "</p>");
    } else {
      if (out.next_offset() > kLogBytes) {
        absl::StrAppend(&body, "<p class=\"dim\">The last ", kLogBytes >> 10, " KiB of ", out.next_offset(),
                        " bytes; all of it: <code>orchctl logs ", HtmlEscape(found.run()), " ", HtmlEscape(step),
                        " --stream ", word, "</code></p>");
      }
      absl::StrAppend(&body, "<pre tabindex=\"0\" aria-label=\"", word, "\">", HtmlEscape(out.data()), "</pre>");
    }
  }
  return Html(200, HtmlPage(absl::StrCat(step, " – log"), body + "</main>", 0));
}

}  // namespace orch::http
