#include "server/store/list_runs.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

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
    absl::StrAppend(&sql, sql.empty() ? "" : " AND ", condition);
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

// Greater than every name that begins with `prefix`.
std::string EndOf(const std::string& prefix) { return absl::StrCat(prefix, "\xff"); }

// What the range of the index says already.
struct Covered {
  bool project = false, state = false, pipeline = false, orchestrator = false, name = false, first_label = false;
};

// The conditions that a row of the range must still meet.
Where Rest(const RunFilter& filter, const Covered& covered) {
  Where where;
  if (!covered.project) where.And("r.project = ?", {filter.project});
  if (!filter.states.empty() && !covered.state) {
    where.And(absl::StrCat("r.state IN (", absl::StrJoin(States(filter), ","), ")"), {});
  }
  if (!filter.pipeline.empty() && !covered.pipeline) where.And("r.pipeline = ?", {filter.pipeline});
  if (!filter.orchestrator.empty() && !covered.orchestrator) where.And("r.orchestrator = ?", {filter.orchestrator});
  if (!filter.name.empty()) where.And("r.name = ?", {filter.name});
  if (!filter.name_prefix.empty() && !covered.name) {
    where.And("r.name >= ? AND r.name < ?", {filter.name_prefix, EndOf(filter.name_prefix)});
  }
  if (!filter.name_contains.empty()) {
    where.And("r.name LIKE ? ESCAPE '\\'", {absl::StrCat("%", EscapeLike(filter.name_contains), "%")});
  }
  for (size_t i = covered.first_label ? 1 : 0; i < filter.labels.size(); ++i) {
    where.And("EXISTS (SELECT 1 FROM run_label x WHERE x.project = ? AND x.name = ? AND x.value = ? AND x.run = r.key)",
              {filter.project, filter.labels[i].first, filter.labels[i].second});
  }
  return where;
}

// One range of an index in the order of the list. Rows that do not meet the rest of the filter come too, marked: they
// count.
class Range {
 public:
  Range(Connection& c, const std::string& sql, const std::vector<std::string>& texts, const RunPlace& after,
        bool by_name)
      : s_(c.Prepare(sql)), by_name_(by_name) {
    for (const std::string& text : texts) s_.Text(text);
    if (by_name) {
      s_.Text(after.name);
    } else {
      s_.Int(after.key);
    }
    Advance();
  }
  bool any() const { return any_; }
  RunKey key() const { return key_; }
  bool fits() const { return fits_; }
  RunPlace place() const { return by_name_ ? RunPlace{0, name_} : RunPlace{key_, ""}; }
  void Advance() {
    any_ = s_.Next();
    if (!any_) return;
    key_ = s_->getColumn(0).getInt64();
    fits_ = s_->getColumn(1).getInt() != 0;
    if (by_name_) name_ = s_->getColumn(2).getString();
  }

 private:
  Connection::Prepared s_;
  const bool by_name_;
  bool any_ = false;
  RunKey key_ = 0;
  bool fits_ = false;
  std::string name_;
};

// What a range selects from, and within which bounds.
struct Source {
  std::string from;
  std::string key;  // the column of the order
  Where bounds;
  Covered covered;
  bool by_state = false;  // one range for each state
};

