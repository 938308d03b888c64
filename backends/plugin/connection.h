// Calls to one plug-in over one channel. Everything on the loop's thread; a connection outlives its calls.
#pragma once

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "backends/plugin/call_loop.h"
#include "orch/backend/v1/plugin.grpc.pb.h"

namespace orch::plugin {

namespace v1 = ::orch::backend::v1;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(CallLoop* loop, std::shared_ptr<grpc::Channel> channel, std::string token)
      : loop_(loop), stub_(v1::BackendPlugin::NewStub(channel)), token_(std::move(token)) {}

  template <typename Request, typename Response>
  using Unary = std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> (v1::BackendPlugin::Stub::*)(
      grpc::ClientContext*, const Request&, grpc::CompletionQueue*);
  template <typename Request, typename Response>
  using Streaming = std::unique_ptr<grpc::ClientAsyncReader<Response>> (v1::BackendPlugin::Stub::*)(
      grpc::ClientContext*, const Request&, grpc::CompletionQueue*, void*);

  // `done` once, unless the connection was closed before; DEADLINE_EXCEEDED after `micros`.
  template <typename Request, typename Response>
  void Call(Unary<Request, Response> method, const Request& request, int64_t micros,
            std::function<void(const grpc::Status&, Response&)> done) {
    struct State : Tag {
      void Proceed(bool) override {
        const std::unique_ptr<State> self(this);
        if (connection->Left(&context)) done(status, response);
      }
      std::shared_ptr<Connection> connection;
      grpc::ClientContext context;
      Response response;
      grpc::Status status;
      std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
      std::function<void(const grpc::Status&, Response&)> done;
    };
    auto* state = new State;
    state->connection = shared_from_this();
    state->done = std::move(done);
    Enter(&state->context, micros);
    state->reader = (stub_.get()->*method)(&state->context, request, loop_->queue());
    state->reader->Finish(&state->response, &state->status, static_cast<Tag*>(state));
  }

  // `take` for each message: after how many microseconds the next is read; below 0: the stream is ended. `done` once,
  // unless the connection was closed before. `micros` 0: no deadline.
  template <typename Request, typename Response>
  void Stream(Streaming<Request, Response> method, const Request& request, int64_t micros,
              std::function<int64_t(Response&)> take, std::function<void(const grpc::Status&)> done) {
    enum class Step { kStart, kRead, kFinish };
    struct State : Tag {
      void Proceed(bool ok) override {
        if (step == Step::kFinish) {
          const std::unique_ptr<State> self(this);
          if (connection->Left(&context)) done(status);
          return;
        }
        if (ok && step == Step::kRead && connection->open_) {
          const int64_t pause = take(response);
          response.Clear();
          if (pause < 0) context.TryCancel();
          if (pause > 0) return connection->loop_->After(pause, [this] { Read(); });
        }
        ok ? Read() : Finish();
      }
      void Read() {
        step = Step::kRead;
        reader->Read(&response, static_cast<Tag*>(this));
      }
      void Finish() {
        step = Step::kFinish;
        reader->Finish(&status, static_cast<Tag*>(this));
      }
      std::shared_ptr<Connection> connection;
      grpc::ClientContext context;
      Response response;
      grpc::Status status;
      std::unique_ptr<grpc::ClientAsyncReader<Response>> reader;
      std::function<int64_t(Response&)> take;
      std::function<void(const grpc::Status&)> done;
      Step step = Step::kStart;
    };
    auto* state = new State;
    state->connection = shared_from_this();
    state->take = std::move(take);
    state->done = std::move(done);
    Enter(&state->context, micros);
    state->reader = (stub_.get()->*method)(&state->context, request, loop_->queue(), static_cast<Tag*>(state));
  }

  // Ends all calls; none of their callbacks comes any more.
  void Close() {
    open_ = false;
    for (grpc::ClientContext* context : calls_) context->TryCancel();
  }
  bool open() const { return open_; }

 private:
  void Enter(grpc::ClientContext* context, int64_t micros) {
    loop_->Began();
    calls_.insert(context);
    if (!token_.empty()) context->AddMetadata("orch-token", token_);
    if (micros > 0) {
      context->set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(micros, GPR_TIMESPAN)));
    }
    if (!open_) context->TryCancel();
  }
  // True: whoever asked still wants to hear of it.
  bool Left(grpc::ClientContext* context) {
    loop_->Finished();
    calls_.erase(context);
    return open_;
  }

  CallLoop* const loop_;
  const std::unique_ptr<v1::BackendPlugin::Stub> stub_;
  const std::string token_;
  std::set<grpc::ClientContext*> calls_;
  bool open_ = true;
};

}  // namespace orch::plugin
