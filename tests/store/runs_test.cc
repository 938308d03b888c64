// Lists of runs and steps: filters, pages, names.
#include "tests/store/fixture.h"

namespace orch::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RunsTest : public StoreTest {
 protected:
  std::vector<RunKey> Keys(const RunFilter& filter, RunKey before = 0, int limit = 100) {
    auto page = queries_->ListRuns(filter, before, limit);
    EXPECT_TRUE(page.ok()) << page.status();
    std::vector<RunKey> out;
    for (const RunRecord& r : *page) out.push_back(r.header.key);
    return out;
  }
};

TEST_F(RunsTest, FiltersAndTheirCombinations) {
  Batch batch;
  for (RunKey key = 1; key <= 12; ++key) {
    AddRun(&batch, key, absl::StrCat(key % 2 ? "odd_" : "even%", key),
           key % 3 == 0 ? RunState::kFailed : RunState::kRunning);
    RunHeader& h = batch.new_runs.back();
    h.pipeline = key <= 6 ? "first" : "second";
    h.orchestrator = key % 4 == 0 ? "kube" : "local";
    h.labels = {{"team", key % 2 ? "a" : "b"}, {"env", key > 9 ? "prod" : "dev"}};
    if (key == 12) h.project = "other";
  }
  Commit(batch);
  RunFilter f;
  EXPECT_THAT(Keys(f), ElementsAre(11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1));
  f.states = {RunState::kFailed};
  EXPECT_THAT(Keys(f), ElementsAre(9, 6, 3));
  f.states = {RunState::kFailed, RunState::kRunning, RunState::kFailed};
  EXPECT_THAT(Keys(f, 8, 3), ElementsAre(7, 6, 5));
  f = {};
  f.pipeline = "first";
  EXPECT_THAT(Keys(f), ElementsAre(6, 5, 4, 3, 2, 1));
  f.states = {RunState::kRunning};
  f.orchestrator = "kube";
  EXPECT_THAT(Keys(f), ElementsAre(4));
  f = {};
  f.orchestrator = "kube";
  EXPECT_THAT(Keys(f), ElementsAre(8, 4));
  f = {};
  f.labels = {{"team", "a"}};
  EXPECT_THAT(Keys(f, 10, 2), ElementsAre(9, 7));
  f.labels.push_back({"env", "prod"});
  EXPECT_THAT(Keys(f), ElementsAre(11));
  f.labels = {{"env", "dev"}};
  f.states = {RunState::kFailed};
  f.pipeline = "first";
  EXPECT_THAT(Keys(f), ElementsAre(6, 3));
  f = {};
  f.name_contains = "%1";
  EXPECT_THAT(Keys(f), ElementsAre(10));
  f.name_contains = "d_1";
  EXPECT_THAT(Keys(f), ElementsAre(11, 1));
  f.name_contains = "EVEN%";
  EXPECT_THAT(Keys(f), ElementsAre(10, 8, 6, 4, 2));
  f.states = {RunState::kFailed};
  EXPECT_THAT(Keys(f, 6), ElementsAre());
  EXPECT_THAT(Keys(f), ElementsAre(6));
  f.states.clear();
  f.name_contains = "even%1x";
  EXPECT_THAT(Keys(f), IsEmpty());
  f.name_contains = "a\"b c";
  EXPECT_THAT(Keys(f), IsEmpty());
  f.name_contains = "_";
  f.pipeline = "second";
  EXPECT_THAT(Keys(f), ElementsAre(11, 9, 7));
  f = {};
  f.project = "other";
  EXPECT_THAT(Keys(f), ElementsAre(12));
  f.project = "none";
  EXPECT_THAT(Keys(f), IsEmpty());
}

TEST_F(RunsTest, AStateChangeMovesTheRunBetweenLists) {
  Batch batch;
  AddRun(&batch, 1, "a");
  Commit(batch);
  EXPECT_THAT(*writer_->LiveRunKeys(), ElementsAre(1));
  Batch end;
  end.runs = {Row(1, RunState::kSucceeded)};
  Commit(end);
  RunFilter f;
  f.states = {RunState::kRunning};
  EXPECT_THAT(Keys(f), IsEmpty());
  f.states = {RunState::kSucceeded};
  EXPECT_THAT(Keys(f), ElementsAre(1));
  EXPECT_THAT(*writer_->LiveRunKeys(), IsEmpty());
}

TEST_F(RunsTest, PagesOfRunsMadeInOneCommitNeitherRepeatNorSkip) {
  Batch batch;
  for (RunKey key = 1; key <= 25; ++key) {
    AddRun(&batch, key, absl::StrCat("r", key), static_cast<RunState>(key % 8 + 1));
    batch.new_runs.back().created = 1;
  }
  Commit(batch);
  std::vector<RunKey> all;
  RunKey before = 0;
  while (true) {
    const std::vector<RunKey> page = Keys({}, before, 7);
    if (page.empty()) break;
    all.insert(all.end(), page.begin(), page.end());
    before = page.back();
  }
  ASSERT_EQ(all.size(), 25u);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], 25 - static_cast<RunKey>(i));
}

