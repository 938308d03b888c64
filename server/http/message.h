// HTTP requests and answers without a library.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/rpc/guard.h"

namespace orch::http {

struct Request {
  rpc::Transport transport = rpc::Transport::kTcp;
  std::string method;                          // `GET`
  std::string path;                            // unescaped, without the query
  std::map<std::string, std::string> query;    // unescaped
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  // Empty if there is none.
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
  std::string argument(const std::string& name) const {
    const auto found = query.find(name);
    return found == query.end() ? std::string() : found->second;
  }
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

}  // namespace orch::http
