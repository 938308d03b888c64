// How orchestrators are: what the dispatcher knows of them, and what their platforms say when they are asked.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/engine_impl.h"

namespace orch {

absl::StatusOr<std::map<std::string, OrchestratorHealth>> EngineImpl::HealthOf(std::vector<std::string> names,
                                                                               int64_t deadline_micros) {
  // The look may come after nobody waits for it any more.
  struct Answer {
    Receipt seen;
    std::map<std::string, OrchestratorHealth> found;
  };
  const auto answer = std::make_shared<Answer>();
  Post post;
  post.look = [answer, names = std::move(names)](const Dispatcher& core) {
    for (const std::string& name : names) {
      if (auto health = core.HealthOf(name)) answer->found.emplace(name, *std::move(health));
    }
    answer->seen.Complete(absl::OkStatus(), 0);
  };
  RETURN_IF_ERROR(mailbox_.Offer(std::move(post)));
  RETURN_IF_ERROR(answer->seen.Wait(deadline_micros));
  return std::move(answer->found);
}

absl::StatusOr<ProbeReport> EngineImpl::ProbeOrchestrator(absl::string_view, absl::string_view name,
                                                          int64_t deadline_micros) {
  const std::string wanted(name);
  const Components now = components();
  if (std::none_of(now.orchestrators.begin(), now.orchestrators.end(),
                   [&](const OrchestratorRow& r) { return r.name == wanted; })) {
    return Error(absl::StatusCode::kNotFound, "ORCHESTRATOR_NOT_FOUND",
                 absl::StrCat("there is no orchestrator `", name, "`; see orchctl list-orchestrators"));
  }
  const auto backend = outbox_->FindBackend(wanted);
  ProbeReport report;
  if (backend == nullptr) {
    report.checks.push_back({"service", false, "it is not in service: it could not be started with the daemon",
                             "see the daemon's log for why, and restart it when that is put right"});
    return report;
  }
  report = backend->Probe();
  const ProbeReport::Check* bad = report.FirstBad();
  Post post;
  post.event = OrchestratorProbed{wanted, bad == nullptr, bad == nullptr ? "" : bad->text};
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  return report;
}

}  // namespace orch
