// Every kind of row goes in and comes out as it was.
#include <SQLiteCpp/Statement.h>

#include "server/store/pragmas.h"
#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

const std::string kDigest = Sha256Of("x");

TEST_F(StoreTest, RunRoundTrip) {
  PipelineRow pipeline{7, "default", "penguins", 1, kDigest, 11, 3, 1};
  RunHeader h;
  h.key = 1;
  h.id = "0192f0a1-0000-7000-8000-000000000001";
  h.project = "default";
  h.name = "penguins-1";
  h.pipeline_id = 7;
  h.pipeline = "penguins";
  h.pipeline_version = 1;
  h.orchestrator = "local";
  h.parameters_json = "{\"folds\":3}";
  h.labels = {{"team", "b"}, {"a", ""}, {"ü", std::string("x\0y", 3)}};
  h.submitter_host = "host";
  h.source_dir = "/src";
  h.environment = {{"PATH", "/bin"}, {"BAD", "\xff\xfe"}};
  h.execution_mode = ExecutionMode::kFailFast;
  h.max_parallel = 4;
  h.priority = -2;
  h.use_cache = false;
  h.timeout_micros = 60'000'000;
  h.created = 1'790'000'000'000'000;
  h.step_count = 100;
  RunRow r;
  r.key = 1;
  r.state = RunState::kHalting;
  r.reason = Reason::kRunDeadline;
  r.message = "too late";
  r.generation = 3;
  r.started = 2;
  r.ended = 3;
  r.deadline = 4;
  r.deadline_mono = 5;
  r.version = 6;
  r.last_sequence = 7;
  r.cancel_forced = true;
  for (size_t i = 1; i < r.counts.size(); ++i) r.counts[i] = static_cast<int64_t>(i * 1000);
  Batch batch;
  batch.pipelines = {pipeline};
  batch.new_runs = {h};
  batch.runs = {r};
  Commit(batch);

  for (const char* word : {"penguins-1", "0192f0a1-0000-7000-8000-000000000001"}) {
    auto got = queries_->FindRun("default", word);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->header.key, 1);
    EXPECT_EQ(got->header.id, h.id);
    EXPECT_EQ(got->header.project, h.project);
    EXPECT_EQ(got->header.name, h.name);
    EXPECT_EQ(got->header.pipeline_id, 7);
    EXPECT_EQ(got->header.pipeline, h.pipeline);
    EXPECT_EQ(got->header.pipeline_version, 1);
    EXPECT_EQ(got->header.orchestrator, h.orchestrator);
    EXPECT_EQ(got->header.parameters_json, h.parameters_json);
    EXPECT_EQ(got->header.labels, h.labels);
    EXPECT_EQ(got->header.submitter_host, h.submitter_host);
    EXPECT_EQ(got->header.source_dir, h.source_dir);
    EXPECT_EQ(got->header.environment, h.environment);
    EXPECT_EQ(got->header.execution_mode, h.execution_mode);
    EXPECT_EQ(got->header.max_parallel, 4);
    EXPECT_EQ(got->header.priority, -2);
    EXPECT_FALSE(got->header.use_cache);
    EXPECT_EQ(got->header.timeout_micros, h.timeout_micros);
    EXPECT_EQ(got->header.created, h.created);
    EXPECT_EQ(got->header.step_count, 100);
    EXPECT_EQ(got->row.key, 1);
    EXPECT_EQ(got->row.state, r.state);
    EXPECT_EQ(got->row.reason, r.reason);
    EXPECT_EQ(got->row.message, r.message);
    EXPECT_EQ(got->row.generation, 3);
    EXPECT_EQ(got->row.started, 2);
    EXPECT_EQ(got->row.ended, 3);
    EXPECT_EQ(got->row.deadline, 4);
    EXPECT_EQ(got->row.deadline_mono, 5);
    EXPECT_EQ(got->row.version, 6);
    EXPECT_EQ(got->row.last_sequence, 7);
    EXPECT_TRUE(got->row.cancel_forced);
    EXPECT_EQ(got->row.counts, r.counts);
  }

  r.state = RunState::kFailed;
  r.version = 8;
  Batch update;
  update.runs = {r};
  Commit(update);
  auto got = queries_->GetRun(1);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->row.state, RunState::kFailed);
  EXPECT_EQ(got->row.version, 8);
  EXPECT_EQ(got->header.labels, h.labels);
}

