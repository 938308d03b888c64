// HTTP requests and answers without a library.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
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

// A piece of an open file as a body; it is sent without being read into memory.
class FileBody {
 public:
  FileBody(int fd, int64_t offset, int64_t size) : fd_(fd), offset_(offset), size_(size) {}
  ~FileBody();
  FileBody(const FileBody&) = delete;
  FileBody& operator=(const FileBody&) = delete;
  // The descriptor, which is the caller's from now on.
  int Release() { return std::exchange(fd_, -1); }
  int64_t offset() const { return offset_; }
  int64_t size() const { return size_; }

 private:
  int fd_;
  const int64_t offset_;
  const int64_t size_;
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::shared_ptr<FileBody> file;  // instead of `body`
};

// Takes a body piece by piece as it comes. One thread at a time.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // False: no more is wanted; Finish says why.
  virtual bool Append(const std::string& bytes) = 0;
  // After the last piece.
  virtual Response Finish() = 0;
};

}  // namespace orch::http
