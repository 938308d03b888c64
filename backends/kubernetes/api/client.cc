#include "backends/kubernetes/api/client.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace orch::kubernetes {
namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kFirstPause = kSecond / 2;
constexpr int64_t kLastPause = 30 * kSecond;
// A token's file changes about once an hour.
constexpr int64_t kTokenAge = 60 * kSecond;
// A credential is renewed so long before it ends.
constexpr int64_t kExpiryMargin = 10 * kSecond;
constexpr int64_t kExecTimeout = 60 * kSecond;
// A server that has just come up takes requests before it has read who may what, and refuses them all.
constexpr int64_t kNewServer = 15 * kSecond;
constexpr int64_t kRefusedPause = kSecond;
constexpr int kLongestPoll = 60'000;  // milliseconds

}  // namespace

struct Client::Running {
  Request request;
  Data data;  // of a stream
  Done done;
  int tried = 0;
  bool refreshed = false;   // once already, after a 401
  int64_t generation = -1;  // of the credential that it was sent with
  uint64_t transfer = 0;    // the transport's
  uint64_t timer = 0;       // until the next try
};

Client::Client(Cluster cluster, std::unique_ptr<Transport> transport, const Clock* clock, uint32_t seed)
    : cluster_(std::move(cluster)), transport_(std::move(transport)), clock_(clock), random_(seed) {
  const Identity& identity = cluster_.identity;
  if (!identity.certificate_pem.empty()) transport_->UseCertificate(identity.certificate_pem, identity.key_pem);
}

Client::~Client() {
  for (const auto& entry : running_) transport_->Abort(entry.second->transfer);
}

int64_t Client::Pause(int n) {
  int64_t pause = kFirstPause;
  for (int i = 1; i < n && pause < kLastPause; ++i) pause *= 2;
  pause = std::min(pause, kLastPause);
  // From half of it to all: those who were refused together do not come back together.
  return pause / 2 + static_cast<int64_t>(std::uniform_int_distribution<int64_t>(0, pause / 2)(random_));
}

uint64_t Client::After(int64_t micros, std::function<void()> done) {
  const uint64_t id = next_++;
  const int64_t at = now() + std::max<int64_t>(micros, 0);
  timers_.emplace(std::make_pair(at, id), std::move(done));
  timer_at_[id] = at;
  return id;
}

uint64_t Client::Call(Request request, Done done) { return Stream(std::move(request), nullptr, std::move(done)); }

uint64_t Client::Stream(Request request, Data data, Done done) {
  const uint64_t id = next_++;
  auto running = std::make_unique<Running>();
  running->request = std::move(request);
  if (data != nullptr) running->request.tries = 1;
  running->data = std::move(data);
  running->done = std::move(done);
  running_[id] = std::move(running);
  Send(id);
  return id;
}

void Client::Abort(uint64_t id) {
  if (const auto timer = timer_at_.find(id); timer != timer_at_.end()) {
    timers_.erase({timer->second, id});
    timer_at_.erase(timer);
    return;
  }
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const std::unique_ptr<Running> running = std::move(found->second);
  running_.erase(found);
  transport_->Abort(running->transfer);
  Abort(running->timer);
}

void Client::TakeToken(bool force) {
  const std::string& file = cluster_.identity.token_file;
  if (!force && token_read_ != 0 && now() < token_read_ + kTokenAge) return;
  token_read_ = std::max<int64_t>(now(), 1);
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) return;  // the last one may still do
  std::string token(absl::StripAsciiWhitespace(text.str()));
  for (const char c : token) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return;
  }
  if (!token.empty()) token_ = std::move(token);
}

bool Client::Ready() {
  const Identity& identity = cluster_.identity;
  if (!identity.token_file.empty()) TakeToken(/*force=*/false);
  if (!identity.exec) return true;
  if (exec_runs_) return false;
  if (has_exec_ && (exec_expires_ == 0 || clock_->Now().wall < exec_expires_ - kExpiryMargin)) return true;
  Refresh();
  return false;
}

void Client::Refresh() {
  if (std::exchange(exec_runs_, true)) return;
  const absl::Status started = exec_.Start(*cluster_.identity.exec, cluster_.server);
  if (!started.ok()) {
    // Not from within the call that has asked for it.
    exec_timeout_ = After(0, [this, started] {
      exec_timeout_ = 0;
      exec_runs_ = has_exec_ = false;
      Answer failed;
      failed.message = std::string(started.message());
      failed.unheard = true;
      for (const uint64_t id : std::exchange(waiting_, {})) Finish(id, failed);
    });
    return;
  }
  exec_timeout_ = After(kExecTimeout, [this] {
    exec_timeout_ = 0;
    exec_runs_ = has_exec_ = false;
    Answer failed;
    failed.message = absl::StrCat(cluster_.identity.exec->command, " gave no credentials in a minute");
    failed.unheard = true;
    exec_.Stop();
    for (const uint64_t id : std::exchange(waiting_, {})) Finish(id, failed);
  });
}

