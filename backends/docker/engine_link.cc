#include "backends/docker/engine_link.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "backends/docker/probe.h"
#include "server/base/clock.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr int kNewestApi = 51;  // 1.51: what this was written for
constexpr int kOldestApi = 41;
constexpr int kPingSeconds = 10;
constexpr int64_t kFirstRetryMicros = 200'000;
constexpr int64_t kLastRetryMicros = 10'000'000;
constexpr size_t kLongestEvent = 1 << 20;

}  // namespace

EngineLink::EngineLink(EngineClient* client, const Config* config, std::vector<std::string> labels, Calls calls)
    : client_(client),
      config_(config),
      labels_(std::move(labels)),
      calls_(std::move(calls)),
      api_(kOldestApi),
      backoff_(kFirstRetryMicros) {}

std::string EngineLink::Path(absl::string_view path) const { return absl::StrCat("/v1.", api_, path); }

std::string EngineLink::Filters() const { return UrlEscape(json{{"label", labels_}}.dump()); }

void EngineLink::Connect() {
  retry_at_ = 0;
  if (std::exchange(connecting_, true)) return;
  client_->Call("GET", "/_ping", "", kPingSeconds, [this](Answer answer) {
    connecting_ = false;
    if (!answer.ok()) return Disconnected(answer);
    int api = kOldestApi;
    const std::vector<std::string> parts = absl::StrSplit(answer.api_version, '.');
    if (parts.size() == 2) (void)absl::SimpleAtoi(parts[1], &api);
    if (api < kOldestApi) {
      return Disconnected(absl::StrCat("the engine speaks API 1.", api, "; 1.", kOldestApi, " or later is needed"));
    }
    api_ = std::min(api, kNewestApi);
    Watch();
    calls_.reached();
  });
}

// Events tell at once that something has ended; nothing waits for them alone, as they may be missed.
void EngineLink::Watch() {
  if (events_ != 0) {
    // An engine at a socket that is gone has closed this stream. A machine that is gone has not, and has come back
    // perhaps without us seeing it: who listens there now is taken for another, which starts nothing a second time.
    if (config_->address.socket.empty()) ++breaks_;
    client_->Abort(events_);
  }
  event_text_.clear();
  const json filters = {{"type", {"container"}}, {"event", {"die", "destroy"}}, {"label", labels_}};
  events_ = client_->Stream(
      "GET", Path(absl::StrCat("/events?filters=", UrlEscape(filters.dump()))),
      [this](absl::string_view bytes) {
        event_text_.append(bytes.data(), bytes.size());
        for (size_t end; (end = event_text_.find('\n')) != std::string::npos; event_text_.erase(0, end + 1)) {
          const auto event = ReadEvent(event_text_.substr(0, end));
          if (event.has_value()) calls_.happened(*event);
        }
        if (event_text_.size() > kLongestEvent) event_text_.clear();
      },
      [this](Answer answer) {
        events_ = 0;
        ++breaks_;
        if (answer.status != 0 && !answer.ok()) return Disconnected(answer);
        calls_.broken_off();
        settled_ = false;
        Connect();  // which says so if it is away
      });
}

std::string EngineLink::Identity() const {
  struct stat st {};
  if (config_->address.socket.empty() || stat(config_->address.socket.c_str(), &st) != 0) return "";
  return absl::StrCat(st.st_dev, ".", st.st_ino, ".", st.st_ctim.tv_sec, ".", st.st_ctim.tv_nsec);
}

std::string EngineLink::Words(const Answer& answer) const { return WordsOf(answer, *config_); }

void EngineLink::Disconnected(const std::string& why) {
  const bool news = healthy_ || !told_;
  settled_ = healthy_ = false;
  told_ = true;
  calls_.broken_off();
  if (retry_at_ == 0) {
    retry_at_ = Clock::Real().Now().mono + backoff_;
    backoff_ = std::min(2 * backoff_, kLastRetryMicros);
  }
  if (news) calls_.told(false, why);
}

void EngineLink::Settled() {
  settled_ = true;
  backoff_ = kFirstRetryMicros;
  if (std::exchange(healthy_, true)) return;
  told_ = true;
  calls_.told(true, "");
}

int64_t EngineLink::Wake(int64_t now) {
  if (retry_at_ != 0 && retry_at_ <= now) Connect();
  return retry_at_;
}

}  // namespace orch::docker
