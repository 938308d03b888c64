// Brings what a step made to the daemon: hashed first, sent in pieces that go on where they broke, then named.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/launch/daemon.h"

namespace orch::launch {

// The output `name` whose bytes are at `path`, a file or a folder. Nothing there: nothing is done, and the daemon says
// what is missing. `hex`: its digest. Reason OUTPUT_INVALID for what can be no output.
std::optional<Fault> DeliverOutput(Daemon& daemon, const std::string& name, const std::string& path, std::string* hex);

// What an output is, with nothing sent.
struct DescribedOutput {
  bool folder = false;
  std::string digest;              // raw
  std::string listing;             // of a folder
  std::vector<std::string> files;  // its files, in the listing's order
};
std::optional<Fault> DescribeOutput(const std::string& name, const std::string& path, DescribedOutput* out);

}  // namespace orch::launch
