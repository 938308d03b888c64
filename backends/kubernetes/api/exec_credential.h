// Credentials that a program gives: it is run without a terminal, and what it says is kept until it expires.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/kubeconfig.h"

namespace orch::kubernetes {

struct ExecCredential {
  std::string token;
  std::string certificate_pem, key_pem;
  int64_t expires = 0;  // microseconds UTC; 0: it does not say
};

// What such a program prints. INVALID_ARGUMENT (EXEC_CREDENTIAL_INVALID); nothing of a value is in it.
absl::StatusOr<ExecCredential> ParseExecCredential(absl::string_view text, absl::string_view api_version);

// What KUBERNETES_EXEC_INFO holds for the program.
std::string ExecInfo(const ExecPlugin& plugin, const ServerAddress& server);

// One run of the program. It is waited for by reading; the process is gone with the object.
class ExecRun {
 public:
  ExecRun() = default;
  ~ExecRun();
  ExecRun(const ExecRun&) = delete;
  ExecRun& operator=(const ExecRun&) = delete;

  // FAILED_PRECONDITION (EXEC_PLUGIN_FAILED) with the hint how to install it if there is no such program.
  absl::Status Start(const ExecPlugin& plugin, const ServerAddress& server);
  bool runs() const { return out_ >= 0; }
  // What can be read when it goes on.
  void AddFds(std::vector<int>* fds) const;
  // Ends it.
  void Stop() { Close(); }
  // Reads what is there. True once it has ended; then `output` or what went wrong is in `result`.
  bool Read(absl::StatusOr<std::string>* result);

 private:
  void Close();

  std::string command_, hint_, output_, errors_;
  pid_t pid_ = 0;
  int out_ = -1, err_ = -1;
};

}  // namespace orch::kubernetes
