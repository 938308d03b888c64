// The local flavor alone: real supervisor, real processes; every test with control groups and without.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "backends/local/local_backend.h"
#include "backends/local/supervisor/cgroup.h"
#include "backends/local/supervisor/spawn.h"
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

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string Version() { return std::string(ORCH_VERSION) + local::kWireLayout; }

int Dial(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // Its name is there a moment before it listens.
  EXPECT_TRUE(WaitUntil([&] {
    return connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 || errno == EISCONN;
  })) << path;
  return fd;
}

// Speaks to the supervisor frame by frame, as a daemon of any version would.
class PlainClient {
 public:
  PlainClient(std::string path, std::string version, int64_t epoch, std::string name = "local")
      : path_(std::move(path)), version_(std::move(version)), epoch_(epoch), name_(std::move(name)), fd_(Dial(path_)) {
    Send(Encode(local::Hello{version_, epoch_, name_}));
    (void)Next();
  }
  ~PlainClient() { close(fd_); }
  void Send(const std::string& frame) { (void)send(fd_, frame.data(), frame.size(), MSG_NOSIGNAL); }
  void Spawn(const std::string& key, int slot, const std::string& dir, const std::string& script,
             const std::string& orchestrator = "local") {
    local::Spawn spawn;
    spawn.key = key;
    spawn.slot = orchestrator + "/" + std::to_string(slot);
    spawn.argv = {"/bin/sh", "-c", script};
    spawn.env = {"PATH=/usr/bin:/bin", "ORCH_FENCE=" + key};
    spawn.cwd = "/";
    spawn.log_prefix = dir + "/logs/" + key;
    spawn.log_limit = 1 << 30;
    Send(Encode(spawn));
  }
  // True once the end of `key` has been told here, or was known before.
  bool Ended(const std::string& key) {
    while (ended_.count(key) == 0 && Next(10).has_value()) {
    }
    return ended_.count(key) > 0;
  }
  // What the supervisor knows now.
  bool Knows(const std::string& key) {
    PlainClient fresh(path_, version_, epoch_, name_ + "'");
    return fresh.known_.count(key) > 0;
  }
  bool Closed() {
    while (!closed_ && Next().has_value()) {
    }
    return closed_;
  }

 private:
  // One frame, waiting a while for it.
  std::optional<local::FrameType> Next(int millis = 1000) {
    for (;;) {
      bool broken = false;
      if (const auto frame = reader_.Next(&broken)) {
        local::Welcome welcome;
        local::Exited exited;
        if (frame->type == local::FrameType::kWelcome && Decode(frame->body, &welcome)) {
          for (const local::Entry& entry : welcome.entries) {
            known_.insert(entry.key);
            if (entry.end.has_value()) ended_.insert(entry.key);
          }
        } else if (frame->type == local::FrameType::kExited && Decode(frame->body, &exited)) {
          ended_.insert(exited.key);
        }
        return frame->type;
      }
      pollfd wait{fd_, POLLIN, 0};
      if (poll(&wait, 1, millis) <= 0) return std::nullopt;
      char buffer[65536];
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
      closed_ = n <= 0;
      if (closed_) return std::nullopt;
      reader_.Append(std::string_view(buffer, static_cast<size_t>(n)));
    }
  }

  const std::string path_;
  const std::string version_;
  const int64_t epoch_;
  const std::string name_;
  const int fd_;
  bool closed_ = false;
  local::FrameReader reader_;
  std::set<std::string> known_;
  std::set<std::string> ended_;
};

