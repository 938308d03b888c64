#include "client/cli/pipeline_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/session.h"
#include "client/cli/text.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

// Only these reach a local step.
constexpr const char* kTakenOver[] = {"PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV"};

}  // namespace

void FillSubmitter(const std::string& folder, v1::SubmitRunRequest::Submitter* submitter) {
  char host[256] = "";
  if (gethostname(host, sizeof(host) - 1) == 0) submitter->set_host(host);
  submitter->set_source_dir(folder);
  for (const char* name : kTakenOver) {
    if (const char* value = getenv(name); value != nullptr) (*submitter->mutable_environment())[name] = value;
  }
}

absl::StatusOr<std::string> ReadInput(const std::string& path, int64_t limit) {
  const bool standard = path == "-";
  const int fd = standard ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return UsageError(absl::StrCat("cannot read ", path, ": ", strerror(errno)));
  struct stat st {};
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > limit) {
    if (!standard) close(fd);
    return Error(absl::StatusCode::kInvalidArgument, "FILE_TOO_LARGE",
                 absl::StrCat(path, " has ", st.st_size, " bytes; at most ", limit, " are read"));
  }
  std::string text;
  std::string buffer(64 * 1024, '\0');
  absl::Status status;
  while (true) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) status = UsageError(absl::StrCat("cannot read ", path, ": ", strerror(errno)));
    if (n <= 0) break;
    text.append(buffer, 0, static_cast<size_t>(n));
    // One byte more is enough for the parser to say that it is too large.
    if (static_cast<int64_t>(text.size()) > limit) break;
  }
  if (!standard) close(fd);
  if (!status.ok()) return status;
  return text;
}

absl::StatusOr<PipelineFile> LoadPipeline(const std::string& path) {
  PipelineFile file;
  ASSIGN_OR_RETURN(const std::string text, ReadInput(path, spec::ParseLimits().bytes));
  file.shown = path == "-" ? "<stdin>" : path;
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  file.folder = path == "-" ? here.string() : std::filesystem::canonical(path, error).parent_path().string();
  if (file.folder.empty()) file.folder = here.string();
  file.parsed = spec::ParsePipeline(text);
  for (v1::StepSpec& step : *file.parsed.pipeline.mutable_steps()) {
    if (!step.has_source() || step.source().path().empty()) continue;
    const std::filesystem::path source = std::filesystem::path(file.folder) / step.source().path();
    std::string normal = source.lexically_normal().string();
    if (normal.size() > 1 && normal.back() == '/') normal.pop_back();
    step.mutable_source()->set_path(normal);
  }
  return file;
}

std::string FormatProblems(const std::string& shown, std::vector<spec::Problem> problems) {
  std::stable_sort(problems.begin(), problems.end(), [](const spec::Problem& a, const spec::Problem& b) {
    return std::tie(a.position.line, a.position.column) < std::tie(b.position.line, b.position.column);
  });
  std::string out;
  for (const spec::Problem& problem : problems) absl::StrAppend(&out, Clean(spec::Format(shown, problem)), "\n");
  return out;
}

spec::Problem Locate(const spec::SourceMap& map, const std::string& field, const std::string& description,
                     const std::string& reason) {
  absl::string_view path = field;
  absl::ConsumePrefix(&path, "pipeline.");
  if (path == "pipeline") path = "";
  spec::Problem problem;
  problem.field = std::string(path);
  problem.description = description;
  problem.reason = reason;
  // A fault of the request is not in the file.
  if (!absl::StartsWith(path, "request.")) problem.position = map.Find(path);
  return problem;
}

absl::StatusOr<std::map<std::string, google::protobuf::Value>> ParseParameters(const std::vector<std::string>& words) {
  std::map<std::string, google::protobuf::Value> out;
  for (const std::string& word : words) {
    const auto pair = KeyValue(word);
    if (!pair.has_value()) return UsageError(absl::StrCat("`", word, "` is not NAME=VALUE"));
    const absl::StatusOr<google::protobuf::Value> value = spec::ParseParameterValue(pair->second);
    if (!value.ok()) return UsageError(absl::StrCat(pair->first, ": ", value.status().message()));
    if (!out.emplace(pair->first, *value).second) return UsageError(absl::StrCat(pair->first, " is given twice"));
  }
  return out;
}

}  // namespace orch::cli
