#include "backends/local/supervisor/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace orch::local {
namespace {

constexpr int64_t kCutAt = 1 << 20;      // an empty journal larger than this is cut back
constexpr int64_t kRewriteAt = 8 << 20;  // a journal in use larger than this is written anew

// Space for what is already accepted: a full disk must neither keep a step from its start nor lose its end.
void Reserve(int fd) {
  // Only a help: not every file system can.
  (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * kCutAt);
}

bool WriteAll(int fd, const std::string& bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

std::string Frames(const std::string& key, const Journal::Record& r) {
  std::string out = Encode(Spawning{key, r.slot, r.log_prefix, r.log_limit});
  if (r.pid != 0) out += Encode(Spawned{key, r.pid, r.started_wall});
  if (r.has_end) out += Encode(Exited{key, r.end});
  return out;
}

}  // namespace

Journal::~Journal() {
  if (fd_ >= 0) close(fd_);
}

Journal::Loaded Journal::Load() const {
  Loaded out;
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return out;
  FrameReader reader;
  char buffer[65536];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    reader.Append(std::string_view(buffer, static_cast<size_t>(n)));
  }
  close(fd);
  bool broken = false;
  while (const auto frame = reader.Next(&broken)) {
    switch (frame->type) {
      case FrameType::kOpened: {
        Opened m;
        if (Decode(frame->body, &m)) out.writer = m;
        break;
      }
      case FrameType::kSpawning: {
        Spawning m;
        if (!Decode(frame->body, &m)) break;
        Record& r = out.records[m.key];
        r.slot = m.slot;
        r.log_prefix = m.log_prefix;
        r.log_limit = m.log_limit;
        break;
      }
      case FrameType::kSpawned: {
        Spawned m;
        if (!Decode(frame->body, &m)) break;
        const auto found = out.records.find(m.key);
        if (found == out.records.end()) break;
        found->second.pid = m.pid;
        found->second.started_wall = m.wall;
        break;
      }
      case FrameType::kExited: {
        Exited m;
        if (!Decode(frame->body, &m)) break;
        const auto found = out.records.find(m.key);
        if (found == out.records.end()) break;
        found->second.has_end = true;
        found->second.end = m.end;
        break;
      }
      case FrameType::kAck: {
        Ack m;
        if (Decode(frame->body, &m)) out.records.erase(m.key);
        break;
      }
      default:
        break;
    }
  }
  return out;
}

bool Journal::Begin(const Opened& writer, const std::map<std::string, Record>& records) {
  const std::string fresh = path_ + ".new";
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  std::string bytes = Encode(writer);
  header_ = static_cast<int64_t>(bytes.size());
  for (const auto& [key, record] : records) bytes += Frames(key, record);
  if (!WriteAll(fd, bytes) || rename(fresh.c_str(), path_.c_str()) != 0) {
    close(fd);
    return false;
  }
  Reserve(fd);
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  writer_ = writer;
  size_ = static_cast<int64_t>(bytes.size());
  return true;
}

bool Journal::Append(const std::string& frame) {
  const int64_t before = size_;
  if (!WriteAll(fd_, frame)) {
    // Half a frame must not stand before the next one.
    if (ftruncate(fd_, before) != 0) return false;
    return false;
  }
  size_ += static_cast<int64_t>(frame.size());
  return true;
}

void Journal::MaybeShrink(const std::map<std::string, Record>& live) {
  if (live.empty() && size_ > kCutAt) {
    if (ftruncate(fd_, header_) == 0) size_ = header_;
    Reserve(fd_);
  } else if (size_ > kRewriteAt && size_ > static_cast<int64_t>(live.size()) * 4096) {
    (void)Begin(writer_, live);  // on failure the old one goes on
  }
}

}  // namespace orch::local
