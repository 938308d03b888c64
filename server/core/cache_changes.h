// Which cache entries came, changed or went lately: an answer of the cache counts only if its entry is still the one
// that was read.
//
// A reader takes the version that is durable, then reads; the core accepts what it read if the key has not changed
// since that version. Only the newest changes are remembered: an answer older than that is asked for again.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

namespace orch {

class CacheChanges {
 public:
  explicit CacheChanges(size_t remembered = 65'536) : remembered_(remembered) {}

  uint64_t version() const { return version_; }
  void Note(const std::string& key) {
    last_[key] = ++version_;
    order_.emplace_back(key, version_);
    if (order_.size() <= remembered_) return;
    const auto& [oldest, version] = order_.front();
    const auto found = last_.find(oldest);
    if (found != last_.end() && found->second == version) last_.erase(found);
    floor_ = version;
    order_.pop_front();
  }
  bool Unchanged(const std::string& key, uint64_t as_of) const {
    if (as_of < floor_) return false;
    const auto found = last_.find(key);
    return found == last_.end() || found->second <= as_of;
  }

 private:
  const size_t remembered_;
  uint64_t version_ = 0;
  uint64_t floor_ = 0;  // changes up to here are forgotten
  std::unordered_map<std::string, uint64_t> last_;
  std::deque<std::pair<std::string, uint64_t>> order_;
};

}  // namespace orch
