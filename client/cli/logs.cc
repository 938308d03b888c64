// logs.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/interrupt.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class LogsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Positional("STEP", &step_, "The step's name; of a fan-out 'train[2]' (not with --hook)", Kind::kStep,
                     /*required=*/false);
    flags.Text("--hook", &hook_, "ID", "Of this hook; get-run and get-step show the ids");
    flags.Switch("-f,--follow", &follow_, "Go on until the attempt has ended");
    flags.Int("--attempt", &attempt_, 1, 1'000'000, "Which attempt, from 1 [the newest]");
    flags.Choice("--stream", &stream_, {"stdout", "stderr"}, "Only this stream [both]");
    flags.Int("--tail", &tail_, 1, 100'000, "Begin so many lines before the end [at the start]");
    flags.Text("--since", &since_, "TIME", "Only what was written since: a time like 2026-11-24T15:20:00Z, or 10m ago");
    flags.Text("--grep", &grep_, "REGEX", "Only lines in which this is found (RE2), searched by the daemon");
    flags.Switch("-i,--ignore-case", &ignore_case_, "With --grep: upper and lower case are the same");
    flags.Switch("--first-error", &first_error_,
                 "Only the first line that looks like an error, with what is around it");
    flags.Int("-A,--after", &after_, 0, 100, "Lines to show after each line found [0; --first-error: 20]");
    flags.Int("-B,--before", &before_, 0, 100, "Lines to show before each line found [0; --first-error: 5]");
    flags.Int("--max-count", &max_, 1, 1'000'000, "Find so many lines at most [all]");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (step_.empty() && hook_.empty()) return UsageError("name the step: orchctl logs RUN STEP");
    const bool search = !grep_.empty() || first_error_;
    if (search && (follow_ || tail_ > 0)) return UsageError("--grep and --first-error go without --follow and --tail");
    if (!grep_.empty() && first_error_) return UsageError("--grep and --first-error exclude each other");
    std::optional<int64_t> since;
    if (!since_.empty()) {
      ASSIGN_OR_RETURN(since, TimeOf(since_));
    }
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    if (!hook_.empty()) return OfHook(*client);
    if (search) return Search(session, *client, since);
    v1::TailLogsRequest request;
    if (since) SetTime(*since, request.mutable_since());
    request.set_run(run_);
    request.set_step(step_);
    request.set_attempt(static_cast<int32_t>(attempt_));
    request.set_follow(follow_);
    request.set_tail_lines(static_cast<int32_t>(tail_));
    if (stream_ == "stdout") request.set_stream(v1::LogStream::STDOUT);
    if (stream_ == "stderr") request.set_stream(v1::LogStream::STDERR);
    client::Cancellation cancel;
    Interrupt interrupt(&cancel);
    bool closed = false;
    RETURN_IF_ERROR(client->TailLogs(
        request,
        [&closed](const v1::TailLogsResponse& chunk) {
          closed = !WriteOut(chunk.data());
          return !closed;
        },
        &cancel));
    if (closed) return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
    return cancel.cancelled() ? kInterrupted : kOk;
  }

 private:
  // First what it printed, then what it complained of: a hook writes little.
  absl::StatusOr<int> OfHook(client::Client& client) {
    for (const v1::LogStream::Name stream : {v1::LogStream::STDOUT, v1::LogStream::STDERR}) {
      if (!stream_.empty() && (stream_ == "stdout") != (stream == v1::LogStream::STDOUT)) continue;
      v1::ReadLogsRequest request;
      request.set_run(run_);
      request.set_hook(hook_);
      request.set_stream(stream);
      for (;;) {
        ASSIGN_OR_RETURN(const v1::ReadLogsResponse piece, client.ReadLogs(request));
        if (!WriteOut(piece.data())) {
          return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
        }
        if (piece.data().empty() || piece.end()) break;
        request.set_offset(piece.next_offset());
      }
    }
    return kOk;
  }

  static absl::StatusOr<int64_t> TimeOf(const std::string& text) {
    if (const auto ago = ParseDuration(text)) return WallNow() - ago->count() * 1000;
    absl::Time time;
    std::string why;
    if (absl::ParseTime(absl::RFC3339_full, text, &time, &why)) return absl::ToUnixMicros(time);
    return UsageError(absl::StrCat("--since ", text, " is neither a time (2026-11-24T15:20:00Z) nor a duration (10m)"));
  }
  static void SetTime(int64_t micros, google::protobuf::Timestamp* out) {
    out->set_seconds(micros / 1'000'000);
    out->set_nanos(static_cast<int32_t>(micros % 1'000'000 * 1000));
  }

  absl::StatusOr<int> Search(Session& session, client::Client& client, std::optional<int64_t> since) {
    v1::SearchLogsRequest request;
    request.set_run(run_);
    request.set_step(step_);
    request.set_attempt(static_cast<int32_t>(attempt_));
    if (stream_ == "stdout") request.set_stream(v1::LogStream::STDOUT);
    if (stream_ == "stderr") request.set_stream(v1::LogStream::STDERR);
    request.set_pattern(grep_);
    request.set_ignore_case(ignore_case_);
    request.set_first_error(first_error_);
    request.set_before(static_cast<int32_t>(before_ >= 0 ? before_ : (first_error_ ? 5 : 0)));
    request.set_after(static_cast<int32_t>(after_ >= 0 ? after_ : (first_error_ ? 20 : 0)));
    if (since) SetTime(*since, request.mutable_since());
    v1::SearchLogsResponse all;
    request.set_max_matches(1000);
    do {
      ASSIGN_OR_RETURN(v1::SearchLogsResponse page, client.SearchLogs(request));
      for (auto& match : *page.mutable_matches()) *all.add_matches() = std::move(match);
      all.set_attempt(page.attempt());
      all.set_next_page_token(page.next_page_token());
      request.set_page_token(page.next_page_token());
    } while (!all.next_page_token().empty() && (max_ == 0 || all.matches_size() < max_));
    // Both streams in the order of time; a line of just now is the last.
    const auto time = [](const v1::SearchLogsResponse::Match& m) {
      return m.has_time() ? Micros(m.time()) : INT64_MAX;
    };
    std::stable_sort(all.mutable_matches()->begin(), all.mutable_matches()->end(),
                     [&](const auto& a, const auto& b) { return time(a) < time(b); });
    if (first_error_ && all.matches_size() > 1) all.mutable_matches()->DeleteSubrange(1, all.matches_size() - 1);
    if (max_ > 0 && all.matches_size() > max_) {
      all.mutable_matches()->DeleteSubrange(static_cast<int>(max_), all.matches_size() - static_cast<int>(max_));
    }
    RETURN_IF_ERROR(session.Show(all, [&] { return Text(all, session.out()); }, {}));
    if (!all.matches().empty()) return kOk;
    session.Note(first_error_ ? "no line looks like an error" : "no line matches");
    return kNotFound;
  }

  // As grep does: `stdout:12:` before a line that was found, `stdout-13-` before one around it.
  std::string Text(const v1::SearchLogsResponse& found, const Style& style) const {
    std::string out;
    for (const auto& match : found.matches()) {
      const std::string stream = match.stream() == v1::LogStream::STDERR ? "stderr" : "stdout";
      const auto mark = [&](char sign, int64_t line) {
        std::string text = stream + sign;
        if (match.line_number() > 0) absl::StrAppend(&text, line, std::string(1, sign));
        return style.Paint(text, Color::kDim) + (match.line_number() > 0 ? "" : " ");
      };
      if (!out.empty() && (!match.before().empty() || !match.after().empty())) out += "--\n";
      int64_t line = match.line_number() - match.before_size();
      for (const std::string& text : match.before()) absl::StrAppend(&out, mark('-', line++), Clean(text), "\n");
      absl::StrAppend(&out, mark(':', line++), style.Paint(Clean(match.line()), Color::kBold), "\n");
      for (const std::string& text : match.after()) absl::StrAppend(&out, mark('-', line++), Clean(text), "\n");
    }
    return out;
  }

  std::string run_, step_, stream_, since_, grep_, hook_;
  int64_t attempt_ = 0, tail_ = 0, after_ = -1, before_ = -1, max_ = 0;
  bool follow_ = false, ignore_case_ = false, first_error_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeLogs() { return std::make_unique<LogsVerb>(); }

}  // namespace orch::cli
