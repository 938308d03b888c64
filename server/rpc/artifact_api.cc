#include "server/rpc/artifact_api.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/lineage.h"
#include "server/rpc/tar_view.h"
#include "server/rpc/tokens.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

constexpr int64_t kUsualPiece = 1 << 20;
constexpr int64_t kMaxPiece = 4 << 20;
constexpr size_t kMaxMetadata = 64 << 10;
constexpr int kUsualDepth = 5;
constexpr int kMaxDepth = 32;

absl::Status ReadFile(const std::string& path, int64_t offset, int64_t max_bytes, v1::ReadArtifactResponse* response) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
  const auto close_fd = absl::MakeCleanup([fd] { ::close(fd); });
  struct stat info {};
  if (::fstat(fd, &info) != 0) return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
  response->set_size(info.st_size);
  std::string* data = response->mutable_data();
  data->resize(static_cast<size_t>(std::clamp<int64_t>(info.st_size - offset, 0, max_bytes)));
  size_t done = 0;
  while (done < data->size()) {
    const ssize_t n = ::pread(fd, &(*data)[done], data->size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::InternalError(absl::StrCat(path, ": ", n == 0 ? "is shorter" : std::strerror(errno)));
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

void ArtifactApi::Register(MethodTable* table) {
  table->Add("orch.v1.ArtifactService/PublishArtifact", {/*mutates=*/true, /*for_steps=*/true, false}, this,
             &ArtifactApi::PublishArtifact);
  table->Add("orch.v1.ArtifactService/GetArtifact", {}, this, &ArtifactApi::GetArtifact);
  table->Add("orch.v1.ArtifactService/ListArtifacts", {}, this, &ArtifactApi::ListArtifacts);
  table->Add("orch.v1.ArtifactService/GetLineage", {}, this, &ArtifactApi::GetLineage);
  table->Add("orch.v1.ArtifactService/ReadArtifact", {}, this, &ArtifactApi::ReadArtifact);
}

absl::Status ArtifactApi::PublishArtifact(const CallContext& context, const v1::PublishArtifactRequest& request,
                                          v1::Artifact* artifact) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  checks.Name("request.output", request.output(), /*dots=*/false);
  checks.RequestId(request.request_id());
  checks.Text("request.fence", request.fence(), 200);
  checks.Range("request.attempt", int64_t{request.attempt()}, 0, INT32_MAX);
  PublishCommand command;
  command.output = request.output();
  command.fence = request.fence();
  google::protobuf::Struct metadata;
  *metadata.mutable_fields() = request.metadata();
  if (metadata.fields_size() > 0) command.metadata_json = ToJson(metadata);
  checks.Json("request.metadata", metadata);
  checks.Text("request.metadata", command.metadata_json, kMaxMetadata);
  const bool by_step = context.identity.kind == Identity::Kind::kStep;
  if (!by_step && (request.run().empty() || request.step().empty() || request.attempt() == 0)) {
    checks.Add("request", "REQUIRED", "name run, step and attempt, or call with the step's own token (ORCH_TOKEN)");
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was published"));
  if (by_step) {
    command.run = context.identity.attempt.run;
    command.ix = context.identity.attempt.ix;
    command.attempt = context.identity.attempt.attempt;
  }
  if (!request.run().empty()) {
    ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, project, request.run()));
    command.run = found.record.header.key;
    if (!request.step().empty()) {
      ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, request.step()));
      if (by_step && ix != command.ix) {
        return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN", "a step publishes only its own outputs");
      }
      command.ix = ix;
    }
  }
  if (request.attempt() != 0) {
    if (by_step && static_cast<uint32_t>(request.attempt()) != command.attempt) {
      return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN", "an attempt publishes only its own outputs");
    }
    command.attempt = static_cast<uint32_t>(request.attempt());
  }
  ASSIGN_OR_RETURN(const ArtifactId id, api_.engine->PublishArtifact(std::move(command), context.deadline_micros));
  ASSIGN_OR_RETURN(const auto record, api_.engine->queries().FindArtifact(project, ArtifactName(id)));
  *artifact = ToArtifact(record);
  return absl::OkStatus();
}

absl::Status ArtifactApi::GetArtifact(const CallContext&, const v1::GetArtifactRequest& request,
                                      v1::Artifact* artifact) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const auto record, api_.engine->queries().FindArtifact(project, request.name()));
  *artifact = ToArtifact(record);
  if (!record.row.digest.empty()) {
    const auto path = api_.engine->ArtifactPath(record.row.digest);
    if (path.ok()) artifact->set_uri(absl::StrCat("file://", *path));
  }
  return absl::OkStatus();
}

