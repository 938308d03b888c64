// A deleted run is gone at once, and what it leaves behind goes piece by piece, except what something else needs.
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>

#include <map>

#include "server/store/pragmas.h"
#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

DeletedRunRow Deleted(RunKey key, const std::string& name, int64_t last_sequence) {
  return {key, absl::StrCat("id-", key), name, "penguins", last_sequence, 77};
}

ArtifactRow Artifact(ArtifactId id, RunKey run, StepIx ix, const std::string& name, const std::string& bytes) {
  ArtifactRow a;
  a.id = id;
  a.run = run;
  a.ix = ix;
  a.attempt = 1;
  a.output = "o";
  a.project = "default";
  a.name = name;
  a.digest = Sha256Of(bytes);
  return a;
}

StepRow Step(RunKey run, StepIx ix, const std::string& name) {
  StepRow s;
  s.run = run;
  s.ix = ix;
  s.name = name;
  s.state = StepState::kSucceeded;
  return s;
}

class RemovalTest : public StoreTest {
 protected:
  int64_t Count(const std::string& what) {
    SQLite::Database db(DatabasePath(dir_), SQLite::OPEN_READONLY);
    return db.execAndGet("SELECT count(*) FROM " + what).getInt64();
  }
  void AddBlob(Batch* batch, const std::string& bytes) {
    BlobRow blob;
    blob.digest = Sha256Of(bytes);
    blob.size = static_cast<int64_t>(bytes.size());
    blob.inline_bytes = bytes;
    batch->blobs.push_back(blob);
  }
};

TEST_F(RemovalTest, RequestsGoFromTheOldestOnAndNoneThatIsYoung) {
  Batch batch;
  for (const int64_t created : {30, 10, 40, 20}) {
    batch.requests.push_back({"CancelRun", "default", absl::StrCat("r", created), "f", "", created});
  }
  Commit(batch);
  EXPECT_FALSE(*queries_->HasRequestBefore(10));
  EXPECT_TRUE(*queries_->HasRequestBefore(11));
  Batch removal;
  removal.removals.requests = {40, 2};
  Commit(removal);
  EXPECT_EQ(Count("request WHERE created IN (30, 40)"), 2);
  EXPECT_EQ(Count("request"), 2);
  removal = Batch();
  removal.removals.requests = {40, 2};
  Commit(removal);
  EXPECT_EQ(Count("request"), 1);
  EXPECT_TRUE((*queries_->FindRequest("CancelRun", "default", "r40")).has_value());
}

