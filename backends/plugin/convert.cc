#include "backends/plugin/convert.h"

#include <string.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace orch::plugin {
namespace {
constexpr size_t kMessageBytes = 8 << 10;
constexpr size_t kHandleBytes = 4 << 10;
constexpr size_t kKeyBytes = 200;
constexpr size_t kPathBytes = 200;
constexpr size_t kCheckBytes = 2'000;
constexpr int kChecks = 50;
constexpr int64_t kMaxCount = int64_t{1} << 53;

int64_t Count(int64_t value) { return std::clamp<int64_t>(value, 0, kMaxCount); }
}  // namespace

std::string Cut(absl::string_view text, size_t bytes) {
  if (text.size() <= bytes) return std::string(text);
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return std::string(text.substr(0, bytes));
}

v1::JobResources ToResources(const Resources& resources) {
  v1::JobResources out;
  out.set_cpu_millis(resources.cpu_millis);
  out.set_memory(resources.memory);
  out.set_disk(resources.disk);
  out.set_gpu(resources.gpu);
  out.set_gpu_kind(resources.gpu_kind);
  for (const auto& [name, count] : resources.custom) (*out.mutable_custom())[name] = count;
  return out;
}

v1::Job ToJob(const AttemptWork& work) {
  v1::Job job;
  v1::JobName* name = job.mutable_name();
  name->set_key(work.name.key);
  name->set_project(work.name.project);
  name->set_run_id(work.name.run_id);
  name->set_run_name(work.name.run_name);
  name->set_step(work.name.step);
  name->set_attempt(static_cast<int32_t>(work.name.attempt));
  for (const std::string& word : work.command) job.add_command(word);
  for (const auto& [variable, value] : work.env) {
    v1::EnvironmentVariable* out = job.add_environment();
    out->set_name(variable);
    out->set_value(value);
  }
  job.set_working_dir(work.working_dir);
  job.set_scratch_dir(work.workspace.scratch_dir);
  job.set_output_dir(work.workspace.output_dir);
  *job.mutable_resources() = ToResources(work.resources);
  job.set_image(work.image);
  job.set_settings_json(work.settings_json);
  for (const SecretValue& secret : work.secrets) {
    v1::Secret* out = job.add_secrets();
    out->set_variable(secret.variable);
    out->set_value(secret.value);
    out->set_file(secret.file);
  }
  job.set_grace_micros(work.grace_micros);
  job.set_root_dir(work.workspace.root);
  return job;
}

Capacity ToCapacity(const v1::Capacity& capacity) {
  Capacity out;
  if (capacity.has_cpu_millis()) out.cpu_millis = Count(capacity.cpu_millis());
  if (capacity.has_memory()) out.memory = Count(capacity.memory());
  if (capacity.has_gpu()) out.gpu = Count(capacity.gpu());
  out.gpu_kind = Cut(capacity.gpu_kind(), kKeyBytes);
  for (const auto& [name, count] : capacity.custom()) {
    if (!name.empty() && name.size() <= kKeyBytes) out.custom.emplace_back(name, Count(count));
  }
  std::sort(out.custom.begin(), out.custom.end());
  return out;
}

Reason ToRefusal(v1::Reason reason) {
  switch (reason) {
    case v1::UNSCHEDULABLE:
      return Reason::kUnschedulable;
    case v1::IMAGE_PULL_FAILED:
      return Reason::kImagePullFailed;
    case v1::COMMAND_NOT_FOUND:
      return Reason::kCommandNotFound;
    default:
      return Reason::kSubmitRefused;
  }
}

