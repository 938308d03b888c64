#include "server/config/flags.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/fault.h"

namespace orch::config {
namespace {

constexpr int kUsage = 2;
constexpr std::streamoff kMaxFile = 1 << 20;

CommandLine Exit(int code, std::string message) {
  CommandLine out;
  out.mode = CommandLine::Mode::kExit;
  out.exit_code = code;
  out.message = std::move(message);
  return out;
}

}  // namespace

CommandLine ReadCommandLine(int argc, const char* const* argv, const std::string& version) {
  std::string restore, salvage, data_dir, listen, http_listen, tls_cert, tls_key, token_file, step_endpoint, step_ca,
      file, public_url, log_level;
  bool check = false;
  bool print = false;
  bool list_faults = false;
  bool fault_points = false;
  bool check_data = false;
  CLI::App app("orchd owns the execution of pipelines: it stores runs, starts their steps, and answers clients.",
               "orchd");
  app.set_version_flag("--version", "orchd " + version);
  app.add_option("--data-dir", data_dir,
                 "Where everything is kept (default: $XDG_DATA_HOME/orchd or ~/.local/share/orchd)");
  app.add_option("--listen", listen, "Address for gRPC (default 127.0.0.1:7433; port 0: any free one)");
  app.add_option("--http-listen", http_listen, "Address for HTTP (default 127.0.0.1:7434; port 0: any free one)");
  app.add_option("--tls-cert", tls_cert, "Certificate (PEM, with its chain) for both ports; needed beyond loopback");
  app.add_option("--tls-key", tls_key, "Its key (PEM, mode 0600); both files are read again when they change");
  app.add_option(
      "--token-file", token_file,
      "The owner's token, made elsewhere: a file of one line, mode 0600 (default: made in the data directory)");
  app.add_option("--step-endpoint", step_endpoint,
                 "What steps elsewhere, in containers too, reach the HTTP port by: https://HOST:PORT");
  app.add_option("--step-ca", step_ca,
                 "Certificates (PEM) that sign that of --step-endpoint, if the system does not know them");
  app.add_option("--config", file, "A YAML file; flags override it");
  app.add_option("--public-url", public_url, "Base of orchd's own pages, as browsers reach them");
  app.add_option("--log-level", log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_flag("--check-config", check, "Check the configuration, say everything that is wrong, and end");
  app.add_flag("--print-config", print, "Print the configuration in force and end");
  // For tests, so in no group of the help.
  app.add_flag("--list-fault-points", list_faults)->group("");
  app.add_flag("--fault-points", fault_points, "Do what ORCH_FAULTS orders; see server/base/fault.h")->group("");
  app.add_option(
      "--restore", restore,
      "Put a backup (its folder, or a database alone) in the place of what is in --data-dir, and end; what was "
      "there is moved aside");
  app.add_option("--salvage", salvage,
                 "The same with what can still be read of a damaged database, such as that of --data-dir itself");
  app.add_flag("--check-data", check_data,
               "Check the database and the stored files, say everything that is damaged, and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {
      std::ostringstream out;
      std::ostringstream unused;
      app.exit(e, out, unused);
      return Exit(0, out.str());
    }
    return Exit(kUsage, absl::StrCat("orchd: ", e.what(), "; `orchd --help` lists the flags\n"));
  }
  if (list_faults) return Exit(0, absl::StrCat(absl::StrJoin(FaultPoints(), "\n"), "\n"));
  CommandLine out;
  out.fault_points = fault_points;
  std::vector<std::string> faults;
  if (!file.empty()) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    if (!in) return Exit(kUsage, absl::StrCat("orchd: cannot read ", file, "\n"));
    if (in.tellg() > kMaxFile) return Exit(kUsage, absl::StrCat("orchd: ", file, " is larger than 1 MiB\n"));
    in.seekg(0);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    faults = ReadYaml(text, file, &out.config);
  }
  if (!data_dir.empty()) out.config.data_dir = data_dir;
  if (!listen.empty()) out.config.listen = listen;
  if (!http_listen.empty()) out.config.http_listen = http_listen;
  if (!tls_cert.empty()) out.config.tls_cert = tls_cert;
  if (!tls_key.empty()) out.config.tls_key = tls_key;
  if (!token_file.empty()) out.config.token_file = token_file;
  if (!step_endpoint.empty()) out.config.step_endpoint = step_endpoint;
  if (!step_ca.empty()) out.config.step_ca = step_ca;
  if (!public_url.empty()) out.config.public_url = public_url;
  if (!log_level.empty()) {
    (void)ReadYaml(absl::StrCat("log_level: ", log_level), "--log-level", &out.config);  // checked above
  }
  for (const std::string& fault : Finish(&out.config)) {
    faults.push_back(absl::StrCat(file.empty() ? "orchd" : file, ": ", fault));
  }
  if (!faults.empty()) return Exit(kUsage, absl::StrCat(absl::StrJoin(faults, "\n"), "\n"));
  if (check) return Exit(0, "the configuration is good\n");
  if (check_data) out.mode = CommandLine::Mode::kCheckData;
  if (!restore.empty()) {
    out.mode = CommandLine::Mode::kRestore;
    out.restore = std::move(restore);
  }
  if (!salvage.empty()) {
    if (out.mode == CommandLine::Mode::kRestore) {
      return Exit(kUsage, "orchd: --restore and --salvage exclude each other\n");
    }
    out.mode = CommandLine::Mode::kSalvage;
    out.restore = std::move(salvage);
  }
  if (print) {
    out.mode = CommandLine::Mode::kPrint;
    out.message = ToYaml(out.config);
  }
  return out;
}

}  // namespace orch::config
