// A whole engine without the API: real store, real supervisor, real processes in a temporary folder.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/engine/engine.h"

namespace orch {

// Builds a pipeline step by step.
class PipelineBuilder {
 public:
  explicit PipelineBuilder(std::string name) { spec_.name = std::move(name); }
  PipelineBuilder& Step(std::string name, std::vector<std::string> command, std::vector<std::string> after = {}) {
    StepSpec& step = spec_.steps.emplace_back();
    step.name = std::move(name);
    step.command = std::move(command);
    step.after = std::move(after);
    return *this;
  }
  PipelineBuilder& Output(std::string name, bool value = false) {
    spec_.steps.back().outputs.push_back({std::move(name), "", value, ""});
    return *this;
  }
  PipelineBuilder& Input(std::string name, std::string from, bool early = false) {
    spec_.steps.back().inputs.push_back({std::move(name), InputSpec::Source::kFrom, std::move(from), early});
    return *this;
  }
  PipelineBuilder& Foreach(std::string key, std::vector<std::string> values) {
    spec_.steps.back().foreach.push_back({std::move(key), std::move(values), ""});
    return *this;
  }
  StepOptions& options() { return spec_.steps.back().mutable_options(); }
  PipelineSpec& spec() { return spec_; }

 private:
  PipelineSpec spec_;
};

// Stands in for the serialized message: the text is a number under which the builder's function is kept.
class SpecShelf {
 public:
  std::string Put(std::function<PipelineSpec()> make) {
    const std::string bytes = "spec " + std::to_string(shelf_.size());
    shelf_[bytes] = std::move(make);
    return bytes;
  }
  absl::StatusOr<PipelineSpec> Parse(const std::string& bytes) const {
    const auto found = shelf_.find(bytes);
    if (found == shelf_.end()) return absl::NotFoundError(bytes);
    return found->second();
  }

 private:
  std::map<std::string, std::function<PipelineSpec()>> shelf_;
};

class EngineFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "orchd-engine-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    Start();
  }
  void TearDown() override {
    Stop();
    std::filesystem::remove_all(dir_);
  }
  void Start() {
    EngineOptions options;
    options.data_dir = dir_;
    options.binary_dir = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    options.grace_micros = 500'000;
    options.parse_spec = [this](const std::string& bytes) { return shelf_.Parse(bytes); };
    options.fake_flavor = true;
    Configure(&options);
    auto engine = Engine::Start(std::move(options));
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    Started();
  }
  // What a test has otherwise.
  virtual void Configure(EngineOptions*) {}
  virtual void Started() {}
  virtual void Stopping() {}
  void Stop() {
    if (engine_ != nullptr) Stopping();
    if (engine_ != nullptr) engine_->Shutdown();
    engine_ = nullptr;
  }

  absl::StatusOr<std::string> TrySubmit(std::function<PipelineSpec()> make, std::string name = "") {
    SubmitCommand command;
    command.spec = make();
    command.spec_bytes = shelf_.Put(std::move(make));
    command.name = std::move(name);
    ASSIGN_OR_RETURN(const store::RunRecord run, engine_->SubmitRun(std::move(command), 10'000'000));
    return run.header.id;
  }
  std::string Submit(std::function<PipelineSpec()> make, std::string name = "") {
    auto id = TrySubmit(std::move(make), std::move(name));
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or("");
  }
  store::RunRecord Run(const std::string& name) {
    auto run = engine_->queries().FindRun("default", name);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.value_or(store::RunRecord());
  }
  // Waits on the hub until `done` says so or the time is over.
  bool WaitFor(const std::function<bool()>& done, int seconds = 30) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (!done()) {
      if (std::chrono::steady_clock::now() > until) return false;
      Mutex mutex;
      CondVar woken_cv;
      bool woken = false;
      const uint64_t id = engine_->hub().WakeAfter(0, engine_->hub().last_sequence(), [&] {
        MutexLock lock(&mutex);
        woken = true;
        woken_cv.NotifyAll();
      });
      {
        MutexLock lock(&mutex);
        if (!woken) woken_cv.WaitFor(&mutex, std::chrono::milliseconds(50));
      }
      engine_->hub().Forget(id);
    }
    return true;
  }
  store::RunRecord WaitEnd(const std::string& name, int seconds = 30) {
    EXPECT_TRUE(WaitFor([&] { return IsTerminal(Run(name).row.state); }, seconds)) << "run " << name << " did not end";
    return Run(name);
  }
  std::vector<StepRow> Steps(const std::string& name) {
    auto steps = engine_->queries().ListSteps(Run(name).header.key, {}, 0, 10'000);
    EXPECT_TRUE(steps.ok()) << steps.status();
    return steps.value_or(std::vector<StepRow>());
  }
  std::string Text(const std::string& run, const std::string& step_output) {
    auto found = engine_->queries().FindArtifact("default", Run(run).header.pipeline + "." + step_output);
    EXPECT_TRUE(found.ok()) << found.status();
    if (!found.ok()) return "";
    if (found->row.value_json) return *found->row.value_json;
    auto path = engine_->ArtifactPath(found->row.digest);
    EXPECT_TRUE(path.ok()) << path.status();
    std::string text;
    if (FILE* in = fopen(path.value_or("").c_str(), "re")) {
      char buffer[4096];
      for (size_t n; (n = fread(buffer, 1, sizeof(buffer), in)) > 0;) text.append(buffer, n);
      fclose(in);
    }
    return text;
  }

  std::string dir_;
  SpecShelf shelf_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace orch
