// What a fake attempt shall do: read from a step's `settings.fake`, with the orchestrator's configuration as defaults.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/api/backend.h"

namespace orch::fake {

enum class Outcome : uint8_t { kSuccess, kFail, kLost, kOutOfMemory, kUnschedulable };
enum class Refusal : uint8_t { kNone, kTransient, kPermanent };

struct Script {
  int64_t start_delay_micros = 0;  // from the submission to the start; over 0: Accepted is reported too
  int64_t duration_micros = 0;     // from the start to the end
  std::string gate;                // a file: the end waits for it too
  Outcome outcome = Outcome::kSuccess;
  int exit_code = 1;      // of an attempt that fails
  int fail_attempts = 0;  // over 0: attempts up to this one end as `outcome` (success: fail), later ones succeed
  Refusal refuse = Refusal::kNone;
  int refuse_attempts = 1;     // how many submissions of one attempt are refused
  bool unknown = false;        // the job is made, the answer is lost
  bool ignore_cancel = false;  // a graceful stop is ignored, a forced one is not
  std::optional<std::string> output;

  Outcome OutcomeOf(uint32_t attempt) const;
};

struct Config {
  Script defaults;
  Capacity capacity;
  bool survive = false;
  std::string down;  // a file: while it is there every submission is refused for now, with its text
};

// Reads a step's settings over `defaults`; appends what is wrong, as `settings.fake.KEY: …`. Empty text: none.
Script ParseScript(absl::string_view json, const Script& defaults, std::vector<std::string>* faults);
// Reads the orchestrator's configuration; appends what is wrong, as `KEY: …`.
Config ParseConfig(absl::string_view json, std::vector<std::string>* faults);

// JSON Schemas of both.
std::string ConfigSchema();
std::string SettingsSchema();

}  // namespace orch::fake
