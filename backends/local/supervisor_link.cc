#include "backends/local/supervisor_link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/detached_process.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/planted.h"
#include "server/base/status.h"

namespace orch::local {
namespace {

constexpr size_t kMaxUnsent = 256u << 20;
constexpr int kConnectTries = 500;  // of 10 ms, after a launch
constexpr int64_t kStartMicros = 10'000'000;
constexpr int64_t kUpgradeMicros = 2'000'000;

absl::Status Unusable(absl::string_view what, absl::string_view path) {
  return Error(absl::StatusCode::kInternal, "SUPERVISOR_UNUSABLE",
               absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
}

bool SendAll(int fd, const std::string& frame) {
  size_t at = 0;
  while (at < frame.size()) {
    const ssize_t n = send(fd, frame.data() + at, frame.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> SupervisorSocketPath(const std::string& data_dir) {
  std::string path = data_dir + "/local/supervisor.sock";
  if (path.size() < sizeof(sockaddr_un::sun_path)) return path;
  const std::string dir = absl::StrCat("/tmp/orchd-", Hex(Sha256Of(data_dir)).substr(0, 16));
  struct stat st {};
  if (mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return Unusable("make", dir);
  if (lstat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "SOCKET_DIR_FOREIGN",
                 absl::StrCat(dir, " is not a folder of this user's alone; remove it, or choose a shorter --data-dir"));
  }
  return dir + "/supervisor.sock";
}

SupervisorLink::SupervisorLink(Options options, Handlers handlers)
    : options_(std::move(options)), handlers_(std::move(handlers)) {}

SupervisorLink::~SupervisorLink() { Stop(); }

absl::Status SupervisorLink::Start() {
  ASSIGN_OR_RETURN(socket_path_, SupervisorSocketPath(options_.data_dir));
  std::error_code error;
  std::filesystem::create_directories(options_.data_dir + "/local", error);
  chmod((options_.data_dir + "/local").c_str(), 0700);
  if (pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) return Unusable("make a pipe in", options_.data_dir);
  thread_ = std::thread([this] { Run(); });
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kStartMicros);
  MutexLock lock(&mutex_);
  while (!welcomed_) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !changed_.WaitFor(&mutex_, left)) {
      if (welcomed_) break;
      return Error(absl::StatusCode::kUnavailable, "SUPERVISOR_UNUSABLE",
                   absl::StrCat("the supervisor of local steps does not answer: ",
                                trouble_.empty() ? "no connection" : trouble_));
    }
  }
  return absl::OkStatus();
}

void SupervisorLink::Stop() {
  if (stopping_.exchange(true)) return;
  if (wake_[1] >= 0 && write(wake_[1], "x", 1) < 0) {
    // The pipe is full of wake-ups already.
  }
  if (thread_.joinable()) thread_.join();
  for (int& fd : wake_) {
    if (fd >= 0) close(std::exchange(fd, -1));
  }
}

uint64_t SupervisorLink::Send(const std::string& frame) {
  MutexLock lock(&mutex_);
  if (fd_ < 0) return 0;
  const bool waits = !unsent_.empty();
  unsent_ += frame;
  if (!waits && !Flush()) return 0;
  if (unsent_.size() > kMaxUnsent) {  // it has not read for long: it gets everything again when it comes back
    GiveUp();
    return 0;
  }
  if (!waits && !unsent_.empty() && write(wake_[1], "x", 1) < 0) {
    // The pipe is full of wake-ups already.
  }
  return connection_;
}

// Sends what the socket takes. False: the connection is gone.
bool SupervisorLink::Flush() {
  size_t at = 0;
  while (at < unsent_.size()) {
    const ssize_t n = send(fd_, unsent_.data() + at, unsent_.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      GiveUp();
      return false;
    }
    at += static_cast<size_t>(n);
  }
  unsent_.erase(0, at);
  return true;
}

// The thread sees it and connects anew.
void SupervisorLink::GiveUp() {
  shutdown(fd_, SHUT_RDWR);
  fd_ = -1;
  unsent_.clear();
}

int SupervisorLink::Connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, socket_path_.c_str(), socket_path_.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

bool SupervisorLink::Launch(std::string* why) {
  std::vector<std::string> words = {options_.program, "--data-dir", options_.data_dir, "--socket", socket_path_};
  if (!options_.cgroups) words.push_back("--no-cgroups");
  if (faults_armed) words.push_back("--fault-points");
  if (!options_.version_as.empty()) words.insert(words.end(), {"--version-as", options_.version_as});
  const char* orders = faults_armed ? getenv("ORCH_FAULTS") : nullptr;
  std::vector<std::string> environment = {"PATH=/usr/bin:/bin"};
  if (faults_armed) environment.push_back(absl::StrCat("ORCH_FAULTS=", orders == nullptr ? "" : orders));
  if (PlantedVariable() != nullptr) environment.push_back(PlantedVariable());
  pid_t pid = 0;
  const int error = DetachedProcess()
                        .Open(0, "/dev/null", O_RDONLY)
                        .Open(1, "/dev/null", O_WRONLY)
                        .Open(2, options_.data_dir + "/local/supervisor.log", O_WRONLY | O_CREAT | O_APPEND, 0600)
                        .CloseFrom(3)
                        .Start(words, &environment, &pid);
  if (error != 0) {
    *why = absl::StrCat("cannot start ", options_.program, ": ", strerror(error));
    return false;
  }
  launched_.push_back(pid);
  return true;
}

void SupervisorLink::Run() {
  bool launched = false;
  int tries = 0;
  while (!stopping_) {
    // Supervisors that have ended; other children of the daemon are for those who made them to reap.
    launched_.erase(std::remove_if(launched_.begin(), launched_.end(),
                                   [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; }),
                    launched_.end());
    const int fd = Connect();
    if (fd < 0) {
      std::string why;
      if (!launched || ++tries > kConnectTries) {
        launched = Launch(&why);
        tries = 0;
      }
      if (!why.empty()) {
        MutexLock lock(&mutex_);
        trouble_ = why;
        changed_.NotifyAll();
      }
      pollfd wait{wake_[0], POLLIN, 0};
      poll(&wait, 1, launched ? 10 : 1000);
      continue;
    }
    const bool greeted = Serve(fd);
    {
      MutexLock lock(&mutex_);
      fd_ = -1;
      unsent_.clear();
    }
    close(fd);
    launched = false;
    if (!stopping_ && greeted) handlers_.health(false, "the connection to the supervisor of local steps is gone");
  }
}

// The supervisor is of another version: it is asked to become ours, keeping its children, and the connection ends with
// its image. Nothing else of it is looked at, since its frames may look different.
bool SupervisorLink::AskToUpgrade(int fd, const std::string& version) {
  {
    MutexLock lock(&mutex_);
    trouble_ = absl::StrCat("it is of version ", version, " and does not become ", options_.version);
    changed_.NotifyAll();
  }
  if (!SendAll(fd, Encode(Upgrade{options_.program}))) return false;
  char buffer[4096];
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kUpgradeMicros);
  while (!stopping_ && std::chrono::steady_clock::now() < until) {  // then it is asked again
    pollfd waits[2] = {{fd, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    if (poll(waits, 2, 100) < 0 && errno != EINTR) break;
    if ((waits[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) break;
  }
  return false;
}

// True: the Welcome is of our version and has been handled, and Send may be used.
bool SupervisorLink::Greet(int fd, const Frame& frame) {
  std::string version;
  if (frame.type != FrameType::kWelcome || !DecodeVersion(frame.body, &version)) return false;
  if (version != options_.version) return AskToUpgrade(fd, version);
  Welcome welcome;
  if (!Decode(frame.body, &welcome)) return false;
  pid_ = welcome.pid;
  uint64_t connection = 0;
  {
    MutexLock lock(&mutex_);
    fd_ = fd;
    connection = ++connection_;
  }
  handlers_.welcomed(connection, std::move(welcome));
  handlers_.health(true, "");
  MutexLock lock(&mutex_);
  welcomed_ = true;
  changed_.NotifyAll();
  return true;
}

bool SupervisorLink::Serve(int fd) {
  if (!SendAll(fd, Encode(Hello{options_.version, options_.epoch, options_.name}))) return false;
  FrameReader reader;
  bool greeted = false;
  char buffer[65536];
  for (;;) {
    pollfd waits[2] = {{fd, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    {
      MutexLock lock(&mutex_);
      if (!unsent_.empty()) waits[0].events |= POLLOUT;
    }
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return greeted;
    if (stopping_) return greeted;
    if ((waits[1].revents & POLLIN) != 0 && read(wake_[0], buffer, sizeof(buffer)) < 0) {
      // Nothing: it only woke us.
    }
    if ((waits[0].revents & POLLOUT) != 0) {
      MutexLock lock(&mutex_);
      if (fd_ == fd) (void)Flush();
    }
    if ((waits[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return greeted;
    reader.Append(std::string_view(buffer, static_cast<size_t>(n)));
    bool broken = false;
    while (const auto frame = reader.Next(&broken)) {
      if (!greeted) {
        if (!Greet(fd, *frame)) return false;
        greeted = true;
      } else if (frame->type == FrameType::kStarted) {
        Started started;
        if (!Decode(frame->body, &started)) return greeted;
        handlers_.started(started);
      } else if (frame->type == FrameType::kExited) {
        Exited exited;
        if (!Decode(frame->body, &exited)) return greeted;
        handlers_.exited(exited);
      } else {
        return greeted;
      }
    }
    if (broken) return greeted;
  }
}

}  // namespace orch::local