// A double of a supervisor whose frames nobody can read any more: it welcomes with bytes of its own behind its version,
// keeps what it is asked, and is gone.
class OldSupervisorDouble {
 public:
  explicit OldSupervisorDouble(const std::string& path) : path_(path) {
    unlink(path.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    listen_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listen_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listen_, 4), 0);
  }
  void Serve() {
    const int fd = accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC);
    std::string welcome = Encode(local::Welcome{"0.0.0/wire0", 1, false, true, {}});
    welcome.insert(welcome.size() - 3, "of another layout");
    welcome[0] = static_cast<char>(welcome.size() - 4);
    (void)send(fd, welcome.data(), welcome.size(), MSG_NOSIGNAL);
    local::FrameReader reader;
    char buffer[4096];
    while (path_to_.empty()) {
      const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      reader.Append(std::string_view(buffer, static_cast<size_t>(n)));
      bool broken = false;
      while (const auto frame = reader.Next(&broken)) {
        local::Upgrade upgrade;
        if (frame->type == local::FrameType::kUpgrade && Decode(frame->body, &upgrade)) path_to_ = upgrade.path;
      }
    }
    unlink(path_.c_str());
    close(listen_);
    close(fd);
  }
  const std::string& upgrade_path() const { return path_to_; }

 private:
  const std::string path_;
  int listen_ = -1;
  std::string path_to_;
};

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
    Reconnect();
    Adopt(std::move(known));
  }
  void Reconnect() {
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
    const absl::Status started = backend_->Start(listener_.get());
    ASSERT_TRUE(started.ok()) << started;
  }
  void Adopt(std::vector<std::string> known) {
    std::vector<KnownAttempt> attempts;
    for (const std::string& name : known) {
      KnownAttempt attempt;
      attempt.name.key = KeyOf(name);
      attempt.grace_micros = 100'000;
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
    work.env = {{"PATH", "/usr/bin:/bin"},
                {"ORCH_FENCE", key},
                {"OUT", workspace->output_dir},
                {"ORCH_SCRATCH", workspace->scratch_dir}};
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
  // Starts a supervisor by hand.
  pid_t Launch(std::vector<std::string> more) {
    const std::string program = fs::read_symlink("/proc/self/exe").parent_path() / "orch-supervisor";
    std::vector<std::string> words = {program, "--data-dir", dir_, "--socket", dir_ + "/local/supervisor.sock"};
    if (GetParam() == std::string("off")) words.push_back("--no-cgroups");
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    EXPECT_EQ(posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv.data(), environ), 0);
    return pid;
  }
  pid_t SupervisorPid() {
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::stringstream text;  // a process may end while it is read, which an iterator would throw
      text << std::ifstream(entry.path() / "cmdline").rdbuf();
      const std::string line = text.str();
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

TEST_P(LocalTest, AnAdoptedStepIsStoppedWithItsGraceAndKnowsItsFolder) {
  const std::string pid_file = dir_ + "/pid";
  const Workspace before = Submit("a", "trap '' TERM; echo $$ > " + pid_file + "; while :; do sleep 0.02; done");
  ASSERT_TRUE(WaitUntil([&] { return !ReadFile(pid_file).empty(); }));
  Connect({"a"});
  AttemptName name;
  name.key = KeyOf("a");
  EXPECT_EQ(backend_->Prepare(name)->output_dir, before.output_dir);
  const auto begin = std::chrono::steady_clock::now();
  backend_->Cancel(KeyOf("a"), CancelMode::kGraceful);
  EXPECT_EQ(listener_->WaitEnd(KeyOf("a")).signal, 9);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
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

// A supervisor of an older build, started before the daemon.
TEST_P(LocalTest, AnUpgradeKeepsItsChildren) {
  backend_->Stop();
  backend_ = nullptr;
  kill(SupervisorPid(), SIGKILL);
  ASSERT_TRUE(WaitUntil([&] { return SupervisorPid() == 0; }));
  const std::string socket = dir_ + "/local/supervisor.sock";
  fs::remove(socket);
  const pid_t before = Launch({"--version-as", "0.0.1/wire1"});
  ASSERT_TRUE(WaitUntil([&] { return fs::exists(socket); }));
  // What an older daemon had it start: one that goes on, one that is being stopped, one that has ended.
  const std::string gate = dir_ + "/gate";
  {
    PlainClient old(socket, "0.0.1/wire1", 0);
    old.Spawn(KeyOf("goes-on"), 0, dir_,
              "echo begin; while [ ! -e " + gate + " ]; do sleep 0.01; done; echo end; exit 4");
    old.Spawn(KeyOf("stubborn"), 1, dir_, "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    old.Spawn(KeyOf("ended"), 2, dir_, "exit 7");
    ASSERT_TRUE(WaitUntil([&] {
      return ReadFile(dir_ + "/local/slots/local/1/err").empty() &&
             !ReadFile(dir_ + "/logs/" + KeyOf("stubborn") + ".out").empty();
    }));
    old.Send(Encode(local::Cancel{KeyOf("stubborn"), false, 400'000}));
    ASSERT_TRUE(WaitUntil([&] { return old.Ended(KeyOf("ended")); }));
  }
  Connect({"goes-on", "stubborn", "ended"});
  EXPECT_EQ(SupervisorPid(), before);
  EXPECT_EQ(listener_->WaitEnd(KeyOf("ended")).exit_code, 7);
  const AttemptEnd stopped = listener_->WaitEnd(KeyOf("stubborn"));
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.signal, 9);
  std::ofstream(gate).put('x');
  EXPECT_EQ(listener_->WaitEnd(KeyOf("goes-on")).exit_code, 4);
  EXPECT_EQ(ReadFile(dir_ + "/logs/" + KeyOf("goes-on") + ".out"), "begin\nend\n");
}

// Whatever an older supervisor says behind its version: it is asked to become ours.
TEST_P(LocalTest, AnotherLayoutIsUpgradedNotDecoded) {
  backend_->Stop();
  backend_ = nullptr;
  kill(SupervisorPid(), SIGKILL);
  ASSERT_TRUE(WaitUntil([&] { return SupervisorPid() == 0; }));
  const std::string socket = dir_ + "/local/supervisor.sock";
  OldSupervisorDouble old(socket);
  std::thread answers([&] { old.Serve(); });
  Connect({});  // once the double is gone, the backend starts a supervisor of its own
  answers.join();
  EXPECT_EQ(old.upgrade_path(), std::string(fs::read_symlink("/proc/self/exe").parent_path() / "orch-supervisor"));
  Submit("a", "exit 3");
  EXPECT_EQ(listener_->WaitEnd(KeyOf("a")).exit_code, 3);
}

// An end that is told between the connection and the adoption, as while a large database is read.
TEST_P(LocalTest, AnEndBeforeTheAdoptionIsKept) {
  const std::string gate = dir_ + "/gate";
  Submit("a", "while [ ! -e " + gate + " ]; do sleep 0.01; done; exit 6");
  listener_->Wait(KeyOf("a"), [](const auto& s) { return s.started > 0; });
  Reconnect();
  std::ofstream(gate).put('x');
  PlainClient other(dir_ + "/local/supervisor.sock", Version(), 0, "");
  ASSERT_TRUE(WaitUntil([&] { return other.Ended(KeyOf("a")); }));  // so it has been told to ours as well
  Adopt({"a"});
  EXPECT_EQ(listener_->WaitEnd(KeyOf("a")).exit_code, 6);
}

// The slot of an attempt that the daemon gave up while it ran is not handed out before nothing of it is left.
TEST_P(LocalTest, ALiveAttemptKeepsItsSlotWhenItIsReleased) {
  const std::string pid_file = dir_ + "/pid";
  const Workspace first = Submit("a", "echo $$ > " + pid_file + "; trap '' TERM; while :; do sleep 0.05; done");
  pid_t pid = 0;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(pid_file) >> pid); }));
  backend_->Release(KeyOf("a"));
  const Workspace second = Submit("b", "exit 0");
  // Its end may have come before the next one asked for a slot.
  const bool same = first.output_dir == second.output_dir;
  if (same) {
    EXPECT_FALSE(Alive(pid));
  }
  listener_->WaitEnd(KeyOf("b"));
  EXPECT_TRUE(WaitUntil([&] { return !Alive(pid); }));
  // … and then it is.
  PlainClient other(dir_ + "/local/supervisor.sock", Version(), 0, "other");
  EXPECT_TRUE(WaitUntil([&] { return !other.Knows(KeyOf("a")); }));
  const Workspace third = Submit("c", "exit 0");
  if (!same) {
    EXPECT_EQ(first.output_dir, third.output_dir);
  }
}

// As a supervisor leaves it that was ended between the kill of a slot's group and the renewal of it.
TEST(Cgroups, AGroupThatWasEverKilledIsMadeAnew) {
  const std::string name = "orchd-test-" + std::to_string(getpid());
  {
    local::CgroupPool dead(name, true);
    if (!dead.on()) GTEST_SKIP() << "no cgroup2 here";
    ASSERT_GE(dead.Fd("local/0"), 0);
    local::CgroupPool::KillAll(dead.base(), "local/0");
  }
  local::CgroupPool next(name, true);
  local::Spawn spawn;
  spawn.argv = {"/bin/sh", "-c", "exit 3"};
  spawn.cwd = "/";
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const local::SpawnResult started = local::SpawnProcess(spawn, null, null, null, next.Fd("local/0"));
  ASSERT_GT(started.pid, 0);
  int status = 0;
  ASSERT_EQ(waitpid(started.pid, &status, 0), started.pid);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  next.RemoveAll();
  close(null);
}

// A word of release that was lost with the connection is said again.
TEST_P(LocalTest, WhatTheDaemonDoesNotKnowIsForgottenOrEnded) {
  const std::string pid_file = dir_ + "/pid";
  Submit("ended", "exit 0");
  listener_->WaitEnd(KeyOf("ended"));
  Submit("runs", "echo $$ > " + pid_file + "; exec sleep 300");
  pid_t pid = 0;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(pid_file) >> pid); }));
  Connect({});
  PlainClient other(dir_ + "/local/supervisor.sock", Version(), 0, "other");
  EXPECT_TRUE(WaitUntil([&] { return !other.Knows(KeyOf("ended")) && !other.Knows(KeyOf("runs")); }));
  EXPECT_FALSE(Alive(pid));
}

