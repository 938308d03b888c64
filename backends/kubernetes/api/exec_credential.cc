#include "backends/kubernetes/api/exec_credential.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "server/base/detached_process.h"
#include "server/base/status.h"
#include "server/base/utf8.h"

extern "C" char** environ;  // NOLINT: of unistd.h where that is asked for

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr size_t kMostOutput = 1 << 20;
constexpr size_t kMostErrors = 2048;

absl::Status Failed(absl::string_view what) {
  return Error(absl::StatusCode::kFailedPrecondition, "EXEC_PLUGIN_FAILED", what);
}

std::string TextAt(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || !found->is_string() ? "" : found->get<std::string>();
}

// The program's path as the shell would find it; empty: nowhere.
std::string FindProgram(const std::string& command) {
  if (absl::StrContains(command, '/')) return access(command.c_str(), X_OK) == 0 ? command : "";
  const char* path = getenv("PATH");
  const std::string folders = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  for (const absl::string_view folder : absl::StrSplit(folders, ':', absl::SkipEmpty())) {
    std::string file = absl::StrCat(folder, "/", command);
    struct stat st {};
    if (stat(file.c_str(), &st) == 0 && S_ISREG(st.st_mode) && access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

// Reads what is there into `out`, of which no more than `most` is kept; false at the end.
bool Drain(int fd, size_t most, std::string* out) {
  char buffer[16384];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (out->size() < most) out->append(buffer, std::min(static_cast<size_t>(got), most - out->size()));
  }
}

}  // namespace

absl::StatusOr<ExecCredential> ParseExecCredential(absl::string_view text, absl::string_view api_version) {
  const auto invalid = [](absl::string_view what) {
    return Error(absl::StatusCode::kInvalidArgument, "EXEC_CREDENTIAL_INVALID", what);
  };
  const json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return invalid("what it printed is no JSON object");
  if (TextAt(object, "kind") != "ExecCredential") return invalid("its kind is not ExecCredential");
  if (TextAt(object, "apiVersion") != api_version) return invalid(absl::StrCat("its apiVersion is not ", api_version));
  const auto status = object.find("status");
  if (status == object.end() || !status->is_object()) return invalid("it has no status");
  ExecCredential out;
  out.token = TextAt(*status, "token");
  out.certificate_pem = TextAt(*status, "clientCertificateData");
  out.key_pem = TextAt(*status, "clientKeyData");
  if (out.certificate_pem.empty() != out.key_pem.empty())
    return invalid("a certificate needs its key, and a key its certificate");
  if (out.token.empty() && out.certificate_pem.empty()) return invalid("it has neither a token nor a certificate");
  for (const char c : out.token) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return invalid("its token has a control character");
  }
  if (const std::string expires = TextAt(*status, "expirationTimestamp"); !expires.empty()) {
    absl::Time time;
    std::string ignored;
    if (!absl::ParseTime(absl::RFC3339_full, expires, &time, &ignored))
      return invalid("its expirationTimestamp is no time");
    out.expires = std::max<int64_t>(1, absl::ToUnixMicros(time));
  }
  return out;
}

std::string ExecInfo(const ExecPlugin& plugin, const ServerAddress& server) {
  json spec = {{"interactive", false}};
  if (plugin.provide_cluster_info) {
    json& cluster = spec["cluster"] = {{"server", server.url}};
    if (!server.tls_server_name.empty()) cluster["tls-server-name"] = server.tls_server_name;
    if (server.insecure) cluster["insecure-skip-tls-verify"] = true;
    if (!server.ca_pem.empty()) cluster["certificate-authority-data"] = absl::Base64Escape(server.ca_pem);
    if (!server.proxy.empty()) cluster["proxy-url"] = server.proxy;
  }
  return json{{"kind", "ExecCredential"}, {"apiVersion", plugin.api_version}, {"spec", spec}}.dump(
      -1, ' ', false, json::error_handler_t::replace);
}

ExecRun::~ExecRun() { Close(); }

void ExecRun::Close() {
  for (int* fd : {&out_, &err_}) {
    if (*fd >= 0) close(std::exchange(*fd, -1));
  }
  if (pid_ == 0) return;
  // It leads a session, and what it has started ends with it.
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

absl::Status ExecRun::Start(const ExecPlugin& plugin, const ServerAddress& server) {
  Close();
  command_ = plugin.command;
  hint_ = plugin.install_hint;
  output_.clear();
  errors_.clear();
  const std::string program = FindProgram(plugin.command);
  if (program.empty()) {
    return Failed(absl::StrCat("there is no program ", plugin.command, hint_.empty() ? "" : ": ", hint_));
  }
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Failed("no pipe for the program");
  if (pipe2(err, O_CLOEXEC) != 0) {
    close(out[0]);
    close(out[1]);
    return Failed("no pipe for the program");
  }
  std::vector<std::string> environment;
  const auto named = [&](absl::string_view entry) {
    if (absl::StartsWith(entry, "KUBERNETES_EXEC_INFO=")) return true;
    for (const auto& [name, unused] : plugin.env) {
      if (absl::StartsWith(entry, absl::StrCat(name, "="))) return true;
    }
    return false;
  };
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!named(*entry)) environment.emplace_back(*entry);
  }
  for (const auto& [name, value] : plugin.env) environment.push_back(absl::StrCat(name, "=", value));
  environment.push_back(absl::StrCat("KUBERNETES_EXEC_INFO=", ExecInfo(plugin, server)));
  std::vector<std::string> words = {program};
  words.insert(words.end(), plugin.args.begin(), plugin.args.end());
  DetachedProcess process;
  process.Open(0, "/dev/null", O_RDONLY).Duplicate(out[1], 1).Duplicate(err[1], 2).CloseFrom(3);
  const int error = process.Start(words, &environment, &pid_);
  close(out[1]);
  close(err[1]);
  out_ = out[0];
  err_ = err[0];
  if (error != 0) {
    pid_ = 0;
    Close();
    return Failed(absl::StrCat(program, " does not start: ", strerror(error)));
  }
  fcntl(out_, F_SETFL, O_NONBLOCK);
  fcntl(err_, F_SETFL, O_NONBLOCK);
  return absl::OkStatus();
}

void ExecRun::AddFds(std::vector<int>* fds) const {
  for (const int fd : {out_, err_}) {
    if (fd >= 0) fds->push_back(fd);
  }
}

bool ExecRun::Read(absl::StatusOr<std::string>* result) {
  // One that has much to say would stop if nobody read it.
  if (err_ >= 0 && !Drain(err_, kMostErrors, &errors_)) close(std::exchange(err_, -1));
  if (Drain(out_, kMostOutput, &output_)) return false;
  // It has closed its output: soon it has ended, too. One that closes it and goes on is not waited for.
  if (err_ >= 0) (void)Drain(err_, kMostErrors, &errors_);
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 100 && (ended = waitpid(pid_, &status, WNOHANG)) == 0; ++i) {
    poll(nullptr, 0, 10);
  }
  if (ended == pid_) pid_ = 0;
  const bool good = ended != 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (good) {
    *result = std::move(output_);
  } else {
    const std::string words = ToUtf8(absl::StripAsciiWhitespace(errors_));
    *result = Failed(absl::StrCat(command_, " gave no credentials", words.empty() ? "" : ": ", words,
                                  hint_.empty() ? "" : "; ", hint_));
  }
  Close();
  return true;
}

}  // namespace orch::kubernetes
