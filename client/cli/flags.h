// What a verb says about its command line, without the parser behind it: that library's header costs seconds per file.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace orch::cli {

// What a value names, so that a shell can complete it.
enum class Kind {
  kText,
  kFile,
  kRun,
  kStep,
  kVerb,
  kOrchestrator,
  kPool,
  kPipeline,
  kSecret,
  kToken,
  kStack,
  kArtifactStore
};

// Names are `--long` or `-s,--long`; the variable keeps its present value as the default and must outlive parsing.
class Flags {
 public:
  virtual ~Flags() = default;
  virtual void Positional(const char* name, std::string* value, const char* help, Kind kind, bool required = true) = 0;
  virtual void Text(const char* names, std::string* value, const char* word, const char* help,
                    Kind kind = Kind::kText) = 0;
  // May be given several times, one value each.
  virtual void List(const char* names, std::vector<std::string>* values, const char* word, const char* help) = 0;
  virtual void Int(const char* names, int64_t* value, int64_t min, int64_t max, const char* help) = 0;
  virtual void Switch(const char* names, bool* value, const char* help) = 0;
  virtual void Choice(const char* names, std::string* value, const std::vector<std::string>& words,
                      const char* help) = 0;
  // `500ms 30s 5m 2h 1d`; a bare number is seconds.
  virtual void Duration(const char* names, std::chrono::milliseconds* value, const char* help) = 0;
};

// For completion: the same facts, recorded.
struct FlagFacts {
  std::vector<std::string> names;  // with their dashes
  std::string help;
  std::vector<std::string> choices;
  Kind kind = Kind::kText;
  bool takes_value = false;
};
struct CommandFacts {
  std::string name;
  std::string summary;
  std::vector<FlagFacts> flags;
  std::vector<Kind> positionals;
};

}  // namespace orch::cli