// The word of release was lost with its connection, and the slot was handed out again before the next one.
TEST_P(LocalTest, ALateReleaseDoesNotCleanTheNextAttemptsFolder) {
  PlainClient daemon(dir_ + "/local/supervisor.sock", Version(), 1, "other");
  const std::string out = dir_ + "/local/slots/other/0/output";
  const std::string gate = dir_ + "/gate";
  daemon.Spawn(KeyOf("first"), 0, dir_, "echo a; touch " + out + "/old", "other");
  ASSERT_TRUE(WaitUntil([&] { return daemon.Ended(KeyOf("first")); }));
  daemon.Spawn(KeyOf("second"), 0, dir_,
               "ls " + out + "; touch " + out + "/new; while [ ! -e " + gate + " ]; do sleep 0.01; done", "other");
  daemon.Spawn(KeyOf("third"), 0, dir_, "true", "other");  // while another lives there: not started at all
  ASSERT_TRUE(WaitUntil([&] { return daemon.Ended(KeyOf("third")); }));
  ASSERT_TRUE(WaitUntil([&] { return fs::exists(out + "/new"); }));
  daemon.Send(Encode(local::Ack{KeyOf("first")}));
  daemon.Send(Encode(local::Ack{KeyOf("third")}));
  EXPECT_TRUE(WaitUntil([&] { return !daemon.Knows(KeyOf("third")); }));
  EXPECT_TRUE(fs::exists(out + "/new"));
  std::ofstream(gate).put('x');
  ASSERT_TRUE(WaitUntil([&] { return daemon.Ended(KeyOf("second")); }));
  EXPECT_EQ(ReadFile(dir_ + "/logs/" + KeyOf("first") + ".out"), "a\n");
  EXPECT_EQ(ReadFile(dir_ + "/logs/" + KeyOf("second") + ".out"), "");
}

