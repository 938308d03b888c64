// Secrets: how they change. What they are for steps is in file_workshop.cc.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

// What SetSecret needs to answer again: times and version, not the value.
std::string AnswerOf(const SecretRow& row) { return absl::StrCat(row.created, " ", row.updated, " ", row.version); }

absl::StatusOr<SecretRow> FromAnswer(absl::string_view project, absl::string_view name, absl::string_view answer) {
  SecretRow row;
  row.project = std::string(project);
  row.name = std::string(name);
  const std::vector<absl::string_view> parts = absl::StrSplit(answer, ' ');
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &row.created) || !absl::SimpleAtoi(parts[1], &row.updated) ||
      !absl::SimpleAtoi(parts[2], &row.version)) {
    return absl::InternalError("the answer of a SetSecret cannot be read");
  }
  return row;
}

}  // namespace

absl::StatusOr<SecretRow> EngineImpl::SetSecret(absl::string_view project, absl::string_view name,
                                                absl::string_view value, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return FromAnswer(project, name, *asked.answer);
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
  Remember(std::move(asked), AnswerOf(row), &post);
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

absl::Status EngineImpl::DeleteSecret(absl::string_view project, absl::string_view name, bool force, Asked asked,
                                      int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
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
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  Log(LogLevel::kInfo, "secret deleted", {{"project", of}, {"secret", wanted}});
  MutexLock lock(&mutex_);
  auto& list = components_.secrets;
  list.erase(std::remove_if(list.begin(), list.end(), is_it), list.end());
  return absl::OkStatus();
}

}  // namespace orch
