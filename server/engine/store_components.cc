// Artifact stores and stacks: how they change, and which of them a submission means.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

constexpr char kProject[] = "default";
constexpr char kLocalStore[] = "default";

absl::Status NoStore(absl::string_view name) {
  return Error(absl::StatusCode::kNotFound, "ARTIFACT_STORE_NOT_FOUND",
               absl::StrCat("there is no artifact store `", name, "`; see orchctl list-artifact-stores"));
}

template <typename Rows>
auto FindName(Rows& rows, absl::string_view name) {
  return std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return absl::string_view(row.name) == name; });
}

}  // namespace

absl::StatusOr<EngineImpl::Place> EngineImpl::PlaceOf(const SubmitCommand& command) {
  const Components now = components();
  Place out{"local", ""};
  const auto stack = std::find_if(now.stacks.begin(), now.stacks.end(), [&](const StackRow& s) {
    return command.stack.empty() ? s.is_default : s.name == command.stack;
  });
  if (stack != now.stacks.end()) {
    out = {stack->orchestrator, stack->artifact_store == kLocalStore ? "" : stack->artifact_store};
  } else if (!command.stack.empty()) {
    return Error(absl::StatusCode::kNotFound, "STACK_NOT_FOUND",
                 absl::StrCat("there is no stack `", command.stack, "`; see orchctl list-stacks"));
  }
  if (!command.orchestrator.empty()) out.orchestrator = command.orchestrator;
  if (!out.artifact_store.empty() && stores_->Find(out.artifact_store) == nullptr) {
    return Error(absl::StatusCode::kFailedPrecondition, "ARTIFACT_STORE_NOT_IN_SERVICE",
                 absl::StrCat("artifact store `", out.artifact_store, "` is not in service; see the daemon's log"));
  }
  return out;
}

absl::StatusOr<std::unique_ptr<BlobHome>> EngineImpl::MakeHome(const ArtifactStoreRow& row) {
  return MakeBlobHome(row, options_.data_dir, [this](const std::string& name) -> absl::StatusOr<std::string> {
    const auto secret = queries_->GetSecret(kProject, name);
    if (secret.status().code() == absl::StatusCode::kNotFound) {
      return Error(absl::StatusCode::kFailedPrecondition, "SECRET_NOT_FOUND",
                   absl::StrCat("there is no secret `", name, "`; set it: orchctl set-secret ", name));
    }
    RETURN_IF_ERROR(secret.status());
    return secrets_->Open(*secret);
  });
}

void EngineImpl::LoadArtifactStores(const std::vector<ArtifactStoreRow>& rows) {
  for (const ArtifactStoreRow& row : rows) {
    auto home = MakeHome(row);
    if (home.ok()) {
      stores_->Put(row.name, *std::move(home));
    } else {
      Log(LogLevel::kError, "artifact store not in service",
          {{"artifact_store", row.name}, {"why", home.status().message()}});
    }
  }
}

