// What the supervisor must not forget: keys before they are spawned, ends until the daemon has committed them.
//
// An append-only file without syncs, since what it tells about dies with the machine anyway; tied to the boot and to
// the process that wrote it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "backends/local/wire.h"

namespace orch::local {

class Journal {
 public:
  struct Record {
    std::string slot;
    std::string log_prefix;
    int64_t log_limit = 0;
    std::string devices;
    int32_t pid = 0;
    int64_t started_wall = 0;
    bool stop_sent = false;
    int64_t kill_at_mono = 0;
    bool has_end = false;
    End end;
  };
  struct Loaded {
    // kDamaged: of another layout, or with a record that cannot be read; then nothing in it is to be believed.
    enum class State : uint8_t { kNone, kRead, kDamaged } state = State::kNone;
    Opened writer;  // who wrote last; empty boot_id: a new journal
    std::map<std::string, Record> records;
  };

  explicit Journal(std::string path) : path_(std::move(path)) {}
  ~Journal();

  // Reads what is there; a torn last record is left out.
  Loaded Load() const;
  // Puts a damaged one aside, for people.
  void PutAside() const;
  // Begins anew with these records, as this writer. False if the file cannot be written.
  bool Begin(const Opened& writer, const std::map<std::string, Record>& records);
  // Appends one encoded frame. False: it is not in the journal, so what it announces must not happen.
  bool Append(const std::string& frame);
  // Cuts the file back when nothing is in it any more that counts, or rewrites it when it has grown.
  void MaybeShrink(const std::map<std::string, Record>& live);
  // False: MaybeShrink would do nothing, whatever it were given.
  bool ShouldShrink() const;

 private:
  std::string path_;
  Opened writer_;
  int fd_ = -1;
  int64_t size_ = 0;
  int64_t header_ = 0;
};

}  // namespace orch::local
