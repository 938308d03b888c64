// The supervisor's journal, also torn or damaged: what is read and begun anew is read the same; no part of it that is
// cut off changes what stands before.
#include "backends/local/supervisor/journal.h"
#include "tests/fuzz/scratch.h"

namespace orch::local {
namespace {

std::string Describe(const Journal::Loaded& loaded) {
  std::string out = Encode(loaded.writer);
  for (const auto& [key, r] : loaded.records) {
    out += Encode(Spawning{key, r.slot, r.log_prefix, r.log_limit}) + Encode(Holding{key, r.devices});
    if (r.pid != 0) out += Encode(Spawned{key, r.pid, r.started_wall});
    if (r.has_end) out += Encode(Exited{key, r.end});
  }
  return out;
}

}  // namespace
}  // namespace orch::local

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::local::Journal;
  static const orch::fuzz::Scratch scratch;
  const std::string path = scratch.Write("journal", orch::fuzz::View(data, size));
  Journal::Loaded loaded = Journal(path).Load();
  loaded.writer.layout = orch::local::kJournalLayout;  // whoever begins anew writes this one
  {
    Journal anew(path);
    REQUIRE(anew.Begin(loaded.writer, loaded.records));
    REQUIRE(anew.Append(orch::local::Encode(orch::local::Spawning{"\x01new", "s", "p", 1})));
  }
  Journal::Loaded again = Journal(path).Load();
  REQUIRE(again.records.erase("\x01new") == 1);
  Journal::Loaded before = loaded;
  before.records.erase("\x01new");
  REQUIRE(orch::local::Describe(again) == orch::local::Describe(before));
  return 0;
}