absl::Status ArtifactApi::ListArtifacts(const CallContext& context, const v1::ListArtifactsRequest& request,
                                        v1::ListArtifactsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  store::ArtifactFilter filter;
  filter.project = project;
  filter.name = request.name();
  if (request.run().empty() && !request.step().empty()) {
    return InvalidInput("REQUEST_INVALID", "a step needs its run",
                        {{"request.run", "name the run of the step", "REQUIRED"}});
  }
  if (!request.run().empty()) {
    ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, project, request.run()));
    filter.run = found.record.header.key;
    if (!request.step().empty()) {
      ASSIGN_OR_RETURN(filter.ix, FindStep(found, request.step()));
    }
  }
  const std::string bound = absl::StrCat("artifacts|", project, "|", filter.run, "|", request.step(), "|", filter.name);
  ASSIGN_OR_RETURN(const int64_t before, ReadPageNumber(request.page_token(), bound));
  ASSIGN_OR_RETURN(const auto records, api_.engine->queries().ListArtifacts(filter, before, limit + 1));
  for (const store::ArtifactRecord& record : records) {
    if (response->artifacts_size() == limit) {
      response->set_next_page_token(MakePageToken(absl::StrCat(records[static_cast<size_t>(limit) - 1].row.id), bound));
      break;
    }
    *response->add_artifacts() = ToArtifact(record);
  }
  return absl::OkStatus();
}

absl::Status ArtifactApi::ReadArtifact(const CallContext&, const v1::ReadArtifactRequest& request,
                                       v1::ReadArtifactResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  if (request.offset() < 0) checks.Add("request.offset", "OUT_OF_RANGE", "it is negative");
  if (request.max_bytes() < 0) checks.Add("request.max_bytes", "OUT_OF_RANGE", "it is negative");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was read"));
  const int64_t want = request.max_bytes() == 0 ? kUsualPiece : std::min<int64_t>(request.max_bytes(), kMaxPiece);
  ASSIGN_OR_RETURN(const auto record, api_.engine->queries().FindArtifact(project, request.name()));
  if (record.row.value_json) {
    const std::string& value = *record.row.value_json;
    response->set_size(static_cast<int64_t>(value.size()));
    if (request.offset() < response->size()) {
      response->set_data(value.substr(static_cast<size_t>(request.offset()), static_cast<size_t>(want)));
    }
  } else {
    ASSIGN_OR_RETURN(const std::string path, api_.engine->ArtifactPath(record.row.digest));
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      ASSIGN_OR_RETURN(const TarView tar, TarView::Open(path));
      response->set_size(tar.size());
      ASSIGN_OR_RETURN(*response->mutable_data(), tar.Read(request.offset(), want));
    } else {
      RETURN_IF_ERROR(ReadFile(path, request.offset(), want, response));
    }
  }
  response->set_end(request.offset() + static_cast<int64_t>(response->data().size()) >= response->size());
  return absl::OkStatus();
}

absl::Status ArtifactApi::GetLineage(const CallContext& context, const v1::GetLineageRequest& request,
                                     v1::GetLineageResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 100));
  Checks checks;
  checks.Range("request.depth", int64_t{request.depth()}, 0, kMaxDepth);
  checks.Range("request.attempt", int64_t{request.attempt()}, 0, INT32_MAX);
  const bool of_attempt = !request.run().empty() || !request.step().empty();
  if (of_attempt ? !request.name().empty() : request.name().empty()) {
    checks.Add("request.name", "REQUIRED", "name an artifact, or the run and step of an attempt, not both");
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no lineage"));
  LineageStart start;
  if (of_attempt) {
    ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, project, request.run()));
    ASSIGN_OR_RETURN(start.ix, FindStep(found, request.step()));
    start.run = found.record.header.key;
    ASSIGN_OR_RETURN(const auto attempts, api_.engine->queries().ListAttempts(start.run, start.ix));
    start.attempt = request.attempt() != 0 ? static_cast<uint32_t>(request.attempt())
                    : attempts.empty()     ? 0
                                           : attempts.back().number;
    const bool there = std::any_of(attempts.begin(), attempts.end(),
                                   [&](const AttemptRow& row) { return row.number == start.attempt; });
    if (!there) {
      return Error(absl::StatusCode::kNotFound, "ATTEMPT_NOT_FOUND",
                   absl::StrCat("step `", request.step(), "` has ", attempts.size(), " attempts, no number ",
                                request.attempt()));
    }
  } else {
    ASSIGN_OR_RETURN(auto record, api_.engine->queries().FindArtifact(project, request.name()));
    start.artifact = record.row.id;
    *response->mutable_artifact() = ToArtifact(record);
  }
  v1::GetLineageRequest bound_to = request;
  bound_to.clear_page_token();
  const std::string bound = absl::StrCat("lineage|", start.artifact, "|", bound_to.SerializeAsString());
  LineageQuery query;
  query.upstream = request.direction() != v1::GetLineageRequest::DOWNSTREAM;
  query.downstream = request.direction() != v1::GetLineageRequest::UPSTREAM;
  query.depth = request.depth() == 0 ? kUsualDepth : request.depth();
  query.limit = limit;
  query.upto = INT64_MAX;
  ASSIGN_OR_RETURN(query.skip, ReadPageNumber(request.page_token(), bound));
  ASSIGN_OR_RETURN(LineagePage page, WalkLineage(api_, start, query));
  for (v1::GetLineageResponse::Link& link : page.links) *response->add_links() = std::move(link);
  if (page.more) response->set_next_page_token(MakePageToken(absl::StrCat(query.skip + limit), bound));
  response->set_truncated(page.truncated);
  return absl::OkStatus();
}

}  // namespace orch::rpc
