// The language between the daemon and the supervisor of local steps, and of the supervisor's journal.
//
// A frame is a length (4 bytes, little endian, of what follows), a type (1 byte) and its fields. Decoding never reads
// past the frame and refuses what is left over; both ends are one build. Where they are not, only this has to hold, in
// all versions: Hello and Welcome begin with the version, Upgrade with the path, what follows there is ignored, and the
// journal begins with its layout. That is enough for a newer daemon to make the supervisor its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orch::local {

inline constexpr uint32_t kMaxFrame = 64u << 20;
// Counts up with every change of a frame that one version sends another, and of one in the journal.
inline constexpr char kWireLayout[] = "/wire3";
// Layouts from the oldest one on can be read; 3 has Holding.
inline constexpr int32_t kOldestJournalLayout = 2;
inline constexpr int32_t kJournalLayout = 3;

enum class FrameType : uint8_t {
  kHello = 1,    // daemon: who I am
  kWelcome = 2,  // supervisor: everything it has
  kSpawn = 3,
  kStarted = 4,
  kExited = 5,
  kCancel = 6,
  kAck = 7,        // daemon: the end is committed, forget it
  kUpgrade = 8,    // daemon: become this program
  kOpened = 16,    // journal: who writes
  kSpawning = 17,  // journal: about to spawn
  kSpawned = 18,   // journal: the process id
  kStopping = 19,  // journal: a stop has been signalled
  kHolding = 20,   // journal: what it has been given besides its slot
  kCapture = 32,   // from one image of the supervisor to the next, in memory
};

// How a command ended.
struct End {
  enum class Kind : uint8_t {
    kExited = 1,       // wait status in `status`
    kExecFailed = 2,   // errno in `status`: no such program, not executable
    kChdirFailed = 3,  // errno in `status`
    kSpawnFailed = 4,  // errno in `status`: this machine could not make a process
    kLost = 5,         // the supervisor that had it is gone
  };
  Kind kind = Kind::kExited;
  int32_t status = 0;
  bool stopped = false;    // a stop was signalled before the main process ended
  bool log_limit = false;  // ended by us for the size of its log
  bool oom = false;        // the kernel ended it for its memory
  int64_t started_wall = 0;
  int64_t ended_wall = 0;
  int64_t cpu_micros = 0;
  int64_t peak_memory = 0;
  int64_t stdout_bytes = 0;
  int64_t stderr_bytes = 0;
  int32_t pid = 0;      // of the main process; 0: there was none
  std::string subject;  // what could not be executed or entered: the program, the folder
};

struct Hello {
  std::string version;
  int64_t epoch = 0;  // a later one cuts off all connections of earlier ones …
  std::string name;   // … and of its own those of the same name
};
// One attempt the supervisor knows.
struct Entry {
  std::string key;
  std::string slot;
  int32_t pid = 0;  // 0: not spawned
  int64_t started_wall = 0;
  std::string devices;
  std::optional<End> end;
};
struct Welcome {
  std::string version;
  int32_t pid = 0;
  bool cgroups = false;       // how descendants are found
  bool journal_read = false;  // false: there was none, or none that can be read, so a key may have been forgotten
  std::vector<Entry> entries;
};
// A value that no disk may see.
struct Secret {
  std::string name;  // of the variable
  std::string value;
  bool file = false;  // the variable is to hold the path of a file with the value
};
struct Spawn {
  std::string key;
  std::string slot;  // a folder below local/slots
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd;
  std::string log_prefix;  // `DIR/logs/RUN/3.1`: .out, .err and their .idx
  int64_t log_limit = 0;   // bytes, both streams together
  std::string devices;     // the GPUs it was given, with commas between; only remembered
  std::vector<Secret> secrets;
};
struct Started {
  std::string key;
  int32_t pid = 0;
  int64_t wall = 0;
};
struct Exited {
  std::string key;
  End end;
};
struct Cancel {
  std::string key;
  bool forced = false;
  int64_t grace_micros = 0;
};
struct Ack {
  std::string key;
};
struct Upgrade {
  std::string path;
};
// Journal.
struct Opened {
  int32_t layout = kJournalLayout;
  std::string boot_id;
  int32_t pid = 0;
  int64_t start_ticks = 0;  // of the process, since boot: tells a reused pid
  std::string cgroup_base;  // empty: none
};
struct Spawning {
  std::string key;
  std::string slot;
  std::string log_prefix;
  int64_t log_limit = 0;
};
struct Spawned {
  std::string key;
  int32_t pid = 0;
  int64_t wall = 0;
};

struct Stopping {
  std::string key;
  int64_t kill_at_mono = 0;  // of this boot; 0: no grace
};

// Comes with the Spawning.
struct Holding {
  std::string key;
  std::string devices;
};

// How far the capture of a step with secrets is.
struct CaptureState {
  struct Stream {
    int32_t fd = -1;     // the pipe's end here; -1: its end has been seen
    std::string held;    // read and not yet written
    int64_t inside = 0;  // see Redactor::State
  };
  std::string key;
  std::vector<std::string> values;
  std::vector<int32_t> files;  // descriptors
  std::vector<Stream> streams;
};

std::string Encode(const Hello& m);
std::string Encode(const Welcome& m);
std::string Encode(const Spawn& m);
std::string Encode(const Started& m);
std::string Encode(const Exited& m);
std::string Encode(const Cancel& m);
std::string Encode(const Ack& m);
std::string Encode(const Upgrade& m);
std::string Encode(const Opened& m);
std::string Encode(const Spawning& m);
std::string Encode(const Spawned& m);
std::string Encode(const Stopping& m);
std::string Encode(const Holding& m);
std::string Encode(const CaptureState& m);

// A frame without its length.
struct Frame {
  FrameType type;
  std::string_view body;
};

// False if `body` is not exactly one such message.
bool Decode(std::string_view body, Hello* m);
bool Decode(std::string_view body, Welcome* m);
bool Decode(std::string_view body, Spawn* m);
bool Decode(std::string_view body, Started* m);
bool Decode(std::string_view body, Exited* m);
bool Decode(std::string_view body, Cancel* m);
bool Decode(std::string_view body, Ack* m);
bool Decode(std::string_view body, Upgrade* m);
bool Decode(std::string_view body, Opened* m);
bool Decode(std::string_view body, Spawning* m);
bool Decode(std::string_view body, Spawned* m);
bool Decode(std::string_view body, Stopping* m);
bool Decode(std::string_view body, Holding* m);
bool Decode(std::string_view body, CaptureState* m);
// Only the version of a Welcome, whatever else is in it.
bool DecodeVersion(std::string_view body, std::string* version);

// Takes whole frames from the front of a growing buffer.
class FrameReader {
 public:
  void Append(std::string_view bytes) { buffer_.append(bytes); }
  // The next frame, valid until the next call; nullopt: none is whole yet. `broken` is set for a frame that cannot be.
  std::optional<Frame> Next(bool* broken);

 private:
  std::string buffer_;
  size_t at_ = 0;
};

}  // namespace orch::local
