#include "client/cli/run_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/run_text.h"
#include "client/cli/text.h"
#include "client/lib/client.h"

namespace orch::cli {
namespace {

// Lower goes first when the terminal is too small, and names a group when its instances differ.
int Urgency(v1::Step::State state) {
  switch (state) {
    case v1::Step::FAILED:
      return 0;
    case v1::Step::RUNNING:
    case v1::Step::STOPPING:
      return 1;
    case v1::Step::SUBMITTING:
    case v1::Step::QUEUED:
    case v1::Step::BACKOFF:
      return 2;
    case v1::Step::READY:
      return 3;
    case v1::Step::CANCELLED:
      return 4;
    case v1::Step::WAITING:
      return 5;
    case v1::Step::SUCCEEDED:
      return 6;
    default:
      return 7;
  }
}

std::string Pad(const std::string& text, int width) {
  return text + std::string(static_cast<size_t>(std::max(0, width - Width(text))), ' ');
}

}  // namespace

struct RunView::Row {
  std::string name;
  v1::Step::State state = v1::Step::WAITING;
  std::string time;
  std::string why;
  int64_t order = 0;
};

std::string TemplateOf(const std::string& step) { return step.substr(0, step.find('[')); }

int64_t RunView::all_steps() const { return std::max<int64_t>(step_count_, static_cast<int64_t>(steps_.size())); }

void RunView::Put(StepView step) {
  StepView& slot = steps_[step.index];
  ended_ += (client::Ended(step.state) ? 1 : 0) - (client::Ended(slot.state) ? 1 : 0);
  slot = std::move(step);
}

void RunView::Apply(const v1::WatchRunsResponse& message, std::vector<StepView>* changed) {
  if (message.has_snapshot()) {
    if (!in_snapshot_) {
      steps_.clear();
      ended_ = 0;
    }
    in_snapshot_ = !message.snapshot().last();
    for (const v1::Run& run : message.snapshot().runs()) {
      state_ = run.state();
      run_name_ = run.name();
      step_count_ = run.step_count();
      start_ = Micros(run.has_start_time() ? run.start_time() : run.create_time());
      end_ = run.has_end_time() ? Micros(run.end_time()) : 0;
    }
    for (const v1::Step& s : message.snapshot().steps()) {
      StepView step;
      step.name = s.name();
      step.index = s.index();
      step.state = s.state();
      step.attempt = s.attempt();
      step.reason = s.reason();
      step.message = s.message();
      if (s.has_exit_code()) step.exit_code = s.exit_code();
      if (s.has_start_time()) step.start = Micros(s.start_time());
      if (s.has_end_time()) step.end = Micros(s.end_time());
      if (changed != nullptr && s.state() != v1::Step::WAITING) changed->push_back(step);
      Put(std::move(step));
    }
    return;
  }
  if (!message.has_event()) return;
  const v1::Event& event = message.event();
  const int64_t time = Micros(event.time());
  if (event.type() == v1::Event::RUN_STATE_CHANGED || event.type() == v1::Event::RUN_SUBMITTED) {
    if (event.run_state() != v1::Run::STATE_UNSPECIFIED) state_ = event.run_state();
    if (start_ == 0) start_ = time;
    end_ = client::Ended(state_) ? time : 0;
  } else if (event.type() == v1::Event::STEP_STATE_CHANGED) {
    const auto known = steps_.find(event.step_index());
    StepView step = known == steps_.end() ? StepView() : known->second;
    step.name = event.step();
    step.index = event.step_index();
    step.state = event.step_state();
    if (event.attempt() > 0) step.attempt = event.attempt();
    step.reason = event.reason();
    step.message = event.message();
    step.exit_code.reset();
    if (event.has_exit_code()) step.exit_code = event.exit_code();
    if (step.state == v1::Step::RUNNING) {
      step.start = time;
      step.end = 0;
    }
    if (client::Ended(step.state)) step.end = time;
    if (changed != nullptr) changed->push_back(step);
    Put(std::move(step));
  }
}

std::vector<RunView::Row> RunView::Rows(int64_t now) const {
  std::vector<Row> rows;
  struct Group {
    size_t row = 0;
    int64_t all = 0, ended = 0;
    int64_t start = 0, end = 0;
  };
  std::unordered_map<std::string, Group> groups;
  for (const auto& [index, step] : steps_) {
    const std::string head = TemplateOf(step.name);
    const std::string why =
        client::Ended(step.state) && step.state != v1::Step::FAILED && step.state != v1::Step::SKIPPED
            ? ""
            : Why(step.reason, step.exit_code.has_value(), step.exit_code.value_or(0), step.message);
    if (head.size() == step.name.size()) {
      Row row;
      row.name = step.name;
      row.state = step.state;
      if (step.attempt > 1) absl::StrAppend(&row.name, " #", step.attempt);
      if (step.start > 0) row.time = Elapsed((step.end > 0 ? step.end : now) - step.start);
      row.why = why;
      row.order = index;
      rows.push_back(std::move(row));
      continue;
    }
    const auto [it, fresh] = groups.try_emplace(head);
    Group& group = it->second;
    if (fresh) {
      group.row = rows.size();
      Row row;
      row.state = step.state;
      row.order = index;
      rows.push_back(std::move(row));
    }
    Row& row = rows[group.row];
    ++group.all;
    if (client::Ended(step.state)) ++group.ended;
    if (step.start > 0 && (group.start == 0 || step.start < group.start)) group.start = step.start;
    group.end = std::max(group.end, step.end);
    const bool first_failure = step.state == v1::Step::FAILED && row.state != v1::Step::FAILED;
    // Waiting instances keep a group open, however well the others went.
    if (Urgency(step.state) < Urgency(row.state)) row.state = step.state;
    if (first_failure || (fresh && !why.empty())) row.why = absl::StrCat(step.name, ": ", why);
    row.name = absl::StrCat(head, "[", group.all, "] ", group.ended, "/", group.all);
    if (group.start > 0)
      row.time = Elapsed((group.ended == group.all && group.end > 0 ? group.end : now) - group.start);
  }
  return rows;
}

std::vector<std::string> RunView::Lines(int64_t now, int width, int height, const Style& style) const {
  std::vector<std::string> lines;
  const std::string state = known() ? v1::Run::State_Name(state_) : "…";
  std::string rest = absl::StrCat("  ", ended_, "/", all_steps(), " steps");
  if (start_ > 0) absl::StrAppend(&rest, "  ", Elapsed((end_ > 0 ? end_ : now) - start_));
  const int room_for_name = width - Width(state) - Width(rest) - 1;
  if (room_for_name >= 8) {
    lines.push_back(absl::StrCat(style.Paint(Fit(Clean(run_name_), room_for_name), Color::kBold), " ",
                                 style.Paint(state, ColorOf(state_)), rest));
  } else {
    lines.push_back(style.Paint(Fit(absl::StrCat(state, rest), width), ColorOf(state_)));
  }

  std::vector<Row> rows = Rows(now);
  const int room = std::max(1, height - 1);
  size_t hidden = 0;
  if (static_cast<int>(rows.size()) > room) {
    const size_t kept = static_cast<size_t>(std::max(1, room - 1));
    hidden = rows.size() - kept;
    std::stable_sort(rows.begin(), rows.end(),
                     [](const Row& a, const Row& b) { return Urgency(a.state) < Urgency(b.state); });
    rows.resize(kept);
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.order < b.order; });
  }
  int name_width = 4;
  for (const Row& row : rows) name_width = std::max(name_width, Width(Clean(row.name)));
  name_width = std::min(name_width, std::max(10, width / 2));
  for (const Row& row : rows) {
    const std::string& word = v1::Step::State_Name(row.state);
    // Every part is cut, so that no line is wrapped: a wrapped line would break the redrawing.
    int left = width - 2;
    std::string line = "  ";
    const auto part = [&](const std::string& text, int columns, Color color) {
      const std::string fit = Fit(text, std::min(columns, left));
      const std::string padded = left > columns ? Pad(fit, columns) : fit;
      left -= Width(padded);
      line += style.Paint(padded, color);
      if (left > 1) {
        line += "  ";
        left -= 2;
      }
    };
    part(Clean(row.name), name_width, Color::kNone);
    part(word, 10, ColorOf(row.state));
    part(row.time, 7, Color::kNone);
    if (left > 3 && !row.why.empty()) line += style.Paint(Fit(Clean(row.why), left), Color::kDim);
    while (!line.empty() && line.back() == ' ') line.pop_back();
    lines.push_back(line);
  }
  if (hidden > 0) lines.push_back(style.Paint(Fit(absl::StrCat("  … ", hidden, " more"), width), Color::kDim));
  return lines;
}

std::string PlainLine(const StepView& step, int64_t wall, const Style& style) {
  const std::string why = Why(step.reason, step.exit_code.has_value(), step.exit_code.value_or(0), step.message);
  return absl::StrCat(ClockTime(wall), " ", Clean(step.name), " ",
                      style.Paint(v1::Step::State_Name(step.state), ColorOf(step.state)),
                      step.attempt > 1 ? absl::StrCat(" attempt ", step.attempt) : "",
                      why.empty() ? "" : absl::StrCat(" (", Clean(why), ")"));
}

}  // namespace orch::cli
