#include "backends/kubernetes/job_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orch::kubernetes {
namespace {

// A step that is over is not kept from ending for much longer by a log that cannot be had.
constexpr int64_t kLongestFinish = 60'000'000;
constexpr int64_t kLongestOfSilent = 5'000'000;  // whose node may be back just now
constexpr size_t kLine = 256;                    // of progress: always so long, so that one write replaces it

std::string ProgressFile(const std::string& prefix) { return prefix + ".read"; }

}  // namespace

std::string WriteProgress(const LogProgress& progress) {
  const LogPosition& at = progress.position;
  return absl::StrCat("1 ", at.second, " ", at.lines, " ", at.bytes, " ", at.newest, " ", progress.out_bytes, " ",
                      progress.err_bytes, " ", progress.streams.error ? 2 : 1, " x",
                      absl::BytesToHexString(progress.streams.held));
}

bool ReadProgress(absl::string_view text, LogProgress* out) {
  const std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  if (words.size() != 9 || words[0] != "1" || words[8].empty() || words[8][0] != 'x') return false;
  LogProgress got;
  int stream = 0;
  int64_t* const numbers[] = {&got.position.second, &got.position.lines, &got.position.bytes,
                              &got.position.newest, &got.out_bytes,      &got.err_bytes};
  for (size_t i = 0; i < std::size(numbers); ++i) {
    if (!absl::SimpleAtoi(words[i + 1], numbers[i]) || *numbers[i] < 0) return false;
  }
  if (!absl::SimpleAtoi(words[7], &stream) || stream < 1 || stream > 2 || words[8].size() % 2 != 1) return false;
  for (const char c : words[8].substr(1)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  got.streams.error = stream == 2;
  got.streams.held = absl::HexStringToBytes(words[8].substr(1));
  *out = std::move(got);
  return true;
}

void ForgetProgress(const std::string& prefix) { (void)unlink(ProgressFile(prefix).c_str()); }

JobLog::JobLog(Client* client, std::string container, std::string prefix, const std::string& fence, int64_t limit,
               Calls calls)
    : client_(client),
      container_(std::move(container)),
      prefix_(std::move(prefix)),
      fence_(fence),
      limit_(limit),
      calls_(std::move(calls)),
      streams_(fence) {
  Begin();
}

void JobLog::Begin() {
  files_.Open(prefix_);
  std::ifstream in(ProgressFile(prefix_));
  const std::string text(std::istreambuf_iterator<char>(in), {});
  LogProgress progress;
  // What was written and not noted is read again. Files that are shorter than what was noted have been cut by somebody,
  // or by a machine that went down: then all is read again.
  const bool good = ReadProgress(text, &progress) && progress.out_bytes <= files_.bytes(false) &&
                    progress.err_bytes <= files_.bytes(true);
  if (!good) progress = LogProgress();
  files_.Truncate(progress.out_bytes, progress.err_bytes);
  streams_ = StreamSplitter(fence_, std::move(progress.streams));
  from_ = progress.position;
  if (progress_fd_ < 0) progress_fd_ = open(ProgressFile(prefix_).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  fault_ = files_.fault();
  over_limit_ = over_limit_ || (limit_ > 0 && files_.total() > limit_);
}

JobLog::~JobLog() {
  client_->Abort(timer_);
  if (progress_fd_ >= 0) close(progress_fd_);
}

void JobLog::Open(const std::string& pod) {
  PodLog::Calls calls;
  calls.text = [this](absl::string_view text, int64_t nanos) { Take(text, nanos); };
  calls.ended = [this] { Done(); };
  calls.failed = [this](const Answer& answer) {
    if (fault_.empty()) fault_ = answer.Words();
    Done();
  };
  calls.moved = [this] { Save(); };
  log_ = std::make_unique<PodLog>(client_, pod, container_, from_, std::move(calls));
}

void JobLog::Follow(const std::string& pod) {
  if (log_ != nullptr || done_) return;
  Open(pod);
  log_->Start();
}

void JobLog::Finish(const std::string& pod, bool leaving, bool silent) {
  if (done_) return calls_.finished();
  if (!files_.fault().empty()) {  // there may be room again, and the cluster has all of it
    log_.reset();
    Begin();
  }
  if (log_ == nullptr) Open(pod);
  log_->Finish(leaving);
  if (std::exchange(finishing_, true)) return;
  const int64_t longest = silent ? kLongestOfSilent : kLongestFinish;
  timer_ = client_->After(longest, [this, longest] {
    timer_ = 0;
    if (fault_.empty()) fault_ = absl::StrCat("the cluster did not give the rest of it in ", longest / 1'000'000, " s");
    Done();
  });
}

void JobLog::End(const std::string& fault) {
  if (done_) return calls_.finished();
  log_.reset();
  finishing_ = true;
  if (fault_.empty()) fault_ = fault;
  Done();
}

void JobLog::Take(absl::string_view text, int64_t nanos) {
  if (!fault_.empty()) return;
  streams_.Feed(std::string_view(text.data(), text.size()), [&](bool error, std::string_view bytes) {
    files_.Write(error, absl::string_view(bytes.data(), bytes.size()), nanos / 1000);
  });
  if (!files_.fault().empty()) {
    fault_ = files_.fault();
    return calls_.unwritable(fault_);
  }
  if (limit_ > 0 && files_.total() > limit_ && !std::exchange(over_limit_, true)) calls_.over_limit();
}

// Files and position belong together only between pieces.
void JobLog::Save() {
  if (!files_.fault().empty() || progress_fd_ < 0) return;
  std::string line = WriteProgress({log_->position(), files_.bytes(false), files_.bytes(true), streams_.state()});
  line.resize(std::max(line.size(), kLine), ' ');
  (void)!pwrite(progress_fd_, line.data(), line.size(), 0);
}

void JobLog::Done() {
  if (std::exchange(done_, true)) return;
  client_->Abort(std::exchange(timer_, 0));
  streams_.Flush([&](bool error, std::string_view bytes) {
    files_.Write(error, absl::string_view(bytes.data(), bytes.size()), Clock::Real().Now().wall);
  });
  files_.Close();
  if (finishing_) calls_.finished();
}

}  // namespace orch::kubernetes