// What a dead daemon has sent and the supervisor has not read must not happen after the next one was told how it
// stands.
TEST_P(LocalTest, AnEarlierDaemonIsCutOff) {
  const std::string marks = dir_ + "/marks";
  PlainClient old(dir_ + "/local/supervisor.sock", Version(), 0, "local");
  // It is away now: neither read from nor closed, like one whose bytes lie in the socket. A later epoch greets.
  PlainClient fresh(dir_ + "/local/supervisor.sock", Version(), 5, "local");
  EXPECT_FALSE(fresh.Knows("late"));
  old.Spawn(KeyOf("late"), 7, dir_, "echo x >> " + marks);
  EXPECT_TRUE(old.Closed());
  EXPECT_FALSE(fresh.Knows("late"));
  EXPECT_FALSE(fs::exists(marks));
  EXPECT_TRUE(PlainClient(dir_ + "/local/supervisor.sock", Version(), 4, "local").Closed());
}

// No attempt is forgotten with the journal: what is left is ended, and they are LOST, not started again.
TEST_P(LocalTest, AJournalThatCannotBeReadLosesNothingSilently) {
  const std::string pid_file = dir_ + "/pid";
  const std::string marks = dir_ + "/marks";
  Submit("a", "echo x >> " + marks + "; (setsid sleep 300 & echo $! > " + pid_file + "); exec sleep 300");
  pid_t pid = 0;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(pid_file) >> pid); }));
  backend_->Stop();
  backend_ = nullptr;
  kill(SupervisorPid(), SIGKILL);
  ASSERT_TRUE(WaitUntil([&] { return SupervisorPid() == 0; }));
  {
    std::fstream journal(dir_ + "/local/journal", std::ios::in | std::ios::out | std::ios::binary);
    journal.seekp(5);  // the layout
    journal.put('\x7f');
  }
  Connect({"a"});
  EXPECT_TRUE(listener_->Wait(KeyOf("a"), [](const auto& s) { return s.lost; }).lost);
  EXPECT_FALSE(Alive(pid));
  EXPECT_EQ(ReadFile(marks), "x\n");
  EXPECT_TRUE(fs::exists(dir_ + "/local/journal.damaged"));
}

