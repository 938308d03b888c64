// What a step with secrets writes, on its way to the disk: two pipes, each through a redactor; and the files that hold
// the secrets it wants as files. All of it lives in this process and in the step's, nowhere else.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/local/wire.h"
#include "server/base/redactor.h"

namespace orch::local {

class Capture {
 public:
  static constexpr int kStreams = 2;  // stdout, stderr

  // Makes the pipes and files. nullptr and an errno if it cannot.
  static std::unique_ptr<Capture> Start(const std::vector<Secret>& secrets, int* error);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // `PW=…`: the values, or the paths of their files.
  const std::vector<std::string>& variables() const { return variables_; }
  // For the step; closed here once it has them.
  int write_fd(int stream) const { return streams_[stream].write_fd; }
  void CloseWriteEnds();
  // To be watched; -1: its end has been seen.
  int read_fd(int stream) const { return streams_[stream].read_fd; }

  // Takes what is in the pipe, at most one piece, and writes it without secrets to `to`. False: there will be no more.
  bool Pump(int stream, int to);
  // The step has ended: takes all there is, and what was held back.
  void Drain(int out, int err);

  // For the next image of this process: the descriptors stay open over an exec if asked to. The text has values in it.
  void KeepOverExec(bool keep) const;
  CaptureState state(const std::string& key) const;
  static std::unique_ptr<Capture> Resume(const CaptureState& state, int out, int err);

 private:
  struct Stream {
    int read_fd = -1;
    int write_fd = -1;
    Redactor redactor;
  };

  Capture() = default;
  void Look(const std::vector<std::string>& values);
  void Close(int stream);

  std::vector<std::string> values_;
  std::vector<std::string> variables_;
  std::vector<int> files_;
  Stream streams_[kStreams];
};

}  // namespace orch::local
