// Loads a running daemon with many clients; one line of JSON a measurement. Not a test.
//
//   load_bench poll CLIENTS SECONDS RUN           GetRun, each client on a connection of its own
//   load_bench watch STREAMS CONNECTIONS PREFIX   stream S watches run PREFIX-S (PREFIX empty: all runs); prints
//   `ready`,
//                                                 then the latency of all events until stdin closes
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/lib/discovery.h"
#include "orch/v1/run_service.grpc.pb.h"

namespace {

using namespace orch;
using Clock = std::chrono::steady_clock;
using Stub = v1::RunService::Stub;

struct Server {
  std::string address;
  std::string token;

  std::unique_ptr<Stub> Connect() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    return v1::RunService::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }
  void Sign(grpc::ClientContext* context) const { context->AddMetadata("authorization", "Bearer " + token); }
};

int64_t WallMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

double At(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(q * static_cast<double>(sorted.size())))];
}

int Fail(const grpc::Status& status) {
  fprintf(stderr, "load_bench: %s\n", status.error_message().c_str());
  return 1;
}

// One client: the next call begins when the last one is answered.
class Poller {
 public:
  Poller(const Server& server, const std::string& run, Clock::time_point end)
      : server_(server), stub_(server.Connect()), end_(end) {
    request_.set_name(run);
  }
  void Next() {
    context_ = std::make_unique<grpc::ClientContext>();
    server_.Sign(context_.get());
    begin_ = Clock::now();
    stub_->async()->GetRun(context_.get(), &request_, &answer_, [this](grpc::Status status) {
      const auto now = Clock::now();
      took_ms.push_back(std::chrono::duration<double, std::milli>(now - begin_).count());
      if (!status.ok() || now >= end_) {
        result = status;
        done.set_value();
      } else {
        Next();
      }
    });
  }
  std::vector<double> took_ms;
  grpc::Status result;
  std::promise<void> done;

 private:
  const Server& server_;
  const std::unique_ptr<Stub> stub_;
  const Clock::time_point end_;
  std::unique_ptr<grpc::ClientContext> context_;
  v1::GetRunRequest request_;
  v1::Run answer_;
  Clock::time_point begin_;
};

int Poll(const Server& server, int clients, double seconds, const std::string& run) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::vector<std::unique_ptr<Poller>> pollers;
  for (int c = 0; c < clients; ++c) pollers.push_back(std::make_unique<Poller>(server, run, end));
  for (const auto& poller : pollers) poller->Next();
  std::vector<double> all;
  for (const auto& poller : pollers) {
    poller->done.get_future().wait();
    if (!poller->result.ok()) return Fail(poller->result);
    all.insert(all.end(), poller->took_ms.begin(), poller->took_ms.end());
  }
  std::sort(all.begin(), all.end());
  printf("{\"calls_per_s\":%.0f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
         static_cast<double>(all.size()) / seconds, At(all, 0.5), At(all, 0.99), all.back());
  return 0;
}

// What all streams have seen together.
struct Seen {
  std::mutex mutex;
  std::condition_variable changed;
  int ready = 0;     // streams that have had their first message
  int finished = 0;  // streams that are over
  int errors = 0;
  std::vector<double> latency_ms;  // of each event, from its time to its arrival
};

class Stream : public grpc::ClientReadReactor<v1::WatchRunsResponse> {
 public:
  Stream(const Server& server, Stub* stub, const std::string& run, Seen* seen) : seen_(seen) {
    server.Sign(&context_);
    request_.set_run(run);
    stub->async()->WatchRuns(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const int64_t now = WallMicros();
    {
      std::lock_guard lock(seen_->mutex);
      if (!ready_) {
        ready_ = true;
        ++seen_->ready;
      }
      if (response_.has_event()) {
        const auto& time = response_.event().time();
        seen_->latency_ms.push_back(static_cast<double>(now - (time.seconds() * 1'000'000 + time.nanos() / 1000)) /
                                    1000);
      }
    }
    seen_->changed.notify_all();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    {
      std::lock_guard lock(seen_->mutex);
      ++seen_->finished;
      if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
        if (seen_->errors++ == 0) (void)Fail(status);
      }
    }
    seen_->changed.notify_all();
  }

 private:
  Seen* const seen_;
  grpc::ClientContext context_;
  v1::WatchRunsRequest request_;
  v1::WatchRunsResponse response_;
  bool ready_ = false;
};

struct Streams {
  std::vector<std::unique_ptr<Stub>> stubs;
  std::vector<std::unique_ptr<Stream>> all;
  Seen seen;

  Streams(const Server& server, int streams, int connections, const std::function<std::string(int)>& run_of) {
    for (int c = 0; c < connections; ++c) stubs.push_back(server.Connect());
    for (int s = 0; s < streams; ++s) {
      all.push_back(
          std::make_unique<Stream>(server, stubs[static_cast<size_t>(s % connections)].get(), run_of(s), &seen));
    }
    std::unique_lock lock(seen.mutex);
    seen.changed.wait(lock, [&] { return seen.ready + seen.finished >= streams; });
  }
  void End() {
    for (const auto& stream : all) stream->Cancel();
    std::unique_lock lock(seen.mutex);
    seen.changed.wait(lock, [&] { return seen.finished == static_cast<int>(all.size()); });
  }
};

// Says `ready` on stdout when all streams are open, and measures until stdin closes.
int Watch(const Server& server, int streams, int connections, const std::string& prefix) {
  Streams group(server, streams, connections,
                [&](int s) { return prefix.empty() ? std::string() : prefix + "-" + std::to_string(s); });
  {
    std::lock_guard lock(group.seen.mutex);
    group.seen.latency_ms.clear();
  }
  printf("ready\n");
  fflush(stdout);
  const auto begin = Clock::now();
  while (getchar() != EOF) {
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  group.End();
  std::sort(group.seen.latency_ms.begin(), group.seen.latency_ms.end());
  printf(
      "{\"streams\":%d,\"events\":%zu,\"events_per_s\":%.1f,\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f,"
      "\"errors\":%d}\n",
      streams, group.seen.latency_ms.size(), static_cast<double>(group.seen.latency_ms.size()) / seconds,
      At(group.seen.latency_ms, 0.5), At(group.seen.latency_ms, 0.99),
      group.seen.latency_ms.empty() ? 0 : group.seen.latency_ms.back(), group.seen.errors);
  return group.seen.errors == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const auto endpoint = client::Discover({});
  if (!endpoint.ok()) {
    fprintf(stderr, "load_bench: %s\n", std::string(endpoint.status().message()).c_str());
    return 1;
  }
  const Server server{endpoint->address, endpoint->token};
  if (what == "poll" && argc == 5) return Poll(server, atoi(argv[2]), atof(argv[3]), argv[4]);
  if (what == "watch" && argc == 5) return Watch(server, atoi(argv[2]), atoi(argv[3]), argv[4]);
  fprintf(stderr,
          "usage: load_bench poll CLIENTS SECONDS RUN\n"
          "       load_bench watch STREAMS CONNECTIONS PREFIX   (PREFIX empty: every stream watches all runs)\n");
  return 2;
}
