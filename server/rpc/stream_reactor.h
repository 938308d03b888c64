// One server stream of the callback API around a feed: pulls the next message on a worker thread, has one write in
// flight, sleeps between messages without a thread, finishes exactly once.
//
// A feed is anything with
//   absl::StatusOr<…> Fill(Message*)  → kMessage, kIdle, kDone
// wrapped below as a function, so that this is compiled once per message type and knows no feed.
//
// Why worker threads: gRPC 1.51 runs all callbacks of the process on two threads, which must never wait for a disk.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/rpc/errors.h"
#include "server/rpc/worker_pool.h"

namespace orch::rpc {

enum class StreamNext { kMessage, kIdle, kDone };

template <typename Message>
class StreamReactor : public grpc::ServerWriteReactor<Message>,
                      public std::enable_shared_from_this<StreamReactor<Message>> {
 public:
  using Waker = std::function<void()>;
  struct Source {
    // The next message; on a worker thread, never twice at a time.
    std::function<absl::StatusOr<StreamNext>(Message*)> fill;
    // After kIdle: calls the waker (any thread, also at once) when fill may have more, and returns when it wants to be
    // asked in any case (CLOCK_BOOTTIME). What it set up is undone by `forget`.
    std::function<int64_t(Waker)> sleep;
    std::function<void()> forget;
    // Once, with how it ended.
    std::function<void(const absl::Status&)> ended;
    // A client that takes nothing for so long is told `too_slow` and, if it does not take that either, cut off.
    // 0: patience without end.
    int64_t patience_micros = 0;
    std::function<absl::Status()> too_slow;
    std::function<void()> cut_off;
  };

  // The reactor keeps itself until OnDone.
  static StreamReactor* Start(WorkerPool* pool, absl::string_view method, Source source) {
    auto reactor = std::shared_ptr<StreamReactor>(new StreamReactor(pool, method, std::move(source)));
    reactor->self_ = reactor;
    reactor->Wake();
    return reactor.get();
  }

 private:
  StreamReactor(WorkerPool* pool, absl::string_view method, Source source)
      : pool_(*pool), method_(method), source_(std::move(source)) {}

  // Asks for a turn on a worker thread. Any thread.
  void Wake() {
    {
      MutexLock lock(&mutex_);
      if (finished_) return;
      if (turning_) {
        again_ = true;
        return;
      }
      turning_ = true;
    }
    pool_.Post([self = this->shared_from_this()] { self->Turn(); });
  }

  void Turn() {
    source_.forget();
    bool cancelled = false;
    {
      MutexLock lock(&mutex_);
      again_ = false;
      if (writing_ || finished_) {  // OnWriteDone wakes again
        turning_ = false;
        return;
      }
      cancelled = cancelled_;
    }
    if (cancelled) return End(absl::CancelledError("the caller is gone"));
    const absl::StatusOr<StreamNext> next = source_.fill(&message_);
    if (!next.ok()) return End(Seal(next.status(), method_));
    if (*next == StreamNext::kDone) return End(absl::OkStatus());
    if (*next == StreamNext::kMessage) {
      {
        MutexLock lock(&mutex_);
        writing_ = true;
        write_began_ = Clock::Real().Now().mono;
        turning_ = false;
      }
      LookAfterWrites();
      this->StartWrite(&message_);
      return;
    }
    Message().Swap(&message_);  // thousands of streams sleep: none keeps the memory of its last message
    const std::weak_ptr<StreamReactor> weak = this->weak_from_this();
    const auto wake = [weak] {
      if (const auto self = weak.lock()) self->Wake();
    };
    const int64_t due = source_.sleep(wake);
    SetTimer(due, wake);
    bool again = false;
    {
      MutexLock lock(&mutex_);
      turning_ = false;
      again = again_ || cancelled_;
    }
    if (again) Wake();
  }

  // One timer at a time: a stream that is woken often would otherwise pile them up.
  void SetTimer(int64_t due, Waker wake) {
    {
      MutexLock lock(&mutex_);
      if (timer_due_ != 0 && timer_due_ <= due) return;
      timer_due_ = due;
    }
    const std::weak_ptr<StreamReactor> weak = this->weak_from_this();
    pool_.PostAfter(due - Clock::Real().Now().mono, [weak, due, wake] {
      if (const auto self = weak.lock()) {
        MutexLock lock(&self->mutex_);
        if (self->timer_due_ == due) self->timer_due_ = 0;
      }
      wake();
    });
  }

  // One look at a time, however many writes there are.
  void LookAfterWrites() {
    if (source_.patience_micros == 0) return;
    int64_t due = 0;
    {
      MutexLock lock(&mutex_);
      if (watched_ || finished_ || !writing_) return;
      watched_ = true;
      due = write_began_ + source_.patience_micros;
    }
    const std::weak_ptr<StreamReactor> weak = this->weak_from_this();
    pool_.PostAfter(due - Clock::Real().Now().mono, [weak] {
      if (const auto self = weak.lock()) self->LookAtWrite();
    });
  }

  void LookAtWrite() {
    bool slow = false;
    {
      MutexLock lock(&mutex_);
      watched_ = false;
      if (finished_ || !writing_) return;
      slow = Clock::Real().Now().mono - write_began_ >= source_.patience_micros;
      if (slow) finished_ = true;  // the write goes on; whatever else would come does not
    }
    if (!slow) return LookAfterWrites();
    Close(Seal(source_.too_slow(), method_));
    const std::weak_ptr<StreamReactor> weak = this->weak_from_this();
    pool_.PostAfter(source_.patience_micros, [weak] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      MutexLock lock(&self->end_mutex_);
      if (!self->done_) self->source_.cut_off();
    });
  }

  void End(const absl::Status& status) {
    {
      MutexLock lock(&mutex_);
      if (finished_) return;
      finished_ = true;
      turning_ = false;
    }
    Close(status);
  }

  void Close(const absl::Status& status) {
    source_.forget();
    source_.ended(status);
    this->Finish(ToGrpc(status));
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) cancelled_ = true;
    }
    Wake();
  }
  void OnCancel() override {
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
    }
    Wake();
  }
  void OnDone() override {
    {
      MutexLock lock(&end_mutex_);
      done_ = true;
    }
    // Not destroyed here while others still hold it; nobody calls into gRPC after `finished_`.
    self_.reset();
  }

  WorkerPool& pool_;
  const std::string method_;
  Source source_;
  Message message_;
  std::shared_ptr<StreamReactor> self_;
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool turning_ ABSL_GUARDED_BY(mutex_) = false;  // a turn is posted or runs
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t timer_due_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t write_began_ ABSL_GUARDED_BY(mutex_) = 0;
  bool watched_ ABSL_GUARDED_BY(mutex_) = false;  // somebody will look at the write under way
  Mutex end_mutex_;
  bool done_ ABSL_GUARDED_BY(end_mutex_) = false;  // the call is gone
};

}  // namespace orch::rpc
