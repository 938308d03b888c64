#include "server/base/clock.h"

#include <ctime>
#include <fstream>

#include "absl/time/time.h"

namespace orch {
namespace {

int64_t Read(clockid_t id) {
  timespec ts{};
  clock_gettime(id, &ts);
  return static_cast<int64_t>(ts.tv_sec) * 1000000 + ts.tv_nsec / 1000;
}

class RealClock : public Clock {
 public:
  orch::Now Now() const override { return {Read(CLOCK_BOOTTIME), Read(CLOCK_REALTIME)}; }
};

}  // namespace

const Clock& Clock::Real() {
  static const RealClock clock;
  return clock;
}

std::string BootId() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

std::string FormatTime(int64_t wall_micros) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromUnixMicros(wall_micros), absl::UTCTimeZone());
}

}  // namespace orch
