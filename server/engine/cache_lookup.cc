#include "server/engine/cache_lookup.h"

#include <utility>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch {

absl::Status CacheLookup::Read(const std::string& project, int64_t now_wall,
                               absl::FunctionRef<absl::Status(Look)> work) {
  return queries_->ReadCache(project, [&](const store::Queries::CacheFinder& find) {
    return work([&](const StepSpec& step, const std::string& key) {
      std::optional<store::Queries::CacheHit> hit = find(key);
      return hit.has_value() ? Judge(step, *std::move(hit), now_wall) : Answer();
    });
  });
}

CacheLookup::Answer CacheLookup::Judge(const StepSpec& step, store::Queries::CacheHit hit, int64_t now_wall) {
  Answer answer;
  answer.run = hit.entry.run;
  answer.run_name = std::move(hit.entry.run_name);
  const int64_t ttl = step.options().cache_ttl_micros;
  if (ttl > 0 && now_wall - hit.entry.created > ttl) {
    answer.verdict = CacheVerdict::kExpired;
    return answer;
  }
  if (hit.artifacts.size() != step.outputs.size()) return answer;
  answer.outputs.reserve(hit.artifacts.size());
  for (size_t o = 0; o < hit.artifacts.size(); ++o) {
    ArtifactRow& artifact = hit.artifacts[o];
    // Held before the look: what is there then stays.
    std::shared_ptr<const void> hold = artifact.value_json.has_value() ? nullptr : blobs_->Hold(artifact.digest);
    if (hold != nullptr && !blobs_->Sound(artifact.digest)) {
      answer.verdict = CacheVerdict::kBytesMissing;
      answer.outputs.clear();
      return answer;
    }
    StoredOutput& output = answer.outputs.emplace_back();
    output.output = static_cast<uint32_t>(o);
    output.blob.digest = std::move(artifact.digest);
    output.blob.size = artifact.size;
    output.blob.hold = std::move(hold);
    output.blob.directory = artifact.type == "dir";
    output.value_json = std::move(artifact.value_json);
    output.metadata_json = std::move(artifact.metadata_json);
  }
  answer.hit = true;
  return answer;
}

}  // namespace orch
