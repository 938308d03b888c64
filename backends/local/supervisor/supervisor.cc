#include "backends/local/supervisor/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "backends/local/supervisor/processes.h"
#include "backends/local/supervisor/spawn.h"
#include "server/base/fault.h"
#include "server/base/planted.h"

namespace orch::local {
namespace {

constexpr int64_t kSampleMicros = 100'000;  // sizes of logs, entries of their index
constexpr int64_t kKillMicros = 2'000;      // while processes are being ended
constexpr int64_t kGraceMicros = 25'000;    // while a grace runs
constexpr int64_t kIdleMicros = 2'000'000;
constexpr int64_t kTellMicros = 1'000;
constexpr int kMaxLooks = 25;
constexpr size_t kMaxUnsent = 256u << 20;

int64_t Clock(clockid_t id) {
  timespec ts{};
  clock_gettime(id, &ts);
  return static_cast<int64_t>(ts.tv_sec) * 1'000'000 + ts.tv_nsec / 1000;
}

std::string BootId() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

bool IsEmpty(const std::string& dir) {
  std::error_code error;
  return std::filesystem::is_empty(dir, error) || error;
}

// Short and stable for a data directory: the name of its group of cgroups.
std::string GroupName(const std::string& data_dir) {
  uint64_t hash = 1469598103934665603u;  // FNV-1a
  for (const char c : data_dir) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  char text[32];
  snprintf(text, sizeof(text), "orchd-%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace

Supervisor::Supervisor(SupervisorOptions options)
    : options_(std::move(options)), journal_(options_.data_dir + "/local/journal") {}

Supervisor::~Supervisor() = default;

int64_t Supervisor::Mono() const { return Clock(CLOCK_BOOTTIME); }
int64_t Supervisor::Wall() const { return Clock(CLOCK_REALTIME); }

bool Supervisor::TakeLock() {
  if (options_.lock_fd >= 0) {
    return fcntl(options_.lock_fd, F_SETFD, FD_CLOEXEC) == 0;
  }
  const std::string path = options_.data_dir + "/local/supervisor.lock";
  options_.lock_fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return options_.lock_fd >= 0 && flock(options_.lock_fd, LOCK_EX | LOCK_NB) == 0;
}

bool Supervisor::Listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options_.socket_path.size() >= sizeof(address.sun_path)) return false;
  memcpy(address.sun_path, options_.socket_path.c_str(), options_.socket_path.size() + 1);
  unlink(options_.socket_path.c_str());  // we hold the lock: nobody listens there
  listen_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const mode_t old = umask(0177);
  const bool bound = bind(listen_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  umask(old);
  return bound && listen(listen_, 16) == 0;
}

int Supervisor::Open() {
  MakeFolders(options_.data_dir + "/local/slots");
  if (options_.lock_fd >= 0) ORCH_FAULT("supervisor.upgrade.after_exec");
  if (!TakeLock()) return 3;  // another one serves this data directory
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  DumpNoCore();  // this memory has secrets
  null_ = fcntl(open("/dev/null", O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 3);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, SIGTERM);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signals_ = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  timer_ = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  cgroups_ = std::make_unique<CgroupPool>(GroupName(options_.data_dir), options_.cgroups);
  ORCH_FAULT("supervisor.start.before_restore");
  RestoreJournal();
  ORCH_FAULT("supervisor.start.restored");
  RestoreCaptures();
  if (!Listen()) {
    fprintf(stderr, "orch-supervisor: cannot listen on %s: %s\n", options_.socket_path.c_str(), strerror(errno));
    return 4;
  }
  for (const int fd : {listen_, signals_, timer_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  idle_since_ = Mono();
  OnChildren();
  Arm();
  return 0;
}

// What an earlier supervisor left. If that was this very process before an upgrade, its children are ours; otherwise
// they are ended here, and the daemon is told that nobody knows how they would have ended.
void Supervisor::RestoreJournal() {
  Journal::Loaded loaded = journal_.Load();
  const Opened self{kJournalLayout, BootId(), getpid(), StartTicks(getpid()), cgroups_->base()};
  // Where no step ever ran there is nothing that could have been forgotten.
  journal_read_ = loaded.state == Journal::Loaded::State::kRead ||
                  (loaded.state == Journal::Loaded::State::kNone && IsEmpty(options_.data_dir + "/local/slots"));
  if (loaded.state == Journal::Loaded::State::kDamaged) {
    fprintf(stderr, "orch-supervisor: the journal cannot be read and is put aside; all its steps are ended\n");
    journal_.PutAside();
    loaded.records.clear();
  }
  if (!journal_read_) EndEverything(cgroups_->base());
  const bool same_process = journal_read_ && loaded.writer.boot_id == self.boot_id && loaded.writer.pid == self.pid &&
                            loaded.writer.start_ticks == self.start_ticks;
  for (auto& [key, record] : loaded.records) {
    Step& step = steps_[key];
    step.record = record;
    holders_[record.slot] = key;
    if (record.has_end) {
      step.end = record.end;
      continue;
    }
    step.end.started_wall = record.started_wall;
    if (same_process && record.pid != 0) {
      step.live = true;
      step.adopted = true;
      step.stop_sent = step.end.stopped = record.stop_sent;
      step.kill_at_mono = record.kill_at_mono;
      ++live_;
      by_pid_[record.pid] = key;
      SlotOf(record.slot).Reopen(record.log_prefix);
      continue;
    }
    const bool same_boot = loaded.writer.boot_id == self.boot_id;
    EndLost(key, step, same_boot ? loaded.writer.cgroup_base : "");
    if (record.pid != 0) {  // what it had written is its log all the same
      SlotOf(record.slot).Reopen(record.log_prefix);
      Sample(step);
      step.record.end.stdout_bytes = step.end.stdout_bytes = SlotOf(record.slot).stdout_bytes();
      step.record.end.stderr_bytes = step.end.stderr_bytes = SlotOf(record.slot).stderr_bytes();
    }
  }
  std::map<std::string, Journal::Record> records;
  for (const auto& [key, step] : steps_) records[key] = step.record;
  (void)journal_.Begin(self, records);  // on failure no key can be journaled, so no step is spawned
}

// Without a journal nobody knows which steps there were, but what was left of them can be told: by its group, or by the
// folder of this data directory that it was given.
void Supervisor::EndEverything(const std::string& cgroup_base) {
  for (int round = 0; round < 5000; ++round) {
    std::vector<pid_t> left;
    for (const std::string& slot : CgroupPool::Slots(cgroup_base)) {
      CgroupPool::KillAll(cgroup_base, slot);
      const std::vector<pid_t> inside = CgroupPool::Processes(cgroup_base, slot);
      left.insert(left.end(), inside.begin(), inside.end());
      if (inside.empty()) cgroups_->Renew(slot);
    }
    for (const pid_t pid : FindProcessesOf(options_.data_dir)) {
      kill(pid, SIGKILL);
      left.push_back(pid);
    }
    if (left.empty()) break;
    timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
}

void Supervisor::EndLost(const std::string& key, Step& step, const std::string& cgroup_base) {
  // Until none is left: a process may be making another one while we look. A few that cannot be ended (a stuck disk)
  // must not keep the daemon waiting for ever.
  int none = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<pid_t> left;
    if (!cgroup_base.empty()) {
      CgroupPool::KillAll(cgroup_base, step.record.slot);
      left = CgroupPool::Processes(cgroup_base, step.record.slot);
    }
    if (cgroup_base.empty() || round == 0) {
      for (const pid_t pid : FindStepProcesses(0, key)) {
        kill(pid, SIGKILL);
        left.push_back(pid);
      }
    }
    // Twice: one that was in the middle of an exec had no variables.
    none = left.empty() ? none + 1 : 0;
    if (none == 2 || (none == 1 && !cgroup_base.empty())) break;
    timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  cgroups_->Renew(step.record.slot);
  step.end.kind = End::Kind::kLost;
  step.end.ended_wall = Wall();
  step.record.has_end = true;
  step.record.end = step.end;
  step.live = false;
}

int Supervisor::Run() {
  epoll_event events[64];
  while (!exit_) {
    const int n = epoll_wait(epoll_, events, 64, untold_.empty() ? -1 : 1);
    if (n < 0 && errno != EINTR) return 5;
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listen_) {
        OnAccept();
      } else if (fd == signals_) {
        signalfd_siginfo info{};
        bool children = false;
        while (read(signals_, &info, sizeof(info)) == sizeof(info)) {
          if (info.ssi_signo == SIGCHLD) children = true;
          if (info.ssi_signo == SIGTERM && live_ == 0)
            exit_ = true;  // with steps it stays: they are not to die with it
        }
        if (children) OnChildren();
      } else if (fd == timer_) {
        uint64_t expirations = 0;
        if (read(timer_, &expirations, sizeof(expirations)) > 0) {
          ticked_ = true;
          OnTick();
        }
      } else {
        if (pipes_.count(fd) > 0) {
          OnPipe(fd);
          continue;
        }
        const auto client = clients_.find(fd);
        if (client == clients_.end()) continue;
        if ((events[i].events & EPOLLOUT) != 0) Flush(client->second);
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) OnReadable(fd);
      }
    }
    TellStarts();
    MaybeUpgrade();
    Arm();
  }
  unlink(options_.socket_path.c_str());
  cgroups_->RemoveAll();
  return 0;
}

Slot& Supervisor::SlotOf(const std::string& name) {
  std::unique_ptr<Slot>& slot = slots_[name];
  if (slot == nullptr) slot = std::make_unique<Slot>(options_.data_dir + "/local/slots/" + name);
  return *slot;
}

// --- the daemon ---

void Supervisor::OnAccept() {
  for (;;) {
    const int fd = accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    clients_[fd].fd = fd;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
}

void Supervisor::Drop(int fd) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  close(fd);
  clients_.erase(fd);
  idle_since_ = Mono();
}

void Supervisor::OnReadable(int fd) {
  char buffer[65536];
  Client& client = clients_[fd];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      Drop(fd);
      return;
    }
    client.in.Append(std::string_view(buffer, static_cast<size_t>(n)));
    bool broken = false;
    while (const auto frame = client.in.Next(&broken)) {
      OnFrame(client, *frame);
      if (clients_.count(fd) == 0 || exit_) return;
    }
    if (broken) {
      Drop(fd);
      return;
    }
    if (static_cast<size_t>(n) < sizeof(buffer)) break;
  }
}

void Supervisor::OnFrame(Client& client, const Frame& frame) {
  bool good = client.greeted || frame.type == FrameType::kHello || (client.known && frame.type == FrameType::kUpgrade);
  if (good) switch (frame.type) {
      case FrameType::kHello: {
        Hello hello;
        good = !client.known && Decode(frame.body, &hello) && hello.epoch >= epoch_;
        if (good) OnHello(client, hello);
        break;
      }
      case FrameType::kSpawn: {
        Spawn spawn;
        good = Decode(frame.body, &spawn) && !spawn.argv.empty();
        if (good) OnSpawn(client, spawn);
        break;
      }
      case FrameType::kCancel: {
        Cancel cancel;
        good = Decode(frame.body, &cancel);
        if (good) OnCancel(cancel);
        break;
      }
      case FrameType::kAck: {
        Ack ack;
        good = Decode(frame.body, &ack);
        if (good) OnAck(ack);
        break;
      }
      case FrameType::kUpgrade: {
        Upgrade upgrade;
        good = Decode(frame.body, &upgrade);
        if (good) OnUpgrade(upgrade);
        break;
      }
      default:
        good = false;
    }
  if (!good) Drop(client.fd);
}

void Supervisor::OnHello(Client& client, const Hello& hello) {
  // What a dead daemon, or a connection that was given up, has sent and we have not read must not happen any more: the
  // one that greets us now goes by the Welcome and says again what still counts.
  epoch_ = hello.epoch;
  std::vector<int> superseded;
  for (const auto& [fd, other] : clients_) {
    if (fd != client.fd && other.known && (other.epoch < hello.epoch || other.name == hello.name))
      superseded.push_back(fd);
  }
  for (const int fd : superseded) Drop(fd);
  client.known = true;
  client.greeted = hello.version == options_.version;
  client.epoch = hello.epoch;
  client.name = hello.name;
  Welcome welcome;
  welcome.version = options_.version;
  welcome.pid = getpid();
  welcome.cgroups = cgroups_->on();
  welcome.journal_read = journal_read_;
  for (auto& [key, step] : steps_) {
    Entry& entry = welcome.entries.emplace_back();
    entry.key = key;
    entry.slot = step.record.slot;
    entry.pid = step.record.pid;
    entry.started_wall = step.record.started_wall;
    entry.devices = step.record.devices;
    step.start_told = true;
    if (step.record.has_end) entry.end = step.record.end;
  }
  Send(client, Encode(welcome));
}

void Supervisor::OnSpawn(Client& client, const Spawn& spawn) {
  const auto known = steps_.find(spawn.key);
  if (known != steps_.end() && !ORCH_PLANTED("spawn_twice")) {  // never twice: say what we know of it
    const Step& step = known->second;
    if (step.record.pid != 0) Send(client, Encode(Started{spawn.key, step.record.pid, step.record.started_wall}));
    if (step.record.has_end) Send(client, Encode(Exited{spawn.key, step.record.end}));
    return;
  }
  // The slot is handed out again: the daemon is done with who had it, even if the word of that was lost.
  const auto held = holders_.find(spawn.slot);
  const bool busy = held != holders_.end() && steps_[held->second].live;
  if (held != holders_.end() && !busy) OnAck({std::string(held->second)});
  Step& step = steps_[spawn.key];
  step.record.slot = spawn.slot;
  if (!busy) holders_[spawn.slot] = spawn.key;
  step.record.log_prefix = spawn.log_prefix;
  step.record.log_limit = spawn.log_limit;
  step.record.devices = spawn.devices;
  Slot& slot = SlotOf(spawn.slot);
  ORCH_FAULT("supervisor.spawn.before_journal");
  int error = busy ? EBUSY : slot.Prepare();
  // Outside of a group nobody would find what it leaves behind.
  const int group = error == 0 ? cgroups_->Fd(spawn.slot) : -1;
  if (error == 0 && cgroups_->on() && group < 0) error = EBUSY;
  std::string frames = Encode(Spawning{spawn.key, spawn.slot, spawn.log_prefix, spawn.log_limit});
  if (!spawn.devices.empty()) frames += Encode(Holding{spawn.key, spawn.devices});
  if (error == 0 && !journal_.Append(frames)) error = ENOSPC;
  SpawnResult result;
  ORCH_FAULT("supervisor.spawn.journaled");
  std::unique_ptr<Capture> capture;
  if (error == 0 && !spawn.secrets.empty()) capture = Capture::Start(spawn.secrets, &error);
  if (capture != nullptr) {
    Spawn with_secrets = spawn;
    for (const std::string& variable : capture->variables()) with_secrets.env.push_back(variable);
    result = SpawnProcess(with_secrets, null_, capture->write_fd(0), capture->write_fd(1), group);
    capture->CloseWriteEnds();
  } else if (error == 0) {
    result = SpawnProcess(spawn, null_, slot.out_fd(), slot.err_fd(), group);
  } else {
    result.end.kind = End::Kind::kSpawnFailed;
    result.end.status = error;
  }
  const int64_t wall = Wall();
  if (result.pid == 0) {
    step.end = result.end;
    step.end.ended_wall = wall;
    step.record.has_end = true;
    step.record.end = step.end;
    (void)journal_.Append(Encode(Exited{spawn.key, step.end}));  // nothing runs: it may be tried again after a crash
    Tell(spawn.slot, Encode(Exited{spawn.key, step.end}));
    return;
  }
  ORCH_FAULT("supervisor.spawn.spawned");
  step.live = true;
  ++live_;
  step.record.pid = result.pid;
  step.record.started_wall = wall;
  step.end.started_wall = wall;
  step.end.pid = result.pid;
  by_pid_[result.pid] = spawn.key;
  if (capture != nullptr) {
    step.capture = std::move(capture);
    Watch(spawn.key, *step.capture);
  }
  (void)journal_.Append(Encode(Spawned{spawn.key, result.pid, wall}));  // without it the step is found by its mark
  ORCH_FAULT("supervisor.spawn.recorded");
  untold_.push_back({spawn.key, Mono() + kTellMicros});
}

// A start is told a moment later, or by the end if that comes before: short steps are one message.
void Supervisor::TellStarts() {
  for (const int64_t now = Mono(); !untold_.empty() && untold_.front().due <= now; untold_.pop_front()) {
    const auto found = steps_.find(untold_.front().key);
    if (found == steps_.end() || !found->second.live || found->second.start_told) continue;
    found->second.start_told = true;
    Tell(found->second.record.slot,
         Encode(Started{found->first, found->second.record.pid, found->second.record.started_wall}));
  }
}

void Supervisor::OnCancel(const Cancel& cancel) {
  const auto found = steps_.find(cancel.key);
  if (found == steps_.end() || !found->second.live || found->second.main_gone) return;
  Step& step = found->second;
  ORCH_FAULT("supervisor.cancel");
  if (!step.stop_sent) {
    step.stop_sent = true;
    step.end.stopped = true;
    step.record.stop_sent = true;
    step.record.kill_at_mono = Mono() + (cancel.forced ? 0 : cancel.grace_micros);
    (void)journal_.Append(Encode(Stopping{cancel.key, step.record.kill_at_mono}));  // for an upgrade before its end
    if (!cancel.forced) {
      for (const pid_t pid : ProcessesOf(cancel.key, step)) kill(pid, SIGTERM);
      step.kill_at_mono = step.record.kill_at_mono;
    }
  }
  if (cancel.forced) {
    step.kill_at_mono = Mono();
    KillStep(cancel.key, step);
  }
}

void Supervisor::OnAck(const Ack& ack) {
  const auto found = steps_.find(ack.key);
  if (found == steps_.end() || found->second.live) return;
  ORCH_FAULT("supervisor.ack.before_clean");
  const auto held = holders_.find(found->second.record.slot);
  if (held != holders_.end() && held->second == ack.key) {
    if (!SlotOf(held->first).Clean()) slots_.erase(held->first);  // looked at again before it is handed out
    holders_.erase(held);
  }
  ORCH_FAULT("supervisor.ack.cleaned");
  (void)journal_.Append(Encode(ack));  // at worst its end is told once more
  ORCH_FAULT("supervisor.ack.journaled");
  steps_.erase(found);
  if (steps_.empty()) {
    journal_.MaybeShrink({});
    idle_since_ = Mono();
  }
}

void Supervisor::OnUpgrade(const Upgrade& upgrade) {
  upgrade_to_ = upgrade.path;
  MaybeUpgrade();
}

void Supervisor::MaybeUpgrade() {
  if (upgrade_to_.empty()) return;
  for (const auto& [key, step] : steps_) {
    if (step.live && step.main_gone) return;  // reaped, not yet journaled: the next image could not know how it ended
  }
  const std::string path = std::exchange(upgrade_to_, "");
  if (access(path.c_str(), X_OK) != 0) return;
  for (auto& [fd, client] : clients_) Flush(client);
  for (auto& [key, step] : steps_) {
    if (step.live) Sample(step);
  }
  fcntl(options_.lock_fd, F_SETFD, 0);
  const int state = SaveCaptures();
  // A variable, not a flag: a program that knows nothing of it goes on all the same.
  const std::string variable = std::string(kStateVariable) + "=" + std::to_string(state);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  if (state >= 0) environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  const std::string lock = std::to_string(options_.lock_fd);
  std::vector<const char*> argv = {
      path.c_str(), "--data-dir", options_.data_dir.c_str(), "--socket", options_.socket_path.c_str(),
      "--lock-fd",  lock.c_str()};
  if (!options_.cgroups) argv.push_back("--no-cgroups");
  if (faults_armed) argv.push_back("--fault-points");
  argv.push_back(nullptr);
  ORCH_FAULT("supervisor.upgrade.before_exec");
  AllowCore();
  execve(path.c_str(), const_cast<char* const*>(argv.data()), environment.data());
  DumpNoCore();
  fcntl(options_.lock_fd, F_SETFD, FD_CLOEXEC);  // still the old one, which serves as well
  if (state >= 0) close(state);
  for (const auto& [key, step] : steps_) {
    if (step.capture != nullptr) step.capture->KeepOverExec(false);
  }
}

void Supervisor::Send(Client& client, const std::string& frame) {
  client.out += frame;
  if (!client.wants_write) Flush(client);
}

// To the orchestrator whose slot it is; a client without a name hears everything.
void Supervisor::Tell(const std::string& slot, const std::string& frame) {
  for (auto& [fd, client] : clients_) {
    const size_t n = client.name.size();
    const bool concerns = n == 0 || (slot.size() > n && slot[n] == '/' && slot.compare(0, n, client.name) == 0);
    if (client.greeted && concerns) Send(client, frame);
  }
}

void Supervisor::Flush(Client& client) {
  while (!client.out.empty()) {
    const ssize_t n = send(client.fd, client.out.data(), client.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    client.out.erase(0, static_cast<size_t>(n));
  }
  const bool wants = !client.out.empty();
  if (client.out.size() > kMaxUnsent) {  // a daemon that does not read; it gets everything again when it comes back
    shutdown(client.fd, SHUT_RDWR);
    client.out.clear();
  }
  if (wants == client.wants_write) return;
  client.wants_write = wants;
  epoll_event event{};
  event.events = EPOLLIN | (wants ? static_cast<uint32_t>(EPOLLOUT) : 0u);
  event.data.fd = client.fd;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, client.fd, &event);
}

// --- the steps ---

void Supervisor::OnChildren() {
  for (;;) {
    int status = 0;
    rusage usage{};
    const pid_t pid = wait4(-1, &status, WNOHANG, &usage);
    if (pid <= 0) break;
    const auto found = by_pid_.find(pid);
    if (found == by_pid_.end()) continue;  // an orphan of some step that we inherited
    const std::string key = found->second;
    by_pid_.erase(found);
    const int64_t cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * int64_t{1'000'000} + usage.ru_utime.tv_usec +
                        usage.ru_stime.tv_usec;
    MainEnded(key, steps_[key], status, cpu, usage.ru_maxrss * int64_t{1024});
  }
  for (auto it = by_pid_.begin(); it != by_pid_.end();) {
    // Adopted after an upgrade, and reaped by nobody: then it is not there.
    Step& step = steps_[it->second];
    if (!step.adopted || StateOf(it->first) != '\0') {
      ++it;
      continue;
    }
    const std::string key = it->second;
    it = by_pid_.erase(it);
    EndLost(key, step, cgroups_->base());
    EndCapture(step);
    --live_;
    (void)journal_.Append(Encode(Exited{key, step.end}));
    Tell(step.record.slot, Encode(Exited{key, step.end}));
  }
}

void Supervisor::MainEnded(const std::string& key, Step& step, int status, int64_t cpu_micros, int64_t peak_memory) {
  ORCH_FAULT("supervisor.exit.reaped");
  step.main_gone = true;
  step.end.kind = End::Kind::kExited;
  step.end.status = status;
  step.end.ended_wall = Wall();
  step.end.cpu_micros = cpu_micros;
  step.end.peak_memory = peak_memory;
  Finish(key, step);
}

std::vector<pid_t> Supervisor::ProcessesOf(const std::string& key, const Step& step) const {
  if (cgroups_->on()) return CgroupPool::Processes(cgroups_->base(), step.record.slot);
  return FindStepProcesses(step.main_gone ? 0 : step.record.pid, key);
}

void Supervisor::KillStep(const std::string& key, Step& step) {
  step.killed = true;
  if (ORCH_PLANTED("leave_descendants")) return;
  if (cgroups_->on()) {
    CgroupPool::KillAll(cgroups_->base(), step.record.slot);
    return;
  }
  for (const pid_t pid : ProcessesOf(key, step)) kill(pid, SIGKILL);
}

bool Supervisor::Finish(const std::string& key, Step& step) {
  std::vector<pid_t> left;
  if (cgroups_->on()) {
    left = CgroupPool::Processes(cgroups_->base(), step.record.slot);
  } else {
    left = FindStepProcesses(step.record.pid, key);
  }
  if (!left.empty()) {
    KillStep(key, step);
    return false;  // looked at again in kKillMicros
  }
  if (!cgroups_->on() && MayBeHidden(key, step)) return false;
  if (step.killed) cgroups_->Renew(step.record.slot);
  EndCapture(step);
  Sample(step);
  step.end.stdout_bytes = SlotOf(step.record.slot).stdout_bytes();
  step.end.stderr_bytes = SlotOf(step.record.slot).stderr_bytes();
  step.live = false;
  --live_;
  step.record.has_end = true;
  step.record.end = step.end;
  ORCH_FAULT("supervisor.exit.before_journal");
  (void)journal_.Append(Encode(Exited{key, step.end}));  // a full disk: the end is told now, only a crash would lose it
  ORCH_FAULT("supervisor.exit.journaled");
  step.start_told = true;
  Tell(step.record.slot, Encode(Exited{key, step.end}));
  if (!cgroups_->on()) EndOrphans();
  return true;
}

bool Supervisor::MayBeHidden(const std::string& key, Step& step) {
  bool unclear = false;
  for (const Child& child : LivingChildren()) {  // what is left of a step has become a child of ours
    if (by_pid_.count(child.pid) > 0) continue;
    if (child.fence == key) return true;
    unclear = unclear || child.no_variables;
  }
  return unclear && ++step.looks <= kMaxLooks;  // then it has no variables at all: see EndOrphans
}

void Supervisor::EndOrphans() {
  for (const Child& child : LivingChildren()) {
    if (by_pid_.count(child.pid) > 0) continue;
    const auto owner = steps_.find(child.fence);
    const bool may_live = child.fence.empty() ? live_ > 0 : owner != steps_.end() && owner->second.live;
    if (!may_live) kill(child.pid, SIGKILL);
  }
}

void Supervisor::Sample(Step& step) { SlotOf(step.record.slot).Sample(step.record.log_prefix, Wall()); }

void Supervisor::OnTick() {
  const int64_t now = Mono();
  std::vector<std::string> live;
  for (auto& [key, step] : steps_) {
    if (step.live) live.push_back(key);
  }
  for (const std::string& key : live) {
    Step& step = steps_[key];
    if (step.main_gone) {
      Finish(key, step);
      continue;
    }
    Sample(step);
    Slot& slot = SlotOf(step.record.slot);
    if (step.record.log_limit > 0 && !step.end.log_limit &&
        slot.stdout_bytes() + slot.stderr_bytes() > step.record.log_limit) {
      step.end.log_limit = true;
      KillStep(key, step);
    }
    if (step.kill_at_mono != 0 && now >= step.kill_at_mono) KillStep(key, step);
  }
  if (live_ == 0) {
    // Ends that nobody has committed yet are in the journal, where the next supervisor finds them.
    struct stat st {};
    const bool homeless = stat(options_.data_dir.c_str(), &st) != 0;
    if (homeless || (clients_.empty() && now - idle_since_ >= options_.idle_exit_micros)) exit_ = true;
  }
  if (!steps_.empty() && journal_.ShouldShrink()) {
    std::map<std::string, Journal::Record> records;
    for (const auto& [key, step] : steps_) records[key] = step.record;
    journal_.MaybeShrink(records);
  }
}

void Supervisor::Arm() {
  const bool ticked = std::exchange(ticked_, false);
  int64_t period = 0;
  if (live_ == 0) {
    period = clients_.empty() ? kIdleMicros : 30 * kIdleMicros;  // only to notice that nobody needs us
  } else {
    period = kSampleMicros;
    for (const auto& [key, step] : steps_) {
      if (!step.live) continue;
      if (step.main_gone) period = kKillMicros;
      if (step.kill_at_mono != 0) period = std::min(period, kGraceMicros);
    }
  }
  // A shorter one at once, a longer one at the next tick: to set the timer for each short step would cost more than the
  // tick that is not needed.
  if (period == armed_ || (period > armed_ && armed_ != 0 && !ticked)) return;
  armed_ = period;
  itimerspec spec{};
  spec.it_value.tv_sec = spec.it_interval.tv_sec = period / 1'000'000;
  spec.it_value.tv_nsec = spec.it_interval.tv_nsec = period % 1'000'000 * 1000;
  timerfd_settime(timer_, 0, &spec, nullptr);
}

}  // namespace orch::local