TEST_F(StoreTest, StepAndAttemptAreWrittenWhole) {
  StepRow s;
  s.run = 9;  // no run is needed
  s.ix = 4'000'000'000;
  s.name = "train[2]";
  s.state = StepState::kBackoff;
  s.reason = Reason::kBackoffBeforeRetry;
  s.message = "again";
  s.attempt = 2;
  s.exit_code = 0;
  s.signal = 9;
  s.ready = 1;
  s.started = 2;
  s.ended = 3;
  s.retry_at = 4;
  s.retry_at_mono = 5;
  s.orchestrator = "local";
  s.cached_from = "other";
  AttemptRow a;
  a.run = 9;
  a.ix = s.ix;
  a.number = 2;
  a.state = AttemptState::kStoring;
  a.reason = Reason::kSignaled;
  a.message = "m";
  a.key = "key";
  a.orchestrator = "local";
  a.handle = std::string("h\0h", 3);
  a.external_id = "e";
  a.url = "http://x";
  a.node = "n";
  a.exit_code = 137;
  a.signal = 0;
  a.created = 1;
  a.created_mono = 2;
  a.started = 3;
  a.started_mono = 4;
  a.ended = 5;
  a.stopping = true;
  a.stop_reason = Reason::kCancelRequested;
  a.platform_failure = true;
  a.release_pending = true;
  a.cpu_seconds = 1.5;
  a.peak_memory = 6;
  a.stdout_bytes = 7;
  a.stderr_bytes = 8;
  a.cache_key = kDigest;
  Batch batch;
  batch.steps = {s};
  batch.attempts = {a};
  Commit(batch);

  auto step = queries_->GetStep(9, s.ix);
  ASSERT_TRUE(step.ok() && step->has_value());
  EXPECT_EQ((*step)->run, 9);
  EXPECT_EQ((*step)->ix, s.ix);
  EXPECT_EQ((*step)->name, s.name);
  EXPECT_EQ((*step)->state, s.state);
  EXPECT_EQ((*step)->reason, s.reason);
  EXPECT_EQ((*step)->message, s.message);
  EXPECT_EQ((*step)->attempt, 2u);
  EXPECT_EQ((*step)->exit_code, 0);
  EXPECT_EQ((*step)->signal, 9);
  EXPECT_EQ((*step)->ready, 1);
  EXPECT_EQ((*step)->started, 2);
  EXPECT_EQ((*step)->ended, 3);
  EXPECT_EQ((*step)->retry_at, 4);
  EXPECT_EQ((*step)->retry_at_mono, 5);
  EXPECT_EQ((*step)->orchestrator, s.orchestrator);
  EXPECT_EQ((*step)->cached_from, s.cached_from);

  auto attempts = queries_->ListAttempts(9, s.ix);
  ASSERT_TRUE(attempts.ok());
  ASSERT_THAT(*attempts, SizeIs(1));
  const AttemptRow& g = (*attempts)[0];
  EXPECT_EQ(g.number, 2u);
  EXPECT_EQ(g.state, a.state);
  EXPECT_EQ(g.reason, a.reason);
  EXPECT_EQ(g.message, a.message);
  EXPECT_EQ(g.key, a.key);
  EXPECT_EQ(g.orchestrator, a.orchestrator);
  EXPECT_EQ(g.handle, a.handle);
  EXPECT_EQ(g.external_id, a.external_id);
  EXPECT_EQ(g.url, a.url);
  EXPECT_EQ(g.node, a.node);
  EXPECT_EQ(g.exit_code, 137);
  EXPECT_EQ(g.signal, 0);
  EXPECT_EQ(g.created, 1);
  EXPECT_EQ(g.created_mono, 2);
  EXPECT_EQ(g.started, 3);
  EXPECT_EQ(g.started_mono, 4);
  EXPECT_EQ(g.ended, 5);
  EXPECT_TRUE(g.stopping);
  EXPECT_EQ(g.stop_reason, a.stop_reason);
  EXPECT_TRUE(g.platform_failure);
  EXPECT_TRUE(g.release_pending);
  EXPECT_EQ(g.cpu_seconds, 1.5);
  EXPECT_EQ(g.peak_memory, 6);
  EXPECT_EQ(g.stdout_bytes, 7);
  EXPECT_EQ(g.stderr_bytes, 8);
  EXPECT_EQ(g.cache_key, kDigest);

  // A second write leaves nothing of the first.
  Batch second;
  second.steps.emplace_back();
  second.steps[0].run = 9;
  second.steps[0].ix = s.ix;
  second.steps[0].state = StepState::kReady;
  second.attempts.emplace_back();
  second.attempts[0].run = 9;
  second.attempts[0].ix = s.ix;
  second.attempts[0].number = 2;
  Commit(second);
  step = queries_->GetStep(9, s.ix);
  ASSERT_TRUE(step.ok() && step->has_value());
  EXPECT_EQ((*step)->state, StepState::kReady);
  EXPECT_EQ((*step)->exit_code, std::nullopt);
  EXPECT_EQ((*step)->message, "");
  attempts = queries_->ListAttempts(9, s.ix);
  ASSERT_TRUE(attempts.ok());
  ASSERT_THAT(*attempts, SizeIs(1));
  EXPECT_EQ((*attempts)[0].handle, "");
  EXPECT_FALSE((*attempts)[0].release_pending);
}

