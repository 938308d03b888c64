#include "backends/local/supervisor/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "server/base/fault.h"

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
  if (!r.devices.empty()) out += Encode(Holding{key, r.devices});
  if (r.pid != 0) out += Encode(Spawned{key, r.pid, r.started_wall});
  if (r.stop_sent) out += Encode(Stopping{key, r.kill_at_mono});
  if (r.has_end) out += Encode(Exited{key, r.end});
  return out;
}

// Applies one record; false if it cannot be read.
bool Replay(const Frame& frame, Journal::Loaded* out) {
  const auto find = [&](const std::string& key) -> Journal::Record* {
    const auto found = out->records.find(key);
    return found == out->records.end() ? nullptr : &found->second;
  };
  switch (frame.type) {
    case FrameType::kOpened:
      return Decode(frame.body, &out->writer);
    case FrameType::kSpawning: {
      Spawning m;
      if (!Decode(frame.body, &m)) return false;
      Journal::Record& r = out->records[m.key];
      r.slot = m.slot;
      r.log_prefix = m.log_prefix;
      r.log_limit = m.log_limit;
      return true;
    }
    case FrameType::kHolding: {
      Holding m;
      if (!Decode(frame.body, &m)) return false;
      if (Journal::Record* r = find(m.key)) r->devices = m.devices;
      return true;
    }
    case FrameType::kSpawned: {
      Spawned m;
      if (!Decode(frame.body, &m)) return false;
      if (Journal::Record* r = find(m.key)) {
        r->pid = m.pid;
        r->started_wall = m.wall;
      }
      return true;
    }
    case FrameType::kStopping: {
      Stopping m;
      if (!Decode(frame.body, &m)) return false;
      if (Journal::Record* r = find(m.key)) {
        r->stop_sent = true;
        r->kill_at_mono = m.kill_at_mono;
      }
      return true;
    }
    case FrameType::kExited: {
      Exited m;
      if (!Decode(frame.body, &m)) return false;
      if (Journal::Record* r = find(m.key)) {
        r->has_end = true;
        r->end = m.end;
      }
      return true;
    }
    case FrameType::kAck: {
      Ack m;
      if (!Decode(frame.body, &m)) return false;
      out->records.erase(m.key);
      return true;
    }
    default:
      return false;
  }
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
  bool good = true;
  bool first = true;
  while (const auto frame = good ? reader.Next(&broken) : std::nullopt) {
    good = first == (frame->type == FrameType::kOpened) && Replay(*frame, &out);
    first = false;
  }
  // No whole first record: the writer never got as far as spawning anything.
  if (!first || broken) out.state = good && !broken ? Loaded::State::kRead : Loaded::State::kDamaged;
  return out;
}

void Journal::PutAside() const { (void)rename(path_.c_str(), (path_ + ".damaged").c_str()); }

bool Journal::Begin(const Opened& writer, const std::map<std::string, Record>& records) {
  const std::string fresh = path_ + ".new";
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  std::string bytes = Encode(writer);
  header_ = static_cast<int64_t>(bytes.size());
  for (const auto& [key, record] : records) bytes += Frames(key, record);
  const bool written = WriteAll(fd, bytes);
  ORCH_FAULT("supervisor.journal.written");
  if (!written || rename(fresh.c_str(), path_.c_str()) != 0) {
    close(fd);
    return false;
  }
  ORCH_FAULT("supervisor.journal.renamed");
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

bool Journal::ShouldShrink() const { return size_ > kCutAt; }

void Journal::MaybeShrink(const std::map<std::string, Record>& live) {
  if (live.empty() && size_ > kCutAt) {
    if (ftruncate(fd_, header_) == 0) size_ = header_;
    ORCH_FAULT("supervisor.journal.cut");
    Reserve(fd_);
  } else if (size_ > kRewriteAt && size_ > static_cast<int64_t>(live.size()) * 4096) {
    (void)Begin(writer_, live);  // on failure the old one goes on
  }
}

}  // namespace orch::local
