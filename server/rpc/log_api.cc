#include "server/rpc/log_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/utf8.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/log_search.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {
namespace {
constexpr int64_t kUsualPiece = 1 << 20;
constexpr int64_t kMaxPiece = 4 << 20;
}  // namespace

absl::StatusOr<std::optional<AttemptRow>> FindAttempt(const ApiContext& api, const FoundRun& run, StepIx ix,
                                                      int32_t number) {
  if (number < 0) {
    return InvalidInput("REQUEST_INVALID", "attempt is negative",
                        {{"request.attempt", "attempts count from 1; 0 means the newest", "OUT_OF_RANGE"}});
  }
  ASSIGN_OR_RETURN(std::vector<AttemptRow> attempts, api.engine->queries().ListAttempts(run.record.header.key, ix));
  if (number == 0) {
    if (attempts.empty()) return std::optional<AttemptRow>();
    return std::optional<AttemptRow>(std::move(attempts.back()));
  }
  for (AttemptRow& attempt : attempts) {
    if (attempt.number == static_cast<uint32_t>(number)) return std::optional<AttemptRow>(std::move(attempt));
  }
  return Error(
      absl::StatusCode::kNotFound, "ATTEMPT_NOT_FOUND",
      absl::StrCat("step `", run.graph().StepName(ix), "` has ", attempts.size(), " attempts, no number ", number));
}

absl::StatusOr<bool> StepHasEnded(const ApiContext& api, const FoundRun& run, StepIx ix) {
  ASSIGN_OR_RETURN(const std::optional<StepRow> row, api.engine->queries().GetStep(run.record.header.key, ix));
  if (row) return IsTerminal(row->state);
  ASSIGN_OR_RETURN(const store::RunRecord record, api.engine->queries().GetRun(run.record.header.key));
  return IsTerminal(record.row.state);
}

void LogApi::Register(MethodTable* table) {
  table->Add("orch.v1.LogService/ReadLogs", {}, this, &LogApi::ReadLogs);
  table->Add("orch.v1.LogService/SearchLogs", {}, this, &LogApi::SearchLogs);
}

absl::Status LogApi::ReadLogs(const CallContext& context, const v1::ReadLogsRequest& request,
                              v1::ReadLogsResponse* response) {
  Checks checks;
  if (request.max_bytes() < 0) checks.Add("request.max_bytes", "OUT_OF_RANGE", "it is negative");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no log was read"));
  const int64_t want = request.max_bytes() == 0 ? kUsualPiece : std::min<int64_t>(request.max_bytes(), kMaxPiece);
  if (!request.hook().empty()) return ReadHookLog(context, request, want, response);
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
  // Whether it has ended is asked before the bytes: what is written in between is read by the next call.
  ASSIGN_OR_RETURN(const std::optional<AttemptRow> attempt, FindAttempt(api_, found, ix, request.attempt()));
  if (!attempt) {
    ASSIGN_OR_RETURN(const bool ended, StepHasEnded(api_, found, ix));
    response->set_end(ended);
    return absl::OkStatus();
  }
  const LogStreamName stream =
      request.stream() == v1::LogStream::STDERR ? LogStreamName::kStderr : LogStreamName::kStdout;
  ASSIGN_OR_RETURN(const auto reader, api_.engine->OpenLog(found.record, ix, *attempt, stream));
  ASSIGN_OR_RETURN(const int64_t size, reader->Size());
  const int64_t offset = request.offset() < 0 ? std::max<int64_t>(0, size + request.offset()) : request.offset();
  ASSIGN_OR_RETURN(*response->mutable_data(), reader->Read(offset, want));
  response->set_next_offset(offset + static_cast<int64_t>(response->data().size()));
  response->set_end(IsTerminal(attempt->state) && response->next_offset() >= size);
  return absl::OkStatus();
}

