// Running a program and reading what it says.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace orch::client {

struct Result {
  int code = -1;  // 128 + signal if one ended it
  std::string out;
  std::string err;
};

// Runs `argv` to its end (at most 30 s, then it is killed and the code is -1) with exactly this environment and
// `input` on stdin. `on_start` hears its process id.
Result RunProgram(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment,
                  const std::string& input = "", const std::function<void(int)>& on_start = nullptr);

// The same with stderr on a pseudo-terminal of this size; `err` is what the terminal got.
Result RunOnTerminal(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment,
                     int rows, int columns);

}  // namespace orch::client
