#include "backends/local/supervisor/capture.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace orch::local {
namespace {

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// A file that is on no disk and is gone with the last who has it open. -1: none could be made.
int MakeFile(const Secret& secret) {
  const int fd = memfd_create("secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  const bool good = WriteAll(fd, secret.value) && fchmod(fd, 0400) == 0 &&
                    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
  if (good) return fd;
  close(fd);
  return -1;
}

void SetCloseOnExec(int fd, bool on) {
  if (fd >= 0) fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

}  // namespace

std::unique_ptr<Capture> Capture::Start(const std::vector<Secret>& secrets, int* error) {
  std::unique_ptr<Capture> capture(new Capture());
  for (Stream& stream : capture->streams_) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      *error = errno;
      return nullptr;
    }
    stream.read_fd = ends[0];
    stream.write_fd = ends[1];
    fcntl(stream.read_fd, F_SETFL, O_NONBLOCK);  // the step's end must block, as any pipe does
  }
  std::vector<std::string> values;
  for (const Secret& secret : secrets) {
    values.push_back(secret.value);
    if (!secret.file) {
      capture->variables_.push_back(secret.name + "=" + secret.value);
      continue;
    }
    const int fd = MakeFile(secret);
    if (fd < 0) {
      *error = errno != 0 ? errno : EIO;
      return nullptr;
    }
    capture->files_.push_back(fd);
    // By this process, which outlives the step: a child of the step's need not inherit a descriptor.
    capture->variables_.push_back(secret.name + "=/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd));
  }
  capture->Look(values);
  return capture;
}

Capture::~Capture() {
  CloseWriteEnds();
  for (int stream = 0; stream < kStreams; ++stream) Close(stream);
  for (const int fd : files_) close(fd);
}

void Capture::Look(const std::vector<std::string>& values) {
  values_ = values;
  for (Stream& stream : streams_) stream.redactor = Redactor(values_);
}

void Capture::CloseWriteEnds() {
  for (Stream& stream : streams_) {
    if (stream.write_fd >= 0) close(stream.write_fd);
    stream.write_fd = -1;
  }
}

void Capture::Close(int stream) {
  if (streams_[stream].read_fd >= 0) close(streams_[stream].read_fd);
  streams_[stream].read_fd = -1;
}

bool Capture::Pump(int stream, int to) {
  Stream& s = streams_[stream];
  if (s.read_fd < 0) return false;
  char buffer[65536];
  const ssize_t n = read(s.read_fd, buffer, sizeof(buffer));
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  std::string out;
  if (n > 0) {
    s.redactor.Feed(std::string_view(buffer, static_cast<size_t>(n)), &out);
  } else {
    s.redactor.Flush(&out);
  }
  // What cannot be written is lost to the log. The step hears of it as it would with a file: its next write fails.
  if (!WriteAll(to, out) || n <= 0) {
    Close(stream);
    return false;
  }
  return true;
}

void Capture::Drain(int out, int err) {
  const int to[kStreams] = {out, err};
  for (int stream = 0; stream < kStreams; ++stream) {
    // Nobody of the step is left, so its end comes. Whoever holds the pipe all the same is not waited for.
    int unread = 1;
    while (unread > 0 && Pump(stream, to[stream])) {
      if (ioctl(streams_[stream].read_fd, FIONREAD, &unread) != 0) unread = 0;
    }
    if (streams_[stream].read_fd < 0) continue;
    std::string rest;
    streams_[stream].redactor.Flush(&rest);
    (void)WriteAll(to[stream], rest);
    Close(stream);
  }
}

void Capture::KeepOverExec(bool keep) const {
  for (const Stream& stream : streams_) SetCloseOnExec(stream.read_fd, !keep);
  for (const int fd : files_) SetCloseOnExec(fd, !keep);
}

CaptureState Capture::state(const std::string& key) const {
  CaptureState state;
  state.key = key;
  state.values = values_;
  for (const int fd : files_) state.files.push_back(fd);
  for (const Stream& stream : streams_) {
    const Redactor::State at = stream.redactor.state();
    state.streams.push_back({stream.read_fd, at.held, at.inside});
  }
  return state;
}

std::unique_ptr<Capture> Capture::Resume(const CaptureState& state, int out, int err) {
  std::unique_ptr<Capture> capture(new Capture());
  capture->Look(state.values);
  for (const int32_t fd : state.files) capture->files_.push_back(fd);
  const int to[kStreams] = {out, err};
  for (int stream = 0; stream < kStreams && static_cast<size_t>(stream) < state.streams.size(); ++stream) {
    const CaptureState::Stream& was = state.streams[static_cast<size_t>(stream)];
    capture->streams_[stream].read_fd = was.fd;
    std::string given;
    capture->streams_[stream].redactor.Resume({was.held, was.inside}, &given);
    (void)WriteAll(to[stream], given);
  }
  capture->KeepOverExec(false);
  return capture;
}

}  // namespace orch::local
