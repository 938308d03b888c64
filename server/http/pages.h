// The pages for people, rendered here: the list of runs, a run with its steps, a step's log. Built from the same calls
// that clients make. On a worker thread.
#pragma once

#include "server/http/message.h"
#include "server/rpc/guard.h"
#include "server/rpc/method_table.h"

namespace orch::http {

class Pages {
 public:
  Pages(const rpc::MethodTable* table, rpc::Guard* guard) : table_(*table), guard_(*guard) {}

  // For a path that begins with `/runs`; 404 for those that are none.
  Response Serve(const rpc::Identity& identity, const Request& request) const;

  // 401: what to do to get in. `path` is what was asked for.
  static Response SignInNeeded(const std::string& path);
  static Response Problem(int status, const std::string& title, const std::string& text);

 private:
  Response Runs(const rpc::CallContext& context, const Request& request) const;
  Response Run(const rpc::CallContext& context, const Request& request, const std::string& run) const;
  Response Log(const rpc::CallContext& context, const Request& request, const std::string& run,
               const std::string& step) const;
  std::string WhyHere(const rpc::CallContext& context, const std::string& run, const std::string& step) const;
  template <typename In, typename Out>
  absl::Status Call(const rpc::CallContext& context, const char* method, In in, Out* out) const;

  const rpc::MethodTable& table_;
  rpc::Guard& guard_;
};

}  // namespace orch::http
