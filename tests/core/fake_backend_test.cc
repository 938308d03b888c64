// The fake platform against the contract of backends/api/backend.h.
#include "backends/fake/fake_backend.h"

#include <dirent.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes down what is reported, by key.
class Reports : public Listener {
 public:
  void Accepted(absl::string_view key, std::string, std::string, std::string) override { Add(key, "accepted"); }
  void Refused(absl::string_view key, bool transient, Reason, std::string) override {
    Add(key, transient ? "refused for now" : "refused");
  }
  void Unknown(absl::string_view key, std::string) override { Add(key, "unknown"); }
  void Started(absl::string_view key, std::string, std::string, int64_t) override { Add(key, "started"); }
  void Ended(absl::string_view key, AttemptEnd end) override {
    Add(key, absl::StrCat("ended ", end.reason == Reason::kNone ? "well" : Name(end.reason),
                          end.exit_code ? absl::StrCat(" ", *end.exit_code) : "", end.stopped ? " stopped" : ""));
  }
  void NotFound(absl::string_view key) override { Add(key, "not found"); }
  void Lost(absl::string_view key, std::string) override { Add(key, "lost"); }
  void HealthChanged(bool, std::string) override {}

  // Once there are `n` reports of the key; what there is after 10 s.
  std::string Wait(const std::string& key, size_t n) {
    MutexLock lock(&mutex_);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (by_key_[key].size() < n && std::chrono::steady_clock::now() < until) {
      changed_.WaitFor(&mutex_, std::chrono::milliseconds(100));
    }
    return absl::StrJoin(by_key_[key], ", ");
  }
  std::string Of(const std::string& key) { return Wait(key, 0); }

 private:
  void Add(absl::string_view key, std::string what) {
    MutexLock lock(&mutex_);
    by_key_[std::string(key)].push_back(std::move(what));
    changed_.NotifyAll();
  }
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::vector<std::string>> by_key_;
};