TEST_F(RunsTest, OrdersWithEveryFilterPageByPage) {
  Batch batch;
  for (RunKey key = 1; key <= 40; ++key) {
    // Names in another order than keys.
    AddRun(&batch, key, absl::StrCat(key % 3 ? "b" : "a", "-", (key * 7) % 41), static_cast<RunState>(key % 8 + 1));
    RunHeader& h = batch.new_runs.back();
    h.pipeline = key % 2 ? "odd" : "even";
    h.orchestrator = key % 5 ? "local" : "kube";
    h.labels = {{"team", key % 4 ? "x" : "y"}, {"env", key % 7 ? "dev" : "prod"}};
  }
  Commit(batch);
  std::vector<RunFilter> filters(12);
  filters[1].states = {RunState::kRunning, RunState::kFailed};
  filters[2].pipeline = "odd";
  filters[3].orchestrator = "kube";
  filters[4].labels = {{"team", "y"}};
  filters[5].labels = {{"team", "x"}, {"env", "prod"}};
  filters[6].name_contains = "-1";
  filters[7].name_prefix = "a-";
  filters[8].name_prefix = "b-1";
  filters[9].name = "b-7";
  filters[10].name = "none";
  filters[11].name_prefix = "a-";
  filters[11].states = {RunState::kSucceeded};
  const auto passes = [](const RunFilter& f, const RunHeader& h, RunState state) {
    bool good = f.states.empty() || std::find(f.states.begin(), f.states.end(), state) != f.states.end();
    for (const auto& label : f.labels) {
      good = good && std::find(h.labels.begin(), h.labels.end(), label) != h.labels.end();
    }
    return good && (f.pipeline.empty() || h.pipeline == f.pipeline) &&
           (f.orchestrator.empty() || h.orchestrator == f.orchestrator) && (f.name.empty() || h.name == f.name) &&
           h.name.compare(0, f.name_prefix.size(), f.name_prefix) == 0 &&
           h.name.find(f.name_contains) != std::string::npos;
  };
  for (const int rows : {3, 1000}) {  // few rows a page: empty pages that go on
    auto queries = Queries::Open({.data_dir = dir_, .page_rows = rows});
    ASSERT_TRUE(queries.ok()) << queries.status();
    for (const RunFilter& filter : filters) {
      for (const RunOrder order :
           {RunOrder::kNewestFirst, RunOrder::kOldestFirst, RunOrder::kByName, RunOrder::kByNameDescending}) {
        std::vector<std::pair<std::string, RunKey>> expected;
        for (size_t i = 0; i < batch.new_runs.size(); ++i) {
          const RunHeader& h = batch.new_runs[i];
          if (passes(filter, h, batch.runs[i].state)) expected.emplace_back(h.name, h.key);
        }
        std::sort(expected.begin(), expected.end(), [order](const auto& a, const auto& b) {
          if (order == RunOrder::kNewestFirst) return a.second > b.second;
          if (order == RunOrder::kOldestFirst) return a.second < b.second;
          return order == RunOrder::kByName ? a.first < b.first : a.first > b.first;
        });
        std::vector<std::pair<std::string, RunKey>> got;
        std::optional<RunPlace> place = RunPlace{};
        for (int pages = 0; place && pages < 200; ++pages) {
          auto page = (*queries)->PageOfRuns(filter, order, *place, 4);
          ASSERT_TRUE(page.ok()) << page.status();
          ASSERT_LE(page->runs.size(), 4u);
          for (const RunRecord& r : page->runs) got.emplace_back(r.header.name, r.header.key);
          place = page->next;
        }
        EXPECT_FALSE(place.has_value());
        EXPECT_EQ(got, expected) << "filter " << &filter - &filters[0] << " order " << static_cast<int>(order)
                                 << " rows " << rows;
      }
    }
  }
}

TEST_F(RunsTest, StepsAreLookedThroughBothWays) {
  Batch batch;
  for (StepIx ix = 0; ix < 10; ix += 2) {
    StepRow s;
    s.run = 1;
    s.ix = ix;
    s.name = absl::StrCat("s", ix);
    s.state = ix == 4 ? StepState::kFailed : StepState::kSucceeded;
    batch.steps.push_back(s);
  }
  Commit(batch);
  const auto ixs = [&](StepIx from, bool descending, int limit) {
    std::vector<StepIx> out;
    auto marks = queries_->ScanSteps(1, from, descending, limit);
    EXPECT_TRUE(marks.ok()) << marks.status();
    for (const StepMark& mark : *marks) out.push_back(mark.ix);
    return out;
  };
  EXPECT_THAT(ixs(0, false, 3), ElementsAre(0, 2, 4));
  EXPECT_THAT(ixs(5, false, 9), ElementsAre(6, 8));
  EXPECT_THAT(ixs(5, true, 2), ElementsAre(4, 2));
  EXPECT_THAT(ixs(0, true, 9), ElementsAre(0));
  auto rows = queries_->GetSteps(1, {8, 3, 4});
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].name, "s8");
  EXPECT_EQ((*rows)[1].state, StepState::kFailed);
}

