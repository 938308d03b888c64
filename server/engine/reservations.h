// Names and request ids that a handler is about to use, so that two handlers cannot use one at the same time: from the
// look into the store until the commit is seen there.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "server/base/mutex.h"

namespace orch {

class Reservations {
 public:
  // Waits until the word is free, then holds it until the handle goes.
  class Handle {
   public:
    Handle(Reservations* owner, std::string word) : owner_(owner), word_(std::move(word)) {}
    Handle(Handle&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), word_(std::move(other.word_)) {}
    Handle& operator=(Handle&&) = delete;
    ~Handle() {
      if (owner_ != nullptr) owner_->Release(word_);
    }

   private:
    Reservations* owner_;
    std::string word_;
  };

  Handle Hold(std::string word) {
    MutexLock lock(&mutex_);
    while (held_.count(word) > 0) freed_.Wait(&mutex_);
    held_.insert(word);
    return Handle(this, std::move(word));
  }

 private:
  void Release(const std::string& word) {
    MutexLock lock(&mutex_);
    held_.erase(word);
    freed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar freed_;
  std::set<std::string> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
