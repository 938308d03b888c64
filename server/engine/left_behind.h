// What a launcher left behind because the daemon did not answer when its step had ended: a manifest that says how it
// ended, and the outputs. In the run's artifact store, if that has addresses for it; else in the step's work folder,
// where the daemon finds it if that is on this machine.
//
//   STORE/left/KEY/manifest.json, STORE/left/KEY/outputs/NAME      or      WORK/manifest.json, WORK/output/NAME
//
// Fenced by the attempt's key and by the launcher that began it: what another one left is not taken, and nothing is
// once the attempt's end has been judged. docs/artifacts.md is the contract with launchers.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/engine/artifact_stores.h"
#include "server/engine/attempt_task.h"
#include "server/engine/deliveries.h"

namespace orch {

class LeftBehind {
 public:
  // All of them outlive it.
  LeftBehind(Deliveries* deliveries, ArtifactStores* stores, int64_t artifact_bytes, int64_t folder_entries)
      : deliveries_(deliveries), stores_(stores), artifact_bytes_(artifact_bytes), folder_entries_(folder_entries) {}

  // True if a launcher began this attempt and has not told how it ended. Quick.
  bool MayBe(const std::string& key);
  // Brings what was left to where a launcher delivers it, its end last. NOT_FOUND: nothing was left. Other errors say
  // why it cannot be taken; an output that cannot becomes the attempt's end (STORE_FAILED), unless it may come later.
  // Blocks.
  absl::Status Take(const std::string& key);
  // True of errors that say nothing of what was left: the store is away or knows us no more, or our own disk is full.
  static bool MayComeLater(const absl::Status& status);

 private:
  class Place;
  absl::Status TakeFrom(const std::string& key, const AttemptTask& task, const Place& place);
  absl::Status TakeOutput(const std::string& key, const Place& place, const std::string& name, const std::string& hex,
                          bool folder);

  Deliveries* const deliveries_;
  ArtifactStores* const stores_;
  const int64_t artifact_bytes_;
  const int64_t folder_entries_;
};

}  // namespace orch
