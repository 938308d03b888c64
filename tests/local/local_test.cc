// The local flavor alone: real supervisor, real processes; every test with control groups and without.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>

#include "backends/local/local_backend.h"
#include "backends/local/supervisor_link.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/mutex.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

// Keeps what a backend reports.
class RecordingListener : public Listener {
 public:
  struct Seen {
    int started = 0;
    int not_found = 0;
    std::string external_id;
    std::optional<AttemptEnd> end;
    bool lost = false;
  };
  void Accepted(absl::string_view, std::string, std::string, std::string) override {}
  void Refused(absl::string_view, bool, Reason, std::string) override {}
  void Unknown(absl::string_view, std::string) override {}
  void Started(absl::string_view key, std::string external_id, std::string, int64_t) override {
    Change(key, [&](Seen& s) {
      ++s.started;
      s.external_id = external_id;
    });
  }
  void Ended(absl::string_view key, AttemptEnd end) override {
    Change(key, [&](Seen& s) { s.end = std::move(end); });
  }
  void NotFound(absl::string_view key) override {
    Change(key, [](Seen& s) { ++s.not_found; });
  }
  void Lost(absl::string_view key, std::string) override {
    Change(key, [](Seen& s) { s.lost = true; });
  }
  void HealthChanged(bool, std::string) override {}

  // The state of a key once `good` holds for it; fails after 20 s.
  template <typename F>
  Seen Wait(const std::string& key, const F& good) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MutexLock lock(&mutex_);
    while (!good(seen_[key])) {
      if (std::chrono::steady_clock::now() > until) {
        ADD_FAILURE() << "waited 20 s for " << key;
        break;
      }
      changed_.WaitFor(&mutex_, std::chrono::milliseconds(100));
    }
    return seen_[key];
  }
  AttemptEnd WaitEnd(const std::string& key) {
    return Wait(key, [](const Seen& s) { return s.end.has_value(); }).end.value_or(AttemptEnd());
  }

 private:
  template <typename F>
  void Change(absl::string_view key, const F& change) {
    MutexLock lock(&mutex_);
    change(seen_[std::string(key)]);
    changed_.NotifyAll();
  }
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Seen> seen_ ABSL_GUARDED_BY(mutex_);
};

bool Alive(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(in, text)) return false;
  const char state = text[text.rfind(')') + 2];
  return state != 'Z' && state != 'X';
}

bool WaitUntil(const std::function<bool()>& good) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!good()) {
    if (std::chrono::steady_clock::now() > until) return false;
    Mutex mutex;
    CondVar nobody;
    MutexLock lock(&mutex);
    nobody.WaitFor(&mutex, std::chrono::milliseconds(5));
  }
  return true;
}

class LocalTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "orchd-local-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    Connect({});
  }
  void TearDown() override {
    const pid_t supervisor = SupervisorPid();
    if (backend_ != nullptr) backend_->Stop();
    backend_ = nullptr;
    if (supervisor > 0) kill(supervisor, SIGKILL);
    fs::remove_all(dir_);
  }

  // A daemon that starts: what it has on record is adopted.
  void Connect(std::vector<std::string> known) {
    if (backend_ != nullptr) backend_->Stop();
    listener_ = std::make_unique<RecordingListener>();
    BackendContext context;
    context.orchestrator = "local";
    context.config_json = std::string(R"({"cgroup": ")") + GetParam() + R"("})";
    context.data_dir = dir_;
    context.binary_dir = fs::read_symlink("/proc/self/exe").parent_path();
    auto made = MakeLocalBackend(context);
    ASSERT_TRUE(made.ok()) << made.status();
    backend_ = *std::move(made);
    ASSERT_TRUE(backend_->Start(listener_.get()).ok());
    std::vector<KnownAttempt> attempts;
    for (const std::string& name : known) {
      KnownAttempt attempt;
      attempt.name.key = KeyOf(name);
      attempts.push_back(std::move(attempt));
    }
    backend_->Adopt(std::move(attempts));
  }

  // Tests run side by side, and without groups a step's processes are found by their key on the whole machine.
  std::string KeyOf(const std::string& name) const { return fs::path(dir_).filename().string() + "-" + name; }

  Workspace Submit(const std::string& name, const std::string& script, std::vector<std::string> command = {}) {
    const std::string key = KeyOf(name);
    AttemptWork work;
    work.name.key = key;
    work.name.run_id = "run";
    work.name.step_index = next_++;
    work.name.attempt = 1;
    addresses_[name] = {"run", work.name.step_index, 1, ""};
    const auto workspace = backend_->Prepare(work.name);
    EXPECT_TRUE(workspace.ok());
    work.workspace = *workspace;
    work.command = command.empty() ? std::vector<std::string>{"/bin/sh", "-c", script} : std::move(command);
    work.env = {{"PATH", "/usr/bin:/bin"}, {"ORCH_FENCE", key}, {"OUT", workspace->output_dir}};
    work.working_dir = working_dir_;
    work.grace_micros = 300'000;
    work.log_limit_bytes = log_limit_;
    Unit unit;
    unit.key = key;
    unit.attempts.push_back(std::move(work));
    backend_->Submit(std::move(unit));
    return *workspace;
  }
  std::string Log(const std::string& name, LogStreamName stream) {
    auto log = backend_->OpenLog(addresses_[name], stream);
    EXPECT_TRUE(log.ok());
    return log.ok() ? (*log)->Read(0, 1 << 20).value_or("") : "";
  }
  pid_t SupervisorPid() {
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::ifstream in(entry.path() / "cmdline");
      std::string line((std::istreambuf_iterator<char>(in)), {});
      if (line.find("orch-supervisor") != std::string::npos && line.find(dir_ + '\0') != std::string::npos) {
        return std::stoi(entry.path().filename());
      }
    }
    return 0;
  }

  std::string dir_;
  std::string working_dir_ = "/";
  int64_t log_limit_ = 1 << 30;
  uint32_t next_ = 0;
  std::map<std::string, LogAddress> addresses_;
  std::unique_ptr<RecordingListener> listener_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(LocalTest, StreamsAreApartAndExactAndEndsAreToldApart) {
  Submit("a", R"(printf 'a\000b'; printf err >&2; exit 3)");
  const AttemptEnd end = listener_->WaitEnd(KeyOf("a"));
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(end.reason, Reason::kExitCode);
  EXPECT_EQ(end.stdout_bytes, 3);
  EXPECT_EQ(Log("a", LogStreamName::kStdout), std::string("a\0b", 3));
  EXPECT_EQ(Log("a", LogStreamName::kStderr), "err");
  Submit("b", "kill -9 $$");
  EXPECT_EQ(listener_->WaitEnd(KeyOf("b")).signal, 9);
  Submit("c", "", {"no-such-program"});
  EXPECT_EQ(listener_->WaitEnd(KeyOf("c")).reason, Reason::kCommandNotFound);
  working_dir_ = "/no/such/place";
  Submit("d", "true");
  EXPECT_EQ(listener_->WaitEnd(KeyOf("d")).reason, Reason::kWorkingDirInvalid);
}

