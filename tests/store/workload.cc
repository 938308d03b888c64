#include "tests/store/workload.h"

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/store/sqlite_status.h"

namespace orch::store {

std::string Workload::Text() {
  // Mostly short; sometimes longer than a page.
  const int64_t size = Below(10) == 0 ? Below(12'000) : Below(80);
  return std::string(static_cast<size_t>(size), static_cast<char>('a' + Below(26)));
}

Batch Workload::Next() {
  Batch batch;
  const auto event = [&](EventType type, RunKey run) {
    EventRow e;
    e.sequence = ++sequence_;
    e.time = 1000 + sequence_;
    e.type = type;
    e.run = run;
    e.ix = Below(5) - 1;
    e.state = 3;
    e.message = Text();
    batch.events.push_back(e);
  };
  if (runs_ == 0 || Below(3) == 0) {
    const std::string half = absl::StrCat("pipeline ", ++pipelines_, Text());
    const std::string digest = Sha256Of(half + half);
    for (int i = 0; i < 2; ++i) batch.spec_slices.push_back({digest, i, half});
    batch.pipelines.push_back({pipelines_, "default", "p", pipelines_, digest, 11, 3, 1});
    RunHeader h;
    h.key = ++runs_;
    h.id = absl::StrCat("id-", h.key);
    h.project = "default";
    h.name = absl::StrCat("penguins-", h.key);
    h.pipeline_id = pipelines_;
    h.pipeline = "p";
    h.pipeline_version = pipelines_;
    h.orchestrator = "local";
    h.parameters_json = "{}";
    h.labels = {{"team", Text()}};
    h.environment = {{"PATH", Text()}};
    h.step_count = 5;
    batch.new_runs.push_back(h);
    RunRow r;
    r.key = h.key;
    r.state = RunState::kRunning;
    batch.runs.push_back(r);
    batch.requests.push_back({"SubmitRun", "default", h.id, digest, h.id, 12});
    event(EventType::kRunSubmitted, h.key);
  }
  for (int64_t i = 1 + Below(4); i > 0; --i) {
    StepRow s;
    s.run = 1 + Below(runs_);
    s.ix = static_cast<StepIx>(Below(40));
    s.name = absl::StrCat("step-", s.ix);
    s.state = StepState::kRunning;
    s.message = Text();
    s.attempt = 1;
    AttemptRow a;
    a.run = s.run;
    a.ix = s.ix;
    a.number = 1;
    a.state = AttemptState::kRunning;
    a.key = absl::StrCat("key-", sequence_);
    a.handle = Text();
    a.release_pending = Below(2) == 0;
    batch.attempts.push_back(a);
    event(EventType::kStepStateChanged, s.run);
    if (Below(2) == 0) {
      const std::string bytes = Text();
      batch.blobs.push_back({Sha256Of(bytes), static_cast<int64_t>(bytes.size()), false, bytes});
      ArtifactRow artifact;
      artifact.id = ++artifacts_;
      artifact.run = s.run;
      artifact.ix = s.ix;
      artifact.attempt = 1;
      artifact.output = "o";
      artifact.project = "default";
      artifact.name = absl::StrCat("p.", s.name, ".o");
      artifact.digest = Sha256Of(bytes);
      artifact.size = static_cast<int64_t>(bytes.size());
      batch.artifacts.push_back(artifact);
      batch.cache_entries.push_back({"default", Sha256Of(s.name), s.run, s.ix, 1, Text(), {artifact.id}, sequence_});
      event(EventType::kArtifactLanded, s.run);
    }
    batch.steps.push_back(std::move(s));
  }
  if (Below(4) == 0) batch.orchestrators.push_back({"default", "o", "local", Text(), 0, 1, sequence_, 1});
  if (Below(4) == 0) batch.pools.push_back({absl::StrCat("pool-", Below(3)), sequence_, Text()});
  if (Below(4) == 0) batch.stacks.push_back({absl::StrCat("stack-", Below(3)), "local", "default", "", true});
  if (Below(4) == 0) {
    batch.secrets.push_back(
        {"default", absl::StrCat("secret-", Below(3)), std::string(60, 's'), true, 1, sequence_, 1});
  }
  if (Below(4) == 0) {
    HookRow hook;
    hook.run = 1 + Below(runs_);
    hook.ix = Below(3) - 1;
    hook.id = absl::StrCat("hook-", hook.run, "-", hook.ix);
    hook.inputs = {{1, sequence_}, {}};
    hook.state = Below(2) == 0 ? HookState::kRunning : HookState::kSucceeded;
    hook.ended = hook.state == HookState::kSucceeded ? sequence_ : 0;
    batch.hooks.push_back(std::move(hook));
  }
  if (Below(4) == 0) {
    const std::string name = absl::StrCat("token-", Below(3));
    batch.api_tokens.push_back({name, Sha256Of(absl::StrCat(name, sequence_)), TokenScope::kRead, sequence_, 0, 0, 0});
    batch.token_uses.push_back({name, sequence_, 1});
  }
  if (Below(5) == 0) batch.deleted_secrets.emplace_back("default", absl::StrCat("secret-", Below(3)));
  if (Below(5) == 0) batch.deleted_pools.push_back(absl::StrCat("pool-", Below(3)));
  RunRow r;
  r.key = 1 + Below(runs_);
  r.state = Below(4) == 0 ? RunState::kSucceeded : RunState::kRunning;
  r.version = sequence_;
  r.last_sequence = sequence_;
  if (batch.new_runs.empty() || batch.new_runs[0].key != r.key) batch.runs.push_back(r);
  return batch;
}

std::string DigestOfTables(const std::string& path, const std::string& vfs) {
  try {
    SQLite::Database db(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, 1000, vfs);
    std::vector<std::string> tables;
    {
      SQLite::Statement s(db,
                          "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT IN "
                          "('meta', 'migration') ORDER BY name");
      while (s.executeStep()) tables.push_back(s.getColumn(0).getString());
    }
    Sha256 hash;
    for (const std::string& table : tables) {
      hash.Update(absl::StrCat("\ntable ", table));
      SQLite::Statement rows(db, absl::StrCat("SELECT * FROM \"", table, "\" NOT INDEXED"));
      while (rows.executeStep()) {
        hash.Update("\n");
        for (int i = 0; i < rows.getColumnCount(); ++i) {
          const SQLite::Column c = rows.getColumn(i);
          hash.Update(absl::StrCat("|", c.getType(), ":", c.getBytes(), ":"));
          const auto* bytes = static_cast<const char*>(c.getBlob());
          if (bytes != nullptr) hash.Update(absl::string_view(bytes, static_cast<size_t>(c.getBytes())));
        }
      }
    }
    return hash.Finish();
  } catch (const SQLite::Exception&) {
    return "";
  }
}

std::string IntegrityOf(const std::string& path, const std::string& vfs) {
  try {
    SQLite::Database db(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, 1000, vfs);
    return db.execAndGet("PRAGMA integrity_check").getString();
  } catch (const SQLite::Exception& e) {
    return e.what();
  }
}

}  // namespace orch::store
