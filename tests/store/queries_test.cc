// Pipelines, the deadline, and readers beside the writer.
#include <thread>

#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

void AddPipeline(Batch* batch, int64_t id, const std::string& name, int64_t version, const std::string& spec) {
  const std::string digest = Sha256Of(spec);
  const size_t half = spec.size() / 2;
  batch->spec_slices.push_back({digest, 0, spec.substr(0, half)});
  batch->spec_slices.push_back({digest, 1, spec.substr(half)});
  batch->pipelines.push_back({id, "default", name, version, digest, 10 + id, 3, static_cast<int64_t>(spec.size())});
}

TEST_F(StoreTest, Pipelines) {
  Batch batch;
  AddPipeline(&batch, 1, "a", 1, "spec one");
  AddPipeline(&batch, 2, "a", 2, "spec two");
  AddPipeline(&batch, 3, "b", 1, "spec one");  // shares the pieces
  Commit(batch);
  EXPECT_EQ(queries_->FindPipeline("default", "a", 0)->id, 2);
  EXPECT_EQ(queries_->FindPipeline("default", "a", 1)->id, 1);
  EXPECT_EQ(ReasonOf(queries_->FindPipeline("default", "a", 3).status()), "PIPELINE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(queries_->FindPipeline("default", "c", 0).status()), "PIPELINE_NOT_FOUND");
  EXPECT_EQ(queries_->FindPipelineByDigest("default", "b", Sha256Of("spec one"))->value().id, 3);
  EXPECT_FALSE(queries_->FindPipelineByDigest("default", "b", Sha256Of("spec two"))->has_value());
  EXPECT_EQ(queries_->GetPipeline(3)->name, "b");
  EXPECT_EQ(queries_->GetPipeline(3)->bytes, 8);
  EXPECT_EQ(ReasonOf(queries_->GetPipeline(9).status()), "PIPELINE_NOT_FOUND");
  EXPECT_EQ(*queries_->ReadSpec(Sha256Of("spec two")), "spec two");
  EXPECT_EQ(ReasonOf(queries_->ReadSpec(Sha256Of("spec three")).status()), "PIPELINE_NOT_FOUND");
  auto list = queries_->ListPipelines("default", "", 10);
  ASSERT_THAT(*list, SizeIs(2));
  EXPECT_EQ((*list)[0].id, 2);
  EXPECT_EQ((*list)[1].id, 3);
  EXPECT_THAT(*queries_->ListPipelines("default", "a", 10), SizeIs(1));
  auto versions = queries_->ListPipelineVersions("default", "a", 0, 10);
  ASSERT_THAT(*versions, SizeIs(2));
  EXPECT_EQ((*versions)[0].version, 2);
  EXPECT_THAT(*queries_->ListPipelineVersions("default", "a", 2, 10), SizeIs(1));
}

TEST_F(StoreTest, PiecesWithoutAPipelineAreRemovedAtOpen) {
  Batch batch;
  AddPipeline(&batch, 1, "a", 1, "kept");
  batch.spec_slices.push_back({Sha256Of("lost"), 0, "lost"});
  Commit(batch);
  Reopen();
  EXPECT_EQ(*queries_->ReadSpec(Sha256Of("kept")), "kept");
  Batch later;
  // Had the lost piece stayed, this one would be ignored and the spec damaged.
  later.spec_slices = {{Sha256Of("lost"), 0, "lo"}, {Sha256Of("lost"), 1, "st"}};
  later.pipelines = {{2, "default", "b", 1, Sha256Of("lost"), 1, 1, 4}};
  Commit(later);
  EXPECT_EQ(*queries_->ReadSpec(Sha256Of("lost")), "lost");
}

TEST_F(StoreTest, ASpecThatLacksAPieceIsReported) {
  Batch batch;
  AddPipeline(&batch, 1, "a", 1, "whole spec");
  batch.spec_slices.pop_back();
  Commit(batch);
  EXPECT_EQ(queries_->ReadSpec(Sha256Of("whole spec")).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, ALongReadEndsAtTheDeadline) {
  Batch batch;
  for (RunKey key = 1; key <= 20'000; ++key) AddRun(&batch, key, absl::StrCat("run-with-some-name-", key));
  Commit(batch);
  auto queries = Queries::Open({.data_dir = dir_, .connections = 1, .query_deadline_micros = 1});
  // Opening reads too little to be stopped.
  ASSERT_TRUE(queries.ok()) << queries.status();
  RunFilter filter;
  filter.name_contains = "?";  // too short for the index of names
  auto page = (*queries)->ListRuns(filter, 0, 50);
  EXPECT_EQ(page.status().code(), absl::StatusCode::kDeadlineExceeded) << page.status();
  EXPECT_THAT(std::string(page.status().message()), HasSubstr("narrower filter"));
  // The connection is fit for the next call.
  EXPECT_TRUE((*queries)->GetRun(1).ok());
}

TEST_F(StoreTest, ReadersSeeWholeCommitsWhileTheWriterWrites) {
  Batch first;
  AddRun(&first, 1, "r");
  Commit(first);
  constexpr int kCommits = 200;
  std::vector<std::thread> readers;
  for (int t = 0; t < 6; ++t) {  // more than there are connections
    readers.emplace_back([&] {
      int64_t last = 0;
      while (last < kCommits) {
        auto run = queries_->GetRun(1);
        ASSERT_TRUE(run.ok()) << run.status();
        EXPECT_EQ(run->row.last_sequence, run->row.counts[8]);
        EXPECT_GE(run->row.last_sequence, last);
        last = run->row.last_sequence;
        auto events = queries_->ListEvents(1, last - 1, 1000);
        ASSERT_TRUE(events.ok()) << events.status();
        if (last > 0) {
          EXPECT_GE(events->size(), 1u);
        }
      }
    });
  }
  for (int64_t i = 1; i <= kCommits; ++i) {
    Batch batch;
    RunRow row = Row(1, i == kCommits ? RunState::kSucceeded : RunState::kRunning);
    row.last_sequence = i;
    row.counts[8] = i;
    batch.runs = {row};
    batch.events = {Event(i, 1)};
    Commit(batch);
    writer_->MaybeCheckpoint(true);
  }
  for (std::thread& t : readers) t.join();
}

}  // namespace
}  // namespace orch::store
