#include "backends/local/wire.h"

#include <cstring>

namespace orch::local {
namespace {

class Writer {
 public:
  explicit Writer(FrameType type) {
    out_.resize(4);
    U8(static_cast<uint8_t>(type));
  }
  void U8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void I64(int64_t v) {
    for (int i = 0; i < 8; ++i) U8(static_cast<uint8_t>(static_cast<uint64_t>(v) >> (8 * i)));
  }
  void I32(int32_t v) {
    for (int i = 0; i < 4; ++i) U8(static_cast<uint8_t>(static_cast<uint32_t>(v) >> (8 * i)));
  }
  void Text(std::string_view v) {
    I32(static_cast<int32_t>(v.size()));
    out_.append(v);
  }
  void Texts(const std::vector<std::string>& v) {
    I32(static_cast<int32_t>(v.size()));
    for (const std::string& s : v) Text(s);
  }
  void Ending(const End& e) {
    U8(static_cast<uint8_t>(e.kind));
    I32(e.status);
    U8(e.stopped);
    U8(e.log_limit);
    U8(e.oom);
    I64(e.started_wall);
    I64(e.ended_wall);
    I64(e.cpu_micros);
    I64(e.peak_memory);
    I64(e.stdout_bytes);
    I64(e.stderr_bytes);
    I32(e.pid);
    Text(e.subject);
  }
  std::string Done() {
    const auto n = static_cast<uint32_t>(out_.size() - 4);
    for (int i = 0; i < 4; ++i) out_[static_cast<size_t>(i)] = static_cast<char>(n >> (8 * i));
    return std::move(out_);
  }

 private:
  std::string out_;
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  uint8_t U8() {
    if (in_.empty()) {
      ok_ = false;
      return 0;
    }
    const auto v = static_cast<uint8_t>(in_[0]);
    in_.remove_prefix(1);
    return v;
  }
  bool Bool() {
    const uint8_t v = U8();
    if (v > 1) ok_ = false;  // every message has one encoding
    return v == 1;
  }
  int64_t I64() {
    uint64_t v = 0;
    for (int i = 0; i < 8; ++i) v |= static_cast<uint64_t>(U8()) << (8 * i);
    return static_cast<int64_t>(v);
  }
  int32_t I32() {
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i) v |= static_cast<uint32_t>(U8()) << (8 * i);
    return static_cast<int32_t>(v);
  }
  int32_t Count() {
    const int32_t n = I32();
    if (n < 0) ok_ = false;
    return n;
  }
  std::string Text() {
    const int32_t n = Count();
    if (n < 0 || static_cast<size_t>(n) > in_.size()) {
      ok_ = false;
      return "";
    }
    std::string v(in_.substr(0, static_cast<size_t>(n)));
    in_.remove_prefix(static_cast<size_t>(n));
    return v;
  }
  std::vector<std::string> Texts() {
    std::vector<std::string> v;
    const int32_t n = Count();
    for (int32_t i = 0; i < n && ok_; ++i) v.push_back(Text());
    return v;
  }
  End Ending() {
    End e;
    e.kind = static_cast<End::Kind>(U8());
    if (e.kind < End::Kind::kExited || e.kind > End::Kind::kLost) ok_ = false;
    e.status = I32();
    e.stopped = Bool();
    e.log_limit = Bool();
    e.oom = Bool();
    e.started_wall = I64();
    e.ended_wall = I64();
    e.cpu_micros = I64();
    e.peak_memory = I64();
    e.stdout_bytes = I64();
    e.stderr_bytes = I64();
    e.pid = I32();
    e.subject = Text();
    return e;
  }
  bool ok() const { return ok_; }
  bool Done() const { return ok_ && in_.empty(); }

 private:
  std::string_view in_;
  bool ok_ = true;
};

}  // namespace

std::string Encode(const Hello& m) {
  Writer w(FrameType::kHello);
  w.Text(m.version);
  w.I64(m.epoch);
  w.Text(m.name);
  return w.Done();
}
bool Decode(std::string_view body, Hello* m) {
  Reader r(body);
  m->version = r.Text();
  const bool good = r.ok();
  m->epoch = r.I64();
  m->name = r.Text();
  return good;  // of another version the rest may look different
}

