#include "server/engine/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr size_t kSliceBytes = 256 << 10;
constexpr size_t kRecent = 16;  // compiled pipelines kept though nobody uses them
constexpr size_t kRecentSteps = 20'000;
constexpr size_t kKnownIds = 10'000;

}  // namespace

absl::Status PipelineInvalid(const std::string& name, const std::vector<Violation>& violations) {
  std::string message =
      absl::StrCat("pipeline `", name, "` has ", violations.size(), violations.size() == 1 ? " fault" : " faults");
  if (!violations.empty()) {
    absl::StrAppend(&message, ": ", violations[0].field, violations[0].field.empty() ? "" : ": ",
                    violations[0].description);
  }
  return InvalidInput("PIPELINE_INVALID", message, violations);
}

Catalog::Catalog(const EngineOptions& options, int64_t next_pipeline_id, store::Queries* queries, Mailbox* mailbox)
    : options_(options), queries_(queries), mailbox_(mailbox), next_id_(next_pipeline_id) {}

void Catalog::Keep(std::shared_ptr<const CompiledPipeline> pipeline) {
  known_[pipeline->row.id] = pipeline;
  recent_.push_back(std::move(pipeline));
  // Large ones go with their last run: they would hold their memory for nobody.
  size_t steps = 0;
  for (const auto& p : recent_) steps += p->graph->templates().size();
  while (recent_.size() > kRecent || (steps > kRecentSteps && !recent_.empty())) {
    steps -= recent_.front()->graph->templates().size();
    recent_.pop_front();
  }
  if (known_.size() > 1000) {
    for (auto it = known_.begin(); it != known_.end();) it = it->second.expired() ? known_.erase(it) : std::next(it);
  }
}

std::shared_ptr<const CompiledPipeline> Catalog::FindKept(int64_t id) {
  const auto found = known_.find(id);
  return found == known_.end() ? nullptr : found->second.lock();
}

absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Catalog::Check(const std::string& project, PipelineSpec spec,
                                                                       const std::string& bytes, std::string digest) {
  auto pipeline = std::make_shared<CompiledPipeline>();
  pipeline->row.project = project;
  pipeline->row.name = spec.name;
  pipeline->row.digest = digest.empty() ? Sha256Of(bytes) : std::move(digest);
  pipeline->row.step_count = static_cast<int64_t>(spec.steps.size());
  pipeline->row.bytes = static_cast<int64_t>(bytes.size());
  if (auto known = FindCompiled(project, spec.name, pipeline->row.digest)) return known;
  Compiled compiled = Compile(std::move(spec), CompileLimitsOf(options_.limits));
  if (compiled.graph == nullptr) return PipelineInvalid(pipeline->row.name, compiled.violations);
  pipeline->graph = std::move(compiled.graph);
  return std::shared_ptr<const CompiledPipeline>(std::move(pipeline));
}

absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Catalog::Check(SubmitCommand* command) {
  if (command->known != nullptr) return command->known;
  return Check(command->project, std::move(command->spec), command->spec_bytes, std::move(command->spec_digest));
}

std::shared_ptr<const CompiledPipeline> Catalog::FindCompiled(const std::string& project, const std::string& name,
                                                              const std::string& digest) {
  MutexLock lock(&mutex_);
  const auto found = ids_.find({project, name, digest});
  return found == ids_.end() ? nullptr : FindKept(found->second);
}

absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Catalog::Store(std::shared_ptr<const CompiledPipeline> checked,
                                                                       const std::string& bytes, int64_t now_wall) {
  if (checked->row.id != 0) return checked;
  auto pipeline = std::make_shared<CompiledPipeline>(*checked);
  PipelineRow& row = pipeline->row;
  MutexLock lock(&mutex_);  // versions are numbered and posted in one order
  if (auto found = ids_.find({row.project, row.name, row.digest}); found != ids_.end()) {
    if (auto kept = FindKept(found->second)) return kept;
  }
  ASSIGN_OR_RETURN(const std::optional<PipelineRow> stored,
                   queries_->FindPipelineByDigest(row.project, row.name, row.digest));
  if (stored.has_value()) {
    row = *stored;
  } else {
    int64_t& newest = versions_[{row.project, row.name}];
    if (newest == 0) {
      const auto known = queries_->FindPipeline(row.project, row.name, 0);
      if (known.ok()) {
        newest = known->version;
      } else if (known.status().code() != absl::StatusCode::kNotFound) {
        return known.status();
      }
    }
    for (size_t at = 0, index = 0; at < bytes.size(); at += kSliceBytes, ++index) {
      Post post;
      post.rows = std::make_unique<Batch>();
      post.rows->spec_slices.push_back({row.digest, static_cast<int>(index), bytes.substr(at, kSliceBytes)});
      post.lazy = true;  // see below; the loop commits by itself when there are many
      RETURN_IF_ERROR(mailbox_->Offer(std::move(post)));
    }
    row.id = next_id_;
    row.version = newest + 1;
    row.created = now_wall;
    Post post;
    post.rows = std::make_unique<Batch>();
    post.rows->pipelines.push_back(row);
    post.lazy = true;  // it is committed with the run, or by the receipt that RegisterPipeline waits for
    RETURN_IF_ERROR(mailbox_->Offer(std::move(post)));
    ++next_id_;
    ++newest;
  }
  if (ids_.size() > kKnownIds) ids_.clear();
  ids_[{row.project, row.name, row.digest}] = row.id;
  Keep(pipeline);
  return std::shared_ptr<const CompiledPipeline>(std::move(pipeline));
}

absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Catalog::Load(int64_t pipeline_id) {
  {
    MutexLock lock(&mutex_);
    if (auto kept = FindKept(pipeline_id)) return kept;
  }
  auto pipeline = std::make_shared<CompiledPipeline>();
  ASSIGN_OR_RETURN(pipeline->row, queries_->GetPipeline(pipeline_id));
  ASSIGN_OR_RETURN(const std::string bytes, queries_->ReadSpec(pipeline->row.digest));
  ASSIGN_OR_RETURN(PipelineSpec spec, options_.parse_spec(bytes));
  // It was accepted once: today's limits do not apply to it.
  Compiled compiled = Compile(std::move(spec), {INT32_MAX, INT32_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX});
  if (compiled.graph == nullptr) return PipelineInvalid(pipeline->row.name, compiled.violations);
  pipeline->graph = std::move(compiled.graph);
  MutexLock lock(&mutex_);
  if (auto kept = FindKept(pipeline_id)) return kept;
  Keep(pipeline);
  return std::shared_ptr<const CompiledPipeline>(std::move(pipeline));
}

}  // namespace orch