TEST_F(StoreTest, EventRoundTripAndPages) {
  Batch batch;
  for (int64_t i = 1; i <= 10; ++i) batch.events.push_back(Event(i, i % 2 + 1));
  EventRow& e = batch.events[4];  // of run 2
  e.type = EventType::kArtifactLanded;
  e.ix = 0;
  e.attempt = 3;
  e.state = 10;
  e.reason = Reason::kExitCode;
  e.message = "m";
  e.exit_code = 0;
  e.artifact = 77;
  e.output = "table";
  const EventRow want = e;
  Commit(batch);
  auto all = queries_->ListEvents(0, 4, 3);
  ASSERT_TRUE(all.ok());
  ASSERT_THAT(*all, SizeIs(3));
  const EventRow& got = (*all)[0];
  EXPECT_EQ(got.sequence, 5);
  EXPECT_EQ(got.time, want.time);
  EXPECT_EQ(got.type, want.type);
  EXPECT_EQ(got.run, want.run);
  EXPECT_EQ(got.ix, 0);
  EXPECT_EQ(got.attempt, 3u);
  EXPECT_EQ(got.state, 10);
  EXPECT_EQ(got.reason, want.reason);
  EXPECT_EQ(got.message, "m");
  EXPECT_EQ(got.exit_code, 0);
  EXPECT_EQ(got.artifact, 77);
  EXPECT_EQ(got.output, "table");
  EXPECT_EQ((*all)[1].ix, -1);
  EXPECT_EQ((*all)[1].exit_code, std::nullopt);
  auto one = queries_->ListEvents(2, 5, 10);
  ASSERT_TRUE(one.ok());
  ASSERT_THAT(*one, SizeIs(2));
  EXPECT_EQ((*one)[0].sequence, 7);
  EXPECT_EQ((*one)[1].sequence, 9);
  EXPECT_EQ(*queries_->CompactedSequence(), 0);
}