// No way out of a step: each of these is what a program does that means to outlive it.
// Whoever submits must not wait for a supervisor that does not read, be it stopped or held up by a disk.
TEST_P(LocalTest, AStoppedSupervisorHoldsNobodyUp) {
  const pid_t supervisor = SupervisorPid();
  ASSERT_EQ(kill(supervisor, SIGSTOP), 0);
  const std::string filler = "# " + std::string(16 << 10, 'x');  // more in all than the socket takes
  for (int i = 0; i < 60; ++i) Submit("s" + std::to_string(i), "exit 0\n" + filler);
  ASSERT_EQ(kill(supervisor, SIGCONT), 0);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(listener_->WaitEnd(KeyOf("s" + std::to_string(i))).exit_code, 0) << i;
}

TEST_P(LocalTest, NothingOutlivesAStep) {
  const std::string pids = dir_ + "/pids";
  const std::string ready = dir_ + "/ready";
  const struct {
    const char* name;
    std::string script;
    bool ends_by_itself;
  } ways[] = {
      {"double-fork", "( ( sleep 300 & echo $! >> $PIDS ) & )", true},
      {"setsid", "setsid sh -c 'echo $$ >> $PIDS; exec sleep 300' & sleep 300", false},
      {"daemonised", "setsid sh -c '(trap \"\" TERM HUP; while :; do sleep 0.05; done) & echo $! >> $PIDS' &", true},
      {"half-of-the-group", "sleep 300 & echo $! >> $PIDS; sh -c 'kill -9 $$'; sleep 300", false},
      {"stopped-child", "sh -c 'echo $$ >> $PIDS; kill -STOP $$' & sleep 300", false},
      {"closed-streams", "setsid sleep 300 <&- >&- 2>&- & echo $! >> $PIDS; exit 0", true},
  };
  for (const auto& way : ways) {
    fs::remove(pids);
    Submit(way.name, "PIDS=" + pids + "; export PIDS; " + way.script);
    pid_t pid = 0;
    if (way.ends_by_itself) {
      listener_->WaitEnd(KeyOf(way.name));
      std::ifstream(pids) >> pid;
    } else {
      ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(pids) >> pid); })) << way.name;
      backend_->Cancel(KeyOf(way.name), CancelMode::kGraceful);
      const AttemptEnd end = listener_->WaitEnd(KeyOf(way.name));
      EXPECT_TRUE(end.stopped) << way.name;
    }
    EXPECT_TRUE(pid == 0 || !Alive(pid)) << way.name;
    backend_->Release(KeyOf(way.name));
  }
}

INSTANTIATE_TEST_SUITE_P(, LocalTest, ::testing::Values("auto", "off"),
                         [](const auto& p) { return std::string(p.param) == "auto" ? "Groups" : "NoGroups"; });

}  // namespace
}  // namespace orch
