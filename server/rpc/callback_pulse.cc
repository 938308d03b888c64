#include "server/rpc/callback_pulse.h"

#include <grpcpp/generic/generic_stub.h>

#include <utility>

namespace orch::rpc {
namespace {

// A thread that sleeps at T has had no call since T - 1 s, so that another one had one since T - 0.8 s and stays awake
// until T + 0.2 s.
constexpr int64_t kEveryMicros = 800'000;

struct Call {
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer answer;
};

}  // namespace

std::shared_ptr<CallbackPulse> CallbackPulse::Start(std::shared_ptr<grpc::Channel> channel, WorkerPool* pool) {
  std::shared_ptr<CallbackPulse> pulse(new CallbackPulse(std::move(channel), pool));
  pulse->Beat();
  return pulse;
}

void CallbackPulse::Stop() {
  MutexLock lock(&mutex_);
  channel_ = nullptr;
}

void CallbackPulse::Beat() {
  std::shared_ptr<grpc::Channel> channel;
  {
    MutexLock lock(&mutex_);
    channel = channel_;
  }
  if (channel == nullptr) return;
  auto call = std::make_shared<Call>();
  const grpc::Slice empty;
  call->request = grpc::ByteBuffer(&empty, 1);
  // Health answers without the daemon's doing, also while it starts and drains.
  grpc::GenericStub(channel).UnaryCall(&call->context, "/grpc.health.v1.Health/Check", grpc::StubOptions(),
                                       &call->request, &call->answer, [call](const grpc::Status&) {});
  pool_.PostAfter(kEveryMicros, [self = shared_from_this()] { self->Beat(); });
}

}  // namespace orch::rpc
