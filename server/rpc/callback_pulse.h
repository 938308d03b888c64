// gRPC's callback threads, kept awake.
//
// gRPC 1.51 runs all callbacks of the process on a few threads (two on small machines), each of which sleeps for 100 ms
// when it has had nothing to do for a second, and whatever comes meanwhile waits if all of them do: measured, all slept
// for a twelfth of the time of a daemon that had little to do, and its watchers heard that much later. A call of the
// daemon to itself every 0.8 s is enough for one of them to be awake at any time.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "server/base/mutex.h"
#include "server/rpc/worker_pool.h"

namespace orch::rpc {

class CallbackPulse : public std::enable_shared_from_this<CallbackPulse> {
 public:
  // Calls the server behind `channel` from now on. `pool` outlives what it is asked for.
  static std::shared_ptr<CallbackPulse> Start(std::shared_ptr<grpc::Channel> channel, WorkerPool* pool);
  // No call begins after it. Any thread.
  void Stop();

 private:
  CallbackPulse(std::shared_ptr<grpc::Channel> channel, WorkerPool* pool)
      : channel_(std::move(channel)), pool_(*pool) {}
  void Beat();

  Mutex mutex_;
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(mutex_);  // nullptr: stopped
  WorkerPool& pool_;
};

}  // namespace orch::rpc
