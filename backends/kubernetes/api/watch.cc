#include "backends/kubernetes/api/watch.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

// A stream that goes on for so much longer than the server was told is dead.
constexpr int kStreamMargin = 30;
constexpr int kListSeconds = 60;
// One that lived so long was no failure, even without news.
constexpr int64_t kLongLife = 10'000'000;

}  // namespace

Watch::Watch(Client* client, std::string path, std::string selector, Calls calls, WatchSettings settings)
    : client_(client),
      path_(std::move(path)),
      selector_(std::move(selector)),
      calls_(std::move(calls)),
      settings_(settings) {}

Watch::~Watch() { Stop(); }

void Watch::Start() {
  Stop();
  failures_ = 0;
  List("");
}

void Watch::Stop() {
  paused_ = false;
  client_->Abort(std::exchange(call_, 0));
}

void Watch::Hurry() {
  if (!paused_) return;
  client_->Abort(std::exchange(call_, 0));
  Go();
}

void Watch::Pause(int64_t micros, bool list) {
  paused_ = true;
  lists_next_ = list;
  call_ = client_->After(micros, [this] { Go(); });
}

void Watch::Go() {
  call_ = 0;
  paused_ = false;
  if (lists_next_) {
    List("");
  } else {
    Open();
  }
}

void Watch::List(const std::string& next_page) {
  if (next_page.empty()) calls_.listing();
  Request request;
  request.path = absl::StrCat(path_, "?limit=", settings_.page, "&labelSelector=", UrlEscape(selector_));
  if (!next_page.empty()) absl::StrAppend(&request.path, "&continue=", UrlEscape(next_page));
  request.seconds = kListSeconds;
  request.tries = 1;  // the pauses are this one's
  call_ = client_->Call(std::move(request), [this](Answer answer) { OnPage(std::move(answer)); });
}

void Watch::OnPage(Answer answer) {
  call_ = 0;
  if (!answer.ok()) {
    // A page too old: the list begins anew.
    if (!answer.expired()) calls_.failed(answer);
    if (answer.retry_after > 0) {
      ++failures_;
      return Pause(answer.retry_after, /*list=*/true);
    }
    return Again(/*list=*/true, /*at_once=*/answer.expired() && failures_ == 0);
  }
  const auto items = answer.object.find("items");
  const std::string version = MetadataText(answer.object, "resourceVersion");
  if (items == answer.object.end() || version.empty() || !(items->is_array() || items->is_null())) {
    answer.code = 0;
    answer.message = absl::StrCat(path_, " gave no list; is this an API server?");
    calls_.failed(answer);
    return Again(/*list=*/true, /*at_once=*/false);
  }
  for (const json& item : *items) {
    if (item.is_object()) calls_.seen(item);
  }
  const std::string next_page = MetadataText(answer.object, "continue");
  if (!next_page.empty()) return List(next_page);
  ++lists_;
  version_ = version;
  calls_.listed();
  Open();
}

void Watch::Open() {
  stream_ = WatchStream();
  expired_ = broken_ = news_ = false;
  opened_at_ = client_->now();
  Request request;
  request.path = absl::StrCat(path_, "?watch=1&allowWatchBookmarks=true&timeoutSeconds=", settings_.stream_seconds,
                              "&resourceVersion=", UrlEscape(version_), "&labelSelector=", UrlEscape(selector_));
  request.seconds = settings_.stream_seconds + kStreamMargin;
  call_ = client_->Stream(
      std::move(request),
      [this](absl::string_view piece) {
        if (expired_ || broken_) return;
        if (!stream_.Feed(piece, [this](WatchEvent event) { OnEvent(std::move(event)); })) broken_ = true;
        if (!broken_) return;
        // One that makes no sense is not waited for. It may not be ended from within itself.
        client_->Abort(std::exchange(call_, 0));
        call_ = client_->After(0, [this] {
          Answer nonsense;
          nonsense.message = absl::StrCat(path_, ": what came is no watch event");
          OnEnd(std::move(nonsense));
        });
      },
      [this](Answer answer) { OnEnd(std::move(answer)); });
}

void Watch::OnEvent(WatchEvent event) {
  if (expired_ || broken_) return;
  if (event.type == WatchEvent::Type::kError) {
    Answer answer;
    const auto code = event.object.find("code");
    answer.code = code != event.object.end() && code->is_number_integer() ? code->get<int>() : 500;
    ReadStatus(event.object, &answer);
    if (answer.expired()) {
      expired_ = true;
    } else {
      calls_.failed(answer);
    }
    return;
  }
  version_ = event.version;
  news_ = true;
  failures_ = 0;
  if (event.type == WatchEvent::Type::kDeleted) {
    calls_.gone(event.object);
  } else if (event.type != WatchEvent::Type::kBookmark) {
    calls_.seen(event.object);
  }
}

void Watch::OnEnd(Answer answer) {
  call_ = 0;
  // Waiting for an answer that does not come is no life.
  if (answer.begun && client_->now() - opened_at_ >= kLongLife) failures_ = 0;
  // Half a line, or nonsense: what it would have said is not known, and neither is what came after.
  if (broken_) {
    calls_.failed(answer);
    return Again(/*list=*/true, /*at_once=*/false);
  }
  if (expired_ || answer.expired()) return Again(/*list=*/true, /*at_once=*/failures_ == 0);
  if (answer.code == 0 || answer.ok()) {
    // That a stream breaks is nothing; that the next one brings nothing either is.
    if (answer.code == 0 && failures_ > 0) calls_.failed(answer);
    return Again(/*list=*/false, /*at_once=*/failures_ == 0);
  }
  calls_.failed(answer);
  if (answer.retry_after > 0) {
    ++failures_;
    return Pause(answer.retry_after, /*list=*/false);
  }
  Again(/*list=*/false, /*at_once=*/false);
}

void Watch::Again(bool list, bool at_once) {
  ++failures_;
  Pause(at_once ? 0 : client_->Pause(failures_), list);
}

}  // namespace orch::kubernetes
