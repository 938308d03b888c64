// register-artifact-store, list-artifact-stores, get-artifact-store, delete-artifact-store; register-stack, set-stack,
// list-stacks, get-stack, delete-stack.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/cli/json.h"
#include "client/cli/pipeline_file.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

std::string ConfigText(const v1::ArtifactStore& store) {
  return store.config().fields().empty() ? "" : ToJson(store.config()).dump();
}

class RegisterArtifactStoreVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "What stacks name it", Kind::kText);
    flags.Choice("--flavor", &flavor_, {"local", "s3"}, "Its kind: a folder, or S3 and compatible (required)");
    flags.List("--config", &config_, "KEY=VALUE", "A field of its configuration (repeat for several)");
    flags.Text("--config-file", &config_file_, "FILE", "Its configuration as YAML or JSON", Kind::kFile);
    flags.Switch("--update", &update_, "Change one that is there");
    flags.Switch("--dry-run", &dry_run_, "Only check: the store is tried all the same");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (flavor_.empty()) return UsageError("give --flavor local or --flavor s3");
    v1::RegisterArtifactStoreRequest request;
    request.set_request_id(request_id_);
    request.set_validate_only(dry_run_);
    request.set_update(update_);
    v1::ArtifactStore* store = request.mutable_artifact_store();
    store->set_name(name_);
    store->set_flavor(flavor_);
    if (!config_file_.empty()) {
      ASSIGN_OR_RETURN(const std::string text, ReadInput(config_file_, spec::ParseLimits().bytes));
      const spec::ConfigDocument document = spec::ParseConfig(text);
      if (!document.problems.empty()) {
        WriteErr(FormatProblems(config_file_, document.problems));
        return kRefused;
      }
      *store->mutable_config() = document.value;
    }
    ASSIGN_OR_RETURN(const auto fields, ParseParameters(config_));
    for (const auto& [key, value] : fields) (*store->mutable_config()->mutable_fields())[key] = value;
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ArtifactStore answer, client->RegisterArtifactStore(request));
    const auto words = [&] {
      return absl::StrCat(dry_run_ ? "good: " : "registered ", answer.name(), " (", answer.flavor(), ")\n");
    };
    RETURN_IF_ERROR(session.Show(answer, words, {answer.name()}));
    return kOk;
  }

 private:
  std::string name_, flavor_, config_file_, request_id_;
  std::vector<std::string> config_;
  bool dry_run_ = false;
  bool update_ = false;
};

class ListArtifactStoresVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ListArtifactStoresResponse answer, client->ListArtifactStores());
    std::vector<std::string> names;
    for (const v1::ArtifactStore& store : answer.artifact_stores()) names.push_back(store.name());
    const auto render = [&] {
      Table table({"NAME", "FLAVOR", "BLOBS", "CREATED", "CONFIG"});
      const int64_t now = WallNow();
      for (const v1::ArtifactStore& store : answer.artifact_stores()) {
        table.Add({store.name(), store.flavor(), absl::StrCat(store.blobs()),
                   store.has_create_time() ? Ago(Micros(store.create_time()), now) : "", ConfigText(store)});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class GetArtifactStoreVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The artifact store's name", Kind::kArtifactStore);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ArtifactStore store, client->GetArtifactStore(name_));
    const auto render = [&] {
      return RenderFacts({{"Name", store.name()},
                          {"Flavor", store.flavor()},
                          {"Blobs", absl::StrCat(store.blobs())},
                          {"Version", absl::StrCat(store.version())},
                          {"Config", ConfigText(store)}},
                         session.out());
    };
    RETURN_IF_ERROR(session.Show(store, render, {store.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

class DeleteArtifactStoreVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The artifact store's name", Kind::kArtifactStore);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeleteArtifactStore(name_));
    session.Note(absl::StrCat("artifact store ", name_, " is deleted; its bytes stay where they are"));
    return kOk;
  }

 private:
  std::string name_;
};

std::string StackLine(const v1::Stack& stack) {
  return absl::StrCat("stack ", stack.name(), ": ", stack.orchestrator(), " with ", stack.artifact_store(),
                      stack.is_default() ? ", the default\n" : "\n");
}

class RegisterStackVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "What submissions name it", Kind::kStack);
    flags.Text("--orchestrator", &orchestrator_, "NAME", "Where its runs go (required)", Kind::kOrchestrator);
    flags.Text("--artifact-store", &store_, "NAME", "Where their artifacts are kept [default]", Kind::kArtifactStore);
    flags.Text("--image-registry", &registry_, "ADDRESS", "Where their images are pushed");
    flags.Switch("--default", &default_, "Submissions that name none use it");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }
  absl::StatusOr<int> Run(Session& session) override {
    if (orchestrator_.empty()) return UsageError("give --orchestrator; `orchctl list-orchestrators` shows them");
    v1::SetStackRequest request;
    request.set_request_id(request_id_);
    request.mutable_stack()->set_name(name_);
    request.mutable_stack()->set_orchestrator(orchestrator_);
    request.mutable_stack()->set_artifact_store(store_);
    request.mutable_stack()->set_image_registry(registry_);
    request.mutable_stack()->set_is_default(default_);
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Stack stack, client->SetStack(request));
    RETURN_IF_ERROR(session.Show(stack, [&] { return StackLine(stack); }, {stack.name()}));
    return kOk;
  }

 private:
  std::string name_, orchestrator_, store_, registry_, request_id_;
  bool default_ = false;
};

class SetStackVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The stack that submissions use which name none", Kind::kStack);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::SetStackRequest request;
    ASSIGN_OR_RETURN(*request.mutable_stack(), client->GetStack(name_));
    request.mutable_stack()->set_is_default(true);
    ASSIGN_OR_RETURN(const v1::Stack stack, client->SetStack(request));
    RETURN_IF_ERROR(session.Show(stack, [&] { return StackLine(stack); }, {stack.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

class ListStacksVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ListStacksResponse answer, client->ListStacks());
    std::vector<std::string> names;
    for (const v1::Stack& stack : answer.stacks()) names.push_back(stack.name());
    const auto render = [&] {
      Table table({"NAME", "DEFAULT", "ORCHESTRATOR", "ARTIFACT STORE", "IMAGE REGISTRY"});
      for (const v1::Stack& stack : answer.stacks()) {
        table.Add({stack.name(), stack.is_default() ? "yes" : "", stack.orchestrator(), stack.artifact_store(),
                   Clean(stack.image_registry())});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class GetStackVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("NAME", &name_, "The stack's name", Kind::kStack); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Stack stack, client->GetStack(name_));
    RETURN_IF_ERROR(session.Show(stack, [&] { return StackLine(stack); }, {stack.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

class DeleteStackVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("NAME", &name_, "The stack's name", Kind::kStack); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeleteStack(name_));
    session.Note(absl::StrCat("stack ", name_, " is deleted"));
    return kOk;
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Verb> MakeRegisterArtifactStore() { return std::make_unique<RegisterArtifactStoreVerb>(); }
std::unique_ptr<Verb> MakeListArtifactStores() { return std::make_unique<ListArtifactStoresVerb>(); }
std::unique_ptr<Verb> MakeGetArtifactStore() { return std::make_unique<GetArtifactStoreVerb>(); }
std::unique_ptr<Verb> MakeDeleteArtifactStore() { return std::make_unique<DeleteArtifactStoreVerb>(); }
std::unique_ptr<Verb> MakeRegisterStack() { return std::make_unique<RegisterStackVerb>(); }
std::unique_ptr<Verb> MakeSetStack() { return std::make_unique<SetStackVerb>(); }
std::unique_ptr<Verb> MakeListStacks() { return std::make_unique<ListStacksVerb>(); }
std::unique_ptr<Verb> MakeGetStack() { return std::make_unique<GetStackVerb>(); }
std::unique_ptr<Verb> MakeDeleteStack() { return std::make_unique<DeleteStackVerb>(); }

}  // namespace orch::cli