Source Choose(const RunFilter& filter, bool by_name, bool descending) {
  Source out;
  if (by_name) {
    out.from = "run r";
    out.key = "r.name";
    out.bounds.And("r.project = ?", {filter.project});
    out.covered.project = out.covered.name = true;
    // The other end is where the page begins.
    if (!filter.name_prefix.empty()) {
      out.bounds.And(descending ? "r.name >= ?" : "r.name < ?",
                     {descending ? filter.name_prefix : EndOf(filter.name_prefix)});
    }
    return out;
  }
  out.key = "r.key";
  if (!filter.name.empty()) {
    out.from = "run r";
    out.bounds.And("r.project = ? AND r.name = ?", {filter.project, filter.name});
    out.covered.project = true;
    return out;
  }
  if (!filter.labels.empty()) {
    out.from = "run_label l CROSS JOIN run r ON r.key = l.run";
    out.key = "l.run";
    out.bounds.And("l.project = ? AND l.name = ? AND l.value = ?",
                   {filter.project, filter.labels[0].first, filter.labels[0].second});
    out.covered.project = out.covered.first_label = true;
    return out;
  }
  const std::string pieces = Pieces(!filter.name_contains.empty() ? filter.name_contains : filter.name_prefix);
  if (!pieces.empty() && filter.pipeline.empty() && filter.orchestrator.empty()) {
    out.from = "run_name CROSS JOIN run r ON r.key = run_name.rowid";
    out.key = "run_name.rowid";
    out.bounds.And("run_name MATCH ?", {pieces});
    return out;
  }
  const char* index = "run_by_state";
  out.bounds.And("r.project = ?", {filter.project});
  out.covered.project = out.covered.state = true;
  if (!filter.pipeline.empty()) {
    index = "run_by_pipeline";
    out.bounds.And("r.pipeline = ?", {filter.pipeline});
    out.covered.pipeline = true;
  } else if (!filter.orchestrator.empty()) {
    index = "run_by_orchestrator";
    out.bounds.And("r.orchestrator = ?", {filter.orchestrator});
    out.covered.orchestrator = true;
  }
  out.from = absl::StrCat("run r INDEXED BY ", index);
  out.by_state = true;
  return out;
}

}  // namespace

FoundRuns FindRuns(Connection& c, const RunFilter& filter, RunOrder order, const RunPlace& after, int limit, int rows) {
  const bool by_name = order == RunOrder::kByName || order == RunOrder::kByNameDescending;
  const bool descending = order == RunOrder::kNewestFirst || order == RunOrder::kByNameDescending;
  RunPlace place = after;
  if (!by_name && place.key <= 0) place.key = descending ? INT64_MAX : 0;
  // One bound at this end: SQLite would begin at only one of two.
  const char* behind = descending ? " < ?" : " > ?";
  if (by_name && descending && place.name.empty()) place.name = EndOf(filter.name_prefix);
  if (by_name && !descending && place.name < filter.name_prefix) {
    place.name = filter.name_prefix;
    behind = " >= ?";
  }
  const Source source = Choose(filter, by_name, descending);
  const Where rest = Rest(filter, source.covered);

  std::vector<std::string> texts = rest.texts;  // they stand first in the statement
  texts.insert(texts.end(), source.bounds.texts.begin(), source.bounds.texts.end());
  std::vector<int> states = {0};
  if (source.by_state) states = States(filter);
  std::vector<std::unique_ptr<Range>> ranges;
  for (const int state : states) {
    ranges.push_back(std::make_unique<Range>(
        c,
        absl::StrCat("SELECT r.key, ", rest.sql.empty() ? "1" : rest.sql, by_name ? ", r.name" : "", " FROM ",
                     source.from, " WHERE ", source.bounds.sql,
                     source.by_state ? absl::StrCat(" AND r.state = ", state) : "", " AND ", source.key, behind,
                     " ORDER BY ", source.key, descending ? " DESC" : ""),
        texts, place, by_name));
  }

  FoundRuns found;
  for (int looked_at = 0;; ++looked_at) {
    Range* first = nullptr;
    for (const auto& range : ranges) {
      if (!range->any()) continue;
      if (first == nullptr || (descending ? range->key() > first->key() : range->key() < first->key())) {
        first = range.get();
      }
    }
    if (first == nullptr) return found;
    if (static_cast<int>(found.keys.size()) == limit || looked_at == rows) {
      found.next = std::move(place);
      return found;
    }
    place = first->place();
    if (first->fits()) found.keys.push_back(first->key());
    first->Advance();
  }
}

}  // namespace orch::store
