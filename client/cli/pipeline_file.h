// A pipeline file: read, parsed, and its faults printed with their places.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/spec/parse.h"
#include "orch/v1/run_service.pb.h"

namespace orch::cli {

struct PipelineFile {
  std::string shown;   // the name as the user wrote it; `<stdin>` for `-`
  std::string folder;  // absolute; of stdin the working folder
  spec::ParsedPipeline parsed;
};

// Reads `path` (`-`: stdin) whole, up to `limit` bytes. INVALID_ARGUMENT (USAGE) if that cannot be done.
absl::StatusOr<std::string> ReadInput(const std::string& path, int64_t limit);

// Reads and parses, and makes relative `source` folders absolute. The parsed problems are the caller's to print.
absl::StatusOr<PipelineFile> LoadPipeline(const std::string& path);

// What a local step takes over from this process: the host, the pipeline file's folder, and six variables.
void FillSubmitter(const std::string& folder, v1::SubmitRunRequest::Submitter* submitter);

// Faults as lines `FILE:LINE:COLUMN: …` in the order of the file.
std::string FormatProblems(const std::string& shown, std::vector<spec::Problem> problems);

// The server's fault with its place in the file. Its field path may begin at the request (`pipeline.steps[0]`).
spec::Problem Locate(const spec::SourceMap& map, const std::string& field, const std::string& description,
                     const std::string& reason);

// `--param k=v`, typed as YAML would.
absl::StatusOr<std::map<std::string, google::protobuf::Value>> ParseParameters(const std::vector<std::string>& words);

}  // namespace orch::cli