absl::StatusOr<ArtifactStoreRow> EngineImpl::PutArtifactStore(ArtifactStoreRow row, bool update, bool validate_only,
                                                              int64_t deadline_micros) {
  if (row.name == kLocalStore) {
    return Error(absl::StatusCode::kAlreadyExists, "ARTIFACT_STORE_EXISTS",
                 "`default` is the local folder in the data directory; choose another name");
  }
  bool same = false;
  // Against what there is now: before the store is tried, which may take a minute and is done without the lock, and
  // after.
  const auto check = [&](const Components& now) -> absl::Status {
    const auto old = FindName(now.artifact_stores, row.name);
    row.created = row.updated = Clock::Real().Now().wall;
    if (old == now.artifact_stores.end()) return update ? NoStore(row.name) : absl::OkStatus();
    same = old->flavor == row.flavor && old->config_json == row.config_json;
    if (same) {
      row = *old;
      return absl::OkStatus();
    }
    if (!update) {
      return Error(
          absl::StatusCode::kAlreadyExists, "ARTIFACT_STORE_EXISTS",
          absl::StrCat("artifact store `", row.name, "` exists with another configuration; change it with --update"));
    }
    if (old->flavor != row.flavor) {
      return Error(
          absl::StatusCode::kFailedPrecondition, "FLAVOR_FIXED",
          absl::StrCat("artifact store `", row.name, "` is of flavor `", old->flavor, "`, which does not change"));
    }
    row.created = old->created;
    row.version = old->version + 1;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(check(components()));
  if (same && stores_->Find(row.name) != nullptr) return row;
  ASSIGN_OR_RETURN(std::unique_ptr<BlobHome> home, MakeHome(row));
  if (const absl::Status tried = home->Probe(); !tried.ok()) {
    // Whatever is wrong, it is the store's: another code would say that the caller may not talk to us, or shall try
    // again.
    return Error(absl::StatusCode::kFailedPrecondition, ReasonOf(tried).empty() ? "STORE_FAILED" : ReasonOf(tried),
                 tried.message());
  }
  if (validate_only) return row;
  MutexLock change(&component_changes_);
  RETURN_IF_ERROR(check(components()));
  if (same) {  // one that could not serve when the daemon started
    stores_->Put(row.name, std::move(home));
    return row;
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->artifact_stores.push_back(row);
  post.event = ArtifactStoreChanged{row.name};
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  stores_->Put(row.name, std::move(home));
  MutexLock lock(&mutex_);
  const auto place = FindName(components_.artifact_stores, row.name);
  if (place != components_.artifact_stores.end()) {
    *place = row;
  } else {
    components_.artifact_stores.push_back(row);
  }
  return row;
}

absl::Status EngineImpl::DeleteArtifactStore(absl::string_view name, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
  MutexLock change(&component_changes_);
  const Components now = components();
  if (FindName(now.artifact_stores, name) == now.artifact_stores.end()) return NoStore(name);
  for (const StackRow& stack : now.stacks) {
    if (absl::string_view(stack.artifact_store) == name) {
      return Error(absl::StatusCode::kFailedPrecondition, "ARTIFACT_STORE_IN_USE",
                   absl::StrCat("stack `", stack.name, "` names artifact store `", name, "`"));
    }
  }
  // From here on no run begins with it, and none is left that could still bring something.
  const auto set = [&](bool present) {
    Post post;
    post.event = ArtifactStoreChanged{std::string(name), present};
    return post;
  };
  const absl::Status closed = PostAndWait(set(false), deadline_micros);
  if (closed.code() == absl::StatusCode::kDeadlineExceeded) mailbox_.Put(set(true));
  RETURN_IF_ERROR(closed);
  const auto copies = queries_->CountBlobCopies(name);
  if (!copies.ok() || *copies > 0) {
    mailbox_.Put(set(true));
    RETURN_IF_ERROR(copies.status());
    return Error(absl::StatusCode::kFailedPrecondition, "ARTIFACT_STORE_IN_USE",
                 absl::StrCat("artifact store `", name, "` has ", *copies,
                              " blobs of artifacts that are kept; delete or prune their runs first"));
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_artifact_stores.emplace_back(name);
  Remember(std::move(asked), "", &post);
  const absl::Status deleted = PostAndWait(std::move(post), deadline_micros);
  // Out of time, it may still happen.
  if (!deleted.ok() && deleted.code() != absl::StatusCode::kDeadlineExceeded) mailbox_.Put(set(true));
  RETURN_IF_ERROR(deleted);
  stores_->Remove(std::string(name));
  MutexLock lock(&mutex_);
  components_.artifact_stores.erase(FindName(components_.artifact_stores, name));
  return absl::OkStatus();
}

absl::Status EngineImpl::PutStack(StackRow row, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  MutexLock change(&component_changes_);
  const Components now = components();
  if (FindName(now.orchestrators, row.orchestrator) == now.orchestrators.end()) {
    return Error(absl::StatusCode::kNotFound, "ORCHESTRATOR_NOT_FOUND",
                 absl::StrCat("there is no orchestrator `", row.orchestrator, "`; see orchctl list-orchestrators"));
  }
  if (row.artifact_store != kLocalStore &&
      FindName(now.artifact_stores, row.artifact_store) == now.artifact_stores.end()) {
    return NoStore(row.artifact_store);
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->stacks.push_back(row);
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  if (row.is_default) {
    for (StackRow& stack : components_.stacks) stack.is_default = false;
  }
  const auto place = FindName(components_.stacks, row.name);
  if (place != components_.stacks.end()) {
    *place = std::move(row);
  } else {
    components_.stacks.push_back(std::move(row));
  }
  return absl::OkStatus();
}

absl::Status EngineImpl::DeleteStack(absl::string_view name, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
  MutexLock change(&component_changes_);
  const Components now = components();
  const auto stack = FindName(now.stacks, name);
  if (stack == now.stacks.end()) {
    return Error(absl::StatusCode::kNotFound, "STACK_NOT_FOUND",
                 absl::StrCat("there is no stack `", name, "`; see orchctl list-stacks"));
  }
  if (stack->is_default) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "STACK_IN_USE",
        absl::StrCat("stack `", name, "` is the default one; make another the default first: orchctl set-stack"));
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_stacks.emplace_back(name);
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  components_.stacks.erase(FindName(components_.stacks, name));
  return absl::OkStatus();
}

}  // namespace orch
