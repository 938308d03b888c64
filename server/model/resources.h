// What a step asks for and an orchestrator offers.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace orch {

struct Resources {
  int64_t cpu_millis = 1000;  // thousandths of a CPU
  int64_t memory = 0;         // bytes
  int64_t disk = 0;           // bytes
  int64_t gpu = 0;            // whole GPUs
  std::string gpu_kind;       // empty: any
  std::map<std::string, int64_t> custom;

  bool operator==(const Resources&) const = default;
};

}  // namespace orch