class FakeTest : public ::testing::Test {
 protected:
  FakeTest() {
    std::string pattern = absl::StrCat(std::filesystem::temp_directory_path().string(), "/orch-fake-XXXXXX");
    dir_ = mkdtemp(pattern.data());
  }
  ~FakeTest() override {
    if (backend_ != nullptr) backend_->Stop();
    std::filesystem::remove_all(dir_);
  }
  void Make(const std::string& config = "{}") {
    if (backend_ != nullptr) backend_->Stop();
    BackendContext context;
    context.orchestrator = "f";
    context.config_json = config;
    context.data_dir = dir_;
    auto made = MakeFakeBackend(context);
    ASSERT_TRUE(made.ok()) << made.status();
    backend_ = *std::move(made);
    ASSERT_TRUE(backend_->Start(&reports_).ok());
  }
  void Submit(const std::string& key, const std::string& settings = "", uint32_t attempt = 1, bool output = false) {
    AttemptWork work;
    work.name.key = key;
    work.name.step = "train[2]";
    work.name.attempt = attempt;
    work.settings_json = settings;
    work.workspace = *backend_->Prepare(work.name);
    if (output) work.env = {{"ORCH_OUTPUT_X", work.workspace.output_dir + "/x"}};
    backend_->Submit({key, {work}});
  }
  void Adopt(const std::string& key) {
    KnownAttempt known;
    known.name.key = key;
    backend_->Adopt({known});
  }
  std::string Read(const std::string& key) {
    std::ifstream in(absl::StrCat(dir_, "/fake/f/", key, "/out/x"));
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  std::string dir_;
  Reports reports_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(FakeTest, AtOnceFromWithinSubmit) {
  Make();
  Submit("a");
  EXPECT_EQ(reports_.Of("a"), "started, ended well 0");
  Submit("b", R"({"outcome": "fail", "exit_code": 7})");
  EXPECT_EQ(reports_.Of("b"), "started, ended EXIT_CODE 7");
  Submit("c", R"({"outcome": "oom"})");
  EXPECT_EQ(reports_.Of("c"), "started, ended OUT_OF_MEMORY");
  Submit("d", R"({"outcome": "lost"})");
  EXPECT_EQ(reports_.Of("d"), "started, lost");
  EXPECT_TRUE(std::filesystem::is_empty(dir_)) << "nothing is written without need";
}

TEST_F(FakeTest, AKnownKeyMakesNoSecondJob) {
  Make();
  Submit("a", R"({"duration": "20ms"})");
  Submit("a", R"({"duration": "20ms"})");
  const std::string first = reports_.Wait("a", 4);
  EXPECT_EQ(first, "started, accepted, started, ended well 0");
  Submit("a");
  EXPECT_EQ(reports_.Of("a"), first + ", accepted, started, ended well 0");
}

TEST_F(FakeTest, FailsTheFirstAttempts) {
  Make();
  const std::string settings = R"({"fail_attempts": 2})";
  Submit("a", settings, 1);
  Submit("b", settings, 2);
  Submit("c", settings, 3);
  EXPECT_EQ(reports_.Of("a"), "started, ended EXIT_CODE 1");
  EXPECT_EQ(reports_.Of("b"), "started, ended EXIT_CODE 1");
  EXPECT_EQ(reports_.Of("c"), "started, ended well 0");
}

TEST_F(FakeTest, Refuses) {
  Make();
  const std::string settings = R"({"refuse": "transient", "refuse_attempts": 2})";
  for (int i = 0; i < 3; ++i) Submit("a", settings);
  EXPECT_EQ(reports_.Of("a"), "refused for now, refused for now, started, ended well 0");
  Submit("b", R"({"refuse": "permanent"})");
  EXPECT_EQ(reports_.Of("b"), "refused");
  Adopt("b");
  EXPECT_EQ(reports_.Of("b"), "refused, not found");
}

TEST_F(FakeTest, ALostAnswerIsFoundByAsking) {
  Make();
  Submit("a", R"({"unknown": true})");
  EXPECT_EQ(reports_.Of("a"), "unknown");
  Adopt("a");
  EXPECT_EQ(reports_.Of("a"), "unknown, accepted, started, ended well 0");
  Adopt("nobody");
  EXPECT_EQ(reports_.Of("nobody"), "not found");
}

TEST_F(FakeTest, DelaysAreKept) {
  Make();
  const auto begin = std::chrono::steady_clock::now();
  Submit("a", R"({"start_delay": "20ms", "duration": 30000})");
  EXPECT_EQ(reports_.Of("a"), "accepted");
  EXPECT_EQ(reports_.Wait("a", 3), "accepted, started, ended well 0");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(50));
}

TEST_F(FakeTest, AnEndWaitsForItsGate) {
  Make(R"({"survive": true})");
  const std::string gate = absl::StrCat(dir_, "/gate");
  const std::string settings = absl::StrCat(R"({"gate": ")", gate, R"("})");
  for (const char* key : {"a", "stopped"}) Submit(key, settings);
  Submit("other", R"({"duration": "50ms"})");
  EXPECT_EQ(reports_.Wait("other", 2), "started, ended well 0");
  backend_->Cancel("stopped", CancelMode::kGraceful);
  EXPECT_EQ(reports_.Of("stopped"), "started, ended SIGNALED stopped");
  EXPECT_EQ(reports_.Of("a"), "started");
  Make(R"({"survive": true})");  // another life of the daemon
  Adopt("a");
  EXPECT_EQ(reports_.Of("a"), "started, accepted, started");
  std::ofstream(gate) << "open";
  EXPECT_EQ(reports_.Wait("a", 4), "started, accepted, started, ended well 0");
  Submit("b", settings, 1, true);
  EXPECT_EQ(reports_.Wait("b", 2), "started, ended well 0") << "it is open";
}

TEST_F(FakeTest, CancelStopsAndRepeatsNothing) {
  Make();
  Submit("a", R"({"duration": "1h"})");
  backend_->Cancel("a", CancelMode::kGraceful);
  backend_->Cancel("a", CancelMode::kForced);
  backend_->Cancel("unknown", CancelMode::kForced);
  EXPECT_EQ(reports_.Of("a"), "started, ended SIGNALED stopped");
  Submit("b", R"({"duration": "1h", "ignore_cancel": true})");
  backend_->Cancel("b", CancelMode::kGraceful);
  EXPECT_EQ(reports_.Of("b"), "started");
  backend_->Cancel("b", CancelMode::kForced);
  EXPECT_EQ(reports_.Of("b"), "started, ended SIGNALED stopped");
  Submit("c");
  backend_->Cancel("c", CancelMode::kGraceful);
  EXPECT_EQ(reports_.Of("c"), "started, ended well 0") << "it had ended";
}

TEST_F(FakeTest, WritesOutputsAndReleasesThem) {
  Make();
  Submit("a", "", 1, true);
  EXPECT_EQ(reports_.Of("a"), "started, ended well 0");
  EXPECT_EQ(Read("a"), "\"train[2]\"");
  Submit("b", R"({"output": {"score": 0.5}, "duration": "1ms"})", 1, true);
  EXPECT_EQ(reports_.Wait("b", 2), "started, ended well 0");
  EXPECT_EQ(Read("b"), R"({"score":0.5})");
  backend_->Release("a");
  backend_->Release("a");
  backend_->Release("b");
  EXPECT_TRUE(std::filesystem::is_empty(dir_ + "/fake/f"));
}

TEST_F(FakeTest, InMemoryItForgetsWithTheDaemon) {
  Make();
  Submit("a", R"({"duration": "1h"})");
  Make();
  Adopt("a");
  EXPECT_EQ(reports_.Of("a"), "started, not found");
}

TEST_F(FakeTest, ASurvivingPlatformGoesOn) {
  Make(R"({"survive": true})");
  Submit("a", R"({"duration": "1h"})");
  Submit("b", "", 1, true);
  Submit("c", R"({"duration": "1h"})");
  Submit("d");
  backend_->Cancel("c", CancelMode::kGraceful);
  backend_->Release("d");
  Make(R"({"survive": true})");
  KnownAttempt a;
  a.name.key = "a";
  KnownAttempt c;
  c.name.key = "c";
  KnownAttempt d;
  d.name.key = "d";
  backend_->Adopt({a, c, d});
  EXPECT_EQ(reports_.Of("a"), "started, accepted, started");
  EXPECT_EQ(reports_.Of("c"), "started, ended SIGNALED stopped, accepted, started, ended SIGNALED stopped");
  EXPECT_EQ(reports_.Of("d"), "started, ended well 0, not found");
  EXPECT_EQ(reports_.Wait("b", 5), "started, ended well 0, accepted, started, ended well 0") << "told to be released";
  Submit("a");
  backend_->Cancel("a", CancelMode::kGraceful);
  std::ifstream journal(dir_ + "/fake/f/journal");
  int submissions = 0;
  for (std::string line; std::getline(journal, line);) {
    if (line.find("\"submit\"") != std::string::npos && line.find("\"a\"") != std::string::npos) ++submissions;
  }
  EXPECT_EQ(submissions, 1);
}

TEST_F(FakeTest, ManyTimersOneThread) {
  Make();
  for (int i = 0; i < 500; ++i) Submit(absl::StrCat("k", i), absl::StrCat(R"({"duration": )", 1 + i % 20 * 500, "}"));
  for (int i = 0; i < 500; ++i) EXPECT_EQ(reports_.Wait(absl::StrCat("k", i), 2), "started, ended well 0");
}

TEST_F(FakeTest, ChecksSettingsAndNeeds) {
  Make(R"({"capacity": {"cpu": 2, "memory": "1Gi", "gpu": 0}})");
  EXPECT_EQ(*backend_->capacity().cpu_millis, 2000);
  EXPECT_EQ(*backend_->capacity().memory, int64_t{1} << 30);
  Resources fits;
  EXPECT_THAT(backend_->Check(fits, ""), ElementsAre());
  Resources large;
  large.cpu_millis = 4000;
  EXPECT_THAT(backend_->Check(large, R"({"duration": "soon", "nonsense": 1, "outcome": "maybe"})"),
              ElementsAre(HasSubstr("settings.fake.duration"), HasSubstr("settings.fake.outcome"),
                          HasSubstr("settings.fake.nonsense"), HasSubstr("resources.cpu")));
  EXPECT_THAT(backend_->Check(fits, "[1"), ElementsAre(HasSubstr("settings.fake")));
}

TEST(FakeConfigTest, AllFaultsAtOnce) {
  BackendContext context;
  context.config_json = R"({"duration": -1, "capacity": {"cpus": 1, "memory": "x"}, "survive": 3, "what": 1})";
  const auto made = MakeFakeBackend(context);
  ASSERT_FALSE(made.ok());
  std::vector<std::string> fields;
  for (const Violation& v : ViolationsOf(made.status())) fields.push_back(v.field);
  EXPECT_THAT(fields, ElementsAre("duration", "survive", "capacity.memory", "capacity.cpus", "what"));
}

TEST(RegistryTest, EveryRowOfTheTable) {
  std::vector<std::string> names;
  for (const FlavorInfo& flavor : Flavors()) {
    if (flavor.listed) names.push_back(flavor.name);
    EXPECT_FALSE(flavor.description.empty()) << flavor.name;
    EXPECT_FALSE(flavor.units.empty()) << flavor.name;
    EXPECT_FALSE(flavor.needs.empty()) << flavor.name;
    EXPECT_FALSE(flavor.native.empty()) << flavor.name;
    EXPECT_FALSE(flavor.supplied.empty()) << flavor.name;
    EXPECT_EQ(flavor.make == nullptr, flavor.config_schema.empty()) << flavor.name;
  }
  EXPECT_THAT(names, ElementsAre("local", "local_docker", "kubernetes", "kubeflow", "vertex", "sagemaker", "azureml",
                                 "tekton", "airflow", "vm_aws", "vm_gcp", "vm_azure", "hyperai", "custom"));
  ASSERT_NE(FindFlavor("fake"), nullptr);
  EXPECT_FALSE(FindFlavor("fake")->listed);
  EXPECT_NE(FindFlavor("fake")->make, nullptr);
  EXPECT_EQ(FindFlavor("nonsense"), nullptr);
}

}  // namespace
}  // namespace orch
