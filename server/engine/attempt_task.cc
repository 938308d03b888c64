#include "server/engine/attempt_task.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

using nlohmann::json;

constexpr int kTaskVersion = 1;

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

json FileJson(const TaskFile& file) {
  return {{"kind", static_cast<int>(file.kind)},
          {"path", file.path},
          {"digest", Hex(file.digest)},
          {"ignore", file.ignore}};
}

std::string Unhex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return out;
}

TaskFile FileOf(const json& object) {
  TaskFile out;
  out.kind = static_cast<TaskFile::Kind>(object.at("kind").get<int>());
  out.path = object.at("path").get<std::string>();
  out.digest = Unhex(object.at("digest").get<std::string>());
  out.ignore = object.at("ignore").get<std::vector<std::string>>();
  return out;
}

const char* Word(TaskFile::Kind kind) {
  switch (kind) {
    case TaskFile::Kind::kFile:
      return "file";
    case TaskFile::Kind::kFanIn:
      return "fan_in";
    default:
      return "folder";
  }
}

// Words that a launcher may end an attempt with.
struct EndWord {
  const char* word;
  Reason reason;
  bool never_started;
};
constexpr EndWord kEndWords[] = {
    {"COMMAND_NOT_FOUND", Reason::kCommandNotFound, true}, {"WORKING_DIR_INVALID", Reason::kWorkingDirInvalid, true},
    {"INPUT_MISSING", Reason::kInputMissing, true},        {"OUTPUT_INVALID", Reason::kOutputInvalid, false},
    {"STORE_FAILED", Reason::kStoreFailed, false},         {"OUT_OF_MEMORY", Reason::kOutOfMemory, false},
};

}  // namespace

std::string TaskInputPath(const Workspace& workspace, const std::string& input) {
  return absl::StrCat(workspace.root, "/inputs/", input);
}
std::string TaskParamsPath(const Workspace& workspace) { return workspace.root + "/params.json"; }
std::string TaskSourcePath(const Workspace& workspace) { return workspace.root + "/source"; }

absl::StatusOr<AttemptTask> MakeTask(const AttemptWork& work, const RunContext& run, const StepSpec& spec,
                                     const std::vector<ReadyInput>& here, const std::string& params_json,
                                     int64_t value_bytes) {
  AttemptTask out;
  json inputs = json::array();
  const StepTemplate& step = run.graph->templates()[run.graph->TemplateOf(work.name.step_index)];
  for (size_t i = 0; i < spec.inputs.size(); ++i) {
    if (!here[i].present) continue;
    const std::string& name = spec.inputs[i].name;
    TaskFile file;
    file.path = here[i].path;
    file.digest = here[i].digest;
    struct stat st {};
    if (stat(file.path.c_str(), &st) != 0) {
      return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING",
                   absl::StrCat("input `", name, "` (", file.path, "): ", strerror(errno)));
    }
    const bool of_many = step.inputs[i].source == InputSpec::Source::kFrom && step.inputs[i].fan_in;
    if (S_ISDIR(st.st_mode)) file.kind = of_many ? TaskFile::Kind::kFanIn : TaskFile::Kind::kFolder;
    if (file.kind == TaskFile::Kind::kFanIn) file.digest.clear();  // of its items, not of these bytes
    json input = {{"name", name}, {"path", TaskInputPath(work.workspace, name)}, {"kind", Word(file.kind)}};
    if (!file.digest.empty()) input["digest"] = "sha256:" + Hex(file.digest);
    if (file.kind == TaskFile::Kind::kFile) input["size"] = st.st_size;
    inputs.push_back(std::move(input));
    out.inputs.emplace(name, std::move(file));
  }
  json outputs = json::array();
  for (const OutputSpec& output : spec.outputs) {
    outputs.push_back({{"name", output.name},
                       {"path", absl::StrCat(work.workspace.output_dir, "/", output.name)},
                       {"kind", output.value           ? "value"
                                : output.type == "dir" ? "folder"
                                                       : "file"}});
    out.outputs.push_back(output.name);
  }
  json env = json::array();
  for (const auto& [name, value] : work.env) env.push_back({name, value});
  json task = {{"version", kTaskVersion},
               {"fence", work.name.key},
               {"project", work.name.project},
               {"run_id", work.name.run_id},
               {"run", work.name.run_name},
               {"step", work.name.step},
               {"attempt", work.name.attempt},
               {"root", work.workspace.root},
               {"scratch", work.workspace.scratch_dir},
               {"output", work.workspace.output_dir},
               {"command", work.command},
               {"env", env},
               {"working_dir", work.working_dir},
               {"params", {{"path", TaskParamsPath(work.workspace)}, {"text", params_json}}},
               {"inputs", inputs},
               {"outputs", outputs},
               {"value_bytes", value_bytes},
               {"grace_millis", work.grace_micros / 1000}};
  struct stat st {};
  if (!work.source_dir.empty() && stat(work.source_dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
    TaskFile& source = out.source.emplace();
    source.kind = TaskFile::Kind::kSource;
    source.path = work.source_dir;
    source.ignore = spec.options().source_ignore;
    task["source"] = {{"path", TaskSourcePath(work.workspace)}};
  }
  out.json = Dump(task);
  out.artifact_store = run.header.artifact_store;
  return out;
}