TEST_F(StoreTest, ArtifactsGetVersionsInTheOrderOfCommits) {
  const auto artifact = [](ArtifactId id, const std::string& name, StepIx ix) {
    ArtifactRow a;
    a.id = id;
    a.run = 1;
    a.ix = ix;
    a.attempt = 1;
    a.output = "table";
    a.project = "default";
    a.name = name;
    a.type = "csv";
    a.digest = kDigest;
    a.size = 17;
    a.early = true;
    a.metadata_json = "{\"rows\":3}";
    a.created = 123;
    return a;
  };
  Batch batch;
  AddRun(&batch, 1, "r");
  batch.steps.emplace_back();
  batch.steps[0].run = 1;
  batch.steps[0].name = "ingest";
  batch.steps[0].state = StepState::kSucceeded;
  batch.blobs = {{kDigest, 17, true, std::string("a\0b", 3)}, {kDigest, 99, false, std::nullopt}};
  batch.artifacts = {artifact(3, "p.a.t", 0), artifact(4, "p.b.t", 1), artifact(5, "p.a.t", 0)};
  batch.artifacts[0].value_json = "[1]";
  ASSERT_TRUE(writer_->Commit(&batch).ok());
  EXPECT_EQ(batch.artifacts[0].version, 1);
  EXPECT_EQ(batch.artifacts[1].version, 1);
  EXPECT_EQ(batch.artifacts[2].version, 2);
  Batch next;
  next.artifacts = {artifact(6, "p.a.t", 0)};
  ASSERT_TRUE(writer_->Commit(&next).ok());
  EXPECT_EQ(next.artifacts[0].version, 3);

  for (const char* word : {"art-3", "p.a.t@1"}) {
    auto got = queries_->FindArtifact("default", word);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->row.id, 3);
    EXPECT_EQ(got->row.run, 1);
    EXPECT_EQ(got->row.ix, 0u);
    EXPECT_EQ(got->row.attempt, 1u);
    EXPECT_EQ(got->row.output, "table");
    EXPECT_EQ(got->row.project, "default");
    EXPECT_EQ(got->row.name, "p.a.t");
    EXPECT_EQ(got->row.version, 1);
    EXPECT_EQ(got->row.type, "csv");
    EXPECT_EQ(got->row.digest, kDigest);
    EXPECT_EQ(got->row.size, 17);
    EXPECT_EQ(got->row.value_json, "[1]");
    EXPECT_TRUE(got->row.early);
    EXPECT_EQ(got->row.metadata_json, "{\"rows\":3}");
    EXPECT_EQ(got->row.created, 123);
    EXPECT_EQ(got->run_name, "r");
    EXPECT_EQ(got->run_id, "id-1");
    EXPECT_EQ(got->step_name, "ingest");
    EXPECT_TRUE(got->directory);
  }
  EXPECT_EQ(queries_->FindArtifact("default", "p.a.t")->row.id, 6);
  auto missing = queries_->FindArtifact("default", "p.a.x");
  EXPECT_EQ(ReasonOf(missing.status()), "ARTIFACT_NOT_FOUND");
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("near names: p.a.t"));
  EXPECT_EQ(ReasonOf(queries_->FindArtifact("default", "p.a.t@9").status()), "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(queries_->FindArtifact("elsewhere", "art-3").status()), "ARTIFACT_NOT_FOUND");

  ArtifactFilter filter;
  filter.run = 1;
  auto page = queries_->ListArtifacts(filter, 0, 2);
  ASSERT_TRUE(page.ok());
  ASSERT_THAT(*page, SizeIs(2));
  EXPECT_EQ((*page)[0].row.id, 6);
  EXPECT_EQ((*page)[1].row.id, 5);
  EXPECT_THAT(*queries_->ListArtifacts(filter, 5, 10), SizeIs(2));
  filter.ix = 1;
  EXPECT_THAT(*queries_->ListArtifacts(filter, 0, 10), SizeIs(1));
  filter = {};
  filter.name = "p.a.t";
  EXPECT_THAT(*queries_->ListArtifacts(filter, 0, 10), SizeIs(3));
  filter.name = "none";
  EXPECT_THAT(*queries_->ListArtifacts(filter, 0, 10), SizeIs(0));

  auto rows = queries_->GetArtifacts({5, 3});
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ((*rows)[0].id, 5);
  EXPECT_EQ((*rows)[1].value_json, "[1]");
  EXPECT_THAT(std::string(queries_->GetArtifacts({5, 99}).status().message()), HasSubstr("art-99"));

  // The first blob of a digest stays.
  auto blob = queries_->GetBlob(kDigest);
  ASSERT_TRUE(blob.ok() && blob->has_value());
  EXPECT_EQ((*blob)->size, 17);
  EXPECT_TRUE((*blob)->directory);
  EXPECT_EQ((*blob)->inline_bytes, std::string("a\0b", 3));
  EXPECT_EQ(*queries_->GetBlob(Sha256Of("y")), std::nullopt);

  Batch cache;
  CacheEntryRow entry{"default", kDigest, 1, 0, 1, "{\"command\":1}", {5, 3}, 44, "p", "s", "r"};
  cache.cache_entries = {entry};
  Commit(cache);
  const auto find = [&](const std::string& project) {
    std::optional<Queries::CacheHit> hit;
    EXPECT_TRUE(queries_
                    ->ReadCache(project,
                                [&](const Queries::CacheFinder& finder) {
                                  hit = finder(kDigest);
                                  return absl::OkStatus();
                                })
                    .ok());
    return hit;
  };
  auto hit = find("default");
  ASSERT_TRUE(hit.has_value());
  EXPECT_EQ(hit->entry.run_name, "r");
  EXPECT_EQ(hit->entry.created, 44);
  EXPECT_THAT(hit->entry.artifacts, ElementsAre(5, 3));
  ASSERT_THAT(hit->artifacts, SizeIs(2));
  EXPECT_EQ(hit->artifacts[1].value_json, "[1]");
  EXPECT_FALSE(find("other").has_value());
  cache.cache_entries[0].artifacts = {6};
  Commit(cache);
  EXPECT_THAT(find("default")->entry.artifacts, ElementsAre(6));
  cache.cache_entries[0].artifacts = {999};
  Commit(cache);
  EXPECT_FALSE(find("default").has_value());

  // By what made them: the newest of a step, and the keys of a step with its instances, or of one, or of all.
  Batch more;
  const auto add = [&](char key, const std::string& step, RunKey run, int64_t created) {
    more.cache_entries.push_back({"default",
                                  std::string(32, key),
                                  run,
                                  0,
                                  1,
                                  absl::StrCat("{\"n\":", created, "}"),
                                  {},
                                  created,
                                  "p",
                                  step,
                                  "x"});
  };
  add('1', "train", 1, 50);
  add('2', "train[0]", 1, 51);
  add('3', "train[1]", 1, 52);
  add('4', "trainer", 1, 53);
  add('5', "train", 2, 60);
  Commit(more);
  const auto newest = [&](int64_t before, RunKey not_of) {
    const auto row = queries_->NewestCacheEntry("default", "p", "train", before, not_of);
    return row.ok() && row->has_value() ? (*row)->created : 0;
  };
  EXPECT_EQ(newest(INT64_MAX, 0), 60);
  EXPECT_EQ(newest(60, 0), 50);
  EXPECT_EQ(newest(INT64_MAX, 2), 50);
  EXPECT_EQ(newest(50, 0), 0);
  EXPECT_EQ(queries_->ListCacheKeys("default", "p", "train", 1000)->size(), 4u);
  EXPECT_EQ(queries_->ListCacheKeys("default", "p", "train[1]", 1000)->size(), 1u);
  EXPECT_EQ(queries_->ListCacheKeys("default", "p", "", 1000)->size(), 6u);
  EXPECT_EQ(queries_->ListCacheKeys("default", "p", "train", 51)->size(), 2u);
  EXPECT_EQ(queries_->ListCacheKeys("default", "q", "", 1000)->size(), 0u);
  Batch gone;
  gone.removed_cache_entries = {{"default", std::string(32, '5')}};
  Commit(gone);
  EXPECT_EQ(newest(INT64_MAX, 0), 50);

  Batch missed;
  missed.cache_misses = {{1, 0, 2, kDigest, "{}", CacheVerdict::kExpired, 70}};
  Commit(missed);
  const auto miss = queries_->GetCacheMiss(1, 0);
  ASSERT_TRUE(miss.ok() && miss->has_value());
  EXPECT_EQ((*miss)->attempt, 2u);
  EXPECT_EQ((*miss)->key, kDigest);
  EXPECT_EQ((*miss)->verdict, CacheVerdict::kExpired);
  EXPECT_FALSE(queries_->GetCacheMiss(1, 1)->has_value());
}

