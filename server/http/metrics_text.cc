#include "server/http/metrics_text.h"

#include "absl/strings/str_cat.h"
#include "server/rpc/admin_api.h"

namespace orch::http {
namespace {

template <typename Number>
void Add(absl::string_view name, absl::string_view type, absl::string_view help, Number value, std::string* out) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n", name, " ", value, "\n");
}

}  // namespace

std::string MetricsText(Engine& engine, const rpc::Metrics& metrics) {
  const EngineStats stats = engine.stats();
  std::string out;
  Add("orchd_live_runs", "gauge", "Runs that have not ended.", stats.live_runs, &out);
  Add("orchd_live_attempts", "gauge", "Attempts that have not ended.", stats.live_attempts, &out);
  Add("orchd_ready_steps", "gauge", "Steps that could start and wait for a slot.", stats.ready_steps, &out);
  Add("orchd_mailbox_depth", "gauge", "Events that wait for the loop.", stats.mailbox_depth, &out);
  Add("orchd_batches_total", "counter", "Batches of events that were committed.", stats.batches, &out);
  Add("orchd_events_applied_total", "counter", "Events applied to the core.", stats.events_applied, &out);
  Add("orchd_late_events_total", "counter", "Events that came too late to matter.", stats.late_events, &out);
  Add("orchd_apply_seconds_total", "counter", "Time spent applying events.",
      static_cast<double>(stats.apply_micros_total) / 1e6, &out);
  Add("orchd_commit_seconds_total", "counter", "Time spent in commits.",
      static_cast<double>(stats.commit_micros_total) / 1e6, &out);
  Add("orchd_syncs_total", "counter", "Syncs of the database files.", stats.syncs, &out);
  Add("orchd_wal_bytes", "gauge", "Size of the write-ahead log.", stats.wal_bytes, &out);
  Add("orchd_last_sequence", "counter", "Sequence number of the newest event.", engine.hub().last_sequence(), &out);
  const Backups::Latest backup = engine.latest_backup();
  if (backup.backup.has_value()) {
    Add("orchd_latest_backup_timestamp_seconds", "gauge", "When the newest backup was made.",
        static_cast<double>(backup.backup->made) / 1e6, &out);
  }
  Add("orchd_backup_failing", "gauge", "1: no backup was made since one was last tried.", backup.failure.ok() ? 0 : 1,
      &out);
  Add("orchd_watch_streams", "gauge", "Open watch streams.", metrics.watch_streams.load(), &out);
  Add("orchd_log_streams", "gauge", "Open log streams.", metrics.log_streams.load(), &out);
  Add("orchd_waiters", "gauge", "Callers in WaitRun.", metrics.waiters.load(), &out);
  Add("orchd_refused_tokens_total", "counter", "Calls without the right token.", metrics.refused_tokens.load(), &out);
  Add("process_resident_memory_bytes", "gauge", "Resident memory.", rpc::ResidentMemory(), &out);
  out += "# HELP orchd_limit Limits in force.\n# TYPE orchd_limit gauge\n";
  for (const auto& [name, value] : rpc::LimitsByName(engine.limits())) {
    absl::StrAppend(&out, "orchd_limit{name=\"", name, "\"} ", value, "\n");
  }
  return out + metrics.AsText();
}

}  // namespace orch::http
