// lineage.
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

using Link = v1::GetLineageResponse::Link;

std::string NameOf(const v1::Artifact& a) {
  return a.name().empty() ? "an artifact that was deleted" : absl::StrCat(a.name(), "@", a.version());
}

std::string WhoOf(const std::string& run, const std::string& step, int attempt) {
  if (run.empty()) return "a run that was deleted";
  return absl::StrCat(run, " ", step, attempt > 0 ? absl::StrCat(" attempt ", attempt) : " (from the cache)");
}

// Whether the next link says the same of the next instance of a fan-out.
bool GoOn(const Link& link, const Link& next) {
  if (link.direction() != next.direction() || link.distance() != next.distance() || link.input() != next.input() ||
      link.run() != next.run() || link.uri() != next.uri() || link.attempt() != next.attempt() ||
      link.artifact().attempt() != next.artifact().attempt() || link.artifact().run() != next.artifact().run() ||
      link.artifact().output() != next.artifact().output()) {
    return false;
  }
  const std::string& maker = link.artifact().step();
  const std::string& next_maker = next.artifact().step();
  const bool same_reader = link.step() == next.step();
  if (same_reader) return Follows(maker, next_maker);
  return Follows(link.step(), next.step()) && (maker == next_maker || Follows(maker, next_maker));
}

// Links that go on, from the first to the last.
std::string Together(const Link& first, const Link& last, int count) {
  const v1::Artifact& a = first.artifact();
  const bool makers = a.step() != last.artifact().step();
  const bool readers = first.step() != last.step();
  const std::string maker = makers ? RangeName(a.step(), last.artifact().step()) : a.step();
  const std::string reader = readers ? RangeName(first.step(), last.step()) : first.step();
  if (!first.uri().empty()) {
    return absl::StrCat(count, " links: ", first.uri(), " read as `", first.input(), "` by ", first.run(), " ", reader);
  }
  const std::string what = makers ? absl::StrCat(a.output(), " of ", a.run(), " ", maker) : NameOf(a);
  if (first.direction() == v1::GetLineageRequest::UPSTREAM) {
    return absl::StrCat(count, " links: ", what, " read as `", first.input(), "` by ", first.run(), " ", reader,
                        makers ? "" : absl::StrCat(", made by ", WhoOf(a.run(), a.step(), a.attempt())));
  }
  return absl::StrCat(count, " links: ", first.run(), " ", reader, " read ", what, " as `", first.input(), "`");
}

class LineageVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("ARTIFACT", &name_, "name@version, name (the newest), or an id (art-7)", Kind::kText,
                     /*required=*/false);
    flags.Text("--run", &run_, "RUN", "Of an attempt instead: its run, with --step", Kind::kRun);
    flags.Text("--step", &step_, "STEP", "Its step");
    flags.Int("--attempt", &attempt_, 1, 1'000'000, "Its number [the newest]");
    flags.Switch("--upstream", &up_, "Only what it was made of");
    flags.Switch("--downstream", &down_, "Only what was made of it");
    flags.Int("--depth", &depth_, 1, 32, "How many attempts away at most [5]");
    flags.Switch("--all", &all_, "A line for each instance of a fan-out");
    flags.Int("--limit,--page-size", &limit_, 1, 100'000, "Links at most [1000]");
  }
  absl::StatusOr<int> Run(Session& session) override {
    if (name_.empty() && (run_.empty() || step_.empty())) return UsageError("name an artifact, or --run and --step");
    if (!name_.empty() && !(run_.empty() && step_.empty()))
      return UsageError("an artifact goes without --run and --step");
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::GetLineageRequest request;
    request.set_name(name_);
    request.set_run(run_);
    request.set_step(step_);
    request.set_attempt(static_cast<int32_t>(attempt_));
    request.set_depth(static_cast<int32_t>(depth_));
    if (up_ != down_) {
      request.set_direction(up_ ? v1::GetLineageRequest::UPSTREAM : v1::GetLineageRequest::DOWNSTREAM);
    }
    request.set_page_size(static_cast<int32_t>(std::min<int64_t>(limit_, 1000)));
    v1::GetLineageResponse answer;
    while (true) {
      ASSIGN_OR_RETURN(v1::GetLineageResponse page, client->GetLineage(request));
      if (page.has_artifact()) *answer.mutable_artifact() = std::move(*page.mutable_artifact());
      for (Link& link : *page.mutable_links()) *answer.add_links() = std::move(link);
      answer.set_truncated(page.truncated());
      answer.set_next_page_token(page.next_page_token());
      if (page.next_page_token().empty() || answer.links_size() >= limit_) break;
      request.set_page_token(page.next_page_token());
    }
    std::vector<std::string> names;
    for (const Link& link : answer.links()) names.push_back(link.artifact().id());
    RETURN_IF_ERROR(session.Show(
        answer, [&] { return Text(answer); }, names));
    if (session.human() && (answer.truncated() || !answer.next_page_token().empty())) {
      session.Note("there is more: --limit, or ask from an artifact further on");
    }
    return kOk;
  }

 private:
  std::string Text(const v1::GetLineageResponse& answer) const {
    const v1::Artifact& asked = answer.artifact();
    std::string out;
    if (answer.has_artifact()) {
      absl::StrAppend(&out, NameOf(asked), " made by ", WhoOf(asked.run(), asked.step(), asked.attempt()), "\n");
    } else {
      absl::StrAppend(&out, run_, " ", step_, "\n");
    }
    int way = 0;
    for (int first = 0, last = 0; first < answer.links_size(); first = last + 1) {
      const Link& link = answer.links(first);
      for (last = first; !all_ && last + 1 < answer.links_size() && GoOn(answer.links(last), answer.links(last + 1));) {
        ++last;
      }
      if (link.direction() != way) {
        way = link.direction();
        absl::StrAppend(&out, way == v1::GetLineageRequest::UPSTREAM ? "made of:\n" : "read by:\n");
      }
      const std::string indent(static_cast<size_t>(2 * link.distance()), ' ');
      const std::string who = WhoOf(link.run(), link.step(), link.attempt());
      if (last > first) {
        absl::StrAppend(&out, indent, Together(link, answer.links(last), last - first + 1), "\n");
      } else if (!link.uri().empty()) {
        absl::StrAppend(&out, indent, link.uri(), " read as `", link.input(), "` by ", who, "\n");
      } else if (way == v1::GetLineageRequest::UPSTREAM) {
        const v1::Artifact& a = link.artifact();
        absl::StrAppend(&out, indent, NameOf(a), a.early() ? " (published early)" : "", " read as `", link.input(),
                        "` by ", who, ", made by ", WhoOf(a.run(), a.step(), a.attempt()), "\n");
      } else {
        absl::StrAppend(&out, indent, who, " read ", NameOf(link.artifact()), " as `", link.input(), "`");
        std::map<std::string, std::string> made(link.outputs().begin(), link.outputs().end());
        for (const auto& [output, id] : made) absl::StrAppend(&out, " → ", output, " ", id);
        out += "\n";
      }
    }
    return out;
  }

  std::string name_, run_, step_;
  int64_t attempt_ = 0, depth_ = 0, limit_ = 1000;
  bool up_ = false, down_ = false, all_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeLineage() { return std::make_unique<LineageVerb>(); }

}  // namespace orch::cli
