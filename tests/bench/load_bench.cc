// Loads a running daemon with many clients; one line of JSON a measurement. Not a test.
//
//   load_bench poll CLIENTS SECONDS RUN           GetRun, each client on a connection of its own
//   load_bench watch STREAMS CONNECTIONS PREFIX   stream S watches run PREFIX-S (PREFIX empty: all runs); prints
//   `ready`,
//                                                 then the latency of all events until stdin closes
//   load_bench herd CLIENTS CONNECTIONS           each watches all runs; when that breaks it lists the runs, as often
//   as
//                                                 it takes, and watches again; prints `ready` whenever all watch, and
//                                                 at the end of stdin when (UTC, in seconds) the lists were answered
//                                                 last
#include <grpcpp/alarm.h>
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
#include <random>
#include <string>
#include <thread>
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
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
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

struct Herd {
  std::mutex mutex;
  std::condition_variable changed;
  int watching = 0;
  bool over = false;
  int64_t refusals = 0;
};

// A client that wants to know how things stand whenever its watch has broken.
class Member {
 public:
  Member(const Server& server, Stub* stub, Herd* herd) : server_(server), stub_(stub), herd_(herd) {}
  void Watch() {
    watch_ = std::make_unique<grpc::ClientContext>();
    watch_->set_wait_for_ready(true);
    server_.Sign(watch_.get());
    new Reader(this);  // until it is done
  }
  void Cancel() { watch_->TryCancel(); }
  double answered = 0;  // UTC, seconds: the newest list
  std::promise<void> ended;

 private:
  class Reader : public grpc::ClientReadReactor<v1::WatchRunsResponse> {
   public:
    explicit Reader(Member* member) : member_(member) {
      member->stub_->async()->WatchRuns(member->watch_.get(), &request_, this);
      StartRead(&response_);
      StartCall();
    }
    void OnReadDone(bool ok) override {
      if (!ok) return;
      if (!greeted_) member_->Change(+1);
      greeted_ = true;
      StartRead(&response_);
    }
    void OnDone(const grpc::Status&) override {
      if (greeted_) member_->Change(-1);
      Member* const member = member_;
      delete this;
      member->List();
    }

   private:
    Member* const member_;
    v1::WatchRunsRequest request_;
    v1::WatchRunsResponse response_;
    bool greeted_ = false;
  };

  void Change(int by) {
    std::lock_guard lock(herd_->mutex);
    herd_->watching += by;
    herd_->changed.notify_all();
  }
  bool Over() {
    std::lock_guard lock(herd_->mutex);
    return herd_->over;
  }
  void List() {
    if (Over()) return ended.set_value();
    list_ = std::make_unique<grpc::ClientContext>();
    list_->set_wait_for_ready(true);
    server_.Sign(list_.get());
    request_.set_page_size(50);
    stub_->async()->ListRuns(list_.get(), &request_, &answer_, [this](grpc::Status status) {
      if (status.ok()) {
        tries_ = 0;
        answered = static_cast<double>(WallMicros()) / 1e6;
        return Watch();
      }
      {
        std::lock_guard lock(herd_->mutex);
        ++herd_->refusals;
      }
      // As our clients do: twice as long each time, and not all together.
      const int64_t longest = int64_t{100} << std::min(tries_++, 4);
      const auto pause = std::chrono::milliseconds(std::uniform_int_distribution(longest / 2, longest)(random_));
      alarm_.Set(std::chrono::system_clock::now() + pause, [this](bool) { List(); });
    });
  }

  const Server& server_;
  Stub* const stub_;
  Herd* const herd_;
  std::unique_ptr<grpc::ClientContext> watch_;
  std::unique_ptr<grpc::ClientContext> list_;
  v1::ListRunsRequest request_;
  v1::ListRunsResponse answer_;
  std::minstd_rand random_{static_cast<unsigned>(reinterpret_cast<uintptr_t>(this) >> 4)};
  int tries_ = 0;
  grpc::Alarm alarm_;
};

int RunHerd(const Server& server, int clients, int connections) {
  Herd herd;
  std::vector<std::unique_ptr<Stub>> stubs;
  for (int c = 0; c < connections; ++c) stubs.push_back(server.Connect());
  std::vector<std::unique_ptr<Member>> members;
  for (int m = 0; m < clients; ++m) {
    members.push_back(std::make_unique<Member>(server, stubs[static_cast<size_t>(m % connections)].get(), &herd));
    members.back()->Watch();
  }
  std::thread announcer([&] {
    std::unique_lock lock(herd.mutex);
    while (!herd.over) {
      herd.changed.wait(lock, [&] { return herd.over || herd.watching == clients; });
      if (herd.over) return;
      printf("ready\n");
      fflush(stdout);
      herd.changed.wait(lock, [&] { return herd.over || herd.watching < clients; });
    }
  });
  while (getchar() != EOF) {
  }
  {
    std::lock_guard lock(herd.mutex);
    herd.over = true;
    herd.changed.notify_all();
  }
  announcer.join();
  std::vector<double> answered;
  for (const auto& member : members) {
    member->Cancel();
    member->ended.get_future().wait();
    answered.push_back(member->answered);
  }
  std::sort(answered.begin(), answered.end());
  printf("{\"clients\":%d,\"p50_at\":%.3f,\"p99_at\":%.3f,\"last_at\":%.3f,\"refusals\":%lld}\n", clients,
         At(answered, 0.5), At(answered, 0.99), answered.back(), static_cast<long long>(herd.refusals));
  return 0;
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
  if (what == "herd" && argc == 4) return RunHerd(server, atoi(argv[2]), atoi(argv[3]));
  fprintf(stderr,
          "usage: load_bench poll CLIENTS SECONDS RUN\n"
          "       load_bench watch STREAMS CONNECTIONS PREFIX   (PREFIX empty: every stream watches all runs)\n"
          "       load_bench herd CLIENTS CONNECTIONS\n");
  return 2;
}
