// why, diff-runs.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/run_text.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

constexpr size_t kPartWidth = 60;

std::string Short(const std::string& text) {
  const std::string clean = Clean(text);
  return clean.size() > kPartWidth ? Fit(clean, static_cast<int>(kPartWidth)) : clean;
}

// Of a digest enough to tell it from another.
std::string ShortDigest(const std::string& text) {
  const bool digest = text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  return digest ? text.substr(0, 12) : Short(text);
}

std::string ChangeLine(const v1::PartChange& change) {
  const auto side = [](const std::string& text) { return text.empty() ? std::string("(none)") : ShortDigest(text); };
  return absl::StrCat("    ", change.part(), ": ", side(change.before()), " → ", side(change.after()), "\n");
}

std::string ExplanationText(const v1::Explanation& e, const Style& style) {
  std::string out = absl::StrCat(style.Paint(Clean(e.summary()), Color::kBold), "\n");
  if (e.item().fields_size() > 0) absl::StrAppend(&out, "  its item: ", ItemText(e.item()), "\n");
  for (const v1::Cause& cause : e.causes()) {
    if (cause.holders().empty() && absl::EndsWith(e.summary(), absl::StripPrefix(cause.text(), "it ")))
      continue;  // said already
    absl::StrAppend(&out, "  ", Clean(cause.text()), "\n");
    for (const v1::Cause::Holder& holder : cause.holders()) {
      absl::StrAppend(&out, "    held by ", holder.step(), " of run ", holder.run(), " (attempt ", holder.attempt(),
                      ", ", holder.slots(), ")\n");
    }
  }
  // Of a hit the summary tells all; a step that was skipped will never ask.
  const v1::CacheDecision::Outcome outcome = e.cache().outcome();
  const bool never = outcome == v1::CacheDecision::NOT_ASKED && e.step_state() == v1::Step::SKIPPED;
  if (e.has_cache() && outcome != v1::CacheDecision::NOT_ENABLED && outcome != v1::CacheDecision::HIT && !never) {
    absl::StrAppend(&out, "  ", Clean(e.cache().text()), "\n");
    for (const v1::PartChange& change : e.cache().changes()) out += ChangeLine(change);
  }
  for (const v1::FailedAttempt& failure : e.failures()) {
    absl::StrAppend(&out, "  attempt ", failure.attempt(), ": ", style.Paint(Clean(failure.text()), Color::kRed), "\n");
    if (!failure.then().empty()) absl::StrAppend(&out, "    ", Clean(failure.then()), "\n");
    for (const std::string& line : failure.last_lines()) absl::StrAppend(&out, "    | ", Clean(line), "\n");
  }
  if (e.steps_size() > 0) {
    const bool items = std::any_of(e.steps().begin(), e.steps().end(),
                                   [](const v1::StepInBrief& step) { return step.item().fields_size() > 0; });
    Table table(items ? std::vector<std::string>{"STEP", "STATE", "ITEM", "WHY"}
                      : std::vector<std::string>{"STEP", "STATE", "WHY"});
    for (const v1::StepInBrief& step : e.steps()) {
      std::vector<Cell> row = {step.step(), {v1::Step::State_Name(step.state()), ColorOf(step.state())}};
      if (items) row.emplace_back(ItemText(step.item()));
      row.emplace_back(step.text().empty() ? ReasonName(step.reason()) : Clean(step.text()));
      table.Add(std::move(row));
    }
    out += table.Render(style);
    // So that it can be pasted into a shell.
    const std::string& first = e.steps(0).step();
    const char* quote = absl::StrContains(first, '[') ? "'" : "";
    absl::StrAppend(&out, "more about one: orchctl why ", e.run(), " ", quote, first, quote, "\n");
  }
  return out;
}

class WhyVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Positional("STEP", &step_, "The step's name; of a fan-out 'train[2]' [the run itself]", Kind::kStep,
                     /*required=*/false);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ExplainRunRequest request;
    request.set_name(run_);
    request.set_step(step_);
    ASSIGN_OR_RETURN(const v1::Explanation e, client->ExplainRun(request));
    RETURN_IF_ERROR(session.Show(e, [&] { return ExplanationText(e, session.out()); }, {e.summary()}));
    return kOk;
  }

 private:
  std::string run_, step_;
};

std::string SideText(bool there, const v1::StepChange::StepSide& side, bool duration) {
  if (!there) return "(no such step)";
  std::string out = v1::Step::State_Name(side.state());
  if (side.attempts() > 1) absl::StrAppend(&out, ", ", side.attempts(), " attempts");
  if (side.has_exit_code() && side.exit_code() != 0) absl::StrAppend(&out, ", exit code ", side.exit_code());
  if (duration && side.has_duration()) {
    absl::StrAppend(&out, ", ", Elapsed(side.duration().seconds() * 1'000'000 + side.duration().nanos() / 1000));
  }
  if (!side.cached_from().empty()) absl::StrAppend(&out, ", from ", side.cached_from());
  return out;
}