std::string Encode(const Welcome& m) {
  Writer w(FrameType::kWelcome);
  w.Text(m.version);
  w.I32(m.pid);
  w.U8(m.cgroups);
  w.U8(m.journal_read);
  w.I32(static_cast<int32_t>(m.entries.size()));
  for (const Entry& e : m.entries) {
    w.Text(e.key);
    w.Text(e.slot);
    w.I32(e.pid);
    w.I64(e.started_wall);
    w.Text(e.devices);
    w.U8(e.end.has_value());
    if (e.end) w.Ending(*e.end);
  }
  return w.Done();
}
bool Decode(std::string_view body, Welcome* m) {
  Reader r(body);
  m->version = r.Text();
  m->pid = r.I32();
  m->cgroups = r.Bool();
  m->journal_read = r.Bool();
  const int32_t n = r.Count();
  for (int32_t i = 0; i < n && r.ok(); ++i) {
    Entry e;
    e.key = r.Text();
    e.slot = r.Text();
    e.pid = r.I32();
    e.started_wall = r.I64();
    e.devices = r.Text();
    if (r.Bool()) e.end = r.Ending();
    m->entries.push_back(std::move(e));
  }
  return r.Done();
}

std::string Encode(const Spawn& m) {
  Writer w(FrameType::kSpawn);
  w.Text(m.key);
  w.Text(m.slot);
  w.Texts(m.argv);
  w.Texts(m.env);
  w.Text(m.cwd);
  w.Text(m.log_prefix);
  w.I64(m.log_limit);
  w.Text(m.devices);
  w.I32(static_cast<int32_t>(m.secrets.size()));
  for (const Secret& secret : m.secrets) {
    w.Text(secret.name);
    w.Text(secret.value);
    w.U8(secret.file);
  }
  return w.Done();
}
bool Decode(std::string_view body, Spawn* m) {
  Reader r(body);
  m->key = r.Text();
  m->slot = r.Text();
  m->argv = r.Texts();
  m->env = r.Texts();
  m->cwd = r.Text();
  m->log_prefix = r.Text();
  m->log_limit = r.I64();
  m->devices = r.Text();
  const int32_t secrets = r.Count();
  for (int32_t i = 0; i < secrets && r.ok(); ++i) {
    Secret& secret = m->secrets.emplace_back();
    secret.name = r.Text();
    secret.value = r.Text();
    secret.file = r.Bool();
  }
  return r.Done();
}

std::string Encode(const Started& m) {
  Writer w(FrameType::kStarted);
  w.Text(m.key);
  w.I32(m.pid);
  w.I64(m.wall);
  return w.Done();
}
bool Decode(std::string_view body, Started* m) {
  Reader r(body);
  m->key = r.Text();
  m->pid = r.I32();
  m->wall = r.I64();
  return r.Done();
}

std::string Encode(const Exited& m) {
  Writer w(FrameType::kExited);
  w.Text(m.key);
  w.Ending(m.end);
  return w.Done();
}
bool Decode(std::string_view body, Exited* m) {
  Reader r(body);
  m->key = r.Text();
  m->end = r.Ending();
  return r.Done();
}

std::string Encode(const Cancel& m) {
  Writer w(FrameType::kCancel);
  w.Text(m.key);
  w.U8(m.forced);
  w.I64(m.grace_micros);
  return w.Done();
}
bool Decode(std::string_view body, Cancel* m) {
  Reader r(body);
  m->key = r.Text();
  m->forced = r.Bool();
  m->grace_micros = r.I64();
  return r.Done();
}

std::string Encode(const Ack& m) {
  Writer w(FrameType::kAck);
  w.Text(m.key);
  return w.Done();
}
bool Decode(std::string_view body, Ack* m) {
  Reader r(body);
  m->key = r.Text();
  return r.Done();
}

std::string Encode(const Upgrade& m) {
  Writer w(FrameType::kUpgrade);
  w.Text(m.path);
  return w.Done();
}
bool Decode(std::string_view body, Upgrade* m) {
  Reader r(body);
  m->path = r.Text();
  return r.ok();
}

