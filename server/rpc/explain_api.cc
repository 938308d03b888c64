#include "server/rpc/explain_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/digest.h"
#include "server/base/utf8.h"
#include "server/engine/render.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"

namespace orch::rpc {
namespace {

constexpr size_t kMostFailures = 10;
constexpr size_t kLastLines = 10;
constexpr size_t kLineBytes = 500;
constexpr int64_t kTailBytes = 16 << 10;

// Over the rows of a run that has ended.
StepFinder RowFinder(Engine& engine, RunKey run) {
  return [&engine, run](StepIx first, uint32_t count, uint32_t states, size_t limit) {
    StepsFound out;
    store::StepFilter filter;
    for (int s = 1; s < kStepStateCount; ++s) {
      if ((states & (1u << s)) != 0) filter.states.push_back(static_cast<StepState>(s));
    }
    // More than are listed are counted as far as one page goes.
    const auto rows = engine.queries().ListSteps(run, filter, first, static_cast<int>(std::max<size_t>(limit, 1000)));
    if (!rows.ok()) return out;
    for (const StepRow& row : *rows) {
      if (row.ix >= first + count) break;
      ++out.total;
      if (out.steps.size() < limit) out.steps.push_back({row.ix, row.state, row.reason, row.message});
    }
    return out;
  };
}

// What a step wrote need be no text.
std::string Shown(const std::string& line) {
  std::string out;
  for (size_t at = 0; at < line.size();) {
    const size_t length = Utf8Length(line, at);
    out += length == 0 ? std::string("\xEF\xBF\xBD") : line.substr(at, length);
    at += std::max<size_t>(length, 1);
  }
  return out;
}

void SetCause(const Cause& cause, v1::Cause* out) {
  out->set_reason(static_cast<v1::Reason::Code>(cause.reason));
  out->set_text(cause.text);
  out->set_step(cause.step);
  out->set_run(cause.run);
  if (!cause.step.empty()) out->set_step_state(static_cast<v1::Step::State>(cause.step_state));
  out->set_input(cause.input);
  out->set_pool(cause.pool);
  out->set_wanted(cause.wanted);
  out->set_used(cause.used);
  out->set_capacity(cause.capacity);
  for (const SlotHolder& holder : cause.holders) {
    v1::Cause::Holder* h = out->add_holders();
    h->set_run(holder.run);
    h->set_step(holder.step);
    h->set_attempt(static_cast<int32_t>(holder.attempt));
    h->set_slots(holder.slots);
  }
  out->set_more(cause.more);
  if (cause.until > 0) *out->mutable_until() = ToTimestamp(cause.until);
}

void SetExplained(const Explained& explained, v1::Explanation* out) {
  out->set_run_state(static_cast<v1::Run::State>(explained.run_state));
  out->set_attempt(static_cast<int32_t>(explained.attempt));
  out->set_summary(explained.summary);
  for (const Cause& cause : explained.causes) {
    if (static_cast<size_t>(out->causes_size()) == kMostCauses) break;
    SetCause(cause, out->add_causes());
  }
}

std::string CacheWords(const v1::CacheDecision& decision) {
  switch (decision.outcome()) {
    case v1::CacheDecision::NOT_ENABLED:
      return "not cached: the step does not ask for it (`cache: {enabled: true}`)";
    case v1::CacheDecision::TURNED_OFF:
      return "not cached: turned off for this run";
    case v1::CacheDecision::NOT_CACHEABLE:
      return "not cached: the step names ${run.name} or ${attempt}, so that no two are the same";
    case v1::CacheDecision::NOT_ASKED:
      return "the cache has not been asked yet";
    case v1::CacheDecision::HIT:
      return decision.run().empty() ? "cached, from a run that has been deleted"
                                    : absl::StrCat("cached, from run `", decision.run(), "`");
    case v1::CacheDecision::NO_ENTRY:
      return "not cached: no earlier run of this step is in the cache";
    case v1::CacheDecision::CHANGED: {
      if (decision.changes().empty())
        return absl::StrCat("not cached; nothing differs from run `", decision.run(), "`");
      const v1::PartChange& first = decision.changes(0);
      return absl::StrCat(
          "not cached: ", first.part(), " is not as in run `", decision.run(), "`",
          decision.changes_size() > 1 ? absl::StrCat(" (and ", decision.changes_size() - 1, " more)") : "");
    }
    case v1::CacheDecision::EXPIRED:
      return "not cached: the entry was older than the step's ttl";
    case v1::CacheDecision::BYTES_MISSING:
      return "not cached: the entry's bytes were gone from the store, or damaged";
    default:
      return "";
  }
}

}  // namespace

google::protobuf::Duration ToDuration(int64_t micros) {
  google::protobuf::Duration out;
  out.set_seconds(micros / 1'000'000);
  out.set_nanos(static_cast<int32_t>(micros % 1'000'000 * 1000));
  return out;
}

void AddChanges(const std::vector<PartChange>& changes, google::protobuf::RepeatedPtrField<v1::PartChange>* out) {
  for (const PartChange& change : changes) {
    v1::PartChange* c = out->Add();
    c->set_part(change.part);
    c->set_before(change.before);
    c->set_after(change.after);
  }
}

void ExplainApi::Register(MethodTable* table) {
  table->Add("orch.v1.RunService/ExplainRun", {}, this, &ExplainApi::ExplainRun);
  table->Add("orch.v1.RunService/CompareRuns", {}, this, &ExplainApi::CompareRuns);
}

absl::Status ExplainApi::ExplainRun(const CallContext& context, const v1::ExplainRunRequest& request,
                                    v1::Explanation* out) {
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.name()));
  out->set_run(found.record.header.name);
  if (request.step().empty()) return ExplainWhole(context, found, out);
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
  return ExplainStep(context, found, ix, out);
}