absl::Status LogApi::ReadHookLog(const CallContext& context, const v1::ReadLogsRequest& request, int64_t want,
                                 v1::ReadLogsResponse* response) {
  ASSIGN_OR_RETURN(const store::RunRecord run, FindRun(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const HookRow hook, api_.engine->queries().FindHook(run.header.key, request.hook()));
  if (hook.tries == 0) return absl::OkStatus();
  const LogStreamName stream =
      request.stream() == v1::LogStream::STDERR ? LogStreamName::kStderr : LogStreamName::kStdout;
  ASSIGN_OR_RETURN(const auto reader, api_.engine->OpenHookLog(run, hook, stream));
  ASSIGN_OR_RETURN(const int64_t size, reader->Size());
  const int64_t offset = request.offset() < 0 ? std::max<int64_t>(0, size + request.offset()) : request.offset();
  ASSIGN_OR_RETURN(*response->mutable_data(), reader->Read(offset, want));
  response->set_next_offset(offset + static_cast<int64_t>(response->data().size()));
  response->set_end(IsTerminal(hook.state) && response->next_offset() >= size);
  return absl::OkStatus();
}

namespace {

constexpr int kUsualMatches = 100;
constexpr int kMaxMatches = 1'000;
constexpr int kMaxContext = 100;

// How far a search has come in both streams; a token's position.
struct SearchPlace {
  int64_t attempt = 0;
  LogPlace streams[2];
  bool over[2] = {false, false};
};

std::string Encode(const SearchPlace& place) {
  std::string out = absl::StrCat(place.attempt);
  for (int s = 0; s < 2; ++s) {
    absl::StrAppend(&out, ":", place.streams[s].offset, ":", place.streams[s].line, ":", place.over[s] ? 1 : 0);
  }
  return out;
}

absl::StatusOr<SearchPlace> Decode(absl::string_view text) {
  SearchPlace place;
  int64_t numbers[7] = {};
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  bool good = parts.size() == 7;
  for (size_t i = 0; good && i < 7; ++i) good = absl::SimpleAtoi(parts[i], &numbers[i]) && numbers[i] >= 0;
  if (!good || numbers[0] == 0 || numbers[0] > INT32_MAX) {
    return Error(absl::StatusCode::kInvalidArgument, "PAGE_TOKEN_INVALID",
                 "page_token: it is none of orchd's; begin again without it");
  }
  place.attempt = numbers[0];
  for (int s = 0; s < 2; ++s) {
    place.streams[s] = {numbers[1 + 3 * s], numbers[2 + 3 * s]};
    place.over[s] = numbers[3 + 3 * s] != 0;
  }
  return place;
}

void SetMatch(const LogMatch& match, LogReader* reader, v1::LogStream::Name stream,
              v1::SearchLogsResponse::Match* out) {
  out->set_stream(stream);
  out->set_offset(match.place.offset);
  out->set_line_number(match.place.line);
  if (const int64_t time = reader->TimeOf(match.place.offset); time != 0) *out->mutable_time() = ToTimestamp(time);
  out->set_line(ToUtf8(match.text));
  for (const std::string& line : match.before) out->add_before(ToUtf8(line));
  for (const std::string& line : match.after) out->add_after(ToUtf8(line));
}

}  // namespace

absl::Status LogApi::SearchLogs(const CallContext& context, const v1::SearchLogsRequest& request,
                                v1::SearchLogsResponse* response) {
  Checks checks;
  checks.Range("request.before", int64_t{request.before()}, 0, kMaxContext);
  checks.Range("request.after", int64_t{request.after()}, 0, kMaxContext);
  checks.Range("request.max_matches", int64_t{request.max_matches()}, 0, kMaxMatches);
  if (request.first_error() ? !request.pattern().empty() : request.pattern().empty()) {
    checks.Add("request.pattern", "REQUIRED", "either a pattern or first_error is needed");
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no log was searched"));
  LogSearch search;
  search.matches = MatchErrors();
  if (!request.first_error()) {
    ASSIGN_OR_RETURN(search.matches, MatchPattern(request.pattern(), request.ignore_case()));
  }
  search.before = request.before();
  search.after = request.after();
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
  v1::SearchLogsRequest bound_to = request;
  bound_to.clear_page_token();
  const std::string bound = absl::StrCat("search|", found.record.header.id, "|", bound_to.SerializeAsString());
  ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), bound));
  SearchPlace place;
  if (!position.empty()) {
    ASSIGN_OR_RETURN(place, Decode(position));
  }
  const auto number = static_cast<int32_t>(position.empty() ? request.attempt() : place.attempt);
  ASSIGN_OR_RETURN(const std::optional<AttemptRow> attempt, FindAttempt(api_, found, ix, number));
  if (!attempt) return absl::OkStatus();
  place.attempt = attempt->number;
  response->set_attempt(static_cast<int32_t>(attempt->number));
  int64_t bytes = search.max_bytes;
  int matches = request.max_matches() == 0 ? kUsualMatches : request.max_matches();
  for (int s = 0; s < 2; ++s) {
    const v1::LogStream::Name name = s == 0 ? v1::LogStream::STDOUT : v1::LogStream::STDERR;
    if (request.stream() != v1::LogStream::NAME_UNSPECIFIED && request.stream() != name) place.over[s] = true;
    if (place.over[s] || bytes <= 0 || matches <= 0) continue;
    ASSIGN_OR_RETURN(const auto reader, api_.engine->OpenLog(found.record, ix, *attempt,
                                                             s == 0 ? LogStreamName::kStdout : LogStreamName::kStderr));
    ASSIGN_OR_RETURN(const int64_t size, reader->Size());
    LogPlace& at = place.streams[s];
    if (at.offset == 0 && request.has_since()) {
      const int64_t since = request.since().seconds() * 1'000'000 + request.since().nanos() / 1000;
      ASSIGN_OR_RETURN(const int64_t begin, LineStart(reader.get(), OffsetOf(reader.get(), size, since)));
      if (begin > 0) at = {begin, 0};
    }
    const int64_t begin = at.offset;
    search.max_bytes = bytes;
    search.max_matches = request.first_error() ? 1 : matches;
    std::vector<LogMatch> lines;
    ASSIGN_OR_RETURN(const bool over, SearchLog(reader.get(), size, search, &at, &lines));
    for (const LogMatch& match : lines) SetMatch(match, reader.get(), name, response->add_matches());
    place.over[s] = over || (request.first_error() && !lines.empty());
    bytes -= at.offset - begin;
    if (!request.first_error()) matches -= static_cast<int>(lines.size());
  }
  if (!place.over[0] || !place.over[1]) response->set_next_page_token(MakePageToken(Encode(place), bound));
  return absl::OkStatus();
}

}  // namespace orch::rpc
