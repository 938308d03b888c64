// Random batches with every kind of row, and what the tables then hold.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "server/model/batch.h"

namespace orch::store {

// Makes the batches one after the other; the same seed makes the same ones.
class Workload {
 public:
  explicit Workload(uint64_t seed) : random_(seed) {}
  Batch Next();
  int64_t sequence() const { return sequence_; }

 private:
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  std::string Text();

  std::mt19937_64 random_;
  int64_t runs_ = 0;
  int64_t pipelines_ = 0;
  int64_t artifacts_ = 0;
  int64_t sequence_ = 0;
};

// A digest of all rows of all tables but what a start changes by itself (meta, migration). `vfs` is SQLite's name for
// it. Empty if the database cannot be read.
std::string DigestOfTables(const std::string& path, const std::string& vfs);

// `ok`, or what PRAGMA integrity_check says.
std::string IntegrityOf(const std::string& path, const std::string& vfs);

}  // namespace orch::store
