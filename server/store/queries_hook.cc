// Hooks of runs and steps.
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {

absl::StatusOr<std::vector<HookRow>> QueriesImpl::ListHooks(RunKey run, int64_t ix) {
  return pool_->Read("listing hooks", [&](Connection& c) -> absl::StatusOr<std::vector<HookRow>> {
    auto s = c.Prepare(
        absl::StrCat("SELECT ", kHookColumns, " FROM hook WHERE run = ? AND ix = ? ORDER BY generation, on_failure"));
    s.Int(run).Int(ix);
    std::vector<HookRow> out;
    while (s.Next()) out.push_back(ReadHook(*s));
    return out;
  });
}

absl::StatusOr<HookRow> QueriesImpl::FindHook(RunKey run, absl::string_view id) {
  return pool_->Read("reading a hook", [&](Connection& c) -> absl::StatusOr<HookRow> {
    auto s = c.Prepare(absl::StrCat("SELECT ", kHookColumns, " FROM hook WHERE run = ? AND id = ?"));
    if (s.Int(run).Text(id).Next()) return ReadHook(*s);
    return Error(absl::StatusCode::kNotFound, "HOOK_NOT_FOUND",
                 absl::StrCat("the run has no hook `", id, "`; GetRun and GetStep show which there are"));
  });
}

}  // namespace orch::store
