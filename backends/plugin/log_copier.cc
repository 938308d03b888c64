#include "backends/plugin/log_copier.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/log.h"

namespace orch::plugin {
namespace {

constexpr int64_t kIndexEvery = 100'000;
constexpr int64_t kLongWait = 20'000'000;   // where every job has a stream of its own
constexpr int64_t kAskAgain = 200'000;      // the same job
constexpr int64_t kAfterFault = 1'000'000;  // the same
constexpr int kUsualStreams = 8;

int64_t Mono() { return Clock::Real().Now().mono; }

bool WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

bool LogFiles::Open(const std::string& prefix) {
  Close();
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(prefix).parent_path(), error);
  bool good = true;
  for (int i = 0; i < 2; ++i) {
    Stream& stream = streams_[i];
    const std::string path = prefix + (i == 0 ? ".out" : ".err");
    stream.fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    stream.index_fd = open((path + ".idx").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat st {};
    good = good && stream.fd >= 0 && stream.index_fd >= 0 && fstat(stream.fd, &st) == 0;
    stream.size = st.st_size;
    stream.marked = 0;
  }
  return good;
}

void LogFiles::Mark(Stream* stream) {
  const int64_t pair[2] = {Clock::Real().Now().wall, stream->size};
  stream->marked = pair[0];
  (void)WriteAll(stream->index_fd, reinterpret_cast<const char*>(pair), sizeof(pair));
}

void LogFiles::Close() {
  for (Stream& stream : streams_) {
    if (stream.fd >= 0 && stream.index_fd >= 0 && stream.marked != 0) Mark(&stream);
    for (int* fd : {&stream.fd, &stream.index_fd}) {
      if (*fd >= 0) close(std::exchange(*fd, -1));
    }
  }
}

bool LogFiles::Write(bool error, int64_t offset, const std::string& bytes) {
  Stream& stream = streams_[error];
  if (stream.fd < 0 || offset < 0 || offset > stream.size) return false;
  const auto known = static_cast<size_t>(std::min<int64_t>(stream.size - offset, static_cast<int64_t>(bytes.size())));
  if (known == bytes.size()) return true;
  if (!WriteAll(stream.fd, bytes.data() + known, bytes.size() - known)) return false;
  stream.size += static_cast<int64_t>(bytes.size() - known);
  if (Clock::Real().Now().wall - stream.marked >= kIndexEvery) Mark(&stream);
  return true;
}

LogCopier::LogCopier(CallLoop* loop, Session* session, v1::Origin origin, int64_t patience, Handlers handlers)
    : loop_(loop), session_(session), origin_(std::move(origin)), patience_(patience), handlers_(std::move(handlers)) {}

void LogCopier::Follow(const std::string& key, const std::string& handle, const std::string& prefix, int64_t limit) {
  const auto [it, fresh] = jobs_.try_emplace(key);
  if (!handle.empty()) it->second.handle = handle;
  if (!fresh) return;
  it->second.prefix = prefix;
  it->second.limit = limit;
  Pump();
}

void LogCopier::Finish(const std::string& key) {
  const auto found = jobs_.find(key);
  if (found == jobs_.end()) return handlers_.complete(key);
  Job& job = found->second;
  if (job.complete) return Complete(key);
  job.ended = Mono();
  if (job.active) job.asked = job.ended;
  job.due = 0;
  Pump();
}

void LogCopier::Disconnected() {
  for (auto& [key, job] : jobs_) {
    job.active = false;
    job.call = 0;
  }
}

int64_t LogCopier::bytes(const std::string& key, bool error) const {
  const auto found = jobs_.find(key);
  return found == jobs_.end() ? 0 : found->second.sizes[error];
}

void LogCopier::Pump() {
  const int64_t now = Mono();
  int64_t next = 0;
  std::vector<std::tuple<bool, int64_t, std::string>> due;  // it runs on, since or when, which
  size_t active = 0;
  std::vector<std::string> given_up;
  for (auto& [key, job] : jobs_) {
    if (job.active) ++active;
    if (job.complete || job.active) continue;
    if (job.ended != 0 && GiveUpAt(job) <= now) {
      given_up.push_back(key);
      continue;
    }
    // Those that have ended first: somebody waits for them. None of them is passed by those that ended later.
    due.emplace_back(job.ended == 0, job.ended != 0 ? job.ended : job.due, key);
  }
  for (const std::string& key : given_up) {
    Log(LogLevel::kWarning, "the rest of a log did not come", {{"key", key}, {"orchestrator", origin_.orchestrator()}});
    Complete(key);
  }
  if (session_->up()) {
    const int streams = session_->capabilities().log_streams();
    const auto most = static_cast<size_t>(streams <= 0 ? kUsualStreams : std::min(streams, 1000));
    std::sort(due.begin(), due.end());
    for (const auto& [runs, since, key] : due) {
      const auto found = jobs_.find(key);
      if (found == jobs_.end()) continue;
      if (found->second.due > now) {
        next = next == 0 ? found->second.due : std::min(next, found->second.due);
      } else if (active < most) {
        ++active;
        Ask(key, &found->second);
      }
    }
  }
  for (const auto& [key, job] : jobs_) {
    if (job.ended == 0 || job.complete || job.active) continue;
    next = next == 0 ? GiveUpAt(job) : std::min(next, GiveUpAt(job));
  }
  if (next == 0 || (pump_at_ != 0 && pump_at_ <= next)) return;
  pump_at_ = next;
  loop_->After(std::max<int64_t>(next - now, 1000), [this, next] {
    if (pump_at_ != next) return;
    pump_at_ = 0;
    Pump();
  });
}

void LogCopier::Ask(const std::string& key, Job* job) {
  auto files = std::make_shared<LogFiles>();
  job->active = true;
  if (job->ended != 0 && job->asked == 0) job->asked = Mono();
  const uint64_t call = job->call = ++calls_;
  const bool good = files->Open(job->prefix);
  for (const bool error : {false, true}) job->sizes[error] = files->size(error);
  if (!good) return Answered(key, "its files cannot be written", false);
  const int streams = session_->capabilities().log_streams();
  v1::LogsRequest request;
  *request.mutable_origin() = origin_;
  request.set_key(key);
  request.set_handle(job->handle);
  request.set_stdout_offset(files->size(false));
  request.set_stderr_offset(files->size(true));
  const bool one_each = jobs_.size() <= static_cast<size_t>(streams <= 0 ? kUsualStreams : streams);
  request.set_wait_micros(one_each ? kLongWait : 0);
  auto complete = std::make_shared<bool>(false);
  auto fault = std::make_shared<std::string>();
  session_->calls().Stream<v1::LogsRequest, v1::LogsResponse>(
      &v1::BackendPlugin::Stub::AsyncLogs, request, kLongWait + 3 * patience_,
      [this, key, call, files, complete, fault](v1::LogsResponse& answer) -> int64_t {
        const auto found = jobs_.find(key);
        if (found == jobs_.end() || found->second.call != call) return -1;
        Job& j = found->second;
        if (answer.complete()) *complete = true;
        if (answer.data().empty()) return 0;
        if (answer.stream() != v1::LogsResponse::STDOUT && answer.stream() != v1::LogsResponse::STDERR) {
          *fault = "it names no stream";
          return -1;
        }
        const bool error = answer.stream() == v1::LogsResponse::STDERR;
        if (j.over) return 0;  // it is being ended
        if (!files->Write(error, answer.offset(), answer.data())) {
          *fault = "bytes between are missing, or it cannot be written";
          return -1;
        }
        j.sizes[error] = files->size(error);
        if (j.limit > 0 && j.sizes[0] + j.sizes[1] > j.limit) {
          j.over = true;
          handlers_.over_limit(key);
        }
        return 0;
      },
      [this, key, call, files, complete, fault](const grpc::Status& status) {
        const auto found = jobs_.find(key);
        if (found == jobs_.end() || found->second.call != call) return;
        files->Close();
        Answered(key,
                 !fault->empty() ? *fault
                 : status.ok()   ? ""
                                 : status.error_message(),
                 *complete && fault->empty());
      });
}

void LogCopier::Answered(const std::string& key, const std::string& fault, bool complete) {
  Job& job = jobs_.at(key);
  job.active = false;
  job.call = 0;
  job.due = Mono() + (fault.empty() ? kAskAgain : kAfterFault);
  if (fault.empty()) {
    heard_ = Mono();
  } else {
    Log(LogLevel::kWarning, "a log cannot be read now",
        {{"orchestrator", origin_.orchestrator()}, {"key", key}, {"why", fault.substr(0, 300)}});
  }
  if (complete) {
    job.complete = true;
    if (job.ended != 0) Complete(key);
  }
  Pump();
}

void LogCopier::Complete(const std::string& key) {
  jobs_.at(key).complete = true;
  handlers_.complete(key);
}

}  // namespace orch::plugin
