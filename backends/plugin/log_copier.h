// Copies what jobs write, from the plug-in into the files that readers know: a few jobs at a time, each from where its
// file ends, so that any break is gone on from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "backends/plugin/call_loop.h"
#include "backends/plugin/session.h"

namespace orch::plugin {

// One attempt's two files, PREFIX.out and PREFIX.err, each with an index of times.
class LogFiles {
 public:
  LogFiles() = default;
  ~LogFiles() { Close(); }
  LogFiles(const LogFiles&) = delete;
  LogFiles& operator=(const LogFiles&) = delete;

  bool Open(const std::string& prefix);
  void Close();
  // What is there already is passed over. False: it cannot be written, or bytes between are missing.
  bool Write(bool error, int64_t offset, const std::string& bytes);
  int64_t size(bool error) const { return streams_[error].size; }

 private:
  struct Stream {
    int fd = -1;
    int index_fd = -1;
    int64_t size = 0;
    int64_t marked = 0;  // when the index got its last entry
  };
  void Mark(Stream* stream);
  Stream streams_[2];
};

// Everything on the loop's thread.
class LogCopier {
 public:
  struct Handlers {
    std::function<void(const std::string& key)> complete;    // of one that has ended: there is no more
    std::function<void(const std::string& key)> over_limit;  // once
  };
  // `patience`: microseconds for the rest of a log, after the end.
  LogCopier(CallLoop* loop, Session* session, v1::Origin origin, int64_t patience, Handlers handlers);

  // Begins to copy; nothing if it is copied already.
  void Follow(const std::string& key, const std::string& handle, const std::string& prefix, int64_t limit);
  // The job has ended: `complete` follows when the plug-in says so, or has been silent for too long since it was asked.
  void Finish(const std::string& key);
  void Forget(const std::string& key) { jobs_.erase(key); }
  void Connected() { Pump(); }
  void Disconnected();

  int64_t bytes(const std::string& key, bool error) const;

 private:
  struct Job {
    std::string handle;
    std::string prefix;
    int64_t limit = 0;
    int64_t sizes[2] = {0, 0};
    int64_t due = 0;  // mono
    uint64_t call = 0;
    int64_t ended = 0;  // mono; 0: it has not
    int64_t asked = 0;  // mono; when it was first asked for what had come by its end; 0: not yet
    bool active = false;
    bool over = false;
    bool complete = false;  // told, or to be told when it has ended
  };
  // mono. Of many that end together most wait for their turn, which is no silence of the plug-in's.
  int64_t GiveUpAt(const Job& job) const {
    return (job.asked != 0 ? job.asked : std::max(job.ended, heard_)) + patience_;
  }
  void Pump();
  void Ask(const std::string& key, Job* job);
  void Answered(const std::string& key, const std::string& fault, bool complete);
  void Complete(const std::string& key);

  CallLoop* const loop_;
  Session* const session_;
  const v1::Origin origin_;
  const int64_t patience_;
  const Handlers handlers_;
  std::map<std::string, Job> jobs_;
  int64_t heard_ = 0;  // mono; when the plug-in last answered for any
  uint64_t calls_ = 0;
  int64_t pump_at_ = 0;  // mono; 0: no timer
};

}  // namespace orch::plugin