std::string WriteTask(const AttemptTask& task) {
  json inputs = json::object();
  for (const auto& [name, file] : task.inputs) inputs[name] = FileJson(file);
  json out = {
      {"task", task.json}, {"inputs", inputs}, {"outputs", task.outputs}, {"artifact_store", task.artifact_store}};
  if (task.source) out["source"] = FileJson(*task.source);
  return Dump(out);
}

absl::StatusOr<AttemptTask> ReadTask(absl::string_view text) {
  const json parsed = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  try {
    AttemptTask out;
    out.json = parsed.at("task").get<std::string>();
    for (const auto& [name, file] : parsed.at("inputs").items()) out.inputs.emplace(name, FileOf(file));
    if (parsed.contains("source")) out.source = FileOf(parsed["source"]);
    out.outputs = parsed.at("outputs").get<std::vector<std::string>>();
    out.artifact_store = parsed.at("artifact_store").get<std::string>();
    return out;
  } catch (const std::exception& e) {  // our own file, damaged
    return Error(absl::StatusCode::kInternal, "TASK_DAMAGED", absl::StrCat("the task kept on disk: ", e.what()));
  }
}

bool MergeEnd(absl::string_view text, AttemptEnd* end) {
  const json said = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!said.is_object()) return false;
  const auto number = [&](const char* name) -> std::optional<int64_t> {
    const auto found = said.find(name);
    if (found == said.end() || !found->is_number_integer()) return std::nullopt;
    return found->get<int64_t>();
  };
  if (const auto at = number("started_micros")) end->started_wall = *at;
  if (const auto at = number("ended_micros")) end->ended_wall = *at;
  if (const auto bytes = number("peak_memory")) end->peak_memory = *bytes;
  if (said.contains("cpu_seconds") && said["cpu_seconds"].is_number()) end->cpu_seconds = said["cpu_seconds"];
  if (said.contains("stopped") && said["stopped"].is_boolean() && said["stopped"].get<bool>()) end->stopped = true;
  // What only the platform can know stays: that memory ran out, that its node was taken away, that somebody else had it
  // stopped.
  if (end->reason == Reason::kLost && end->stopped && number("exit_code").value_or(-1) != 0) return true;
  switch (end->reason) {
    case Reason::kNone:
    case Reason::kExitCode:
    case Reason::kSignaled:
    case Reason::kCommandNotFound:
    case Reason::kLost:
      break;
    default:
      return true;
  }
  end->exit_code = std::nullopt;
  end->signal = std::nullopt;
  end->never_started = false;
  end->reason = Reason::kNone;
  end->message.clear();
  if (const auto code = number("exit_code")) end->exit_code = static_cast<int>(*code & 0xff);
  if (const auto signal = number("signal")) end->signal = static_cast<int>(*signal & 0x7f);
  const std::string word = Text(said, "reason");
  for (const EndWord& known : kEndWords) {
    if (word != known.word) continue;
    end->reason = known.reason;
    end->never_started = known.never_started;
    end->message = Text(said, "message").substr(0, 4096);
  }
  if (end->reason != Reason::kNone) return true;
  if (end->signal) {
    end->reason = Reason::kSignaled;
    end->message = absl::StrCat("ended by signal ", *end->signal, " (", strsignal(*end->signal), ")");
  } else if (end->exit_code.value_or(-1) != 0) {
    end->reason = Reason::kExitCode;
    end->message = absl::StrCat("exit code ", end->exit_code.value_or(-1));
  }
  return true;
}

}  // namespace orch