TEST_F(StoreTest, RequestsAndRegistry) {
  Batch batch;
  batch.requests = {{"SubmitRun", "default", "req-1", kDigest, std::string("id\0x", 4), 5}};
  batch.orchestrators = {{"default", "k", "kubernetes", "{}", 3, 1, 2, 1}, {"default", "a", "local", "{}", 0, 1, 1, 1}};
  batch.pools = {{"db", 2, "the database"}, {"x", 1, ""}};
  batch.stacks = {{"default", "local", "folder", "", true}, {"b", "k", "s3", "reg", false}};
  Commit(batch);
  auto request = queries_->FindRequest("SubmitRun", "default", "req-1");
  ASSERT_TRUE(request.ok() && request->has_value());
  EXPECT_EQ((*request)->fingerprint, kDigest);
  EXPECT_EQ((*request)->answer, std::string("id\0x", 4));
  EXPECT_EQ((*request)->created, 5);
  EXPECT_FALSE(queries_->FindRequest("CancelRun", "default", "req-1")->has_value());

  Batch next;
  next.orchestrators = {{"default", "k", "kubernetes", "{\"n\":1}", 4, 1, 9, 2}};
  next.deleted_orchestrators = {{"default", "a"}};
  next.deleted_pools = {"x"};
  next.pools = {{"db", 5, ""}};
  next.stacks = {{"b", "k", "gs", "", true}};
  Commit(next);
  auto orchestrators = queries_->ListOrchestrators("default");
  ASSERT_TRUE(orchestrators.ok());
  ASSERT_THAT(*orchestrators, SizeIs(1));
  EXPECT_EQ((*orchestrators)[0].config_json, "{\"n\":1}");
  EXPECT_EQ((*orchestrators)[0].flavor, "kubernetes");
  EXPECT_EQ((*orchestrators)[0].max_parallel, 4);
  EXPECT_EQ((*orchestrators)[0].updated, 9);
  EXPECT_EQ((*orchestrators)[0].version, 2);
  auto pools = queries_->ListPools();
  ASSERT_THAT(*pools, SizeIs(1));
  EXPECT_EQ((*pools)[0].slots, 5);
  auto stacks = queries_->ListStacks();
  ASSERT_THAT(*stacks, SizeIs(2));
  EXPECT_TRUE((*stacks)[0].is_default);
  EXPECT_EQ((*stacks)[0].artifact_store, "gs");
  EXPECT_FALSE((*stacks)[1].is_default);
}

