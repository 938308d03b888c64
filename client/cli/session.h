// What every verb needs: the global flags, the client, and one way to print an answer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/style.h"
#include "client/lib/client.h"

namespace google::protobuf {
class Message;
}

namespace orch::cli {

struct Globals {
  client::DiscoveryOptions discovery;
  std::string project;
  std::string format = "table";  // table wide json yaml name
  std::string jq;
  std::chrono::milliseconds timeout{30'000};
  bool no_color = false;
  bool quiet = false;
};

// Exit codes, fixed for scripts.
enum Exit : int {
  kOk = 0,
  kRunFailed = 1,
  kUsage = 2,
  kNotFound = 3,
  kPermission = 4,
  kCancelled = 5,
  kWaitTimedOut = 6,
  kUnreachable = 7,
  kRefused = 8,
  kInterrupted = 130,
};
int ExitCodeOf(const absl::Status& status);
// 0, 1 or 5 for a run that has ended.
int ExitCodeOf(v1::Run::State state);

// INVALID_ARGUMENT (USAGE): exit code 2.
absl::Status UsageError(absl::string_view message);

// One line for people: message, and violations if there are any.
std::string OneLine(const absl::Status& status);

class Session {
 public:
  explicit Session(Globals globals);

  const Globals& globals() const { return globals_; }
  bool wide() const { return globals_.format == "wide"; }
  // Text is for people, not programs.
  bool human() const { return globals_.jq.empty() && (globals_.format == "table" || globals_.format == "wide"); }
  const Style& out() const { return out_; }
  const Style& err() const { return err_; }

  // Finds the daemon at the first call. With `start`, one is started if none was named and none lives.
  absl::StatusOr<client::Client*> Connect(bool start = false);

  // Prints `message` to stdout as the flags ask: `table` makes the human form (called only for that), `names` are what
  // `-o name` prints, one per line.
  absl::Status Show(const google::protobuf::Message& message, const std::function<std::string()>& table,
                    const std::vector<std::string>& names);

  // A line on stderr unless --quiet.
  void Note(absl::string_view line) const;

 private:
  Globals globals_;
  Style out_;
  Style err_;
  std::unique_ptr<client::Client> client_;
};

// Writes all of it to stdout; false if stdout is closed or full.
bool WriteOut(absl::string_view text);
void WriteErr(absl::string_view text);

}  // namespace orch::cli
