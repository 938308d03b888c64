// What the calls share: the channel, the stubs, and the loop of attempts. Private to client/lib.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "client/lib/client.h"
#include "client/lib/errors.h"
#include "client/lib/grpc.h"
#include "client/lib/retry.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::client {

struct Client::Impl {
  Impl(Endpoint e, ClientOptions o);

  Endpoint endpoint;
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::RunService::Stub> runs;
  std::unique_ptr<v1::PipelineService::Stub> pipelines;
  std::unique_ptr<v1::ArtifactService::Stub> artifacts;
  std::unique_ptr<v1::LogService::Stub> logs;
  std::unique_ptr<v1::OrchestratorService::Stub> orchestrators;
  std::unique_ptr<v1::SecretService::Stub> secrets;
  std::unique_ptr<v1::AuthService::Stub> auth;
  std::unique_ptr<v1::AdminService::Stub> admin;
  // The daemon has answered at least once.
  std::atomic<bool> met{false};

  RetryPolicy Policy() const;
  void Prepare(grpc::ClientContext* context) const;
  static void SetDeadline(grpc::ClientContext* context, std::chrono::microseconds from_now);

  template <typename Request>
  void Fill(Request* request) const {
    if constexpr (requires { request->set_project(""); }) {
      if (request->project().empty()) request->set_project(options.project);
    }
    if constexpr (requires { request->set_request_id(""); }) {
      if (request->request_id().empty()) request->set_request_id(NewUuid(Clock::Real().Now().wall));
    }
  }

  // One unary call with its retries. `timeout` bounds all attempts together.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                Request request, std::chrono::milliseconds timeout, Cancellation* cancel = nullptr) {
    Fill(&request);
    Cancellation never;
    Cancellation* stop = cancel == nullptr ? &never : cancel;
    const auto end = std::chrono::steady_clock::now() + timeout;
    Retries retries(Policy());
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(end - std::chrono::steady_clock::now());
      grpc::ClientContext context;
      Prepare(&context);
      SetDeadline(&context, left);
      if (cancel != nullptr) cancel->SetHook([&context] { context.TryCancel(); });
      Response response;
      const absl::Status status = FromGrpc((stub.*method)(&context, request, &response));
      if (cancel != nullptr) cancel->SetHook(nullptr);
      if (status.ok()) {
        met = true;
        return response;
      }
      if (stop->cancelled()) return absl::CancelledError("stopped waiting");
      std::chrono::microseconds wait{0};
      const bool again = retries.Again(status, &wait);
      if (!again || std::chrono::steady_clock::now() + wait >= end || !stop->Sleep(wait)) {
        return Explain(status, endpoint);
      }
    }
  }

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                Request request) {
    return Call(stub, method, std::move(request), options.timeout);
  }
};

}  // namespace orch::client