TEST_P(LocalTest, AKnownKeyIsNeverStartedAgain) {
  const std::string marks = dir_ + "/marks";
  Submit("a", "echo x >> " + marks);
  listener_->WaitEnd(KeyOf("a"));
  Submit("a", "echo x >> " + marks);
  Submit("b", "true");
  listener_->WaitEnd(KeyOf("b"));
  std::ifstream in(marks);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "x\n");
}

TEST_P(LocalTest, ARestartedDaemonAdoptsWhatRunsAndWhatHasEnded) {
  const std::string gate = dir_ + "/gate";
  Submit("ended", "echo done");
  listener_->WaitEnd(KeyOf("ended"));
  Submit("runs", "echo begin; while [ ! -e " + gate + " ]; do sleep 0.01; done; echo end; exit 5");
  listener_->Wait(KeyOf("runs"), [](const auto& s) { return s.started > 0; });
  Connect({"ended", "runs", "never"});
  EXPECT_EQ(listener_->WaitEnd(KeyOf("ended")).exit_code, 0);
  listener_->Wait(KeyOf("runs"), [](const auto& s) { return s.started == 1; });
  listener_->Wait(KeyOf("never"), [](const auto& s) { return s.not_found == 1; });
  std::ofstream(gate).put('x');
  EXPECT_EQ(listener_->WaitEnd(KeyOf("runs")).exit_code, 5);
  EXPECT_EQ(Log("runs", LogStreamName::kStdout), "begin\nend\n");
}

TEST_P(LocalTest, AGracefulStopReachesEverySessionAndAStubbornOneIsKilled) {
  const std::string pids = dir_ + "/pids";
  Submit("a", "setsid sh -c 'trap \"\" TERM; echo $$ >> " + pids + "; while :; do sleep 0.05; done' & echo $$ >> " +
                  pids + "; trap \"\" TERM; while :; do sleep 0.05; done");
  ASSERT_TRUE(WaitUntil([&] {
    std::ifstream in(pids);
    return std::count(std::istreambuf_iterator<char>(in), {}, '\n') == 2;
  }));
  backend_->Cancel(KeyOf("a"), CancelMode::kGraceful);
  backend_->Cancel(KeyOf("a"), CancelMode::kGraceful);
  const AttemptEnd end = listener_->WaitEnd(KeyOf("a"));
  EXPECT_TRUE(end.stopped);
  EXPECT_EQ(end.signal, 9);
  std::ifstream in(pids);
  for (pid_t pid; in >> pid;) EXPECT_FALSE(Alive(pid)) << pid;
  backend_->Cancel(KeyOf("a"), CancelMode::kForced);  // ended: nothing happens
  backend_->Cancel(KeyOf("nobody"), CancelMode::kForced);
}