TEST_F(StoreTest, HooksAreReadAsTheyWere) {
  HookRow hook;
  hook.run = 7;
  hook.ix = 3;
  hook.generation = 2;
  hook.on_failure = true;
  hook.id = "id";
  hook.step = "train[1]";
  hook.attempt = 4;
  hook.of_state = static_cast<uint8_t>(StepState::kFailed);
  hook.reason = Reason::kExitCode;
  hook.message = "exit code 5";
  hook.of_exit_code = 5;
  hook.inputs = {{1, 2}, {}, {3}};
  hook.state = HookState::kRunning;
  hook.tries = 1;
  hook.key = "key";
  hook.created = 10;
  hook.started = 11;
  HookRow done = hook;
  done.ix = -1;
  done.id = "done";
  done.state = HookState::kFailed;
  done.result = "exit code 1";
  done.exit_code = 1;
  done.ended = 12;
  Batch batch;
  batch.hooks = {hook, done};
  Commit(batch);
  const auto open = writer_->OpenHooks();
  ASSERT_TRUE(open.ok());
  ASSERT_THAT(*open, SizeIs(1)) << "one has ended";
  const HookRow& read = open->front();
  EXPECT_EQ(read.run, 7);
  EXPECT_EQ(read.ix, 3);
  EXPECT_EQ(read.generation, 2);
  EXPECT_TRUE(read.on_failure);
  EXPECT_EQ(read.id, "id");
  EXPECT_EQ(read.step, "train[1]");
  EXPECT_EQ(read.attempt, 4u);
  EXPECT_EQ(read.of_state, static_cast<uint8_t>(StepState::kFailed));
  EXPECT_EQ(read.reason, Reason::kExitCode);
  EXPECT_EQ(read.message, "exit code 5");
  EXPECT_EQ(read.of_exit_code, 5);
  EXPECT_EQ(read.inputs, hook.inputs);
  EXPECT_EQ(read.key, "key");
  EXPECT_EQ(read.started, 11);
  EXPECT_THAT(*queries_->ListHooks(7, 3), SizeIs(1));
  EXPECT_EQ(queries_->ListHooks(7, -1)->front().result, "exit code 1");
  EXPECT_EQ(queries_->FindHook(7, "done")->exit_code, 1);
  EXPECT_EQ(ReasonOf(queries_->FindHook(8, "done").status()), "HOOK_NOT_FOUND");
  hook.state = HookState::kSucceeded;
  hook.ended = 13;
  Batch next;
  next.hooks = {hook};
  Commit(next);
  EXPECT_THAT(*writer_->OpenHooks(), SizeIs(0));
}

