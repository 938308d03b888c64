// The daemon's log: one JSON object a line on stderr. The only file that knows the library behind it is log.cc.
//
//   Log(LogLevel::kInfo, "run submitted", {{"run", name}, {"steps", n}});
//
// Any thread. Never give it a secret. kError means that a person must act.
#pragma once

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace orch {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  template <typename T>
  LogField(absl::string_view k, const T& v) : key(k), value(absl::StrCat(v)) {}
  absl::string_view key;
  std::string value;
};

void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields = {});

// Messages below `level` are dropped. Default kInfo.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

}  // namespace orch