absl::Status ExplainApi::ExplainStep(const CallContext& context, const FoundRun& found, StepIx ix,
                                     v1::Explanation* out) {
  const RunKey key = found.record.header.key;
  out->set_step(found.graph().StepName(ix));
  std::optional<Explained> explained;
  if (!IsTerminal(found.record.row.state)) {
    ASSIGN_OR_RETURN(explained, api_.engine->Explain(key, ix, context.deadline_micros));
  }
  ASSIGN_OR_RETURN(const std::optional<StepRow> row, api_.engine->queries().GetStep(key, ix));
  // An end is told by its row, which has the message; the dispatcher may know of an end that is not committed yet.
  const bool ended = row.has_value() && IsTerminal(row->state);
  if (ended || !explained.has_value()) {
    store::RunRecord record = found.record;
    if (!IsTerminal(record.row.state)) {
      ASSIGN_OR_RETURN(record, api_.engine->queries().GetRun(key));
    }
    StepRow none;
    none.ix = ix;
    explained =
        ExplainEnded(found.graph(), record.header.name, record.row, row.value_or(none), RowFinder(*api_.engine, key));
  }
  SetExplained(*explained, out);
  out->set_step_state(static_cast<v1::Step::State>(explained->state));
  RETURN_IF_ERROR(AddFailures(found, ix, row.has_value() ? &*row : nullptr, out));
  return AddCache(found, ix, row.has_value() ? &*row : nullptr, out);
}

absl::Status ExplainApi::ExplainWhole(const CallContext& context, const FoundRun& found, v1::Explanation* out) {
  const RunKey key = found.record.header.key;
  std::optional<Explained> explained;
  if (!IsTerminal(found.record.row.state)) {
    ASSIGN_OR_RETURN(explained, api_.engine->Explain(key, std::nullopt, context.deadline_micros));
  }
  if (!explained.has_value()) {
    ASSIGN_OR_RETURN(const store::RunRecord record, api_.engine->queries().GetRun(key));
    explained = ExplainEnded(found.graph(), record.header.name, record.row, RowFinder(*api_.engine, key));
  }
  SetExplained(*explained, out);
  for (const BriefStep& step : explained->steps) {
    v1::StepInBrief* brief = out->add_steps();
    brief->set_step(found.graph().StepName(step.ix));
    brief->set_state(static_cast<v1::Step::State>(step.state));
    brief->set_reason(static_cast<v1::Reason::Code>(step.reason));
    brief->set_text(step.text);
    if (step.state != StepState::kFailed) continue;
    ASSIGN_OR_RETURN(const std::optional<StepRow> row, api_.engine->queries().GetStep(key, step.ix));
    if (row.has_value()) brief->set_text(EndInWords(row->reason, row->exit_code, row->signal, 0, row->message));
  }
  return absl::OkStatus();
}

