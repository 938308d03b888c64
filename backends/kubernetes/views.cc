#include "backends/kubernetes/views.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/settings.h"
#include "server/base/utf8.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr size_t kLongestText = 2048;

const json& At(const json& object, const char* name) {
  static const json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

std::string Text(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_string() ? ToUtf8(value.get_ref<const std::string&>().substr(0, kLongestText)) : "";
}

int64_t Number(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

ContainerView ReadContainer(const json& status) {
  ContainerView out;
  out.name = Text(status, "name");
  const json& state = At(status, "state");
  if (const json& waiting = At(state, "waiting"); waiting.is_object()) {
    out.state = ContainerView::State::kWaiting;
    out.reason = Text(waiting, "reason");
    out.message = Text(waiting, "message");
  } else if (const json& running = At(state, "running"); running.is_object()) {
    out.state = ContainerView::State::kRunning;
    out.started_wall = WallOf(Text(running, "startedAt"));
  } else if (const json& ended = At(state, "terminated"); ended.is_object()) {
    out.state = ContainerView::State::kTerminated;
    out.reason = Text(ended, "reason");
    out.message = Text(ended, "message");
    out.exit_code = static_cast<int>(Number(ended, "exitCode"));
    out.started_wall = WallOf(Text(ended, "startedAt"));
    out.ended_wall = WallOf(Text(ended, "finishedAt"));
  }
  return out;
}

// All containers of the pod are started at once, and the main one waits for the one that brings the launcher.
void ReadBrought(const ContainerView& bring, PodView* out) {
  if (bring.ended() && bring.exit_code == 0) {
    if (out->main.started_wall > 0 && bring.ended_wall > out->main.started_wall)
      out->main.started_wall = bring.ended_wall;
    return;
  }
  const bool runs = bring.state == ContainerView::State::kRunning;
  if (bring.state != ContainerView::State::kNone && !runs && bring.reason != "PodInitializing") out->init = bring;
  if (out->main.state != ContainerView::State::kWaiting) out->main = ContainerView();
}

bool IsTrue(const json& condition) { return Text(condition, "status") == "True"; }

}  // namespace

int64_t WallOf(const std::string& text) {
  absl::Time time;
  std::string ignored;
  if (text.empty() || !absl::ParseTime(absl::RFC3339_full, text, &time, &ignored)) return 0;
  return absl::ToUnixMicros(time) > 0 ? absl::ToUnixMicros(time) : 0;
}

PodView ReadPod(const json& pod, const PodShape& shape) {
  PodView out;
  const json& metadata = At(pod, "metadata");
  out.name = Text(metadata, "name");
  out.uid = Text(metadata, "uid");
  out.key = Text(At(metadata, "labels"), kKeyLabel);
  out.created_wall = WallOf(Text(metadata, "creationTimestamp"));
  out.deleting = At(metadata, "deletionTimestamp").is_string();
  out.grace_seconds = Number(metadata, "deletionGracePeriodSeconds");
  for (const json& owner : At(metadata, "ownerReferences")) {
    const auto controls = owner.is_object() ? owner.find("controller") : owner.end();
    if (!owner.is_object() || controls == owner.end() || *controls != true) continue;
    out.owner = Text(owner, "uid");
    out.made_for = Text(owner, "name");
  }
  out.node = Text(At(pod, "spec"), "nodeName");
  for (const json& container : At(At(pod, "spec"), "containers")) {
    if (Text(container, "name") == shape.main) out.main_image = Text(container, "image");
  }
  const json& status = At(pod, "status");
  std::optional<ContainerView> bring;
  out.phase = Text(status, "phase");
  out.reason = Text(status, "reason");
  out.message = Text(status, "message");
  for (const json& condition : At(status, "conditions")) {
    const std::string type = Text(condition, "type");
    if (type == "PodScheduled" && Text(condition, "status") == "False") {
      out.unscheduled_reason = Text(condition, "reason");
      out.unscheduled_message = Text(condition, "message");
    } else if (type == "DisruptionTarget" && IsTrue(condition)) {
      out.disruption_reason = Text(condition, "reason");
      out.disruption_message = Text(condition, "message");
    }
  }
  for (const json& container : At(status, "containerStatuses")) {
    if (Text(container, "name") == shape.main) out.main = ReadContainer(container);
    if (!shape.bring.empty() && Text(container, "name") == shape.bring) bring = ReadContainer(container);
  }
  if (bring) ReadBrought(*bring, &out);
  for (const json& container : At(status, "initContainerStatuses")) {
    ContainerView view = ReadContainer(container);
    const bool bad = view.state == ContainerView::State::kWaiting || (view.ended() && view.exit_code != 0);
    if (!bad || view.reason == "PodInitializing") continue;
    out.init_is_own = !shape.init.empty() && view.name != shape.init;
    out.init = std::move(view);
    break;
  }
  return out;
}

JobView ReadJob(const json& job, const std::string& selector) {
  JobView out;
  const json& metadata = At(job, "metadata");
  const json& labels = At(metadata, "labels");
  out.name = Text(metadata, "name");
  out.uid = Text(metadata, "uid");
  out.key = Text(labels, kKeyLabel);
  out.deleting = At(metadata, "deletionTimestamp").is_string();
  out.ours = !out.key.empty();
  for (const absl::string_view pair : absl::StrSplit(selector, ',')) {
    const std::pair<std::string, std::string> label = absl::StrSplit(pair, absl::MaxSplits('=', 1));
    out.ours = out.ours && Text(labels, label.first.c_str()) == label.second;
  }
  for (const json& condition : At(At(job, "status"), "conditions")) {
    const std::string type = Text(condition, "type");
    if (!IsTrue(condition)) continue;
    if (type == "Complete") out.complete = true;
    if (type != "Failed") continue;
    out.failed = true;
    out.reason = Text(condition, "reason");
    out.message = Text(condition, "message");
  }
  return out;
}

}  // namespace orch::kubernetes