std::string Encode(const Opened& m) {
  Writer w(FrameType::kOpened);
  w.I32(m.layout);
  w.Text(m.boot_id);
  w.I32(m.pid);
  w.I64(m.start_ticks);
  w.Text(m.cgroup_base);
  return w.Done();
}
bool Decode(std::string_view body, Opened* m) {
  Reader r(body);
  m->layout = r.I32();
  if (m->layout < kOldestJournalLayout || m->layout > kJournalLayout) return false;
  m->boot_id = r.Text();
  m->pid = r.I32();
  m->start_ticks = r.I64();
  m->cgroup_base = r.Text();
  return r.Done();
}

std::string Encode(const Spawning& m) {
  Writer w(FrameType::kSpawning);
  w.Text(m.key);
  w.Text(m.slot);
  w.Text(m.log_prefix);
  w.I64(m.log_limit);
  return w.Done();
}
bool Decode(std::string_view body, Spawning* m) {
  Reader r(body);
  m->key = r.Text();
  m->slot = r.Text();
  m->log_prefix = r.Text();
  m->log_limit = r.I64();
  return r.Done();
}

std::string Encode(const Spawned& m) {
  Writer w(FrameType::kSpawned);
  w.Text(m.key);
  w.I32(m.pid);
  w.I64(m.wall);
  return w.Done();
}
bool Decode(std::string_view body, Spawned* m) {
  Reader r(body);
  m->key = r.Text();
  m->pid = r.I32();
  m->wall = r.I64();
  return r.Done();
}

std::string Encode(const Stopping& m) {
  Writer w(FrameType::kStopping);
  w.Text(m.key);
  w.I64(m.kill_at_mono);
  return w.Done();
}
bool Decode(std::string_view body, Stopping* m) {
  Reader r(body);
  m->key = r.Text();
  m->kill_at_mono = r.I64();
  return r.Done();
}

std::string Encode(const Holding& m) {
  Writer w(FrameType::kHolding);
  w.Text(m.key);
  w.Text(m.devices);
  return w.Done();
}
bool Decode(std::string_view body, Holding* m) {
  Reader r(body);
  m->key = r.Text();
  m->devices = r.Text();
  return r.Done();
}

std::string Encode(const CaptureState& m) {
  Writer w(FrameType::kCapture);
  w.Text(m.key);
  w.Texts(m.values);
  w.I32(static_cast<int32_t>(m.files.size()));
  for (const int32_t fd : m.files) w.I32(fd);
  w.I32(static_cast<int32_t>(m.streams.size()));
  for (const CaptureState::Stream& stream : m.streams) {
    w.I32(stream.fd);
    w.Text(stream.held);
    w.I64(stream.inside);
  }
  return w.Done();
}
bool Decode(std::string_view body, CaptureState* m) {
  Reader r(body);
  m->key = r.Text();
  m->values = r.Texts();
  const int32_t files = r.Count();
  for (int32_t i = 0; i < files && r.ok(); ++i) m->files.push_back(r.I32());
  const int32_t streams = r.Count();
  for (int32_t i = 0; i < streams && r.ok(); ++i) {
    CaptureState::Stream& stream = m->streams.emplace_back();
    stream.fd = r.I32();
    stream.held = r.Text();
    stream.inside = r.I64();
  }
  return r.Done();
}

bool DecodeVersion(std::string_view body, std::string* version) {
  Reader r(body);
  *version = r.Text();
  return r.ok();
}

std::optional<Frame> FrameReader::Next(bool* broken) {
  *broken = false;
  if (at_ == buffer_.size() || at_ > (1u << 20)) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  const std::string_view rest = std::string_view(buffer_).substr(at_);
  if (rest.size() < 5) return std::nullopt;
  uint32_t n = 0;
  for (size_t i = 0; i < 4; ++i) n |= static_cast<uint32_t>(static_cast<uint8_t>(rest[i])) << (8 * i);
  if (n == 0 || n > kMaxFrame) {
    *broken = true;
    return std::nullopt;
  }
  if (rest.size() < 4 + static_cast<size_t>(n)) return std::nullopt;
  at_ += 4 + static_cast<size_t>(n);
  return Frame{static_cast<FrameType>(rest[4]), rest.substr(5, n - 1)};
}

}  // namespace orch::local
