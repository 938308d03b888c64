// How long things are kept. Without a rule nothing is ever deleted.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch {

// In the order in which they go: a cache entry that is gone needs its artifacts no more.
enum class Kept : uint8_t { kCache = 0, kArtifacts = 1, kRuns = 2, kLogs = 3, kEvents = 4 };
inline constexpr int kKeptCount = 5;
inline constexpr std::array<absl::string_view, kKeptCount> kKeptNames = {"cache", "artifacts", "runs", "logs",
                                                                         "events"};

// What is older, above the count, or above the size goes, oldest first; 0: no such rule.
struct RetentionRule {
  int64_t max_age_micros = 0;
  int64_t max_count = 0;  // of artifacts: versions of one name
  int64_t max_bytes = 0;
  bool any() const { return max_age_micros > 0 || max_count > 0 || max_bytes > 0; }
};

struct Retention {
  std::array<RetentionRule, kKeptCount> rules;
  int64_t every_micros = 0;  // how often the daemon applies them by itself; 0: never
  RetentionRule& of(Kept kind) { return rules[static_cast<size_t>(kind)]; }
  const RetentionRule& of(Kept kind) const { return rules[static_cast<size_t>(kind)]; }
};

// What goes of one kind, or would.
struct PruneGroup {
  Kept kind = Kept::kCache;
  int64_t count = 0;
  int64_t bytes = 0;
  std::vector<std::string> names;                         // the first ones
  int64_t kept_count = 0;                                 // that the rules mean, but something needs
  std::vector<std::pair<std::string, std::string>> kept;  // the first ones, and what needs them
};

}  // namespace orch
