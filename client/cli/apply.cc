// apply.
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/site_file.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

template <typename List>
auto* FindByName(const List& list, const std::string& name) {
  const auto it = std::find_if(list.begin(), list.end(), [&name](const auto& item) { return item.name() == name; });
  return it == list.end() ? nullptr : &*it;
}

class ApplyVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Text("-f,--file", &file_, "FILE", "What shall be there, YAML or JSON; `-`: stdin (required)", Kind::kFile);
    flags.Switch("--dry-run", &dry_run_, "Only show the difference");
    flags.Switch("-y,--yes", &yes_, "Do not ask");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (file_.empty()) return UsageError("give the file with -f FILE");
    ASSIGN_OR_RETURN(const std::string text, ReadInput(file_, spec::ParseLimits().bytes));
    const spec::ConfigDocument document = spec::ParseConfig(text);
    std::vector<spec::Problem> problems = document.problems;
    Site site;
    if (problems.empty()) site = ReadSite(document, &problems);
    if (!problems.empty()) {
      WriteErr(FormatProblems(file_, problems));
      WriteErr(absl::StrCat("orchctl: ", file_, " has ", problems.size(), problems.size() == 1 ? " fault" : " faults",
                            "; nothing was changed\n"));
      return kRefused;
    }
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(FetchPresent(*client, site));
    RETURN_IF_ERROR(NameDefaultStack(&site));
    const std::vector<Change> changes = CompareAll(&site);
    const auto todo =
        std::count_if(changes.begin(), changes.end(), [](const Change& c) { return c.kind != Change::Kind::kNone; });
    // The difference is the answer of --dry-run and a remark otherwise; it is short either way.
    WriteOut(Describe(changes, session.out()));
    if (todo == 0 || dry_run_) return kOk;
    if (!yes_ && file_ != "-" && isatty(STDIN_FILENO) == 1) {
      WriteErr("Apply? [y/N] ");
      std::string answer;
      std::getline(std::cin, answer);
      if (answer != "y" && answer != "Y" && answer != "yes") {
        WriteErr("nothing was changed\n");
        return kRefused;
      }
    }
    RETURN_IF_ERROR(Send(*client, site, changes));
    session.Note(absl::StrCat("applied ", todo, todo == 1 ? " change" : " changes"));
    return kOk;
  }

 private:
  absl::Status FetchPresent(client::Client& client, const Site& site) {
    v1::ListOrchestratorsRequest request;
    request.set_page_size(1000);
    do {
      ASSIGN_OR_RETURN(v1::ListOrchestratorsResponse page, client.ListOrchestrators(request));
      for (v1::Orchestrator& o : *page.mutable_orchestrators()) orchestrators_.push_back(std::move(o));
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    ASSIGN_OR_RETURN(pools_, client.ListPools());
    if (!site.artifact_stores.empty()) {
      ASSIGN_OR_RETURN(stores_, client.ListArtifactStores());
    }
    ASSIGN_OR_RETURN(stacks_, client.ListStacks());
    return absl::OkStatus();
  }

  // The stack named by settings may be in the file or exist already.
  absl::Status NameDefaultStack(Site* site) const {
    if (site->default_stack.empty()) return absl::OkStatus();
    for (v1::Stack& stack : site->stacks) {
      if (stack.name() == site->default_stack) {
        stack.set_is_default(true);
        return absl::OkStatus();
      }
    }
    const v1::Stack* present = FindByName(stacks_.stacks(), site->default_stack);
    if (present == nullptr) {
      return Error(absl::StatusCode::kNotFound, "STACK_NOT_FOUND",
                   absl::StrCat("settings.default_stack names `", site->default_stack, "`, which is neither in ", file_,
                                " nor registered"));
    }
    v1::Stack stack = *present;
    stack.set_is_default(true);
    site->stacks.push_back(std::move(stack));
    return absl::OkStatus();
  }

  // In the order of Send().
  std::vector<Change> CompareAll(Site* site) const {
    std::vector<Change> changes;
    for (v1::Pool& pool : site->pools) changes.push_back(Compare(FindByName(pools_.pools(), pool.name()), &pool));
    for (v1::Orchestrator& o : site->orchestrators)
      changes.push_back(Compare(FindByName(orchestrators_, o.name()), &o));
    for (v1::ArtifactStore& store : site->artifact_stores)
      changes.push_back(Compare(FindByName(stores_.artifact_stores(), store.name()), &store));
    for (v1::Stack& stack : site->stacks)
      changes.push_back(Compare(FindByName(stacks_.stacks(), stack.name()), &stack));
    return changes;
  }

  static std::string Describe(const std::vector<Change>& changes, const Style& style) {
    std::string out;
    for (const Change& change : changes) {
      const bool add = change.kind == Change::Kind::kAdd;
      const char* mark = change.kind == Change::Kind::kNone ? "=" : add ? "+" : "~";
      const Color color = change.kind == Change::Kind::kNone ? Color::kDim : add ? Color::kGreen : Color::kYellow;
      absl::StrAppend(
          &out,
          style.Paint(Clean(absl::StrCat(mark, " ", change.thing, change.words.empty() ? "" : ": ", change.words)),
                      color),
          "\n");
    }
    return out.empty() ? "the file asks for nothing\n" : out;
  }

  // What stacks name before the stacks. What was done stays done if a later one is refused.
  static absl::Status Send(client::Client& client, const Site& site, const std::vector<Change>& changes) {
    size_t at = 0;
    for (const v1::Pool& pool : site.pools) {
      if (changes[at++].kind == Change::Kind::kNone) continue;
      v1::SetPoolRequest request;
      *request.mutable_pool() = pool;
      RETURN_IF_ERROR(client.SetPool(request).status());
    }
    for (const v1::Orchestrator& orchestrator : site.orchestrators) {
      const Change::Kind kind = changes[at++].kind;
      if (kind == Change::Kind::kAdd) {
        v1::RegisterOrchestratorRequest request;
        *request.mutable_orchestrator() = orchestrator;
        RETURN_IF_ERROR(client.RegisterOrchestrator(request).status());
      } else if (kind == Change::Kind::kUpdate) {
        v1::UpdateOrchestratorRequest request;
        *request.mutable_orchestrator() = orchestrator;
        RETURN_IF_ERROR(client.UpdateOrchestrator(request).status());
      }
    }
    for (const v1::ArtifactStore& store : site.artifact_stores) {
      const Change::Kind kind = changes[at++].kind;
      if (kind == Change::Kind::kNone) continue;
      v1::RegisterArtifactStoreRequest request;
      *request.mutable_artifact_store() = store;
      request.set_update(kind == Change::Kind::kUpdate);
      RETURN_IF_ERROR(client.RegisterArtifactStore(request).status());
    }
    for (const v1::Stack& stack : site.stacks) {
      if (changes[at++].kind == Change::Kind::kNone) continue;
      v1::SetStackRequest request;
      *request.mutable_stack() = stack;
      RETURN_IF_ERROR(client.SetStack(request).status());
    }
    return absl::OkStatus();
  }

  std::string file_;
  bool dry_run_ = false, yes_ = false;
  std::vector<v1::Orchestrator> orchestrators_;
  v1::ListPoolsResponse pools_;
  v1::ListArtifactStoresResponse stores_;
  v1::ListStacksResponse stacks_;
};

}  // namespace

std::unique_ptr<Verb> MakeApply() { return std::make_unique<ApplyVerb>(); }

}  // namespace orch::cli
