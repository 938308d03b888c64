// A folder for targets whose parser reads files: made once per process, empty at its begin, removed at its end.
// tests/fuzz/run lets TMPDIR be in memory, and removes what a crash leaves there.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"

namespace orch::fuzz {

class Scratch {
 public:
  Scratch() {
    std::string pattern = std::filesystem::temp_directory_path() / "orchd-fuzz-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    dir_ = pattern;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code error;
    std::filesystem::remove_all(dir_, error);
  }

  const std::string& dir() const { return dir_; }
  std::string Write(const std::string& name, std::string_view bytes) const {
    std::string path = dir_ + "/" + name;
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

 private:
  std::string dir_;
};

}  // namespace orch::fuzz
