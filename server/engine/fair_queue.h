// A queue that takes turns between lanes, so that a run with very many steps does not stand before all others.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>

namespace orch {

// First in, first out within a lane. Not thread-safe.
template <typename T>
class FairQueue {
 public:
  void Push(int64_t lane, T item) {
    std::deque<T>& queue = lanes_[lane];
    if (queue.empty()) turns_.push_back(lane);
    queue.push_back(std::move(item));
    ++size_;
  }

  // Of the lane whose turn it is; the queue is not empty.
  T Pop() {
    const int64_t lane = turns_.front();
    turns_.pop_front();
    const auto found = lanes_.find(lane);
    T item = std::move(found->second.front());
    found->second.pop_front();
    --size_;
    if (!found->second.empty()) {
      turns_.push_back(lane);
    } else if (lanes_.size() > kKeptLanes) {  // most runs come back to theirs
      lanes_.erase(found);
    }
    return item;
  }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

 private:
  static constexpr size_t kKeptLanes = 256;
  std::unordered_map<int64_t, std::deque<T>> lanes_;
  std::deque<int64_t> turns_;  // lanes that have something
  size_t size_ = 0;
};

}  // namespace orch
