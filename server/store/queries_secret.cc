// Secrets, sealed as they are stored, and what is kept of tokens.
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/store/queries_impl.h"

namespace orch::store {
namespace {

SecretRow ReadSecret(SQLite::Statement& s) {
  SecretRow r;
  r.project = s.getColumn(0).getString();
  r.name = s.getColumn(1).getString();
  r.sealed = s.getColumn(2).getString();
  r.text = s.getColumn(3).getInt() != 0;
  r.created = s.getColumn(4).getInt64();
  r.updated = s.getColumn(5).getInt64();
  r.version = s.getColumn(6).getInt64();
  return r;
}

}  // namespace

absl::StatusOr<std::vector<SecretRow>> QueriesImpl::ListSecrets(absl::string_view project) {
  return pool_->Read("listing secrets", [&](Connection& c) -> absl::StatusOr<std::vector<SecretRow>> {
    auto s = c.Prepare(
        "SELECT project, name, x'', text, created, updated, version FROM secret WHERE project = ? ORDER BY name");
    s.Text(project);
    std::vector<SecretRow> out;
    while (s.Next()) out.push_back(ReadSecret(*s));
    return out;
  });
}

absl::StatusOr<SecretRow> QueriesImpl::GetSecret(absl::string_view project, absl::string_view name) {
  return pool_->Read("reading a secret", [&](Connection& c) -> absl::StatusOr<SecretRow> {
    auto s = c.Prepare(
        "SELECT project, name, sealed, text, created, updated, version FROM secret WHERE project = ? AND name = ?");
    if (s.Text(project).Text(name).Next()) return ReadSecret(*s);
    return Error(absl::StatusCode::kNotFound, "SECRET_NOT_FOUND",
                 absl::StrCat("there is no secret `", name, "`; `orchctl list-secrets` shows all"));
  });
}

absl::StatusOr<std::vector<ApiTokenRow>> QueriesImpl::ListApiTokens() {
  return pool_->Read("listing tokens", [&](Connection& c) -> absl::StatusOr<std::vector<ApiTokenRow>> {
    auto s = c.Prepare("SELECT name, digest, scope, created, expires, last_used, revoked FROM api_token ORDER BY name");
    std::vector<ApiTokenRow> out;
    while (s.Next()) {
      ApiTokenRow r;
      r.name = (*s).getColumn(0).getString();
      r.digest = (*s).getColumn(1).getString();
      r.scope = static_cast<TokenScope>((*s).getColumn(2).getInt());
      r.created = (*s).getColumn(3).getInt64();
      r.expires = (*s).getColumn(4).getInt64();
      r.last_used = (*s).getColumn(5).getInt64();
      r.revoked = (*s).getColumn(6).getInt64();
      out.push_back(std::move(r));
    }
    return out;
  });
}

}  // namespace orch::store
