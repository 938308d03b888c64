// Every unary call by its full name: one table, from which gRPC and HTTP are both served.
#pragma once

#include <google/protobuf/message.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/rpc/call.h"
#include "server/rpc/metrics.h"

namespace orch::rpc {

// What a method does, for those who decide about it.
struct MethodTraits {
  bool mutates = false;    // refused while the daemon stops
  bool for_steps = false;  // may be called with a step's own token; the handler checks what of
  bool waits = false;      // may take minutes; over HTTP such calls are served apart, so that they hold up no other
  bool for_owner = false;  // with no other token
};

struct Method {
  std::string name;  // `orch.v1.RunService/GetRun`
  MethodTraits traits;
  const google::protobuf::Message* request_prototype = nullptr;
  const google::protobuf::Message* response_prototype = nullptr;
  std::function<absl::Status(const CallContext&, const google::protobuf::Message&, google::protobuf::Message*)> handler;
  MethodMetrics* metrics = nullptr;
};

// Filled at start, read by any thread afterwards.
class MethodTable {
 public:
  explicit MethodTable(Metrics* metrics) : metrics_(metrics) {}

  // `api` outlives the table.
  template <typename Api, typename Request, typename Response>
  void Add(absl::string_view name, MethodTraits traits, Api* api,
           absl::Status (Api::*call)(const CallContext&, const Request&, Response*)) {
    Method method;
    method.name = std::string(name);
    method.traits = traits;
    method.request_prototype = &Request::default_instance();
    method.response_prototype = &Response::default_instance();
    method.handler = [api, call](const CallContext& context, const google::protobuf::Message& request,
                                 google::protobuf::Message* response) {
      return (api->*call)(context, static_cast<const Request&>(request), static_cast<Response*>(response));
    };
    method.metrics = metrics_->Of(name);
    methods_.emplace(method.name, std::move(method));
  }

  // nullptr if there is none. `name` without a slash at its head.
  const Method* Find(absl::string_view name) const {
    const auto found = methods_.find(std::string(name));
    return found == methods_.end() ? nullptr : &found->second;
  }
  const std::map<std::string, Method>& all() const { return methods_; }

 private:
  Metrics* metrics_;
  std::map<std::string, Method> methods_;
};

}  // namespace orch::rpc
