// Secrets: how they change. What they are for steps is in file_workshop.cc.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {

absl::StatusOr<SecretRow> EngineImpl::SetSecret(absl::string_view project, absl::string_view name,
                                                absl::string_view value, int64_t deadline_micros) {
  RETURN_IF_ERROR(RefuseWhenFull());
  MutexLock change(&component_changes_);
  const Components now = components();
  SecretRow row;
  row.project = std::string(project);
  row.name = std::string(name);
  row.created = row.updated = Clock::Real().Now().wall;
  for (const SecretRow& old : now.secrets) {
    if (old.project != row.project || old.name != row.name) continue;
    row.created = old.created;
    row.updated = std::max(row.updated, old.updated);
    row.version = old.version + 1;
  }
  RETURN_IF_ERROR(secrets_->Seal(value, /*may_make=*/now.secrets.empty(), &row));
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->secrets.push_back(row);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  row.sealed.clear();
  Log(LogLevel::kInfo, "secret set", {{"project", row.project}, {"secret", row.name}, {"version", row.version}});
  MutexLock lock(&mutex_);
  auto& list = components_.secrets;
  const auto place = std::find_if(list.begin(), list.end(),
                                  [&](const SecretRow& s) { return s.project == row.project && s.name == row.name; });
  if (place != list.end()) {
    *place = row;
  } else {
    list.push_back(row);
  }
  return row;
}

absl::Status EngineImpl::DeleteSecret(absl::string_view project, absl::string_view name, bool force,
                                      int64_t deadline_micros) {
  MutexLock change(&component_changes_);
  const std::string of(project);
  const std::string wanted(name);
  const auto is_it = [&](const SecretRow& s) { return s.project == of && s.name == wanted; };
  const Components now = components();
  if (std::none_of(now.secrets.begin(), now.secrets.end(), is_it)) {
    return Error(absl::StatusCode::kNotFound, "SECRET_NOT_FOUND",
                 absl::StrCat("there is no secret `", name, "`; `orchctl list-secrets` shows all"));
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_secrets.emplace_back(of, wanted);
  post.event = SecretRemoved{of, wanted, force};
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  Log(LogLevel::kInfo, "secret deleted", {{"project", of}, {"secret", wanted}});
  MutexLock lock(&mutex_);
  auto& list = components_.secrets;
  list.erase(std::remove_if(list.begin(), list.end(), is_it), list.end());
  return absl::OkStatus();
}

}  // namespace orch