void Client::TakeExec() {
  absl::StatusOr<std::string> output = std::string();
  if (!exec_.Read(&output)) return;
  Abort(std::exchange(exec_timeout_, 0));
  exec_runs_ = false;
  absl::Status fault = output.status();
  if (output.ok()) {
    absl::StatusOr<ExecCredential> credential = ParseExecCredential(*output, cluster_.identity.exec->api_version);
    if (credential.ok()) {
      has_exec_ = true;
      ++exec_generation_;
      exec_expires_ = credential->expires;
      // One that comes as good as expired is good for whoever has waited for it, and for a while: else the program
      // would be run without end.
      if (exec_expires_ != 0) exec_expires_ = std::max(exec_expires_, clock_->Now().wall + 2 * kExpiryMargin);
      token_ = std::move(credential->token);
      if (!credential->certificate_pem.empty()) {
        transport_->UseCertificate(credential->certificate_pem, credential->key_pem);
      }
    } else {
      fault = credential.status();
    }
  }
  const std::vector<uint64_t> waiting = std::exchange(waiting_, {});
  if (fault.ok()) {
    for (const uint64_t id : waiting) Send(id);
    return;
  }
  has_exec_ = false;
  Answer failed;
  failed.message = absl::StrCat(cluster_.identity.exec->command, ": ", fault.message());
  failed.unheard = true;
  for (const uint64_t id : waiting) Finish(id, failed);
}

std::vector<std::string> Client::Headers() const {
  const Identity& identity = cluster_.identity;
  std::vector<std::string> out = {"Accept: application/json", "User-Agent: orchd"};
  const std::string& token = token_.empty() ? identity.token : token_;
  if (!token.empty()) {
    out.push_back(absl::StrCat("Authorization: Bearer ", token));
  } else if (!identity.username.empty()) {
    out.push_back(absl::StrCat("Authorization: Basic ",
                               absl::Base64Escape(absl::StrCat(identity.username, ":", identity.password))));
  }
  out.insert(out.end(), identity.impersonation.begin(), identity.impersonation.end());
  return out;
}

void Client::Send(uint64_t id) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;  // aborted meanwhile
  Running& running = *found->second;
  if (!Ready()) {
    waiting_.push_back(id);
    return;
  }
  HttpRequest request;
  request.method = running.request.method;
  request.path = running.request.path;
  request.body = running.request.body;
  request.content_type = running.request.content_type;
  request.seconds = running.request.seconds;
  request.first = running.request.first;
  request.headers = Headers();
  running.generation = exec_generation_;
  running.transfer = transport_->Begin(std::move(request), running.data,
                                       [this, id](HttpAnswer answer) { OnAnswer(id, std::move(answer)); });
}

void Client::OnAnswer(uint64_t id, HttpAnswer http) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  Running& running = *found->second;
  running.transfer = 0;
  const Identity& identity = cluster_.identity;
  const bool stream = running.data != nullptr;
  Answer answer;
  if (stream && http.status / 100 == 2) {
    answer.code = http.status;
    answer.warnings = std::move(http.warnings);
  } else {
    // What was deleted or changed is told by the watches.
    const std::string& method = running.request.method;
    answer = ReadAnswer(std::move(http), /*needs_object=*/method == "GET" || method == "POST");
  }
  if (answer.code == 401 && !std::exchange(running.refreshed, true)) {
    if (identity.exec) {
      // Unless somebody else has done it meanwhile.
      if (running.generation == exec_generation_) Refresh();
      return Send(id);
    }
    if (!identity.token_file.empty()) {
      TakeToken(/*force=*/true);
      return Send(id);
    }
  }
  if (answer.code == 0 || answer.code >= 500) away_at_ = now();
  if (answer.code == 403 && away_at_ != 0 && now() < away_at_ + kNewServer) return SendAfter(id, kRefusedPause);
  ++running.tried;
  if (answer.later() && running.tried < running.request.tries) {
    return SendAfter(id, std::max(answer.retry_after, answer.retry_after > 0 ? 0 : Pause(running.tried)));
  }
  Finish(id, std::move(answer));
}

void Client::SendAfter(uint64_t id, int64_t micros) {
  running_.at(id)->timer = After(micros, [this, id] {
    const auto again = running_.find(id);
    if (again == running_.end()) return;
    again->second->timer = 0;
    Send(id);
  });
}

void Client::Finish(uint64_t id, Answer answer) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const Done done = std::move(found->second->done);
  running_.erase(found);
  done(std::move(answer));
}

void Client::Poll(int millis) {
  if (!timers_.empty()) {
    const int64_t wait = std::max<int64_t>(timers_.begin()->first.first - now(), 0);
    millis = static_cast<int>(
        std::min<int64_t>(millis, (std::min<int64_t>(wait, int64_t{kLongestPoll} * 1000) + 999) / 1000));
  }
  std::vector<int> fds;
  exec_.AddFds(&fds);
  transport_->Poll(millis, fds);
  if (exec_.runs()) TakeExec();
  // What these begin with no pause has its turn in the next call.
  const std::pair<int64_t, uint64_t> last = {now(), next_};
  while (!timers_.empty() && timers_.begin()->first < last) {
    const auto first = timers_.begin();
    const std::function<void()> done = std::move(first->second);
    timer_at_.erase(first->first.second);
    timers_.erase(first);
    done();
  }
}

}  // namespace orch::kubernetes
