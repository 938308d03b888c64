#include "backends/kubernetes/pending.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/utf8.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kConfigPatience = 60 * kSecond;   // a Secret or ConfigMap that somebody is about to make
constexpr int64_t kCreatePatience = 120 * kSecond;  // a node that cannot make a container right now
constexpr size_t kLongestText = 2048;

std::string Text(const json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() && found->is_string()
             ? ToUtf8(found->get_ref<const std::string&>().substr(0, kLongestText))
             : "";
}

Pending FromReason(const ContainerView& container, const std::string& what, int64_t image_seconds) {
  const std::string& reason = container.reason;
  const std::string words = absl::StrCat(what, reason, container.message.empty() ? "" : ": ", container.message);
  if (reason == "ErrImagePull" || reason == "ImagePullBackOff" || reason == "RegistryUnavailable") {
    return {Reason::kImagePullFailed, words, image_seconds * kSecond};
  }
  if (reason == "InvalidImageName" || reason == "ErrImageNeverPull" || reason == "ImageInspectError" ||
      reason == "SignatureValidationFailed") {
    return {Reason::kImagePullFailed, words, 0};
  }
  if (reason == "CreateContainerConfigError") return {Reason::kUnschedulable, words, kConfigPatience};
  if (reason == "CreateContainerError" || reason == "RunContainerError" || absl::EndsWith(reason, "HookError")) {
    return {Reason::kUnschedulable, words, kCreatePatience};
  }
  return {};
}

Pending OfContainer(const ContainerView& container, const std::string& what, int64_t image_seconds) {
  Pending out = FromReason(container, what, image_seconds);
  if (out.reason != Reason::kNone) out.of = container.name;
  return out;
}

}  // namespace

Pending PendingOf(const PodView& pod, int64_t image_seconds) {
  if (!pod.unscheduled_reason.empty()) {
    const bool gated = pod.unscheduled_reason == "SchedulingGated";
    return {Reason::kUnschedulable,
            absl::StrCat(gated ? "its scheduling is gated" : "no node takes it", ": ", pod.unscheduled_message)};
  }
  if (pod.init.state == ContainerView::State::kWaiting) {
    const std::string what =
        pod.init_is_own ? absl::StrCat("its init container ", pod.init.name, ": ") : "its launcher's container: ";
    Pending init = OfContainer(pod.init, what, image_seconds);
    if (init.reason != Reason::kNone) return init;
  }
  if (pod.main.state == ContainerView::State::kWaiting) {
    return OfContainer(pod.main, absl::StrCat("image ", pod.main_image, ": "), image_seconds);
  }
  return {};
}

std::string WarningOf(const json& list) {
  std::string newest;
  std::string out;
  const auto items = list.is_object() ? list.find("items") : list.end();
  if (!list.is_object() || items == list.end() || !items->is_array()) return "";
  for (const json& event : *items) {
    if (Text(event, "type") != "Warning") continue;
    std::string at = Text(event, "lastTimestamp");
    if (at.empty()) at = Text(event, "eventTime");
    if (at < newest) continue;
    newest = at;
    out = absl::StrCat(Text(event, "reason"), ": ", Text(event, "message"));
  }
  return out;
}

}  // namespace orch::kubernetes
