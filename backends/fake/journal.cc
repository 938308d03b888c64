#include "backends/fake/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch::fake {
namespace {

using Json = nlohmann::json;

std::string Dump(const Json& line) { return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

void Replay(const Json& line, std::map<std::string, StoredJob>* jobs) {
  const std::string key = line.value("key", "");
  const std::string what = line.value("what", "");
  if (what == "submit") {
    StoredJob job;
    job.key = key;
    job.step = line.value("step", "");
    job.attempt = line.value("attempt", 0u);
    job.settings_json = line.value("settings", "");
    job.outputs = line.value("outputs", std::vector<std::string>());
    job.output_dir = line.value("output_dir", "");
    job.scratch_dir = line.value("scratch_dir", "");
    job.submitted = line.value("at", int64_t{0});
    jobs->emplace(key, std::move(job));
  } else if (what == "cancel") {
    const auto found = jobs->find(key);
    if (found != jobs->end() && found->second.cancelled == 0) found->second.cancelled = line.value("at", int64_t{0});
  } else if (what == "release") {
    jobs->erase(key);
  }
}

}  // namespace

Journal::~Journal() {
  if (file_ >= 0) close(file_);
}

absl::Status Journal::Open(const std::string& path, std::map<std::string, StoredJob>* jobs) {
  bool cut_off = false;
  std::ifstream in(path);
  for (std::string text; std::getline(in, text);) {
    cut_off = in.eof();
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object()) continue;
    try {
      Replay(line, jobs);
    } catch (const Json::exception&) {
      continue;  // not a line of ours
    }
  }
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file_ < 0) {
    return Error(absl::StatusCode::kInternal, "FAKE_JOURNAL",
                 absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }
  if (cut_off) Append("\n");
  return absl::OkStatus();
}

void Journal::Submitted(const StoredJob& job) {
  Append(Dump({{"what", "submit"},
               {"key", job.key},
               {"step", job.step},
               {"attempt", job.attempt},
               {"settings", job.settings_json},
               {"outputs", job.outputs},
               {"output_dir", job.output_dir},
               {"scratch_dir", job.scratch_dir},
               {"at", job.submitted}}));
}

void Journal::Cancelled(absl::string_view key, int64_t wall) {
  Append(Dump({{"what", "cancel"}, {"key", std::string(key)}, {"at", wall}}));
}

void Journal::Released(absl::string_view key) { Append(Dump({{"what", "release"}, {"key", std::string(key)}})); }

void Journal::Append(std::string line) {
  if (file_ < 0) return;
  // One write a line: whole or cut off at the end of the file, never mixed with another.
  if (write(file_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    Log(LogLevel::kError, "the fake platform cannot remember a job", {{"why", std::strerror(errno)}});
  }
}

}  // namespace orch::fake