absl::Status ExplainApi::AddFailures(const FoundRun& found, StepIx ix, const StepRow* row, v1::Explanation* out) {
  ASSIGN_OR_RETURN(const std::vector<AttemptRow> attempts,
                   api_.engine->queries().ListAttempts(found.record.header.key, ix));
  std::vector<const AttemptRow*> bad;
  for (const AttemptRow& attempt : attempts) {
    if (IsTerminal(attempt.state) && attempt.state != AttemptState::kSucceeded) bad.push_back(&attempt);
  }
  if (bad.size() > kMostFailures) bad.erase(bad.begin(), bad.end() - kMostFailures);
  const RetryPolicy& policy = found.graph().SpecOf(ix).options().retry;
  for (const AttemptRow* attempt : bad) {
    v1::FailedAttempt* failure = out->add_failures();
    failure->set_attempt(static_cast<int32_t>(attempt->number));
    failure->set_reason(static_cast<v1::Reason::Code>(attempt->reason));
    failure->set_text(
        EndInWords(attempt->reason, attempt->exit_code, attempt->signal, attempt->peak_memory, attempt->message));
    if (attempt->exit_code) failure->set_exit_code(*attempt->exit_code);
    if (attempt->signal) failure->set_signal(*attempt->signal);
    failure->set_peak_memory(attempt->peak_memory);
    if (attempt->ended > 0) *failure->mutable_end_time() = ToTimestamp(attempt->ended);
    const bool newest = attempt == bad.back();
    const auto next = std::find_if(attempts.begin(), attempts.end(),
                                   [&](const AttemptRow& other) { return other.number == attempt->number + 1; });
    const std::string budget =
        attempt->platform_failure
            ? absl::StrCat("its command never began; platform_attempts is ", policy.platform_attempts)
            : absl::StrCat("max_attempts is ", policy.max_attempts);
    if (next != attempts.end()) {
      failure->set_then(absl::StrCat("tried again at ", ClockWords(next->created), ": ", budget));
    } else if (row != nullptr && row->state == StepState::kBackoff) {
      failure->set_then(absl::StrCat("tried again at ", ClockWords(row->retry_at), ": ", budget));
    } else if (row != nullptr && IsTerminal(row->state)) {
      failure->set_then(absl::StrCat("not tried again: ", budget,
                                     attempt->state == AttemptState::kCancelled ? ", and it was stopped" : ""));
    }
    if (newest && row != nullptr && row->state != StepState::kSucceeded) {
      for (std::string& line : LastLines(found, ix, *attempt)) failure->add_last_lines(std::move(line));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> ExplainApi::LastLines(const FoundRun& found, StepIx ix, const AttemptRow& attempt) {
  const auto reader = api_.engine->OpenLog(found.record, ix, attempt, LogStreamName::kStderr);
  if (!reader.ok()) return {};
  const auto size = (*reader)->Size();
  if (!size.ok() || *size == 0) return {};
  const int64_t from = std::max<int64_t>(0, *size - kTailBytes);
  const auto tail = (*reader)->Read(from, kTailBytes);
  if (!tail.ok()) return {};
  std::vector<std::string> lines = absl::StrSplit(*tail, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  if (from > 0 && lines.size() > 1) lines.erase(lines.begin());  // its head is missing
  if (lines.size() > kLastLines) lines.erase(lines.begin(), lines.end() - kLastLines);
  for (std::string& line : lines) {
    if (line.size() > kLineBytes) line.resize(kLineBytes);
    line = Shown(line);
  }
  return lines;
}

absl::Status ExplainApi::AddCache(const FoundRun& found, StepIx ix, const StepRow* row, v1::Explanation* out) {
  const RunHeader& header = found.record.header;
  const StepSpec& spec = found.graph().SpecOf(ix);
  v1::CacheDecision* decision = out->mutable_cache();
  if (!spec.options().cache_enabled) {
    decision->set_outcome(v1::CacheDecision::NOT_ENABLED);
  } else if (!header.use_cache) {
    decision->set_outcome(v1::CacheDecision::TURNED_OFF);
  } else if (NamesRunOrAttempt(spec)) {
    decision->set_outcome(v1::CacheDecision::NOT_CACHEABLE);
  } else if (row != nullptr && row->state == StepState::kCached) {
    decision->set_outcome(v1::CacheDecision::HIT);
    decision->set_run(row->cached_from);
  } else {
    ASSIGN_OR_RETURN(const std::optional<CacheMissRow> miss, api_.engine->queries().GetCacheMiss(header.key, ix));
    if (!miss.has_value()) {
      decision->set_outcome(v1::CacheDecision::NOT_ASKED);
    } else {
      decision->set_key(Hex(miss->key));
      decision->set_outcome(miss->verdict == CacheVerdict::kExpired        ? v1::CacheDecision::EXPIRED
                            : miss->verdict == CacheVerdict::kBytesMissing ? v1::CacheDecision::BYTES_MISSING
                                                                           : v1::CacheDecision::NO_ENTRY);
      ASSIGN_OR_RETURN(const std::optional<CacheEntryRow> entry,
                       api_.engine->queries().NewestCacheEntry(header.project, header.pipeline,
                                                               found.graph().StepName(ix), miss->created, header.key));
      if (entry.has_value()) {
        if (decision->outcome() == v1::CacheDecision::NO_ENTRY) decision->set_outcome(v1::CacheDecision::CHANGED);
        decision->set_run(entry->run_name);
        AddChanges(ChangedParts(entry->parts_json, miss->parts_json), decision->mutable_changes());
      }
    }
  }
  decision->set_text(CacheWords(*decision));
  return absl::OkStatus();
}

}  // namespace orch::rpc
