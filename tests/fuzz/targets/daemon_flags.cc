// The command line of orchd, one argument a line: every answer is a mode with what belongs to it.
#include "server/config/flags.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::config::CommandLine;
  std::vector<std::string> words = {"orchd"};
  std::string word;
  for (const char c : orch::fuzz::View(data, size)) {
    if (c == '\n') {
      words.push_back(word);
      word.clear();
    } else if (c != '\0') {
      word.push_back(c);
    }
  }
  if (!word.empty()) words.push_back(word);
  std::vector<const char*> argv;
  for (std::string& w : words) {
    if (w.find("/dev") != std::string::npos || w.find("/proc") != std::string::npos) return 0;  // files without an end
    argv.push_back(w.c_str());
  }
  const CommandLine line = orch::config::ReadCommandLine(static_cast<int>(argv.size()), argv.data(), "1");
  if (line.mode == CommandLine::Mode::kExit) {
    REQUIRE(!line.message.empty());
    REQUIRE(line.exit_code == 0 || line.exit_code == 2);
  } else {
    REQUIRE(!line.config.data_dir.empty());
  }
  if (line.mode == CommandLine::Mode::kPrint) {
    orch::config::Config again;
    REQUIRE(orch::config::ReadYaml(line.message, "f", &again).empty());
    REQUIRE(again.data_dir == line.config.data_dir);
    REQUIRE(orch::config::ToYaml(again) == line.message);
  }
  return 0;
}
