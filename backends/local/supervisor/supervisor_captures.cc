// Steps with secrets: what they write comes through the supervisor, also over an upgrade of it.
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "backends/local/supervisor/supervisor.h"

namespace orch::local {

void Supervisor::Watch(const std::string& key, const Capture& capture) {
  for (int stream = 0; stream < Capture::kStreams; ++stream) {
    const int fd = capture.read_fd(stream);
    if (fd < 0) continue;
    pipes_[fd] = {key, stream};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
}

void Supervisor::OnPipe(int fd) {
  const Pipe pipe = pipes_[fd];
  const auto found = steps_.find(pipe.key);
  if (found == steps_.end() || found->second.capture == nullptr) {
    pipes_.erase(fd);
    return;
  }
  Slot& slot = SlotOf(found->second.record.slot);
  if (found->second.capture->Pump(pipe.stream, pipe.stream == 0 ? slot.out_fd() : slot.err_fd())) return;
  pipes_.erase(fd);  // it is closed, and so out of the epoll set
}

// Nothing of the step is left: what it has written is all there is.
void Supervisor::EndCapture(Step& step) {
  if (step.capture == nullptr) return;
  for (int stream = 0; stream < Capture::kStreams; ++stream) pipes_.erase(step.capture->read_fd(stream));
  Slot& slot = SlotOf(step.record.slot);
  step.capture->Drain(slot.out_fd(), slot.err_fd());
  step.capture = nullptr;
}

// In memory alone, with descriptors that outlive the exec. -1: there is nothing to save.
int Supervisor::SaveCaptures() {
  std::string frames;
  for (const auto& [key, step] : steps_) {
    if (step.capture == nullptr) continue;
    step.capture->KeepOverExec(true);
    frames += Encode(step.capture->state(key));
  }
  if (frames.empty()) return -1;
  const int fd = memfd_create("state", 0);
  for (size_t at = 0; fd >= 0 && at < frames.size();) {
    const ssize_t n = write(fd, frames.data() + at, frames.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // the image to come closes what it does not know
    at += static_cast<size_t>(n);
  }
  return fd;
}

void Supervisor::RestoreCaptures() {
  if (options_.state_fd < 0) return;
  FrameReader reader;
  char buffer[65536];
  for (off_t at = 0;;) {
    const ssize_t n = pread(options_.state_fd, buffer, sizeof(buffer), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    at += n;
    reader.Append(std::string_view(buffer, static_cast<size_t>(n)));
  }
  close(options_.state_fd);
  bool broken = false;
  while (const auto frame = reader.Next(&broken)) {
    CaptureState state;
    if (frame->type != FrameType::kCapture || !Decode(frame->body, &state)) return;
    const auto found = steps_.find(state.key);
    const bool ours = found != steps_.end() && found->second.live;
    Slot* slot = ours ? &SlotOf(found->second.record.slot) : nullptr;
    auto capture = Capture::Resume(state, ours ? slot->out_fd() : -1, ours ? slot->err_fd() : -1);
    if (!ours) continue;  // closes what it had
    found->second.capture = std::move(capture);
    Watch(state.key, *found->second.capture);
  }
}

}  // namespace orch::local
