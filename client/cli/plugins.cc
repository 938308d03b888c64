// register-flavor, delete-flavor: what plug-ins bring.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

namespace fs = std::filesystem;

// The daemon has another working folder.
std::string Absolute(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::absolute(path, error);
  return error ? path : whole.lexically_normal().string();
}

class RegisterFlavorVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("PATH|ADDRESS", &source_, "Its program on the daemon's machine, or HOST:PORT", Kind::kFile);
    flags.Text("--name", &name_, "NAME", "Another name than its own", Kind::kText);
    flags.Text("--ca", &ca_, "FILE", "Of an address: who signed its certificate (PEM)", Kind::kFile);
    flags.Text("--cert", &certificate_, "FILE", "Of an address: the daemon's certificate (PEM)", Kind::kFile);
    flags.Text("--key", &key_, "FILE", "Of an address: the daemon's key (PEM)", Kind::kFile);
    flags.Switch("--dry-run", &dry_run_, "Only check");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }

  absl::StatusOr<int> Run(Session& session) override {
    v1::RegisterFlavorRequest request;
    std::error_code error;
    const bool program = source_.find('/') != std::string::npos || fs::exists(source_, error);
    if (program) {
      request.set_program(Absolute(source_));
    } else {
      request.set_address(source_);
      if (ca_.empty() || certificate_.empty() || key_.empty()) {
        return UsageError("an address is reached with mTLS: give --ca, --cert and --key");
      }
      request.set_ca_file(Absolute(ca_));
      request.set_certificate_file(Absolute(certificate_));
      request.set_key_file(Absolute(key_));
    }
    request.set_name(name_);
    request.set_validate_only(dry_run_);
    request.set_request_id(request_id_);
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Flavor flavor, client->RegisterFlavor(request));
    const auto words = [&] {
      return absl::StrCat(dry_run_ ? "good: " : "registered ", flavor.name(),
                          flavor.plugin_version().empty() ? "" : absl::StrCat(" ", flavor.plugin_version()), " (",
                          flavor.plugin(), ")\n");
    };
    RETURN_IF_ERROR(session.Show(flavor, words, {flavor.name()}));
    return kOk;
  }

 private:
  std::string source_, name_, ca_, certificate_, key_, request_id_;
  bool dry_run_ = false;
};

class DeleteFlavorVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("NAME", &name_, "The flavor's name", Kind::kText); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    RETURN_IF_ERROR(client->DeleteFlavor(name_));
    session.Note(absl::StrCat("flavor ", name_, " is deleted"));
    return kOk;
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Verb> MakeRegisterFlavor() { return std::make_unique<RegisterFlavorVerb>(); }
std::unique_ptr<Verb> MakeDeleteFlavor() { return std::make_unique<DeleteFlavorVerb>(); }

}  // namespace orch::cli
