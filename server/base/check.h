// Programmer errors end the process: memory ahead of the disk is never repaired, a restart reloads it.
#pragma once

namespace orch {
// Prints the failed condition with its place to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* what);
}  // namespace orch

#define CHECK(cond) ((cond) ? static_cast<void>(0) : ::orch::CheckFailed(__FILE__, __LINE__, #cond))
