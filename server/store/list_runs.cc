#include "server/store/list_runs.h"

#include <algorithm>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/store/encoding.h"

namespace orch::store {
namespace {

// A condition's text and what is bound to it, in step.
struct Where {
  std::string sql;
  std::vector<std::string> texts;

  void And(absl::string_view condition, std::vector<std::string> values) {
    absl::StrAppend(&sql, " AND ", condition);
    for (std::string& v : values) texts.push_back(std::move(v));
  }
};

std::vector<int> States(const RunFilter& filter) {
  std::vector<int> out;
  for (RunState s : filter.states) out.push_back(static_cast<int>(s));
  if (out.empty()) {
    for (int s = static_cast<int>(RunState::kPending); s <= static_cast<int>(RunState::kCancelled); ++s) {
      out.push_back(s);
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// The full-text query for `part`: pieces of three letters that cover it, all of which a name that contains it has.
// Empty if there are none; then, and for every name found, LIKE decides.
std::string Pieces(const std::string& part) {
  constexpr size_t kMaxPieces = 20;
  std::string out;
  if (part.size() < 3) return out;
  for (char c : part) {
    if (static_cast<unsigned char>(c) >= 0x80 || c == '\0') return "";
  }
  for (size_t i = 0; i < kMaxPieces && 3 * i < part.size(); ++i) {
    const std::string piece = part.substr(std::min(3 * i, part.size() - 3), 3);
    absl::StrAppend(&out, out.empty() ? "" : " AND ", "\"", absl::StrReplaceAll(piece, {{"\"", "\"\""}}), "\"");
  }
  return out;
}

void Collect(Connection& c, const std::string& sql, const Where& where, RunKey before, int limit,
             std::vector<RunKey>* keys) {
  auto s = c.Prepare(sql);
  for (const std::string& text : where.texts) s.Text(text);
  s.Int(before).Int(limit);
  while (s.Next()) keys->push_back(s->getColumn(0).getInt64());
}

}  // namespace

std::vector<RunKey> FindRunKeys(Connection& c, const RunFilter& filter, RunKey before, int limit) {
  if (before <= 0) before = INT64_MAX;
  Where where;
  where.And("r.project = ?", {filter.project});
  if (!filter.pipeline.empty()) where.And("r.pipeline = ?", {filter.pipeline});
  if (!filter.orchestrator.empty()) where.And("r.orchestrator = ?", {filter.orchestrator});
  if (!filter.name_contains.empty()) {
    where.And("r.name LIKE ? ESCAPE '\\'", {absl::StrCat("%", EscapeLike(filter.name_contains), "%")});
  }
  for (size_t i = 1; i < filter.labels.size(); ++i) {
    where.And("EXISTS (SELECT 1 FROM run_label x WHERE x.project = ? AND x.name = ? AND x.value = ? AND x.run = r.key)",
              {filter.project, filter.labels[i].first, filter.labels[i].second});
  }
  const std::vector<int> states = States(filter);
  std::vector<RunKey> keys;

  if (!filter.labels.empty()) {
    // The first label's range, in key order.
    if (!filter.states.empty()) where.And(absl::StrCat("r.state IN (", absl::StrJoin(states, ","), ")"), {});
    where.And("l.project = ? AND l.name = ? AND l.value = ?",
              {filter.project, filter.labels[0].first, filter.labels[0].second});
    Collect(c,
            absl::StrCat("SELECT l.run FROM run_label l CROSS JOIN run r ON r.key = l.run WHERE 1", where.sql,
                         " AND l.run < ? ORDER BY l.run DESC LIMIT ?"),
            where, before, limit, &keys);
    return keys;
  }

  const std::string pieces = Pieces(filter.name_contains);
  if (!pieces.empty() && filter.pipeline.empty() && filter.orchestrator.empty()) {
    if (!filter.states.empty()) where.And(absl::StrCat("r.state IN (", absl::StrJoin(states, ","), ")"), {});
    where.And("run_name MATCH ?", {pieces});
    Collect(c,
            absl::StrCat("SELECT r.key FROM run_name CROSS JOIN run r ON r.key = run_name.rowid WHERE 1", where.sql,
                         " AND run_name.rowid < ? ORDER BY run_name.rowid DESC LIMIT ?"),
            where, before, limit, &keys);
    return keys;
  }

  // One range per state, each in key order, of the narrowest index; then the largest of all.
  const char* const index = !filter.pipeline.empty()       ? "run_by_pipeline"
                            : !filter.orchestrator.empty() ? "run_by_orchestrator"
                                                           : "run_by_state";
  for (int state : states) {
    Collect(c,
            absl::StrCat("SELECT r.key FROM run r INDEXED BY ", index, " WHERE r.state = ", state, where.sql,
                         " AND r.key < ? ORDER BY r.key DESC LIMIT ?"),
            where, before, limit, &keys);
  }
  std::sort(keys.begin(), keys.end(), std::greater<>());
  if (keys.size() > static_cast<size_t>(limit)) keys.resize(static_cast<size_t>(limit));
  return keys;
}

}  // namespace orch::store