// The last of the instances of one fan-out, from `first` on, that differ in the same way but for how long they took.
int LastAlike(const v1::RunDiff& diff, int first) {
  const auto words = [&diff](int i) {
    const v1::StepChange& step = diff.steps(i);
    return absl::StrCat(SideText(step.has_before(), step.before(), false), " → ",
                        SideText(step.has_after(), step.after(), false));
  };
  int last = first;
  while (last + 1 < diff.steps_size() && diff.steps(first).outputs().empty() &&
         diff.steps(last + 1).outputs().empty() && Follows(diff.steps(last).name(), diff.steps(last + 1).name()) &&
         words(first) == words(last + 1)) {
    ++last;
  }
  return last;
}

std::string DiffText(const v1::RunDiff& diff, const Style& style) {
  std::string out;
  const v1::Run& a = diff.before();
  const v1::Run& b = diff.after();
  const int64_t now = WallNow();
  Table head({"SIDE", "RUN", "STATE", "PIPELINE", "TIME"});
  for (const v1::Run* run : {&a, &b}) {
    head.Add({run == &a ? "before" : "after",
              run->name(),
              {v1::Run::State_Name(run->state()), ColorOf(run->state())},
              absl::StrCat(run->pipeline(), "@", run->pipeline_version()),
              RunTime(*run, now)});
  }
  out += head.Render(style);
  const auto values = [&](const char* title, const google::protobuf::RepeatedPtrField<v1::ValueChange>& changes) {
    if (changes.empty()) return;
    absl::StrAppend(&out, style.Paint(title, Color::kBold), "\n");
    for (const v1::ValueChange& change : changes) {
      if (change.before().empty()) {
        absl::StrAppend(&out, "  + ", Clean(change.name()), " ", Short(change.after()), "\n");
      } else if (change.after().empty()) {
        absl::StrAppend(&out, "  - ", Clean(change.name()), " ", Short(change.before()), "\n");
      } else {
        absl::StrAppend(&out, "  ", Clean(change.name()), ": ", Short(change.before()), " → ", Short(change.after()),
                        "\n");
      }
    }
  };
  values("Parameters", diff.parameters());
  values("Pipeline", diff.pipeline());
  if (diff.steps_size() > 0) {
    absl::StrAppend(&out, style.Paint("Steps", Color::kBold), "\n");
    for (int i = 0; i < diff.steps_size(); ++i) {
      const v1::StepChange& step = diff.steps(i);
      const int last = LastAlike(diff, i);
      if (last > i) {
        absl::StrAppend(&out, "  ", RangeName(step.name(), diff.steps(last).name()), ": ",
                        SideText(step.has_before(), step.before(), false), " → ",
                        SideText(step.has_after(), step.after(), false), "\n");
        i = last;
        continue;
      }
      absl::StrAppend(&out, "  ", step.name(), ": ", SideText(step.has_before(), step.before(), true), " → ",
                      SideText(step.has_after(), step.after(), true), "\n");
      for (const v1::ValueChange& output : step.outputs()) {
        absl::StrAppend(&out, "    output ", output.name(), ": ",
                        output.before().empty() ? "(none)" : output.before().substr(0, 19), " → ",
                        output.after().empty() ? "(none)" : output.after().substr(0, 19), "\n");
      }
    }
    if (diff.more_steps()) out += "  … more differ: --max-steps N\n";
  }
  absl::StrAppend(&out, diff.same_steps(), diff.same_steps() == 1 ? " step is" : " steps are", " the same\n");
  return out;
}

class DiffRunsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("BEFORE", &before_, "A run's name or id", Kind::kRun);
    flags.Positional("AFTER", &after_, "Another", Kind::kRun);
    flags.Int("--max-steps", &max_steps_, 1, 100'000, "Show at most so many steps that differ [1000]");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::CompareRunsRequest request;
    request.set_before(before_);
    request.set_after(after_);
    request.set_max_steps(static_cast<int32_t>(max_steps_));
    ASSIGN_OR_RETURN(const v1::RunDiff diff, client->CompareRuns(request));
    std::vector<std::string> names;
    for (const v1::StepChange& step : diff.steps()) names.push_back(step.name());
    RETURN_IF_ERROR(session.Show(
        diff, [&] { return DiffText(diff, session.out()); }, names));
    return kOk;
  }

 private:
  std::string before_, after_;
  int64_t max_steps_ = 1000;
};

}  // namespace

std::unique_ptr<Verb> MakeWhy() { return std::make_unique<WhyVerb>(); }
std::unique_ptr<Verb> MakeDiffRuns() { return std::make_unique<DiffRunsVerb>(); }

}  // namespace orch::cli