AttemptEnd ToEnd(const v1::End& end) {
  AttemptEnd out;
  out.message = Cut(end.message(), kMessageBytes);
  out.never_started = end.never_started();
  out.stopped = end.stopped();
  out.started_wall = Count(end.started_micros());
  out.ended_wall = Count(end.ended_micros());
  out.cpu_seconds = end.cpu_seconds() >= 0 && end.cpu_seconds() < 1e12 ? end.cpu_seconds() : 0;
  out.peak_memory = Count(end.peak_memory());
  if (end.has_signal() && end.signal() >= 1 && end.signal() <= 64) out.signal = end.signal();
  if (end.has_exit_code() && end.exit_code() >= 0 && end.exit_code() <= 255) out.exit_code = end.exit_code();
  const auto say = [&](const std::string& words) {
    if (out.message.empty()) out.message = words;
  };
  switch (end.reason()) {
    case v1::REASON_UNSPECIFIED:
      break;
    case v1::OUT_OF_MEMORY:
      out.reason = Reason::kOutOfMemory;
      return out;
    case v1::COMMAND_NOT_FOUND:
      out.reason = Reason::kCommandNotFound;
      out.never_started = true;
      return out;
    case v1::TIME_LIMIT:  // the platform's: ours ends as a stop
      out.reason = Reason::kRunTimeout;
      say("it was longer than the platform's limit of time");
      return out;
    case v1::NODE_LOST:
      out.reason = Reason::kNodeLost;
      return out;
    case v1::PREEMPTED:
      out.reason = Reason::kPreempted;
      return out;
    case v1::EVICTED:
      out.reason = Reason::kEvicted;
      return out;
    case v1::CANCELLED_OUTSIDE:
      out.reason = Reason::kEvicted;
      say("somebody cancelled it with the platform's own tools");
      return out;
    case v1::UNSCHEDULABLE:
      out.reason = Reason::kUnschedulable;
      return out;
    case v1::IMAGE_PULL_FAILED:
      out.reason = Reason::kImagePullFailed;
      return out;
    default:
      out.reason = Reason::kSubmitRefused;
      if (!out.never_started) out.reason = Reason::kLost;
      say("it ended for a reason that has no word here");
      return out;
  }
  if (out.signal) {
    out.reason = Reason::kSignaled;
    say(absl::StrCat("ended by signal ", *out.signal, " (", strsignal(*out.signal), ")"));
  } else if (out.exit_code) {
    if (*out.exit_code == 0) return out;
    out.reason = Reason::kExitCode;
    say(absl::StrCat("exit code ", *out.exit_code));
  } else {
    out.reason = Reason::kLost;
    say("it has ended, and the plug-in does not say how");
  }
  return out;
}

std::string FaultOf(const v1::Observation& o) {
  const std::string key = Cut(o.key(), kKeyBytes);
  if (o.phase() == v1::PHASE_UNSPECIFIED || !v1::Phase_IsValid(o.phase())) {
    return absl::StrCat("said that job ", key, " is in phase ", static_cast<int>(o.phase()),
                        ", which its protocol does not have");
  }
  if (o.handle().size() > kHandleBytes) {
    return absl::StrCat("gave job ", key, " a handle of ", o.handle().size(), " bytes; at most ", kHandleBytes,
                        " are stored");
  }
  if (o.phase() == v1::ENDED && !o.has_end()) return absl::StrCat("said that job ", key, " has ended, and not how");
  if (o.has_end() && !v1::Reason_IsValid(o.end().reason())) {
    return absl::StrCat("said that job ", key, " ended for reason ", static_cast<int>(o.end().reason()),
                        ", which its protocol does not have");
  }
  return "";
}

std::string FaultOf(const v1::RemoteWorkspace& workspace) {
  const auto plain = [](const std::string& text) { return text.find('\0') == std::string::npos; };
  if (workspace.root().empty() || workspace.root()[0] != '/' || workspace.root().size() > kPathBytes ||
      !plain(workspace.root())) {
    return absl::StrCat("wants its jobs to work below `", Cut(workspace.root(), kPathBytes),
                        "`, which is no absolute path of at most ", kPathBytes, " bytes");
  }
  if (!plain(workspace.launcher()) || workspace.launcher().size() > kMessageBytes) return "gave no path of a launcher";
  const std::string& endpoint = workspace.endpoint();
  const bool known = endpoint.empty() || absl::StartsWith(endpoint, "unix:/") ||
                     absl::StartsWith(endpoint, "http://") || absl::StartsWith(endpoint, "https://");
  if (!known || !plain(endpoint) || endpoint.size() > kMessageBytes) {
    return absl::StrCat("gave `", Cut(endpoint, kKeyBytes),
                        "` as the way to the daemon, which is none of unix:/PATH, http://… and https://…");
  }
  return "";
}

void AddChecks(const v1::ProbeResponse& answer, ProbeReport* report) {
  for (const v1::Check& check : answer.checks()) {
    if (report->checks.size() > kChecks) break;
    report->checks.push_back({Cut(check.name(), kKeyBytes), check.good(), Cut(check.text(), kCheckBytes),
                              check.good() ? "" : Cut(check.fix(), kCheckBytes)});
  }
  if (answer.healthy() ? answer.checks_size() > 0 : !report->good()) return;
  std::string text = answer.healthy() ? "the plug-in says that it can be used" : Cut(answer.message(), kCheckBytes);
  if (text.empty()) text = "the plug-in says that it cannot be used, and not why";
  report->checks.push_back({"platform", answer.healthy(), text, ""});
}

}  // namespace orch::plugin
