// The way to one plug-in: its process or its address, started again with growing pauses, and what it said of itself.
//
// Everything on the loop's thread.
#pragma once

#include <grpcpp/security/credentials.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "backends/api/registry.h"
#include "backends/plugin/call_loop.h"
#include "backends/plugin/connection.h"
#include "backends/plugin/process.h"

namespace orch::plugin {

// The daemon speaks the newest protocol and the one before it.
inline constexpr int kNewestProtocol = 1;
inline constexpr int kOldestProtocol = 1;

struct Limits {
  int64_t start_micros = 20'000'000;          // until its first line (limit plugin_start_seconds)
  int64_t call_micros = 30'000'000;           // one call (limit plugin_call_seconds)
  int64_t message_bytes = int64_t{16} << 20;  // one message from it (limit plugin_message_bytes)
  int64_t log_bytes = int64_t{4} << 20;       // kept of what it writes itself (limit plugin_log_bytes)
  int64_t messages_per_second = 2'000;        // of its Watch (limit plugin_messages_per_second)
};

// The newest of `offered` that a daemon speaks which has `newest` and `oldest`; 0: none.
int ChooseProtocol(const std::vector<int>& offered, int newest, int oldest);

class Session {
 public:
  struct Options {
    PluginSource source;
    v1::Origin origin;
    std::string config_json = "{}";
    std::string folder;         // the daemon's own for this plug-in
    std::string workspace_dir;  // of its jobs
    std::string launcher;       // orch-launch, on this machine
    std::string step_socket;    // empty: there is none
    bool only_describe = false;
    Limits limits;
  };
  struct Handlers {
    // It may be used.
    std::function<void(const v1::DescribeResponse&, const v1::ConfigureResponse&)> up;
    // It cannot be used, for now: this is why. Whatever was under way is unknown. Another try follows by itself.
    std::function<void(const absl::Status&)> down;
    // While it is up: whether the platform behind it can be used.
    std::function<void(bool healthy, const std::string& message)> probed;
  };

  Session(CallLoop* loop, Options options, Handlers handlers);
  ~Session();

  void Open();
  // Tells the plug-in and lets go of it; no handler is called any more.
  void Close();

  bool up() const { return up_; }
  // While it is up.
  Connection& calls() { return *connection_; }
  const v1::Capabilities& capabilities() const { return description_.capabilities(); }

  // What it said cannot be true: it is not listened to any more, and started again.
  void Distrust(const std::string& why);

 private:
  void Try();
  absl::Status Launch();
  absl::Status Dial();
  void OnReady(const std::string& line);
  void Connect(const std::string& target, const std::shared_ptr<grpc::ChannelCredentials>& credentials);
  void Describe();
  void OnDescribed(const v1::DescribeResponse& answer);
  void Configure();
  void Up(const v1::ConfigureResponse& answer);
  void Probe();
  void Fail(const absl::Status& why);
  void Drop();
  std::string Who() const;
  // `task` unless another try began meanwhile.
  CallLoop::Task OfThisTry(CallLoop::Task task);
  std::vector<std::string> Environment(const std::string& socket) const;

  CallLoop* const loop_;
  const Options options_;
  const Handlers handlers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // false: what comes late finds nobody
  std::unique_ptr<Process> process_;
  std::shared_ptr<Connection> connection_;
  std::shared_ptr<grpc::Channel> channel_;
  std::string socket_, token_;
  v1::DescribeResponse description_;
  int ready_protocol_ = 0;  // as its first line says; 0: there is none
  int protocol_ = 0;
  int64_t try_ = 0;
  int64_t pause_ = 0;
  int64_t up_since_ = 0;  // mono
  int silent_probes_ = 0;
  bool up_ = false;
  bool closed_ = false;
};

}  // namespace orch::plugin
