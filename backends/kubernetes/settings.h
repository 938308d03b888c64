// The settings of steps on `kubernetes`: what is read and what is refused.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backends/kubernetes/config.h"
#include "server/base/status.h"

namespace orch::kubernetes {

// What the pods of all steps have; users may not change it.
inline constexpr char kMainContainer[] = "main";
inline constexpr char kLauncherContainer[] = "orch-launch";
inline constexpr char kOwnVolumes[] = "orch-";     // what their names begin with
inline constexpr char kOwnLabels[] = "orchd.io/";  // of labels and annotations, too

// True if `name` is a setting; then it is put into `out`, or what is wrong with it is appended, under `field`.
bool ReadSetting(const std::string& name, const nlohmann::json& value, const std::string& field, Settings* out,
                 std::vector<Violation>* faults);
// For people.
std::string SettingNames();

}  // namespace orch::kubernetes
