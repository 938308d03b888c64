// Which rights an orchestrator needs: with steps as TaskRuns none on PipelineRuns.
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/tekton/tekton_backend.h"
#include "tests/kubernetes/api_double.h"

namespace orch {
namespace {

using kubernetes::ApiDouble;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Health : public Listener {
 public:
  void Accepted(absl::string_view, std::string, std::string, std::string) override {}
  void Refused(absl::string_view, bool, Reason, std::string) override {}
  void Unknown(absl::string_view, std::string) override {}
  void Started(absl::string_view, std::string, std::string, int64_t) override {}
  void Ended(absl::string_view, AttemptEnd) override {}
  void NotFound(absl::string_view) override {}
  void Lost(absl::string_view, std::string) override {}
  void HealthChanged(bool healthy, std::string message) override {
    MutexLock lock(&mutex_);
    told_.push_back(healthy ? "well" : message);
  }
  std::vector<std::string> told() const {
    MutexLock lock(&mutex_);
    return told_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::string> told_ ABSL_GUARDED_BY(mutex_);
};

class RightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/orch-rights-XXXXXX";
    folder_ = mkdtemp(name);
    std::ofstream(folder_ + "/config") << "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
                                       << "clusters: [{name: c, cluster: {server: \"" << server_.url()
                                       << "\"}}]\nusers: [{name: u, user: {token: t}}]\n";
  }
  void TearDown() override {
    backend_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Start(const std::string& granularity) {
    BackendContext context;
    context.orchestrator = "o";
    context.instance = "i";
    context.data_dir = folder_;
    context.config_json =
        absl::StrCat(R"({"kubeconfig": ")", folder_, R"(/config", "granularity": ")", granularity, R"("})");
    auto backend = MakeTektonBackend(context);
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    ASSERT_TRUE(backend_->Start(&health_).ok());
    backend_->Adopt({});
  }
  // The Role of docs/tekton.md for steps: nothing on PipelineRuns.
  ApiDouble::Said Answer(const ApiDouble::Asked& asked) {
    const bool whole = absl::StrContains(asked.path, "/pipelineruns");
    if (whole && !let_) return ApiDouble::Forbidden("pipelineruns");
    if (absl::StrContains(asked.path, "selfsubjectaccessreviews")) {
      return {201, absl::StrCat(R"({"status": {"allowed": )", AsksForRuns(asked) && !let_ ? "false" : "true", "}}")};
    }
    return ApiDouble::Nothing();
  }
  static bool AsksForRuns(const ApiDouble::Asked& asked) { return absl::StrContains(asked.body, "pipelineruns"); }

  std::string folder_;
  std::atomic<bool> let_ = false;
  ApiDouble server_{[this](const ApiDouble::Asked& asked) { return Answer(asked); }};
  Health health_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(RightsTest, OfStepsNobodyAsksForPipelineRuns) {
  Start("step");
  ASSERT_TRUE(
      server_.Await([&] { return server_.count("/pods?watch=1") > 0 && server_.count("/taskruns?watch=1") > 0; }));
  // What hangs on both lists has been begun by then.
  EXPECT_EQ(server_.count("/pipelineruns"), 0U);
  EXPECT_THAT(health_.told(), IsEmpty());
  EXPECT_TRUE(backend_->Probe().good());
  EXPECT_THAT(health_.told(), IsEmpty());
}

TEST_F(RightsTest, OfWholeRunsItIsNotWellUntilPipelineRunsMayBeWatched) {
  Start("run");
  // Whether they may be is what is tried, again and again.
  ASSERT_TRUE(server_.Await([&] { return server_.count("/pipelineruns?limit=1") > 1; }));
  EXPECT_THAT(health_.told(), ElementsAre(AllOf(HasSubstr("pipelineruns"), HasSubstr("docs/tekton.md"))));
  std::vector<std::string> faults;
  for (const auto& check : backend_->Probe().checks) {
    if (!check.good) faults.push_back(check.text);
  }
  EXPECT_THAT(faults, ElementsAre(HasSubstr("list pipelineruns, watch pipelineruns")));
  let_ = true;
  ASSERT_TRUE(server_.Await([&] { return health_.told().size() > 1; }));
  EXPECT_THAT(health_.told().back(), "well");
  EXPECT_TRUE(server_.Await([&] { return server_.count("/pipelineruns?watch=1&allow") > 0; }));
}

}  // namespace
}  // namespace orch
