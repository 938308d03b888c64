#include "server/rpc/streams.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/grpc_call.h"
#include "server/rpc/stream_reactor.h"
#include "server/rpc/tail_feed.h"
#include "server/rpc/watch_feed.h"

namespace orch::rpc {
namespace {

constexpr absl::string_view kWatch = "orch.v1.RunService/WatchRuns";
constexpr absl::string_view kTail = "orch.v1.LogService/TailLogs";

// Waits on the hub at most once at a time.
class HubSleeper {
 public:
  explicit HubSleeper(Hub* hub) : hub_(*hub) {}
  void Sleep(RunKey run, int64_t after, std::function<void()> wake, Hub::Scope scope = Hub::Scope::kEverything) {
    id_ = hub_.WakeAfter(run, after, std::move(wake), scope);
  }
  void Forget() {
    if (const uint64_t id = id_.exchange(0); id != 0) hub_.Forget(id);
  }

 private:
  Hub& hub_;
  std::atomic<uint64_t> id_{0};
};

template <typename Message>
class Refused : public grpc::ServerWriteReactor<Message> {
 public:
  explicit Refused(const absl::Status& status) { this->Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

template <typename Next>
StreamNext Translate(Next next) {
  switch (next) {
    case Next::kMessage:
      return StreamNext::kMessage;
    case Next::kIdle:
      return StreamNext::kIdle;
    case Next::kDone:
      break;
  }
  return StreamNext::kDone;
}

}  // namespace

absl::StatusOr<CallContext> Streams::Admit(grpc::CallbackServerContext* context, absl::string_view method) {
  CallContext call;
  // The engine answers from memory.
  ASSIGN_OR_RETURN(call.identity, guard_.Identify(TransportOf(*context), AuthorizationOf(*context)));
  RETURN_IF_ERROR(guard_.Permit(call.identity, method, {}));
  Metrics& metrics = guard_.metrics();
  if (metrics.watch_streams + metrics.log_streams >= api_.engine->limits().watch_streams) {
    return WithRetryDelay(Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_STREAMS",
                                absl::StrCat("more than ", api_.engine->limits().watch_streams,
                                             " streams are open (limit watch_streams)")),
                          1000);
  }
  return call;
}

grpc::ServerWriteReactor<v1::WatchRunsResponse>* Streams::WatchRuns(grpc::CallbackServerContext* context,
                                                                    const v1::WatchRunsRequest* request) {
  absl::StatusOr<CallContext> call = Admit(context, kWatch);
  if (!call.ok()) return new Refused<v1::WatchRunsResponse>(Seal(call.status(), kWatch));
  const auto feed = std::make_shared<WatchFeed>(&api_, *call, *request);
  const auto sleeper = std::make_shared<HubSleeper>(&api_.engine->hub());
  Metrics* metrics = &guard_.metrics();
  MethodMetrics* method = metrics->Of(kWatch);
  const int64_t begin = Clock::Real().Now().mono;
  metrics->watch_streams.fetch_add(1);
  StreamReactor<v1::WatchRunsResponse>::Source source;
  source.fill = [guard = &guard_, feed,
                 who = call->identity](v1::WatchRunsResponse* message) -> absl::StatusOr<StreamNext> {
    RETURN_IF_ERROR(guard->Recheck(who));
    ASSIGN_OR_RETURN(const WatchFeed::Next next, feed->Fill(message, Clock::Real().Now().mono));
    return Translate(next);
  };
  source.sleep = [feed, sleeper](std::function<void()> wake) {
    sleeper->Sleep(feed->run(), feed->after(), std::move(wake),
                   feed->runs_only() ? Hub::Scope::kRunsOnly : Hub::Scope::kEverything);
    return feed->bookmark_due();
  };
  source.forget = [sleeper] { sleeper->Forget(); };
  source.ended = [metrics, method, begin](const absl::Status& status) {
    metrics->watch_streams.fetch_sub(1);
    method->Count(status.code(), Clock::Real().Now().mono - begin);
  };
  const int64_t seconds = api_.engine->limits().watch_patience_seconds;
  source.patience_micros = seconds * 1'000'000;
  source.too_slow = [feed, seconds] {
    return WithFact(WithRetryDelay(Error(absl::StatusCode::kResourceExhausted, "READER_TOO_SLOW",
                                         absl::StrCat("nothing of this watch was taken for ", seconds,
                                                      " s (limit watch_patience_seconds); resume with the last token")),
                                   1000),
                    "resume_token", feed->last_token());
  };
  source.cut_off = [context] { context->TryCancel(); };
  return StreamReactor<v1::WatchRunsResponse>::Start(&pool_, kWatch, std::move(source));
}

grpc::ServerWriteReactor<v1::TailLogsResponse>* Streams::TailLogs(grpc::CallbackServerContext* context,
                                                                  const v1::TailLogsRequest* request) {
  absl::StatusOr<CallContext> call = Admit(context, kTail);
  if (!call.ok()) return new Refused<v1::TailLogsResponse>(Seal(call.status(), kTail));
  const auto feed = std::make_shared<TailFeed>(&api_, *call, *request);
  const auto sleeper = std::make_shared<HubSleeper>(&api_.engine->hub());
  Metrics* metrics = &guard_.metrics();
  MethodMetrics* method = metrics->Of(kTail);
  const int64_t begin = Clock::Real().Now().mono;
  metrics->log_streams.fetch_add(1);
  StreamReactor<v1::TailLogsResponse>::Source source;
  source.fill = [guard = &guard_, feed,
                 who = call->identity](v1::TailLogsResponse* message) -> absl::StatusOr<StreamNext> {
    RETURN_IF_ERROR(guard->Recheck(who));
    ASSIGN_OR_RETURN(const TailFeed::Next next, feed->Fill(message));
    return Translate(next);
  };
  source.sleep = [feed, sleeper](std::function<void()> wake) {
    sleeper->Sleep(feed->run(), feed->after(), std::move(wake));
    return Clock::Real().Now().mono + feed->poll_micros();
  };
  source.forget = [sleeper] { sleeper->Forget(); };
  source.ended = [metrics, method, begin](const absl::Status& status) {
    metrics->log_streams.fetch_sub(1);
    method->Count(status.code(), Clock::Real().Now().mono - begin);
  };
  return StreamReactor<v1::TailLogsResponse>::Start(&pool_, kTail, std::move(source));
}

}  // namespace orch::rpc
