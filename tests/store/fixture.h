// A store on a folder of its own, and rows to put into it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/store/queries.h"
#include "server/store/store.h"

namespace orch::store {

inline std::string TempDir(const std::filesystem::path& in = std::filesystem::temp_directory_path()) {
  std::string dir = (in / "store_test.XXXXXX").string();
  if (mkdtemp(dir.data()) == nullptr) abort();
  return dir;
}

inline absl::StatusOr<std::unique_ptr<Writer>> OpenWriter(const std::string& dir, int64_t reserve = 1 << 20) {
  StoreOptions options;
  options.data_dir = dir;
  options.reserve_bytes = reserve;
  options.wal_grow_bytes = 1 << 20;
  return Writer::Open(options, Clock::Real().Now());
}

inline RunHeader Header(RunKey key, const std::string& name) {
  RunHeader h;
  h.key = key;
  h.id = absl::StrCat("id-", key);
  h.project = "default";
  h.name = name;
  h.pipeline = "penguins";
  h.pipeline_version = 1;
  h.orchestrator = "local";
  h.parameters_json = "{}";
  h.created = 1000 + key;
  h.step_count = 3;
  return h;
}

inline RunRow Row(RunKey key, RunState state) {
  RunRow r;
  r.key = key;
  r.state = state;
  return r;
}

inline void AddRun(Batch* batch, RunKey key, const std::string& name, RunState state = RunState::kRunning) {
  batch->new_runs.push_back(Header(key, name));
  batch->runs.push_back(Row(key, state));
}

inline EventRow Event(int64_t sequence, RunKey run) {
  EventRow e;
  e.sequence = sequence;
  e.time = 5000 + sequence;
  e.run = run;
  e.state = static_cast<uint8_t>(RunState::kRunning);
  return e;
}

// For tests that keep the database itself in memory and open it thousands of times.
inline std::string TempDirInMemory() { return access("/dev/shm", W_OK) == 0 ? TempDir("/dev/shm") : TempDir(); }

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = TempDir();
    Reopen();
  }
  void TearDown() override {
    queries_.reset();
    writer_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Reopen() {
    queries_.reset();
    writer_.reset();
    auto writer = OpenWriter(dir_);
    ASSERT_TRUE(writer.ok()) << writer.status();
    writer_ = *std::move(writer);
    auto queries = Queries::Open({.data_dir = dir_});
    ASSERT_TRUE(queries.ok()) << queries.status();
    queries_ = *std::move(queries);
  }
  void Commit(Batch batch) {
    const absl::Status status = writer_->Commit(&batch);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string dir_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Queries> queries_;
};

}  // namespace orch::store