TEST_F(RunsTest, AnUnknownRunSuggestsNearNames) {
  Batch batch;
  AddRun(&batch, 1, "penguins-1");
  AddRun(&batch, 2, "penguins-2");
  AddRun(&batch, 3, "other");
  Commit(batch);
  auto run = queries_->FindRun("default", "penguins-3");
  EXPECT_EQ(run.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(run.status()), "RUN_NOT_FOUND");
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("near names: penguins-1, penguins-2;"));
  EXPECT_THAT(std::string(queries_->FindRun("default", "zz").status().message()), Not(HasSubstr("near")));
  EXPECT_EQ(ReasonOf(queries_->FindRun("elsewhere", "id-1").status()), "RUN_NOT_FOUND");
  EXPECT_EQ(ReasonOf(queries_->GetRun(9).status()), "RUN_NOT_FOUND");
}

TEST_F(RunsTest, StepsByStateAndPrefix) {
  Batch batch;
  for (StepIx ix = 0; ix < 10; ++ix) {
    StepRow s;
    s.run = 1;
    s.ix = ix;
    s.name = ix < 5 ? absl::StrCat("train[", ix, "]") : absl::StrCat("Train%", ix);
    s.state = ix % 2 ? StepState::kFailed : StepState::kSucceeded;
    batch.steps.push_back(s);
  }
  Commit(batch);
  const auto ixs = [&](const StepFilter& filter, StepIx from, int limit) {
    std::vector<StepIx> out;
    auto page = queries_->ListSteps(1, filter, from, limit);
    EXPECT_TRUE(page.ok()) << page.status();
    for (const StepRow& s : *page) out.push_back(s.ix);
    return out;
  };
  EXPECT_THAT(ixs({}, 3, 4), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(ixs({.states = {StepState::kFailed}}, 0, 3), ElementsAre(1, 3, 5));
  EXPECT_THAT(ixs({.states = {}, .name_prefix = "train["}, 1, 10), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ixs({.states = {StepState::kFailed}, .name_prefix = "Train%"}, 0, 10), ElementsAre(5, 7, 9));
  EXPECT_FALSE(queries_->GetStep(1, 99)->has_value());
}

TEST_F(RunsTest, RecoveryReadsWhatIsOpen) {
  Batch batch;
  AddRun(&batch, 1, "live");
  AddRun(&batch, 2, "ended", RunState::kFailed);
  const auto attempt = [&](RunKey run, StepIx ix, uint32_t number, AttemptState state, bool release) {
    AttemptRow a;
    a.run = run;
    a.ix = ix;
    a.number = number;
    a.state = state;
    a.release_pending = release;
    batch.attempts.push_back(a);
  };
  const auto step = [&](RunKey run, StepIx ix, StepState state) {
    StepRow s;
    s.run = run;
    s.ix = ix;
    s.name = absl::StrCat("s", ix);
    s.state = state;
    batch.steps.push_back(s);
  };
  step(1, 0, StepState::kSucceeded);
  attempt(1, 0, 1, AttemptState::kFailed, false);
  attempt(1, 0, 2, AttemptState::kSucceeded, false);
  step(1, 1, StepState::kBackoff);
  attempt(1, 1, 1, AttemptState::kFailed, false);
  step(1, 2, StepState::kRunning);
  attempt(1, 2, 1, AttemptState::kRunning, false);
  step(1, 3, StepState::kSucceeded);
  attempt(1, 3, 1, AttemptState::kSucceeded, true);
  step(2, 0, StepState::kFailed);
  attempt(2, 0, 1, AttemptState::kFailed, true);
  attempt(2, 0, 2, AttemptState::kFailed, true);
  ArtifactRow a;
  a.id = 1;
  a.run = 1;
  a.project = "default";
  a.name = "x";
  a.output = "o";
  a.value_json = "1";
  batch.artifacts = {a};
  Commit(batch);
  batch = {};
  attempt(2, 0, 2, AttemptState::kFailed, false);
  Commit(batch);
  Reopen();

  EXPECT_THAT(*writer_->LiveRunKeys(), ElementsAre(1));
  auto run = writer_->LoadRun(1);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->header.name, "live");
  EXPECT_EQ(run->row.state, RunState::kRunning);
  EXPECT_EQ(run->steps.size(), 4u);
  std::vector<StepIx> ixs;
  for (const AttemptRow& row : run->attempts) ixs.push_back(row.ix);
  EXPECT_THAT(ixs, ElementsAre(1, 2, 3));
  ASSERT_EQ(run->artifacts.size(), 1u);
  EXPECT_EQ(run->artifacts[0].value_json, std::nullopt);
  EXPECT_EQ(run->artifacts[0].version, 1);
  auto pending = writer_->PendingReleases();
  ASSERT_TRUE(pending.ok());
  ASSERT_EQ(pending->size(), 1u);
  EXPECT_EQ((*pending)[0].run, 2);
  EXPECT_EQ((*pending)[0].number, 1u);
  EXPECT_EQ(ReasonOf(writer_->LoadRun(77).status()), "RUN_NOT_FOUND");
}

}  // namespace
}  // namespace orch::store
