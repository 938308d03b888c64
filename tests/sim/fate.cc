#include "tests/sim/fate.h"

namespace orch::sim {

absl::string_view Name(Fault fault) {
  static constexpr const char* kNames[kFaultCount] = {
      "lost-answer",   "refuse-for-now", "refuse-for-good", "repeat",       "late",          "no-start",
      "job-fails",     "job-lost",       "ends-at-once",    "long-job",     "ignores-stop",  "vanish",
      "publish-early", "store-fails",    "store-slow",      "render-fails", "resolve-fails", "crash",
      "crash-between", "cancel-run",     "cancel-step",     "health-flap",  "wall-jump",     "reboot",
      "pause-run",     "skip-step",      "retry-run",       "retry-steps",  "delete-run",    "invalidate",
      "retry-other"};
  return kNames[static_cast<size_t>(fault)];
}

Action Fate::Next() {
  const Action action = agenda_.top();
  agenda_.pop();
  PassTo(action.due);
  return action;
}

void Fate::Note(const char* what, int64_t a, int64_t b, int64_t c) {
  notes_[noted_++ % notes_.size()] = {mono_, what, a, b, c};
}

std::vector<std::string> Fate::Notes() const {
  std::vector<std::string> out;
  const size_t first = noted_ > notes_.size() ? noted_ - notes_.size() : 0;
  for (size_t n = first; n < noted_; ++n) {
    const Noted& note = notes_[n % notes_.size()];
    out.push_back(absl::StrCat(note.mono, " ", note.what, " ", note.a, " ", note.b, " ", note.c));
  }
  return out;
}

}  // namespace orch::sim
