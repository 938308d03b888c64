#include "backends/docker/images.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/log.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr int kLookSeconds = 60;
constexpr int64_t kSayEvery = 10'000'000;

// Whether a registry has said that there is nothing to wait for.
bool IsFinal(const std::string& fault) {
  for (const char* words : {"not found", "denied", "unauthorized", "invalid reference", "no basic auth credentials",
                            "manifest unknown", "authentication required", "no matching manifest"}) {
    if (absl::StrContains(fault, words)) return true;
  }
  return false;
}

ImageOutcome Refused(bool transient, std::string message) {
  ImageOutcome out;
  out.transient = transient;
  out.message = std::move(message);
  return out;
}

ImageOutcome Away(Answer answer) {
  ImageOutcome out;
  out.what = ImageOutcome::What::kAway;
  out.answer = std::move(answer);
  return out;
}

}  // namespace

Images::Images(EngineClient* client, Path path, const Config* config, ReadSecret read_secret)
    : client_(client), path_(std::move(path)), config_(config), read_secret_(std::move(read_secret)) {}

uint64_t Images::Ensure(const std::string& image, bool fresh, Done done) {
  const uint64_t number = next_++;
  if (fresh) {
    Join(number, image, std::move(done));
  } else {
    Look(number, image, false, std::move(done));
  }
  return number;
}

void Images::Leave(uint64_t number) {
  if (const auto call = looking_.find(number); call != looking_.end()) {
    client_->Abort(call->second);
    looking_.erase(call);
    return;
  }
  for (auto it = pulls_.begin(); it != pulls_.end(); ++it) {
    if (it->second.waiting.erase(number) == 0) continue;
    if (it->second.waiting.empty()) {
      client_->Abort(it->second.transfer);
      pulls_.erase(it);
    }
    return;
  }
}

void Images::Look(uint64_t number, const std::string& image, bool pulled, Done done) {
  looking_[number] = client_->Call(
      "GET", path_(absl::StrCat("/images/", image, "/json")), "", kLookSeconds,
      [this, number, image, pulled, done = std::move(done)](Answer answer) {
        looking_.erase(number);
        if (answer.status == 0) return done(Away(std::move(answer)));
        if (answer.ok()) {
          ImageOutcome out;
          out.what = ImageOutcome::What::kThere;
          out.path = PathOf(answer.body);
          return done(std::move(out));
        }
        if (answer.status == 404 && absl::StartsWith(image, "sha256:")) {
          return done(
              Refused(false, absl::StrCat("image `", image,
                                          "` is not on this engine, and no registry has it: it was built on another, "
                                          "or removed; build it again")));
        }
        if (answer.status == 404 && !pulled && config_->pull != docker::Pull::kNever) return Join(number, image, done);
        done(Refused(answer.status >= 500, absl::StrCat("image `", image, "`: ", answer.message())));
      });
}

absl::StatusOr<std::string> Images::AuthHeader(const std::string& registry) const {
  const auto found = config_->registries.find(registry);
  if (found == config_->registries.end()) return "";
  ASSIGN_OR_RETURN(const std::string password, read_secret_(found->second.secret));
  const json who =
      found->second.username.empty()
          ? json{{"identitytoken", password}, {"serveraddress", registry}}
          : json{{"username", found->second.username}, {"password", password}, {"serveraddress", registry}};
  std::string text = absl::Base64Escape(who.dump(-1, ' ', false, json::error_handler_t::replace));
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;  // the form for URLs, with its padding
  return absl::StrCat("X-Registry-Auth: ", text);
}

void Images::Join(uint64_t number, const std::string& image, Done done) {
  if (const auto pull = pulls_.find(image); pull != pulls_.end()) {
    pull->second.waiting[number] = std::move(done);
    return;
  }
  const ImageReference reference = ParseImage(image);
  auto header = AuthHeader(reference.registry);
  if (!header.ok()) {
    return done(Refused(false, absl::StrCat("image `", image, "` cannot be pulled: the credentials for registry `",
                                            reference.registry, "`: ", header.status().message())));
  }
  Request request;
  request.method = "POST";
  request.path = path_(absl::StrCat("/images/create?fromImage=", UrlEscape(reference.repository),
                                    reference.tag.empty() ? "" : "&tag=", UrlEscape(reference.tag)));
  if (!header->empty()) request.headers.push_back(*std::move(header));
  const auto it = pulls_.try_emplace(image).first;
  it->second.waiting[number] = std::move(done);
  it->second.transfer = client_->Stream(
      std::move(request),
      [this, image](absl::string_view bytes) {
        const auto pull = pulls_.find(image);
        if (pull == pulls_.end()) return;
        pull->second.progress.Feed(bytes);
        const int64_t now = Clock::Real().Now().mono;
        if (pull->second.said == 0) pull->second.said = now;
        if (now - pull->second.said < kSayEvery) return;
        pull->second.said = now;
        Log(LogLevel::kInfo, "pulling", {{"image", image}, {"progress", pull->second.progress.Words()}});
      },
      [this, image](Answer answer) { Ended(image, std::move(answer)); });
}

void Images::Ended(const std::string& image, Answer answer) {
  const auto pull = pulls_.find(image);
  if (pull == pulls_.end()) return;
  const std::string fault = answer.ok() ? pull->second.progress.fault() : answer.message();
  const auto waiting = std::move(pull->second.waiting);
  pulls_.erase(pull);
  for (const auto& [number, done] : waiting) {
    if (answer.status == 0) {
      done(Away(answer));
    } else if (fault.empty()) {
      Look(number, image, true, done);
    } else {
      done(Refused(!IsFinal(fault), absl::StrCat("image `", image, "` cannot be pulled: ", fault)));
    }
  }
}

}  // namespace orch::docker