TEST_F(RemovalTest, ADeletedRunIsGoneAndItsNameIsFree) {
  Batch batch;
  AddRun(&batch, 1, "first", RunState::kSucceeded);
  AddRun(&batch, 2, "second", RunState::kSucceeded);
  batch.new_runs[1].labels = {{"team", "x"}};
  batch.events = {Event(1, 1), Event(2, 2), Event(3, 2)};
  Commit(batch);
  Batch removal;
  removal.removals.runs = {Deleted(2, "second", 3)};
  removal.events = {Event(4, 2)};
  removal.events[0].type = EventType::kRunDeleted;
  Commit(removal);

  EXPECT_EQ(queries_->FindRun("default", "second").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(queries_->FindRun("default", "id-2").status().code(), absl::StatusCode::kNotFound);
  RunFilter by_name;
  by_name.name_contains = "seco";
  EXPECT_THAT(*queries_->ListRuns(by_name, 0, 10), IsEmpty());
  RunFilter by_label;
  by_label.labels = {{"team", "x"}};
  EXPECT_THAT(*queries_->ListRuns(by_label, 0, 10), IsEmpty());
  EXPECT_EQ(*queries_->CompactedSequence(), 3) << "who has not seen its events has to list again";
  ASSERT_TRUE(queries_->NextDeletedRun()->has_value());
  EXPECT_EQ((*queries_->NextDeletedRun())->name, "second");

  Batch again;  // under the same name, with a new key
  AddRun(&again, 3, "second");
  Commit(again);
  EXPECT_EQ(queries_->FindRun("default", "second")->header.key, 3);
}

TEST_F(RemovalTest, KeysAndIdsAreNeverGivenAgain) {
  Batch batch;
  AddRun(&batch, 8, "last", RunState::kSucceeded);
  batch.steps = {Step(8, 0, "s")};
  batch.artifacts = {Artifact(40, 8, 0, "penguins.s.o", "bytes")};
  batch.events = {Event(1, 8)};
  Commit(batch);
  Batch removal;
  removal.removals.runs = {Deleted(8, "last", 1)};
  removal.removals.artifacts = {40};
  Commit(removal);
  EXPECT_EQ(Count("artifact"), 0);
  Reopen();
  EXPECT_EQ(writer_->meta().next_run_key, 9);
  EXPECT_EQ(writer_->meta().next_artifact_id, 41);
  EXPECT_GE(writer_->meta().last_sequence, 1);
}

TEST_F(RemovalTest, WhatOnlyACacheEntryKeptGoesWithIt) {
  Batch batch;
  AddRun(&batch, 1, "r", RunState::kSucceeded);
  batch.steps = {Step(1, 0, "a"), Step(1, 1, "b[2]"), Step(1, 2, "c")};
  batch.artifacts = {Artifact(1, 1, 0, "penguins.a.o", "one"), Artifact(2, 1, 1, "penguins.b[2].o", "two"),
                     Artifact(3, 1, 2, "best", "three")};
  for (const char* bytes : {"one", "two", "three"}) AddBlob(&batch, bytes);
  for (StepIx ix = 0; ix < 3; ++ix) {
    CacheEntryRow entry;
    entry.project = "default";
    entry.key = std::string(32, static_cast<char>('a' + ix));
    entry.run = 1;
    entry.ix = ix;
    entry.attempt = 1;
    entry.parts_json = "{}";
    entry.artifacts = {ix + 1};
    entry.created = 50;
    entry.pipeline = "penguins";
    entry.step = batch.steps[ix].name;
    batch.cache_entries.push_back(entry);
  }
  const std::vector<CacheEntryRow> entries = batch.cache_entries;
  Commit(batch);
  Batch of_live;  // of a run that is there
  of_live.removed_cache_entries = {{"default", entries[0].key}};
  Commit(of_live);
  EXPECT_EQ(Count("artifact"), 3);
  Batch again;
  again.cache_entries = {entries[0]};
  Commit(again);

  Batch removal;
  removal.removals.runs = {Deleted(1, "r", 0)};
  Commit(removal);
  Batch cleaned;
  cleaned.removals.artifacts = {1, 2, 3};
  cleaned.removals.steps = {{1, 0, 10}};
  cleaned.removals.cleaned_runs = {1};
  Commit(cleaned);
  EXPECT_EQ(Count("artifact"), 3);
  EXPECT_EQ(Count("blob_removal"), 3);
  Batch checked;
  checked.removals.checked_blobs = {Sha256Of("one"), Sha256Of("two"), Sha256Of("three")};
  Commit(checked);
  EXPECT_EQ(Count("blob_removal"), 0);

  Batch other;  // one that was made anew meanwhile
  other.removals.cache_entries = {{"default", entries[0].key, 49}};
  Commit(other);
  EXPECT_EQ(Count("artifact"), 3);
  Batch pruned;
  pruned.removals.cache_entries = {{"default", entries[0].key, 50}};
  Commit(pruned);
  EXPECT_EQ(Count("artifact WHERE id = 1"), 0);
  Batch replaced;
  replaced.cache_entries = {entries[1]};
  replaced.cache_entries[0].run = 2;
  replaced.cache_entries[0].artifacts = {};
  replaced.removed_cache_entries = {{"default", entries[2].key}};
  Commit(replaced);
  EXPECT_EQ(Count("artifact WHERE id = 2"), 0);
  EXPECT_EQ(Count("artifact WHERE id = 3"), 1) << "it has a name of its own";
  EXPECT_THAT(*queries_->ListBlobRemovals("", 10), testing::UnorderedElementsAre(Sha256Of("one"), Sha256Of("two")));
}

TEST_F(RemovalTest, ArtifactsThatSomethingNeedsStay) {
  Batch batch;
  AddRun(&batch, 1, "r", RunState::kSucceeded);
  batch.steps = {Step(1, 0, "plain"), Step(1, 1, "cached"), Step(1, 2, "named"), Step(1, 3, "wide[2]")};
  batch.artifacts = {Artifact(1, 1, 0, "penguins.plain.o", "plain"), Artifact(2, 1, 1, "penguins.cached.o", "cached"),
                     Artifact(3, 1, 2, "best-model", "named"), Artifact(4, 1, 3, "penguins.wide[2].o", "wide")};
  CacheEntryRow entry;
  entry.project = "default";
  entry.key = std::string(32, 'k');
  entry.run = 1;
  entry.ix = 1;
  entry.attempt = 1;
  entry.parts_json = "{}";
  entry.artifacts = {2};
  batch.cache_entries = {entry};
  Commit(batch);
  Batch removal;
  removal.removals.runs = {Deleted(1, "r", 0)};
  Commit(removal);

  EXPECT_THAT(*queries_->ListLooseArtifacts(1, 0, 10), ElementsAre(1, 4));
  EXPECT_THAT(*queries_->ListLooseArtifacts(1, 1, 10), ElementsAre(4));
  EXPECT_THAT(*queries_->ListLooseArtifacts(1, 0, 1), ElementsAre(1));
  Batch all;  // asked for all the same: the writer looks again
  all.removals.artifacts = {1, 2, 3, 4};
  Commit(all);
  EXPECT_TRUE(queries_->FindArtifact("default", "best-model").ok());
  EXPECT_TRUE(queries_->FindArtifact("default", "art-2").ok());
  EXPECT_FALSE(queries_->FindArtifact("default", "art-1").ok());
  EXPECT_FALSE(queries_->FindArtifact("default", "art-4").ok());
}

TEST_F(RemovalTest, BytesGoWithTheLastArtifactThatHasThem) {
  Batch batch;
  AddRun(&batch, 1, "r1", RunState::kSucceeded);
  AddRun(&batch, 2, "r2", RunState::kSucceeded);
  batch.steps = {Step(1, 0, "s"), Step(1, 1, "t"), Step(2, 0, "s")};
  AddBlob(&batch, "shared");
  AddBlob(&batch, "alone");
  batch.artifacts = {Artifact(1, 1, 0, "penguins.s.o", "shared"), Artifact(2, 1, 1, "penguins.t.o", "alone"),
                     Artifact(3, 2, 0, "penguins.s.o", "shared")};
  Commit(batch);
  Batch removal;
  removal.removals.runs = {Deleted(1, "r1", 0)};
  removal.removals.artifacts = {1, 2};
  Commit(removal);
  std::vector<std::string> both = {Sha256Of("shared"), Sha256Of("alone")};
  std::sort(both.begin(), both.end());
  EXPECT_EQ(*queries_->ListBlobRemovals("", 10), both);

  Batch check;
  check.removals.checked_blobs = both;
  Commit(check);
  EXPECT_THAT(*queries_->FindBlobRemovals(both), ElementsAre(Sha256Of("alone")));
  Batch wrong;  // nobody unlinks what is not on the list; it stays
  wrong.removals.removed_blobs = {Sha256Of("shared")};
  Commit(wrong);
  EXPECT_TRUE(queries_->GetBlob(Sha256Of("shared"))->has_value());

  Batch landed;  // somebody stores the same bytes between the removal of the file and that of the row
  AddRun(&landed, 3, "r3", RunState::kRunning);
  landed.artifacts = {Artifact(4, 3, 0, "penguins.s.o", "alone")};
  AddBlob(&landed, "alone");
  Commit(landed);
  Batch removed;
  removed.removals.removed_blobs = {Sha256Of("alone")};
  Commit(removed);
  EXPECT_TRUE(queries_->GetBlob(Sha256Of("alone"))->has_value());
  EXPECT_THAT(*queries_->ListBlobRemovals("", 10), IsEmpty());
}

TEST_F(RemovalTest, WhatAReaderReadIsNotedWhenItsArtifactGoes) {
  Batch batch;
  AddRun(&batch, 1, "r1", RunState::kSucceeded);
  AddRun(&batch, 2, "r2", RunState::kRunning);
  batch.steps = {Step(1, 0, "s"), Step(2, 0, "s")};
  for (const char* text : {"read", "stays"}) AddBlob(&batch, text);
  batch.artifacts = {Artifact(1, 1, 0, "penguins.s.o", "read"), Artifact(2, 2, 0, "penguins.s.o", "stays")};
  AttemptRow& reader = batch.attempts.emplace_back();
  reader.run = 2;
  reader.number = 1;
  reader.state = AttemptState::kRunning;
  reader.external = {0, 1, 2};
  Commit(batch);
  EXPECT_THAT(*queries_->ListGoneReads(2, 0, 1), IsEmpty());
  Batch removal;
  removal.removals.runs = {Deleted(1, "r1", 0)};
  removal.removals.artifacts = {1};
  Commit(removal);
  EXPECT_THAT(*queries_->ListGoneReads(2, 0, 1), ElementsAre(Sha256Of("read")));
  EXPECT_THAT(*queries_->ListGoneReads(2, 0, 2), IsEmpty());
  EXPECT_THAT(*queries_->ListBlobRemovals("", 10), ElementsAre(Sha256Of("read")));
}

TEST_F(RemovalTest, RowsGoInSlices) {
  Batch batch;
  AddRun(&batch, 1, "r", RunState::kSucceeded);
  AddRun(&batch, 2, "other", RunState::kSucceeded);
  for (StepIx ix = 0; ix < 10; ++ix) {
    for (const RunKey run : {1, 2}) {
      batch.steps.push_back(Step(run, ix, absl::StrCat("s", ix)));
      AttemptRow& a = batch.attempts.emplace_back();
      a.run = run;
      a.ix = ix;
      a.number = 1;
      a.release_pending = true;
      batch.events.push_back(Event(static_cast<int64_t>(batch.events.size()) + 1, run));
    }
  }
  Commit(batch);
  const DeletedRunRow deleted = Deleted(1, "r", 20);
  Batch removal;
  removal.removals.runs = {deleted};
  removal.events = {Event(21, 1)};
  removal.events[0].type = EventType::kRunDeleted;
  Commit(removal);
  EXPECT_EQ(queries_->FindRemains(deleted)->last_step, 9U);
  Batch part;
  part.removals.steps = {{1, 0, 6}};
  part.removals.events = {{1, 20, 4}};
  Commit(part);
  EXPECT_EQ(Count("step WHERE run = 1"), 4);
  EXPECT_EQ(Count("attempt WHERE run = 1"), 4);
  EXPECT_EQ(Count("pending_release WHERE run = 1"), 4);
  EXPECT_EQ(Count("event WHERE run = 1"), 7);
  EXPECT_TRUE(queries_->FindRemains(deleted)->events);
  Batch rest;
  rest.removals.steps = {{1, 6, 12}};
  rest.removals.events = {{1, 20, 100}};
  rest.removals.cleaned_runs = {1};
  Commit(rest);
  EXPECT_FALSE(queries_->FindRemains(deleted)->events);
  EXPECT_EQ(Count("event WHERE run = 1"), 1) << "the word of its end stays";
  EXPECT_EQ(Count("step WHERE run = 2"), 10);
  EXPECT_EQ(Count("attempt WHERE run = 2"), 10);
  EXPECT_EQ(Count("event WHERE run = 2"), 10);
  EXPECT_FALSE(queries_->NextDeletedRun()->has_value());
}

TEST_F(RemovalTest, PruningTakesWhatNothingNeeds) {
  Batch batch;
  AddRun(&batch, 1, "ended", RunState::kSucceeded);
  AddRun(&batch, 2, "live", RunState::kRunning);
  batch.new_runs[0].pipeline = batch.new_runs[1].pipeline = "penguins";
  batch.steps = {Step(1, 0, "a"), Step(1, 1, "b"), Step(1, 2, "c"), Step(2, 0, "a")};
  batch.artifacts = {Artifact(1, 1, 0, "penguins.a.o", "one"), Artifact(2, 1, 1, "penguins.b.o", "two"),
                     Artifact(3, 1, 2, "keeper", "three"), Artifact(4, 2, 0, "penguins.a.o", "four")};
  for (const char* bytes : {"one", "two", "three", "four"}) AddBlob(&batch, bytes);
  CacheEntryRow entry;
  entry.project = "default";
  entry.key = Sha256Of("key");
  entry.run = 1;
  entry.ix = 1;
  entry.attempt = 1;
  entry.parts_json = "{}";
  entry.artifacts = {2};
  entry.created = 50;
  batch.cache_entries = {entry};
  for (int64_t sequence = 1; sequence <= 10; ++sequence) {
    batch.events.push_back(Event(sequence, 1));
    batch.events.back().time = 1000 * sequence;
  }
  Commit(batch);

  auto marks = queries_->ListArtifactMarks(0, 10);
  ASSERT_TRUE(marks.ok()) << marks.status();
  std::map<std::string, std::string> needed;
  for (const ArtifactMark& mark : *marks) needed[mark.name] = mark.needed_by;
  EXPECT_EQ(needed, (std::map<std::string, std::string>{{"keeper@1", "its own name"},
                                                        {"penguins.a.o@1", ""},
                                                        {"penguins.a.o@2", "run live, which has not ended"},
                                                        {"penguins.b.o@1", ""}}));
  EXPECT_FALSE((*marks)[0].cached);
  EXPECT_TRUE((*marks)[2].cached);
  auto cache = queries_->ListCacheMarks(0, 10);
  ASSERT_TRUE(cache.ok()) << cache.status();
  ASSERT_EQ(cache->size(), 1u);
  EXPECT_EQ((*cache)[0].name, "ended b");

  // Whatever is asked for: what something needs stays.
  Batch all;
  all.removals.pruned_artifacts = {1, 2, 4};
  all.removals.cache_entries = {{"default", entry.key, 49}};  // one that was made anew
  all.removals.compacted = {7, 3};
  Commit(all);
  EXPECT_EQ(Count("artifact WHERE id IN (2, 3, 4)"), 3);
  EXPECT_EQ(Count("artifact WHERE id = 1"), 0);
  EXPECT_EQ(Count("cache_entry"), 1);
  EXPECT_EQ(Count("event"), 7);  // a slice
  EXPECT_EQ(*queries_->CompactedSequence(), 7);
  EXPECT_EQ(queries_->MarkEvents(10, 0)->first, 4);
  EXPECT_EQ(queries_->MarkEvents(10, 5500)->before_time, 5);

  Batch rest;
  rest.removals.cache_entries = {{"default", entry.key, 50}};
  rest.removals.pruned_artifacts = {2};
  rest.removals.compacted = {10, 100};
  Commit(rest);
  EXPECT_EQ(Count("artifact"), 2);
  EXPECT_EQ(Count("event"), 0);
  // The sequence and the ids go on where they were.
  Reopen();
  EXPECT_EQ(writer_->meta().last_sequence, 10);
  EXPECT_EQ(writer_->meta().next_artifact_id, 5);
}

}  // namespace
}  // namespace orch::store
