// create-pool, list-pools, delete-pool.
#include "absl/strings/str_cat.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class CreatePoolVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "What steps name in `pools`", Kind::kPool);
    flags.Int("--slots", &slots_, 0, 1'000'000, "How many slots it has (required); at 0 nothing that needs it starts");
    flags.Text("--description", &description_, "TEXT", "For people");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (slots_ < 0) return UsageError("give --slots N");
    v1::SetPoolRequest request;
    request.set_request_id(request_id_);
    request.mutable_pool()->set_name(name_);
    request.mutable_pool()->set_slots(static_cast<int32_t>(slots_));
    request.mutable_pool()->set_description(description_);
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Pool pool, client->SetPool(request));
    const auto words = [&] {
      return absl::StrCat("pool ", pool.name(), " has ", pool.slots(), pool.slots() == 1 ? " slot\n" : " slots\n");
    };
    RETURN_IF_ERROR(session.Show(pool, words, {pool.name()}));
    return kOk;
  }

 private:
  std::string name_, description_, request_id_;
  int64_t slots_ = -1;
};

class ListPoolsVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ListPoolsResponse answer, client->ListPools());
    std::vector<std::string> names;
    for (const v1::Pool& pool : answer.pools()) names.push_back(pool.name());
    const auto render = [&] {
      Table table({"NAME", "SLOTS", "USED", "DESCRIPTION"});
      for (const v1::Pool& pool : answer.pools()) {
        table.Add({pool.name(), absl::StrCat(pool.slots()), absl::StrCat(pool.used()), Clean(pool.description())});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class DeletePoolVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("NAME", &name_, "The pool's name", Kind::kPool); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeletePool(name_));
    session.Note(absl::StrCat("pool ", name_, " is deleted"));
    return kOk;
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Verb> MakeCreatePool() { return std::make_unique<CreatePoolVerb>(); }
std::unique_ptr<Verb> MakeListPools() { return std::make_unique<ListPoolsVerb>(); }
std::unique_ptr<Verb> MakeDeletePool() { return std::make_unique<DeletePoolVerb>(); }

}  // namespace orch::cli
