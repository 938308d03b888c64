// Named places where a test ends or stalls the process, to see what a crash there leaves behind.
//
// They are in every build, so that what is tested is what is shipped, and inert: each costs one branch on a flag that
// only ArmFaults sets, which a program calls only when it was started with --fault-points.
#pragma once

#include <atomic>
#include <string>
#include <vector>

namespace orch {

struct FaultPoint {
  const char* name;
  std::atomic<int> passes;
};

extern bool faults_armed;

// Counts a pass, and does what was ordered for it.
void PassFault(FaultPoint* point);

// `a.b:3=kill,c.d=stall:200,e=abort`: at its third pass (none given: the first) the process is ended by SIGKILL, stalls
// for so many milliseconds, or aborts. `kill@FILE` does so only if FILE is there, and removes it first: once, however
// many processes read the order. Before anything happens a line says so on stderr. Names beginning with
// `supervisor.` are those of orch-supervisor; each program takes its own and leaves the other's.
// Returns what is wrong with the text, and then arms nothing; empty: nothing. Call it before the first thread.
std::string ArmFaults(const std::string& orders, bool supervisor);

// All of this program, sorted.
std::vector<std::string> FaultPoints();

}  // namespace orch

// In ordinary functions only: a point of an inline one would be there once for each file.
#define ORCH_FAULT(fault_name)                                                                              \
  do {                                                                                                      \
    static ::orch::FaultPoint fault_point __attribute__((section("orch_fault"), used)) = {fault_name, {0}}; \
    if (__builtin_expect(static_cast<long>(::orch::faults_armed), 0)) ::orch::PassFault(&fault_point);      \
  } while (false)