TEST_P(LocalTest, AStoppedStepIsKilledAfterItsGrace) {
  Submit("a", "kill -STOP $$; sleep 100");
  const auto seen = listener_->Wait(KeyOf("a"), [](const auto& s) { return s.started > 0; });
  ASSERT_TRUE(WaitUntil([&] {
    std::ifstream in("/proc/" + seen.external_id + "/stat");
    std::string text;
    std::getline(in, text);
    return text.find(") T ") != std::string::npos;
  }));
  backend_->Cancel(KeyOf("a"), CancelMode::kGraceful);
  EXPECT_TRUE(listener_->WaitEnd(KeyOf("a")).stopped);
}

TEST_P(LocalTest, WhatIsLeftBehindDiesWithItsStepAndTheSlotIsClean) {
  const std::string pid_file = dir_ + "/pid";
  const Workspace first =
      Submit("a", "(setsid sleep 300 & echo $! > " + pid_file + "); touch $OUT/x; mkdir -p $OUT/../scratch/d/e");
  listener_->WaitEnd(KeyOf("a"));
  pid_t pid = 0;
  std::ifstream(pid_file) >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_FALSE(Alive(pid));
  EXPECT_TRUE(fs::exists(first.output_dir + "/x"));
  backend_->Release(KeyOf("a"));
  const Workspace second = Submit("b", "cd $OUT && ls -A . ../scratch");
  EXPECT_EQ(second.output_dir, first.output_dir);
  listener_->WaitEnd(KeyOf("b"));
  EXPECT_EQ(Log("b", LogStreamName::kStdout), ".:\n\n../scratch:\n");
}

// A kill of a slot's group must not reach what runs in the slot afterwards.
TEST_P(LocalTest, ASlotIsUsableAfterAForcedStop) {
  for (int round = 0; round < 3; ++round) {
    const std::string stopped = "stopped" + std::to_string(round);
    const std::string after = "after" + std::to_string(round);
    Submit(stopped, "sleep 100");
    listener_->Wait(KeyOf(stopped), [](const auto& s) { return s.started > 0; });
    backend_->Cancel(KeyOf(stopped), CancelMode::kForced);
    listener_->WaitEnd(KeyOf(stopped));
    backend_->Release(KeyOf(stopped));
    Submit(after, "sleep 0.05; exit 0");
    EXPECT_EQ(listener_->WaitEnd(KeyOf(after)).exit_code, 0);
    backend_->Release(KeyOf(after));
  }
}

TEST_P(LocalTest, AFloodOfLogMeetsItsLimit) {
  log_limit_ = 1 << 20;
  Submit("a", "yes");
  EXPECT_EQ(listener_->WaitEnd(KeyOf("a")).reason, Reason::kLogLimit);
}

TEST_P(LocalTest, TheDeathOfTheSupervisorIsToldAndNothingIsLeft) {
  const std::string pid_file = dir_ + "/pid";
  Submit("a", "echo $$ > " + pid_file + "; exec sleep 300");
  pid_t pid = 0;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(pid_file) >> pid); }));
  kill(SupervisorPid(), SIGKILL);
  EXPECT_TRUE(listener_->Wait(KeyOf("a"), [](const auto& s) { return s.lost; }).lost);
  EXPECT_FALSE(Alive(pid));
  Submit("b", "exit 0");
  EXPECT_EQ(listener_->WaitEnd(KeyOf("b")).exit_code, 0);
}

TEST_P(LocalTest, AnUpgradeKeepsItsChildren) {
  const std::string gate = dir_ + "/gate";
  Submit("a", "echo begin; while [ ! -e " + gate + " ]; do sleep 0.01; done; echo end; exit 4");
  listener_->Wait(KeyOf("a"), [](const auto& s) { return s.started > 0; });
  const pid_t before = SupervisorPid();
  // Another daemon of another version: it asks the supervisor to become its own program.
  local::SupervisorLink::Options options;
  options.data_dir = dir_;
  options.program = fs::read_symlink("/proc/self/exe").parent_path() / "orch-supervisor";
  options.version = "another";
  Mutex mutex;
  int welcomes = 0;
  local::SupervisorLink::Handlers handlers;
  handlers.welcomed = [&](local::Welcome) {
    MutexLock lock(&mutex);
    ++welcomes;
  };
  handlers.started = [](const local::Started&) {};
  handlers.exited = [](const local::Exited&) {};
  handlers.health = [](bool, std::string) {};
  {
    local::SupervisorLink link(options, handlers);
    ASSERT_TRUE(link.Start().ok());
    ASSERT_TRUE(WaitUntil([&] {
      MutexLock lock(&mutex);
      return welcomes >= 2;  // again, after the exec
    }));
    link.Stop();
  }
  EXPECT_EQ(SupervisorPid(), before);
  std::ofstream(gate).put('x');
  EXPECT_EQ(listener_->WaitEnd(KeyOf("a")).exit_code, 4);
  EXPECT_EQ(Log("a", LogStreamName::kStdout), "begin\nend\n");
}

INSTANTIATE_TEST_SUITE_P(, LocalTest, ::testing::Values("auto", "off"),
                         [](const auto& p) { return std::string(p.param) == "auto" ? "Groups" : "NoGroups"; });

}  // namespace
}  // namespace orch
