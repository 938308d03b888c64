// Plays simulated worlds: those of the listed seeds, large ones in which all goes well, and new ones for a while.
//
//   sim [--seconds N] [--seed N] [--threads N]
//
// Without --seed every call plays other worlds; the base seed is printed first. --seed N plays that world alone. Ends
// with 1 if anything broke, after it has printed the seed, what happened last, and a smaller world that breaks too.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <thread>

#include "server/base/log.h"
#include "server/base/mutex.h"
#include "tests/sim/seeds.h"
#include "tests/sim/shrink.h"
#include "tests/sim/world.h"

namespace orch::sim {
namespace {

constexpr int kShrinkPlays = 6000;

// The world this thread is in, for who ends by a failed CHECK.
thread_local uint64_t playing = 0;

extern "C" void OnAbort(int) {
  char text[64];
  const int length =
      std::snprintf(text, sizeof(text), "broken: it aborts, seed=%llu\n", static_cast<unsigned long long>(playing));
  (void)!write(STDOUT_FILENO, text, static_cast<size_t>(length));
  std::signal(SIGABRT, SIG_DFL);
}

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Totals {
  int64_t worlds = 0;
  World::Figures figures;
  void Add(const World::Figures& f) {
    ++worlds;
    figures.runs += f.runs;
    figures.life_cycles += f.life_cycles;
    figures.attempts += f.attempts;
    figures.restarts += f.restarts;
    figures.commits += f.commits;
    figures.turns += f.turns;
  }
};

std::string PlayOnce(const Plan& plan) { return World(plan).Play(); }

void Tell(uint64_t seed, const Plan& plan, const std::string& broken) {
  std::printf("broken: seed=%llu: %s\n", static_cast<unsigned long long>(seed), broken.c_str());
  std::fflush(stdout);
  const Plan small = Shrink(plan, PlayOnce, kShrinkPlays);
  std::printf("\nsmaller: %s\n", PlayOnce(small).c_str());
  std::fflush(stdout);
}

// True if nothing broke.
bool PlaySeed(uint64_t seed, Totals* totals) {
  playing = seed;
  const Plan plan = SwarmPlan(seed);
  World world(plan);
  const std::string broken = world.Play();
  totals->Add(world.figures());
  if (broken.empty()) return true;
  static Mutex mutex;
  MutexLock lock(&mutex);
  Tell(seed, plan, broken);
  return false;
}

void Print(const char* what, const Totals& totals, double cpu, double wall) {
  const World::Figures& f = totals.figures;
  std::printf(
      "ok %s: %lld worlds, %lld runs, %lld step life-cycles, %lld attempts, %lld restarts, %lld commits; %.0f "
      "life-cycles a second of CPU (%.0f a second of wall time)\n",
      what, static_cast<long long>(totals.worlds), static_cast<long long>(f.runs),
      static_cast<long long>(f.life_cycles), static_cast<long long>(f.attempts), static_cast<long long>(f.restarts),
      static_cast<long long>(f.commits), static_cast<double>(f.life_cycles) / cpu,
      static_cast<double>(f.life_cycles) / wall);
  std::fflush(stdout);
}

bool PlayListed() {
  Totals totals;
  const double cpu = CpuSeconds();
  const double wall = WallSeconds();
  for (const uint64_t seed : ListedSeeds()) {
    if (!PlaySeed(seed, &totals)) return false;
  }
  Print("listed seeds", totals, CpuSeconds() - cpu, std::max(1e-9, WallSeconds() - wall));
  return true;
}

bool PlayPlain(const char* name, Shape shape, uint32_t steps, int worlds, uint64_t seed) {
  Totals totals;
  double cpu = 0;
  double wall = 0;
  for (int n = 0; n < worlds; ++n) {
    playing = seed + static_cast<uint64_t>(n);
    World world(PlainPlan(shape, steps, playing));
    cpu -= CpuSeconds();
    wall -= WallSeconds();
    const std::string broken = world.Play();
    cpu += CpuSeconds();
    wall += WallSeconds();
    totals.Add(world.figures());
    if (broken.empty()) continue;
    std::printf("broken: %s of %u steps: %s\n", name, steps, broken.c_str());
    return false;
  }
  Print(name, totals, cpu, wall);
  return true;
}

bool PlaySwarm(uint64_t base, double seconds, int threads) {
  std::atomic<uint64_t> next{base};
  std::atomic<bool> good{true};
  Mutex mutex;
  Totals all;
  const double cpu = CpuSeconds();
  const double wall = WallSeconds();
  const auto work = [&] {
    Totals own;
    while (good && WallSeconds() - wall < seconds) {
      if (!PlaySeed(next++, &own)) good = false;
    }
    MutexLock lock(&mutex);
    all.worlds += own.worlds - 1;
    all.Add(own.figures);
  };
  std::vector<std::thread> others;
  for (int n = 1; n < threads; ++n) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (good) Print("swarm of faults", all, CpuSeconds() - cpu, WallSeconds() - wall);
  return good;
}

int Main(int argc, char** argv) {
  double seconds = 10;
  int threads = 1;
  uint64_t seed = 0;
  bool one = false;
  for (int n = 1; n < argc; ++n) {
    const bool last = n + 1 == argc;
    if (!last && std::strcmp(argv[n], "--seconds") == 0) {
      seconds = std::strtod(argv[++n], nullptr);
    } else if (!last && std::strcmp(argv[n], "--threads") == 0) {
      threads = std::max(1, static_cast<int>(std::strtol(argv[++n], nullptr, 10)));
    } else if (!last && std::strcmp(argv[n], "--seed") == 0) {
      seed = std::strtoull(argv[++n], nullptr, 10);
      one = true;
    } else {
      std::fprintf(stderr, "usage: sim [--seconds N] [--seed N] [--threads N]\n");
      return 2;
    }
  }
  SetLogLevel(LogLevel::kError);
  // Worlds are made and left by the thousand: keep the memory.
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  std::signal(SIGABRT, OnAbort);
  if (one) {
    Totals totals;
    const double cpu = CpuSeconds();
    const double wall = WallSeconds();
    if (!PlaySeed(seed, &totals)) return 1;
    Print("one world", totals, CpuSeconds() - cpu, WallSeconds() - wall);
    return 0;
  }
  // Small enough to be read aloud; the worlds of two calls do not meet.
  const uint64_t base = (static_cast<uint64_t>(std::random_device()()) % 1'000'000) * 1'000'000;
  std::printf("base seed %llu\n", static_cast<unsigned long long>(base));
  std::fflush(stdout);
  const bool good = PlayListed() && PlayPlain("plain chain", Shape::kChain, 10'000, 10, base) &&
                    PlayPlain("plain wide", Shape::kWide, 10'000, 10, base) &&
                    PlayPlain("plain layers", Shape::kLayers, 10'000, 10, base) &&
                    PlayPlain("plain, large", Shape::kLayers, 100'000, 1, base) && PlaySwarm(base, seconds, threads);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace orch::sim

int main(int argc, char** argv) { return orch::sim::Main(argc, argv); }
