// The tokens that clients are let in with, in memory: what is asked at every call must not wait for the database.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/model/rows.h"

namespace orch {

// Who makes a call with such a token.
struct TokenIdentity {
  std::string name;
  int64_t created = 0;  // another token of that name was made at another time
  TokenScope scope = TokenScope::kRead;
};

// Any thread; nothing here waits.
class ApiTokens {
 public:
  // A new token's value, and the digest that is kept of it.
  static std::string MakeValue();
  static std::string DigestOf(absl::string_view value);

  void Load(const std::vector<ApiTokenRow>& rows);
  void Put(const ApiTokenRow& row);  // replaces one of that name

  // UNAUTHENTICATED: TOKEN_REVOKED, TOKEN_EXPIRED; TOKEN_INVALID if it is none of them, after the same work for every
  // text of that length. `now`: wall clock.
  absl::StatusOr<TokenIdentity> Find(absl::string_view value, int64_t now) const;
  // As Find, for a token that was let in before.
  absl::Status Check(const TokenIdentity& token, int64_t now) const;
  // Notes that it is being used. True about once an hour: then that time is worth being stored.
  bool NoteUse(const TokenIdentity& token, int64_t now);

  std::vector<ApiTokenRow> List() const;  // by name
  std::optional<ApiTokenRow> Get(const std::string& name) const;

 private:
  static absl::Status Judge(const ApiTokenRow& row, int64_t now);

  mutable Mutex mutex_;
  std::map<std::string, ApiTokenRow> by_name_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> names_ ABSL_GUARDED_BY(mutex_);  // by digest
};

}  // namespace orch
