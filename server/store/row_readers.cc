#include "server/store/row_readers.h"

#include <SQLiteCpp/Column.h>

#include <string>

#include "server/store/encoding.h"

namespace orch::store {
namespace {

// Reads columns from left to right.
class Columns {
 public:
  explicit Columns(SQLite::Statement& s) : s_(s) {}
  int64_t Int() { return s_.getColumn(next_++).getInt64(); }
  template <typename T>
  T As() {
    return static_cast<T>(Int());
  }
  bool Bool() { return Int() != 0; }
  double Real() { return s_.getColumn(next_++).getDouble(); }
  std::string Text() {
    const SQLite::Column column = s_.getColumn(next_++);
    return column.isNull() ? std::string() : column.getString();
  }
  std::optional<int> OptionalInt() {
    const SQLite::Column column = s_.getColumn(next_++);
    return column.isNull() ? std::nullopt : std::optional<int>(column.getInt());
  }
  std::optional<std::string> OptionalText() {
    const SQLite::Column column = s_.getColumn(next_++);
    return column.isNull() ? std::nullopt : std::optional<std::string>(column.getString());
  }
  // An integer, or `none` for NULL.
  int64_t IntOr(int64_t none) {
    const SQLite::Column column = s_.getColumn(next_++);
    return column.isNull() ? none : column.getInt64();
  }

 private:
  SQLite::Statement& s_;
  int next_ = 0;
};

}  // namespace

RunRecord ReadRun(SQLite::Statement& s) {
  Columns c(s);
  RunRecord out;
  RunHeader& h = out.header;
  RunRow& r = out.row;
  h.key = r.key = c.Int();
  h.id = c.Text();
  h.project = c.Text();
  h.name = c.Text();
  h.pipeline = c.Text();
  h.orchestrator = c.Text();
  r.state = c.As<RunState>();
  h.pipeline_id = c.IntOr(0);
  h.pipeline_version = c.Int();
  h.parameters_json = c.Text();
  h.labels = DecodePairs(c.Text());
  h.submitter_host = c.Text();
  h.source_dir = c.Text();
  h.environment = DecodePairs(c.Text());
  h.execution_mode = c.As<ExecutionMode>();
  h.max_parallel = c.As<int>();
  h.priority = c.As<int>();
  h.use_cache = c.Bool();
  h.timeout_micros = c.Int();
  h.created = c.Int();
  h.step_count = c.Int();
  h.numbering = c.As<int>();
  h.artifact_store = c.Text();
  h.stack = c.Text();
  r.reason = c.As<Reason>();
  r.message = c.Text();
  r.generation = c.As<int>();
  r.started = c.Int();
  r.ended = c.Int();
  r.deadline = c.Int();
  r.deadline_mono = c.Int();
  r.version = c.Int();
  r.last_sequence = c.Int();
  r.cancel_forced = c.Bool();
  r.counts = DecodeCounts(c.Text());
  return out;
}

StepRow ReadStep(SQLite::Statement& s) {
  Columns c(s);
  StepRow r;
  r.run = c.Int();
  r.ix = c.As<StepIx>();
  r.name = c.Text();
  r.state = c.As<StepState>();
  r.reason = c.As<Reason>();
  r.message = c.Text();
  r.attempt = c.As<uint32_t>();
  r.exit_code = c.OptionalInt();
  r.signal = c.OptionalInt();
  r.ready = c.Int();
  r.started = c.Int();
  r.ended = c.Int();
  r.retry_at = c.Int();
  r.retry_at_mono = c.Int();
  r.orchestrator = c.Text();
  r.cached_from = c.Text();
  r.earlier_attempts = c.As<uint32_t>();
  return r;
}

FanoutRow ReadFanout(SQLite::Statement& s) {
  Columns c(s);
  FanoutRow r;
  r.run = c.Int();
  r.step = static_cast<uint32_t>(c.Int());
  r.first = static_cast<StepIx>(c.Int());
  r.items = c.Text();
  r.number = c.Int();
  return r;
}

AttemptRow ReadAttempt(SQLite::Statement& s) {
  Columns c(s);
  AttemptRow r;
  r.run = c.Int();
  r.ix = c.As<StepIx>();
  r.number = c.As<uint32_t>();
  r.state = c.As<AttemptState>();
  r.reason = c.As<Reason>();
  r.message = c.Text();
  r.key = c.Text();
  r.orchestrator = c.Text();
  r.handle = c.Text();
  r.external_id = c.Text();
  r.url = c.Text();
  r.node = c.Text();
  r.exit_code = c.OptionalInt();
  r.signal = c.OptionalInt();
  r.created = c.Int();
  r.created_mono = c.Int();
  r.started = c.Int();
  r.started_mono = c.Int();
  r.ended = c.Int();
  r.stopping = c.Bool();
  r.stop_reason = c.As<Reason>();
  r.platform_failure = c.Bool();
  r.release_pending = c.Bool();
  r.cpu_seconds = c.Real();
  r.peak_memory = c.Int();
  r.stdout_bytes = c.Int();
  r.stderr_bytes = c.Int();
  r.cache_key = c.Text();
  r.inputs_upto = c.Int();
  r.external = DecodeIds(c.Text());
  return r;
}

EventRow ReadEvent(SQLite::Statement& s) {
  Columns c(s);
  EventRow r;
  r.sequence = c.Int();
  r.run = c.Int();
  r.time = c.Int();
  r.type = c.As<EventType>();
  r.ix = c.IntOr(-1);
  r.attempt = c.As<uint32_t>();
  r.state = c.As<uint8_t>();
  r.reason = c.As<Reason>();
  r.message = c.Text();
  r.exit_code = c.OptionalInt();
  r.artifact = c.Int();
  r.output = c.Text();
  return r;
}

HookRow ReadHook(SQLite::Statement& s) {
  Columns c(s);
  HookRow r;
  r.run = c.Int();
  r.ix = c.Int();
  r.generation = c.As<int>();
  r.on_failure = c.Int() != 0;
  r.id = c.Text();
  r.step = c.Text();
  r.attempt = c.As<uint32_t>();
  r.of_state = c.As<uint8_t>();
  r.reason = c.As<Reason>();
  r.message = c.Text();
  r.of_exit_code = c.OptionalInt();
  r.inputs = DecodeGroups(c.Text());
  r.state = c.As<HookState>();
  r.tries = c.As<uint32_t>();
  r.key = c.Text();
  r.result = c.Text();
  r.exit_code = c.OptionalInt();
  r.signal = c.OptionalInt();
  r.created = c.Int();
  r.started = c.Int();
  r.ended = c.Int();
  return r;
}

ArtifactRow ReadArtifact(SQLite::Statement& s) {
  Columns c(s);
  ArtifactRow r;
  r.id = c.Int();
  r.run = c.Int();
  r.ix = c.As<StepIx>();
  r.attempt = c.As<uint32_t>();
  r.output = c.Text();
  r.project = c.Text();
  r.name = c.Text();
  r.version = c.Int();
  r.type = c.Text();
  r.digest = c.Text();
  r.size = c.Int();
  r.value_json = c.OptionalText();
  r.early = c.Bool();
  r.metadata_json = c.Text();
  r.created = c.Int();
  return r;
}

PipelineRow ReadPipeline(SQLite::Statement& s) {
  Columns c(s);
  PipelineRow r;
  r.id = c.Int();
  r.project = c.Text();
  r.name = c.Text();
  r.version = c.Int();
  r.digest = c.Text();
  r.created = c.Int();
  r.step_count = c.Int();
  r.bytes = c.Int();
  return r;
}

}  // namespace orch::store
