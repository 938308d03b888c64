// The daemon's own files in its data directory: the directory itself, the token, server.json, where the sockets are.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace orch::config {

// Makes it, with its parents, or takes an own one; it is 0700 afterwards. FAILED_PRECONDITION (DATA_DIR_FOREIGN) if it
// is another user's, or no folder.
absl::Status PrepareDataDir(const std::string& dir);

// The owner's token from DIR/token; made once, 0600. 43 letters of base64url.
absl::StatusOr<std::string> ReadOrMakeToken(const std::string& dir);
// The owner's token from a file of somebody who makes it elsewhere, such as a cluster's secret: one line of 32 to 500
// letters of the kind that fits a header. INVALID_ARGUMENT (FILE_UNUSABLE, TOKEN_WEAK, TOKEN_INVALID) begins with the
// file's name.
absl::StatusOr<std::string> ReadGivenToken(const std::string& file);
// Puts such a token into DIR/token, where clients on this machine look.
absl::Status KeepToken(const std::string& dir, const std::string& token);

struct SocketPaths {
  std::string grpc;
  std::string http;
  std::string steps;  // a folder that containers may have: in it `http.sock`, where every call needs a token
};
// DIR/grpc.sock and DIR/http.sock; where that would be too long for a socket, in a 0700 folder under /tmp whose name
// follows from DIR, so that it is the same after a restart.
absl::StatusOr<SocketPaths> PrepareSockets(const std::string& dir);

struct ServerFile {
  std::string grpc;
  std::string http;
  std::string grpc_unix;
  std::string http_unix;
  bool tls = false;  // of `grpc` and `http`
  int64_t pid = 0;
  std::string version;
};
// DIR/server.json, whole or not at all.
absl::Status WriteServerFile(const std::string& dir, const ServerFile& file);
void RemoveServerFile(const std::string& dir);

}  // namespace orch::config
