#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {
namespace {

std::string PipelineSql(const char* rest) { return absl::StrCat("SELECT ", kPipelineColumns, " FROM pipeline ", rest); }

}  // namespace

absl::StatusOr<PipelineRow> QueriesImpl::FindPipeline(absl::string_view project, absl::string_view name,
                                                      int64_t version) {
  return pool_->Read("reading a pipeline", [&](Connection& c) -> absl::StatusOr<PipelineRow> {
    auto s = c.Prepare(version == 0 ? PipelineSql("WHERE project = ? AND name = ? ORDER BY version DESC LIMIT 1")
                                    : PipelineSql("WHERE project = ? AND name = ? AND version = ?"));
    s.Text(project).Text(name);
    if (version != 0) s.Int(version);
    if (s.Next()) return ReadPipeline(*s);
    const std::string which = version == 0 ? "" : absl::StrCat(" version ", version, " of");
    return Error(absl::StatusCode::kNotFound, "PIPELINE_NOT_FOUND",
                 absl::StrCat("there is no", which, " pipeline '", name, "' in project '", project, "'",
                              NearNames(c, "pipeline", project, name)));
  });
}

absl::StatusOr<std::optional<PipelineRow>> QueriesImpl::FindPipelineByDigest(absl::string_view project,
                                                                             absl::string_view name,
                                                                             absl::string_view digest) {
  return pool_->Read("reading a pipeline", [&](Connection& c) -> absl::StatusOr<std::optional<PipelineRow>> {
    auto s = c.Prepare(PipelineSql("WHERE digest = ? AND project = ? AND name = ? ORDER BY version DESC LIMIT 1"));
    if (!s.Blob(digest).Text(project).Text(name).Next()) return std::optional<PipelineRow>();
    return std::optional<PipelineRow>(ReadPipeline(*s));
  });
}

absl::StatusOr<PipelineRow> QueriesImpl::GetPipeline(int64_t id) {
  return pool_->Read("reading a pipeline", [&](Connection& c) -> absl::StatusOr<PipelineRow> {
    auto s = c.Prepare(PipelineSql("WHERE id = ?"));
    if (s.Int(id).Next()) return ReadPipeline(*s);
    return Error(absl::StatusCode::kNotFound, "PIPELINE_NOT_FOUND", absl::StrCat("there is no pipeline with id ", id));
  });
}

absl::StatusOr<std::string> QueriesImpl::ReadSpec(absl::string_view digest) {
  return pool_->Read("reading a pipeline's spec", [&](Connection& c) -> absl::StatusOr<std::string> {
    std::string out;
    {
      auto size = c.Prepare("SELECT bytes FROM pipeline WHERE digest = ? LIMIT 1");
      if (!size.Blob(digest).Next()) {
        return Error(absl::StatusCode::kNotFound, "PIPELINE_NOT_FOUND",
                     absl::StrCat("there is no pipeline with digest ", Hex(digest)));
      }
      out.reserve(static_cast<size_t>(size->getColumn(0).getInt64()));
    }
    auto s = c.Prepare("SELECT ix, bytes FROM spec_slice WHERE digest = ? ORDER BY ix");
    s.Blob(digest);
    int expected = 0;
    while (s.Next()) {
      if (s->getColumn(0).getInt() != expected++) break;
      const SQLite::Column bytes = s->getColumn(1);
      out.append(static_cast<const char*>(bytes.getBlob()), static_cast<size_t>(bytes.getBytes()));
    }
    // A spec that lacks a piece must not be run as if it were whole.
    if (Sha256Of(out) != digest) {
      return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                   absl::StrCat("the stored spec ", Hex(digest), " is damaged: submit the pipeline again"));
    }
    return out;
  });
}

absl::StatusOr<std::vector<PipelineRow>> QueriesImpl::ListPipelines(absl::string_view project, absl::string_view after,
                                                                    int limit) {
  return pool_->Read("listing pipelines", [&](Connection& c) -> absl::StatusOr<std::vector<PipelineRow>> {
    // Name by name: two seeks each, however many versions there are.
    std::vector<PipelineRow> out;
    std::string last(after);
    while (out.size() < static_cast<size_t>(limit)) {
      auto next = c.Prepare("SELECT name FROM pipeline WHERE project = ? AND name > ? ORDER BY name LIMIT 1");
      if (!next.Text(project).Text(last).Next()) break;
      last = next->getColumn(0).getString();
      auto newest = c.Prepare(PipelineSql("WHERE project = ? AND name = ? ORDER BY version DESC LIMIT 1"));
      if (newest.Text(project).Text(last).Next()) out.push_back(ReadPipeline(*newest));
    }
    return out;
  });
}

absl::StatusOr<std::vector<PipelineRow>> QueriesImpl::ListPipelineVersions(absl::string_view project,
                                                                           absl::string_view name, int64_t before,
                                                                           int limit) {
  return pool_->Read("listing a pipeline's versions", [&](Connection& c) -> absl::StatusOr<std::vector<PipelineRow>> {
    auto s = c.Prepare(PipelineSql("WHERE project = ? AND name = ? AND version < ? ORDER BY version DESC LIMIT ?"));
    s.Text(project).Text(name).Int(before <= 0 ? INT64_MAX : before).Int(limit);
    std::vector<PipelineRow> out;
    while (s.Next()) out.push_back(ReadPipeline(*s));
    return out;
  });
}

}  // namespace orch::store
