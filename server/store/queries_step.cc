#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {

absl::StatusOr<std::vector<StepRow>> QueriesImpl::ListSteps(RunKey run, const StepFilter& filter, StepIx from,
                                                            int limit) {
  return pool_->Read("listing steps", [&](Connection& c) -> absl::StatusOr<std::vector<StepRow>> {
    std::vector<int> states;
    for (StepState state : filter.states) states.push_back(static_cast<int>(state));
    auto s =
        c.Prepare(absl::StrCat("SELECT ", kStepColumns, " FROM step WHERE run = ? AND ix >= ?",
                               states.empty() ? "" : absl::StrCat(" AND state IN (", absl::StrJoin(states, ","), ")"),
                               filter.name_prefix.empty() ? "" : " AND substr(name, 1, length(?3)) = ?3",
                               " ORDER BY ix LIMIT ", filter.name_prefix.empty() ? "?3" : "?4"));
    s.Int(run).Int(from);
    if (!filter.name_prefix.empty()) s.Text(filter.name_prefix);
    s.Int(limit);
    std::vector<StepRow> out;
    while (s.Next()) out.push_back(ReadStep(*s));
    return out;
  });
}

absl::StatusOr<std::optional<StepRow>> QueriesImpl::GetStep(RunKey run, StepIx ix) {
  return pool_->Read("reading a step", [&](Connection& c) -> absl::StatusOr<std::optional<StepRow>> {
    auto s = c.Prepare(absl::StrCat("SELECT ", kStepColumns, " FROM step WHERE run = ? AND ix = ?"));
    if (!s.Int(run).Int(ix).Next()) return std::optional<StepRow>();
    return std::optional<StepRow>(ReadStep(*s));
  });
}

absl::StatusOr<std::vector<StepMark>> QueriesImpl::ScanSteps(RunKey run, StepIx from, bool descending, int limit) {
  return pool_->Read("looking through steps", [&](Connection& c) -> absl::StatusOr<std::vector<StepMark>> {
    auto s = c.Prepare(descending ? "SELECT ix, state FROM step WHERE run = ? AND ix <= ? ORDER BY ix DESC LIMIT ?"
                                  : "SELECT ix, state FROM step WHERE run = ? AND ix >= ? ORDER BY ix LIMIT ?");
    s.Int(run).Int(from).Int(limit);
    std::vector<StepMark> out;
    while (s.Next()) {
      out.push_back(
          {static_cast<StepIx>(s->getColumn(0).getInt64()), static_cast<StepState>(s->getColumn(1).getInt())});
    }
    return out;
  });
}

absl::StatusOr<std::vector<StepRow>> QueriesImpl::GetSteps(RunKey run, const std::vector<StepIx>& ixs) {
  return pool_->Read("reading steps", [&](Connection& c) -> absl::StatusOr<std::vector<StepRow>> {
    std::vector<StepRow> out;
    out.reserve(ixs.size());
    for (const StepIx ix : ixs) {
      auto s = c.Prepare(absl::StrCat("SELECT ", kStepColumns, " FROM step WHERE run = ? AND ix = ?"));
      if (s.Int(run).Int(ix).Next()) out.push_back(ReadStep(*s));
    }
    return out;
  });
}

absl::StatusOr<std::vector<StepOutput>> QueriesImpl::ListOutputs(RunKey run, const std::vector<StepIx>& ixs) {
  return pool_->Read("reading outputs", [&](Connection& c) -> absl::StatusOr<std::vector<StepOutput>> {
    std::vector<StepOutput> out;
    for (const StepIx ix : ixs) {
      auto s =
          c.Prepare("SELECT output, id FROM artifact INDEXED BY artifact_by_step WHERE run = ? AND ix = ? ORDER BY id");
      s.Int(run).Int(ix);
      while (s.Next()) out.push_back({ix, s->getColumn(0).getString(), s->getColumn(1).getInt64()});
    }
    return out;
  });
}

}  // namespace orch::store
