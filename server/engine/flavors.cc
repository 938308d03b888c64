// Flavors: those that are built in, and those that plug-ins bring.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

absl::Status NoFlavor(absl::string_view name) {
  return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
               absl::StrCat("there is no flavor `", name, "`; see orchctl list-flavors"));
}

PluginSource SourceOf(const FlavorRow& row) {
  return {row.program, row.address, row.ca_file, row.certificate_file, row.key_file};
}

bool IsSamePlace(const FlavorRow& a, const FlavorRow& b) { return a.program == b.program && a.address == b.address; }

// Of one that is built in, which lives as long as the process.
std::shared_ptr<const FlavorInfo> BuiltIn(const FlavorInfo* info) {
  return std::shared_ptr<const FlavorInfo>(std::shared_ptr<void>(), info);
}

}  // namespace

absl::Status EngineImpl::LoadFlavors() {
  ASSIGN_OR_RETURN(const std::vector<FlavorRow> rows, queries_->ListFlavors());
  for (const FlavorRow& row : rows) {
    if (options_.plugins == nullptr) break;
    const auto info = options_.plugins->Flavor(row.name, SourceOf(row), row.description);
    if (!info.ok()) {
      Log(LogLevel::kError, "flavor not in service", {{"flavor", row.name}, {"why", info.status().message()}});
      continue;
    }
    MutexLock lock(&mutex_);
    plugin_flavors_[row.name] = {row, std::make_shared<const FlavorInfo>(*info)};
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const FlavorInfo>> EngineImpl::Flavors() {
  std::vector<std::shared_ptr<const FlavorInfo>> out;
  for (const FlavorInfo& info : ::orch::Flavors()) {
    if (info.listed || options_.fake_flavor) out.push_back(BuiltIn(&info));
  }
  MutexLock lock(&mutex_);
  for (const auto& [name, flavor] : plugin_flavors_) {
    if (::orch::FindFlavor(name) == nullptr) out.push_back(flavor.info);
  }
  return out;
}

std::shared_ptr<const FlavorInfo> EngineImpl::FindFlavor(absl::string_view name) {
  if (const FlavorInfo* info = ::orch::FindFlavor(name)) {
    return info->listed || options_.fake_flavor ? BuiltIn(info) : nullptr;
  }
  MutexLock lock(&mutex_);
  const auto found = plugin_flavors_.find(std::string(name));
  return found == plugin_flavors_.end() ? nullptr : found->second.info;
}

absl::StatusOr<std::shared_ptr<const FlavorInfo>> EngineImpl::PutFlavor(const std::string& name,
                                                                        const PluginSource& source, bool validate_only,
                                                                        int64_t deadline_micros) {
  if (options_.plugins == nullptr) {
    return Error(absl::StatusCode::kUnimplemented, "NOT_IN_THIS_BUILD", "plug-ins are not in this build");
  }
  ASSIGN_OR_RETURN(std::string description, options_.plugins->Describe(source));
  ASSIGN_OR_RETURN(FlavorInfo described, options_.plugins->Flavor(name, source, description));
  const auto info = std::make_shared<const FlavorInfo>(std::move(described));
  if (::orch::FindFlavor(info->name) != nullptr) {
    return Error(absl::StatusCode::kAlreadyExists, "FLAVOR_BUILT_IN",
                 absl::StrCat("`", info->name, "` is a built-in flavor; give the plug-in's another name: --name"));
  }
  MutexLock change(&component_changes_);
  const int64_t now = Clock::Real().Now().wall;
  FlavorRow row{info->name,
                source.program,
                source.address,
                source.ca_file,
                source.certificate_file,
                source.key_file,
                description,
                now,
                now,
                1};
  {
    MutexLock lock(&mutex_);
    const auto old = plugin_flavors_.find(row.name);
    if (old != plugin_flavors_.end()) {
      const FlavorRow& before = old->second.row;
      if (!IsSamePlace(before, row)) {
        return Error(absl::StatusCode::kAlreadyExists, "FLAVOR_EXISTS",
                     absl::StrCat("flavor `", row.name, "` is that of ",
                                  before.program.empty() ? before.address : before.program,
                                  "; delete it first, or give this one another name: --name"));
      }
      row.created = before.created;
      row.version = before.version + 1;
    }
  }
  if (validate_only) return info;
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->flavors.push_back(row);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  plugin_flavors_[row.name] = {row, info};
  return info;
}

absl::Status EngineImpl::DeleteFlavor(absl::string_view name, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
  MutexLock change(&component_changes_);
  const std::string wanted(name);
  if (const FlavorInfo* info = ::orch::FindFlavor(name); info != nullptr && info->listed) {
    return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_BUILT_IN",
                 absl::StrCat("`", name, "` is a built-in flavor"));
  }
  {
    MutexLock lock(&mutex_);
    if (plugin_flavors_.count(wanted) == 0) return NoFlavor(name);
    for (const OrchestratorRow& row : components_.orchestrators) {
      if (row.flavor == wanted) {
        return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_IN_USE",
                     absl::StrCat("orchestrator `", row.name, "` is of flavor `", name,
                                  "`; delete it first: orchctl delete-orchestrator ", row.name));
      }
    }
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_flavors.push_back(wanted);
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  plugin_flavors_.erase(wanted);
  return absl::OkStatus();
}

}  // namespace orch