TEST_F(StoreTest, TokensAreReplacedByNameAndUsesAreThoseOfTheSameToken) {
  Batch batch;
  batch.api_tokens = {{"ci", std::string(32, 'a'), TokenScope::kRead, 10, 20, 0, 0},
                      {"dash", std::string(32, 'b'), TokenScope::kFull, 11, 0, 0, 5}};
  Commit(batch);
  Batch used;
  used.token_uses = {{"ci", 10, 7}, {"dash", 12, 7}, {"nobody", 1, 7}};  // of the second another was used
  Commit(used);
  auto listed = queries_->ListApiTokens();
  ASSERT_THAT(*listed, SizeIs(2));
  EXPECT_EQ((*listed)[0].digest, std::string(32, 'a'));
  EXPECT_EQ((*listed)[0].scope, TokenScope::kRead);
  EXPECT_EQ((*listed)[0].expires, 20);
  EXPECT_EQ((*listed)[0].last_used, 7);
  EXPECT_EQ((*listed)[1].last_used, 0);
  EXPECT_EQ((*listed)[1].revoked, 5);
  Batch again;
  again.api_tokens = {{"ci", std::string(32, 'c'), TokenScope::kFull, 30, 0, 0, 0}};
  Commit(again);
  listed = queries_->ListApiTokens();
  ASSERT_THAT(*listed, SizeIs(2));
  EXPECT_EQ((*listed)[0].digest, std::string(32, 'c'));
  EXPECT_EQ((*listed)[0].last_used, 0);
}

TEST_F(StoreTest, FlavorsOfPlugInsAreReplacedByNameAndDeleted) {
  const std::string description("\x0a\x00\xff", 3);
  Batch batch;
  batch.flavors = {{"slurm", "/opt/orch-slurm", "", "", "", "", description, 1, 2, 1},
                   {"far", "", "host:7443", "/ca", "/cert", "/key", "d", 3, 4, 1}};
  Commit(batch);
  auto listed = queries_->ListFlavors();
  ASSERT_THAT(*listed, SizeIs(2));
  EXPECT_EQ((*listed)[0].address, "host:7443") << "by name";
  EXPECT_EQ((*listed)[0].program, "");
  EXPECT_EQ((*listed)[0].key_file, "/key");
  EXPECT_EQ((*listed)[1].description, description);
  Batch next;
  next.flavors = {{"slurm", "/opt/orch-slurm", "", "", "", "", "new", 1, 9, 2}};
  next.deleted_flavors = {"far"};
  Commit(next);
  listed = queries_->ListFlavors();
  ASSERT_THAT(*listed, SizeIs(1));
  EXPECT_EQ((*listed)[0].version, 2);
  EXPECT_EQ((*listed)[0].description, "new");
}

TEST_F(StoreTest, SecretsAreListedWithoutWhatIsSealed) {
  const std::string sealed(50, '\xee');
  Batch batch;
  batch.secrets = {{"default", "pw", sealed, true, 1, 2, 3}, {"default", "key", sealed, false, 4, 5, 6}};
  Commit(batch);
  const auto listed = queries_->ListSecrets("default");
  ASSERT_TRUE(listed.ok());
  ASSERT_THAT(*listed, SizeIs(2));
  EXPECT_EQ((*listed)[0].name, "key");
  EXPECT_EQ((*listed)[0].sealed, "");
  EXPECT_FALSE((*listed)[0].text);
  EXPECT_EQ(queries_->GetSecret("default", "pw")->sealed, sealed);
  EXPECT_EQ(queries_->GetSecret("default", "pw")->updated, 2);
  EXPECT_EQ(ReasonOf(queries_->GetSecret("other", "pw").status()), "SECRET_NOT_FOUND");
  Batch next;
  next.secrets = {{"default", "pw", sealed, true, 1, 7, 4}};
  next.deleted_secrets = {{"default", "key"}};
  Commit(next);
  EXPECT_THAT(*queries_->ListSecrets("default"), SizeIs(1));
  EXPECT_EQ(queries_->GetSecret("default", "pw")->version, 4);
}

TEST_F(StoreTest, AFailedCommitLeavesNothingAndIsFinal) {
  Batch batch;
  AddRun(&batch, 1, "same");
  Commit(batch);
  Batch bad;
  bad.events = {Event(1, 1)};
  AddRun(&bad, 2, "same");
  const absl::Status status = writer_->Commit(&bad);
  EXPECT_EQ(ReasonOf(status), "DATABASE_CONSTRAINT");
  Batch good;
  good.events = {Event(1, 1)};
  EXPECT_EQ(writer_->Commit(&good), status);
  EXPECT_THAT(*queries_->ListEvents(0, 0, 10), SizeIs(0));
}

