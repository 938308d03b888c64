// server-info, version, open-run.
#include <fcntl.h>
#include <spawn.h>
#include <string.h>

#include "absl/strings/str_cat.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

extern char** environ;

namespace orch::cli {
namespace {

class ServerInfoVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::ServerInfo info, client->GetServerInfo());
    const auto number = [](int64_t n) { return n == 0 ? std::string() : absl::StrCat(n); };
    const auto render = [&] {
      return RenderFacts(
          {{"Status", {info.status(), info.status() == "SERVING" ? Color::kGreen : Color::kYellow}},
           {"Version", info.version()},
           {"Data directory", info.data_dir()},
           {"gRPC", info.grpc()},
           {"gRPC socket", info.grpc_unix()},
           {"HTTP", info.http()},
           {"HTTP socket", info.http_unix()},
           {"Public URL", info.public_url()},
           {"Process", number(info.pid())},
           {"Supervisor", number(info.supervisor_pid())},
           {"Started", info.has_start_time() ? Ago(Micros(info.start_time()), WallNow()) : ""},
           {"Live runs", absl::StrCat(info.live_runs())},
           {"Live attempts", absl::StrCat(info.live_attempts())},
           {"Memory", info.resident_memory() > 0 ? Bytes(info.resident_memory()) : ""},
           {"Instance", info.instance()},
           {"Latest backup", info.has_latest_backup()
                                 ? absl::StrCat(Ago(Micros(info.latest_backup().create_time()), WallNow()), ", ",
                                                Clean(info.latest_backup().path()))
                                 : ""},
           {"Backups fail", {Clean(info.backup_failure()), Color::kRed}}},
          session.out());
    };
    RETURN_IF_ERROR(session.Show(info, render, {info.instance()}));
    return kOk;
  }
};

class BackupVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("FOLDER", &folder_, "Where; default: as the daemon is configured", Kind::kFile,
                     /*required=*/false);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Backup made, client->CreateBackup(folder_));
    const auto render = [&] { return absl::StrCat(Clean(made.path()), "\n"); };
    RETURN_IF_ERROR(session.Show(made, render, {made.path()}));
    session.Note(
        absl::StrCat(Bytes(made.size_bytes()), ", ", made.runs(), " runs, up to event ", made.last_sequence()));
    return kOk;
  }

 private:
  std::string folder_;
};

class VersionVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    // The daemon's is a courtesy: this must answer where none runs.
    std::string daemon = "none found";
    if (const absl::StatusOr<client::Client*> client = session.Connect(); client.ok()) {
      const absl::StatusOr<v1::ServerInfo> answer = (*client)->GetServerInfo();
      daemon = answer.ok() ? absl::StrCat(answer->version(), " (", (*client)->endpoint().address, ")")
                           : OneLine(answer.status());
    }
    google::protobuf::Struct versions;
    (*versions.mutable_fields())["client"].set_string_value(ORCH_VERSION);
    (*versions.mutable_fields())["daemon"].set_string_value(daemon);
    RETURN_IF_ERROR(session.Show(
        versions, [&] { return absl::StrCat("orchctl ", ORCH_VERSION, "\norchd   ", daemon, "\n"); }, {ORCH_VERSION}));
    return kOk;
  }
};

absl::Status OpenBrowser(const std::string& url) {
  std::string program = "xdg-open";
  std::string argument = url;
  char* argv[] = {program.data(), argument.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int rc = posix_spawnp(&pid, "xdg-open", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (rc == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "NO_BROWSER",
               absl::StrCat("cannot run xdg-open (", strerror(rc), "): open the link by hand"));
}

class OpenRunVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id [the list of runs]", Kind::kRun, /*required=*/false);
    flags.Switch("--browser", &browser_, "Also open it in the browser");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::SignInLink link, client->CreateSignInLink(run_));
    RETURN_IF_ERROR(session.Show(link, [&] { return link.url() + "\n"; }, {link.url()}));
    if (browser_) RETURN_IF_ERROR(OpenBrowser(link.url()));
    return kOk;
  }

 private:
  std::string run_;
  bool browser_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeBackup() { return std::make_unique<BackupVerb>(); }
std::unique_ptr<Verb> MakeServerInfo() { return std::make_unique<ServerInfoVerb>(); }
std::unique_ptr<Verb> MakeVersion() { return std::make_unique<VersionVerb>(); }
std::unique_ptr<Verb> MakeOpenRun() { return std::make_unique<OpenRunVerb>(); }

}  // namespace orch::cli
