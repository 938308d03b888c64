// The streaming calls, which go on by themselves after an interruption.
#include <map>
#include <optional>

#include "client/lib/client_impl.h"

namespace orch::client {
namespace {

enum class StreamEnd { kServer, kCaller, kSilence };

// Reads one stream to its end. The asynchronous form is used because only it can notice silence.
// `silence` zero: none is too long.
template <typename Message, typename Start, typename OnMessage>
StreamEnd ReadStream(grpc::ClientContext* context, std::chrono::milliseconds silence, const Start& start,
                     const OnMessage& on_message, grpc::Status* status) {
  grpc::CompletionQueue queue;
  StreamEnd end = StreamEnd::kServer;
  // Waits for the one operation under way; if that takes too long, cancels the call, which completes it.
  const auto await = [&](bool watch_silence) {
    void* tag = nullptr;
    bool ok = false;
    if (watch_silence && silence.count() > 0) {
      const auto deadline =
          gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(silence.count(), GPR_TIMESPAN));
      if (queue.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) return ok;
      end = StreamEnd::kSilence;
      context->TryCancel();
    }
    queue.Next(&tag, &ok);
    return ok;
  };
  auto reader = start(context, &queue);
  bool going = await(true);
  while (going) {
    Message message;
    reader->Read(&message, nullptr);
    going = await(true);
    if (going && !on_message(message)) {
      end = StreamEnd::kCaller;
      context->TryCancel();
      break;
    }
  }
  reader->Finish(status, nullptr);
  await(false);
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
  return end;
}

bool PlaceLost(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  return status.code() == absl::StatusCode::kOutOfRange || reason == "RESUME_TOKEN_COMPACTED" ||
         reason == "RESUME_TOKEN_FOREIGN";
}

// Only the last event has the token: behind the others is no place of its own.
bool EachEvent(const v1::WatchRunsResponse& batch, const OnWatch& on_message) {
  v1::WatchRunsResponse one;
  for (int i = 0; i < batch.events().events_size(); ++i) {
    *one.mutable_event() = batch.events().events(i);
    if (i + 1 == batch.events().events_size()) one.set_resume_token(batch.resume_token());
    if (!on_message(one)) return false;
  }
  return true;
}

}  // namespace

absl::Status Client::WatchRuns(v1::WatchRunsRequest request, const OnWatch& on_message, Cancellation* cancel,
                               const std::function<void(const absl::Status&)>& on_trouble) {
  impl_->Fill(&request);
  Cancellation never;
  Cancellation* stop = cancel == nullptr ? &never : cancel;
  request.set_batched(true);  // taken apart again below
  const bool wants_snapshot = request.snapshot();
  bool own_token = false;
  bool snapshot_whole = !wants_snapshot;
  Retries retries(impl_->Policy());
  while (true) {
    grpc::ClientContext context;
    impl_->Prepare(&context);
    stop->SetHook([&context] { context.TryCancel(); });
    grpc::Status grpc_status;
    bool progress = false;
    const StreamEnd end = ReadStream<v1::WatchRunsResponse>(
        &context, impl_->options.silence,
        [&](grpc::ClientContext* c, grpc::CompletionQueue* q) {
          return impl_->runs->AsyncWatchRuns(c, request, q, nullptr);
        },
        [&](const v1::WatchRunsResponse& message) {
          progress = true;
          impl_->met = true;
          if (message.has_snapshot()) snapshot_whole = message.snapshot().last();
          // Half a snapshot is no place to go on from.
          if (snapshot_whole && !message.resume_token().empty()) {
            request.set_resume_token(message.resume_token());
            request.set_snapshot(false);
            own_token = true;
          }
          if (stop->cancelled()) return false;
          return message.has_events() ? EachEvent(message, on_message) : on_message(message);
        },
        &grpc_status);
    stop->SetHook(nullptr);
    if (end == StreamEnd::kCaller || stop->cancelled()) return absl::OkStatus();
    if (progress) retries = Retries(impl_->Policy());
    absl::Status status = FromGrpc(grpc_status);
    if (end == StreamEnd::kSilence) status = absl::UnavailableError("it fell silent");
    if (status.ok()) {
      if (request.until_done()) return status;
      status = absl::UnavailableError("it ended the stream");
    }
    if (own_token && PlaceLost(status)) {
      request.clear_resume_token();
      request.set_snapshot(true);
      own_token = false;
      snapshot_whole = false;
      if (on_trouble) on_trouble(status);
      continue;
    }
    std::chrono::microseconds wait{0};
    if (!retries.Again(status, &wait)) return Explain(status, impl_->endpoint);
    if (on_trouble) on_trouble(Explain(status, impl_->endpoint));
    if (!stop->Sleep(wait)) return absl::OkStatus();
  }
}

absl::Status Client::TailLogs(v1::TailLogsRequest request, const OnLog& on_chunk, Cancellation* cancel) {
  impl_->Fill(&request);
  Cancellation never;
  Cancellation* stop = cancel == nullptr ? &never : cancel;
  // With `tail_lines` the daemon chooses where each stream begins. A stream that has sent nothing when the connection
  // breaks goes on from where its end was before.
  std::map<v1::LogStream::Name, int64_t> ends;
  if (request.tail_lines() > 0 && request.follow()) {
    for (const auto name : {v1::LogStream::STDOUT, v1::LogStream::STDERR}) {
      v1::ReadLogsRequest probe;
      probe.set_project(request.project());
      probe.set_run(request.run());
      probe.set_step(request.step());
      probe.set_attempt(request.attempt());
      probe.set_stream(name);
      probe.set_offset(-1);
      probe.set_max_bytes(1);
      const auto at = ReadLogs(probe);
      if (at.ok()) ends[name] = at->next_offset();
    }
  }
  Retries retries(impl_->Policy());
  while (true) {
    grpc::ClientContext context;
    impl_->Prepare(&context);
    stop->SetHook([&context] { context.TryCancel(); });
    grpc::Status grpc_status;
    bool progress = false;
    const StreamEnd end = ReadStream<v1::TailLogsResponse>(
        &context, std::chrono::milliseconds(0),
        [&](grpc::ClientContext* c, grpc::CompletionQueue* q) {
          return impl_->logs->AsyncTailLogs(c, request, q, nullptr);
        },
        [&](const v1::TailLogsResponse& chunk) {
          progress = true;
          impl_->met = true;
          if (request.tail_lines() > 0) {
            request.set_tail_lines(0);
            request.set_stdout_offset(ends[v1::LogStream::STDOUT]);
            request.set_stderr_offset(ends[v1::LogStream::STDERR]);
          }
          if (chunk.attempt() != 0) request.set_attempt(chunk.attempt());
          if (chunk.stream() == v1::LogStream::STDERR) {
            request.set_stderr_offset(chunk.next_offset());
          } else {
            request.set_stdout_offset(chunk.next_offset());
          }
          return !stop->cancelled() && on_chunk(chunk);
        },
        &grpc_status);
    stop->SetHook(nullptr);
    if (end == StreamEnd::kCaller || stop->cancelled()) return absl::OkStatus();
    if (progress) retries = Retries(impl_->Policy());
    const absl::Status status = FromGrpc(grpc_status);
    if (status.ok()) return status;
    std::chrono::microseconds wait{0};
    if (!retries.Again(status, &wait)) return Explain(status, impl_->endpoint);
    if (!stop->Sleep(wait)) return absl::OkStatus();
  }
}

}  // namespace orch::client