TEST_F(StoreTest, ARowOfAnUnknownRunIsRefused) {
  Batch batch;
  batch.runs = {Row(5, RunState::kRunning)};
  EXPECT_EQ(ReasonOf(writer_->Commit(&batch)), "DATABASE_CONSTRAINT");
}

TEST_F(StoreTest, OneSyncACommit) {
  Batch first;
  AddRun(&first, 1, "r");
  Commit(first);
  const Writer::Stats before = writer_->stats();
  for (int64_t i = 1; i <= 50; ++i) {
    Batch batch;
    batch.events = {Event(i, 1)};
    batch.runs = {Row(1, RunState::kRunning)};
    Commit(batch);
    writer_->MaybeCheckpoint(true);
  }
  const Writer::Stats after = writer_->stats();
  EXPECT_EQ(after.commits - before.commits, 50);
  EXPECT_EQ(after.rows - before.rows, 100);
  EXPECT_EQ(after.syncs - before.syncs, 50);
  Batch empty;
  EXPECT_TRUE(writer_->Commit(&empty).ok());
  EXPECT_EQ(writer_->stats().syncs, after.syncs);
}

TEST_F(StoreTest, TheLogIsWrittenBackAndKeepsItsSize) {
  int64_t sequence = 0;
  int64_t largest = 0;
  int restarts = 0;
  int64_t last = 0;
  for (int i = 0; i < 300; ++i) {
    Batch batch;
    for (int k = 0; k < 20; ++k) {
      batch.events.push_back(Event(++sequence, 1));
      batch.events.back().message = std::string(8000, 'x');
    }
    Commit(batch);
    const int64_t bytes = writer_->stats().wal_bytes;
    largest = std::max(largest, bytes);
    if (bytes < last) ++restarts;
    last = bytes;
    writer_->MaybeCheckpoint(true);
  }
  EXPECT_GE(restarts, 2);
  EXPECT_LT(largest, 8 << 20);
  EXPECT_GE(std::filesystem::file_size(dir_ + "/orchd.db-wal"), 6u << 20);
}

TEST_F(StoreTest, WhileThereIsWorkManyCommitsShareAWriteBack) {
  int64_t sequence = 0;
  int64_t largest = 0;
  int commits = 0;
  for (int64_t last = 0;; ++commits) {
    Batch batch;
    for (int k = 0; k < 20; ++k) {
      batch.events.push_back(Event(++sequence, 1));
      batch.events.back().message = std::string(8000, 'x');
    }
    Commit(batch);
    const int64_t bytes = writer_->stats().wal_bytes;
    if (bytes < last) break;
    largest = std::max(largest, bytes);
    last = bytes;
    writer_->MaybeCheckpoint(false);
    ASSERT_LT(commits, 1000);
  }
  EXPECT_GE(commits, 127);
  EXPECT_GT(largest, 8 << 20);
}

TEST_F(StoreTest, AReaderThatHoldsTheLogIsOutlived) {
  Batch first;
  first.events = {Event(1, 1)};
  Commit(first);
  int64_t sequence = 1;
  const auto write = [&] {
    Batch batch;
    for (int k = 0; k < 64; ++k) {
      batch.events.push_back(Event(++sequence, 1));
      batch.events.back().message = std::string(32 << 10, 'x');
    }
    Commit(batch);
    writer_->MaybeCheckpoint(true);
  };
  {
    SQLite::Database reader(DatabasePath(dir_), SQLite::OPEN_READONLY);
    SQLite::Statement select(reader, "SELECT sequence FROM event");
    ASSERT_TRUE(select.executeStep());  // and stays on its row
    while (writer_->stats().wal_bytes < 70 << 20) write();
  }
  for (int i = 0; i < 5; ++i) write();  // past the next try
  EXPECT_LT(writer_->stats().wal_bytes, 16 << 20);
  EXPECT_LT(std::filesystem::file_size(dir_ + "/orchd.db-wal"), 16u << 20);
  EXPECT_EQ(static_cast<int64_t>(queries_->ListEvents(0, 0, 1'000'000)->size()), sequence);
}

}  // namespace
}  // namespace orch::store
