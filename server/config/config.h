// The daemon's configuration: defaults, a YAML file over them, flags over both.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/log.h"
#include "server/engine/engine.h"

namespace orch::config {

struct Config {
  std::string data_dir;  // absolute after Finish
  std::string listen = "127.0.0.1:7433";
  std::string http_listen = "127.0.0.1:7434";
  // Both or none. With them every TCP port speaks TLS alone; addresses other than loopback need them.
  std::string tls_cert;
  std::string tls_key;
  // A file with the owner's token, which somebody else makes; empty: the daemon makes one in its data directory.
  std::string token_file;
  // What steps that do not share this machine's sockets reach the daemon by: `https://HOST:PORT`; empty: they do not.
  std::string step_endpoint;
  std::string step_ca;     // a file with the certificates that sign its
  std::string public_url;  // without a slash at its end; empty: the HTTP address
  LogLevel log_level = LogLevel::kInfo;
  int64_t grace_micros = 10'000'000;
  int64_t reserve_after_micros = 30'000'000;
  bool fake_flavor = false;
  Limits limits;
  Retention retention;
  BackupPolicy backup;
};

// Reads YAML text over `config`. All faults as `FILE:LINE:COLUMN: text`; with faults `config` is not to be used.
std::vector<std::string> ReadYaml(const std::string& text, const std::string& file, Config* config);

// What a value alone does not show: addresses, the URL, the data directory's default, the certificate and its key
// (their files are read). All faults, without places.
std::vector<std::string> Finish(Config* config);

// The whole configuration as YAML that ReadYaml takes.
std::string ToYaml(const Config& config);

// $XDG_DATA_HOME/orchd, else ~/.local/share/orchd; empty if neither is known.
std::string DefaultDataDir();

}  // namespace orch::config
