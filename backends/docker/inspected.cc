#include "backends/docker/inspected.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "backends/docker/container.h"

namespace orch::docker {
namespace {

using nlohmann::json;

// A member that is an object; nullptr if it is not there or something else.
const json* ObjectField(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_object() ? &*found : nullptr;
}

int64_t NumberField(const json& object, const char* name, int64_t otherwise) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

}  // namespace

std::string TextField(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

int64_t WallOf(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return 0;
  return std::max<int64_t>(0, absl::ToUnixMicros(time));
}

std::optional<Inspected> ReadInspected(const std::string& body, absl::string_view key, absl::string_view instance) {
  const json container = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!container.is_object()) return std::nullopt;
  const json* state = ObjectField(container, "State");
  if (state == nullptr) return std::nullopt;
  Inspected out;
  out.id = TextField(container, "Id");
  const json* config = ObjectField(container, "Config");
  const json* labels = config == nullptr ? nullptr : ObjectField(*config, "Labels");
  out.ours =
      labels != nullptr && TextField(*labels, kKeyLabel) == key && TextField(*labels, kInstanceLabel) == instance;
  const std::string status = TextField(*state, "Status");
  out.alive = status == "running" || status == "paused" || status == "restarting";
  out.state.exit_code = static_cast<int>(NumberField(*state, "ExitCode", -1));
  const auto oom = state->find("OOMKilled");
  out.state.out_of_memory = oom != state->end() && oom->is_boolean() && oom->get<bool>();
  const json* host = ObjectField(container, "HostConfig");
  out.state.memory = host == nullptr ? 0 : std::max<int64_t>(0, NumberField(*host, "Memory", 0));
  out.state.error = TextField(*state, "Error");
  out.state.started_wall = WallOf(TextField(*state, "StartedAt"));
  out.state.ended_wall = WallOf(TextField(*state, "FinishedAt"));
  out.fresh = status == "created" && out.state.started_wall == 0 && out.state.error.empty();
  return out;
}

std::optional<ContainerEvent> ReadEvent(const std::string& line) {
  const json event = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const json* actor = event.is_object() ? ObjectField(event, "Actor") : nullptr;
  const json* attributes = actor == nullptr ? nullptr : ObjectField(*actor, "Attributes");
  if (attributes == nullptr) return std::nullopt;
  ContainerEvent out;
  out.key = TextField(*attributes, kKeyLabel);
  out.id = TextField(*actor, "ID");
  out.wall = std::max<int64_t>(0, NumberField(event, "timeNano", 0) / 1000);
  int code = 0;
  if (TextField(event, "Action") == "die" && absl::SimpleAtoi(TextField(*attributes, "exitCode"), &code)) {
    out.exit_code = code;
  }
  return out;
}

}  // namespace orch::docker
