// Backend is the C++ implementation of a flavor: the only code that talks to a platform.
//
// The daemon calls a backend from one thread (the outbox executor) except for Probe, OpenLog and RemoveLogs, which may
// come from any thread. Every call returns at once; what happens is reported through the Listener, from any thread,
// keyed by the attempt. A backend decides nothing: no retries, no time-outs, no clock of its own.
//
// Contract, tested by the conformance suite:
//  1. Submit with a key that is known never makes a second job: it reports what it knows of the first.
//  2. Submit ends in exactly one of Accepted, Refused, Unknown (an answer that was lost is Unknown, never Refused).
//  3. After Ended for a key, later reports agree with it; reports may be repeated, the daemon drops repeats.
//  4. Cancel and Release are idempotent and succeed on ended and on unknown jobs.
//  5. Adopt reports for each key exactly what Submit's progress would have: Accepted/Started/Ended, or NotFound.
//  6. Secrets never appear in handles, labels, logs or URLs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/run_outline.h"
#include "server/base/status.h"
#include "server/model/attempt_end.h"
#include "server/model/resources.h"
#include "server/model/states.h"

namespace orch {

// Which attempt; the same words that a platform gets as labels.
struct AttemptName {
  std::string key;  // deterministic, [a-z2-7]{20}; also the fencing token
  std::string project;
  std::string run_id;
  std::string run_name;
  std::string step;  // `train[2]`
  uint32_t step_index = 0;
  uint32_t attempt = 0;  // from 1
  std::string log;       // what its log is called, if not by step and attempt
};

// Where an attempt will find its folders, as its own processes see them.
struct Workspace {
  std::string scratch_dir;  // the attempt's own folder, empty at start
  std::string output_dir;   // outputs are written below it, one name each
  // True if the daemon sees the same paths, so that outputs are taken from there after the end. False: the work that
  // Submit gets is not the step's command but `LAUNCHER run` with ORCH_ENDPOINT, ORCH_TOKEN and ORCH_FENCE, to be
  // started as it is. The launcher makes `root` and what the step finds below it, runs the step, and delivers what it
  // made and how it ended; the backend reports what its platform says of the launcher, and the daemon judges by both.
  // A platform that starts it twice does no harm: the second launcher is turned away. Source folder and working folder
  // are the launcher's business, too. The launcher passes a SIGTERM on to all of the step's processes, unless the
  // backend sets ORCH_STOP=all because its platform's stop reaches them all by itself.
  bool on_this_machine = false;
  std::string root;      // absolute, short, of this attempt alone, and writable there
  std::string launcher;  // the program's path there, or its name on PATH
  // How the daemon is reached from there: `unix:PATH`, `http://…`, `https://…`; empty: as the daemon is configured.
  std::string endpoint;
  // The daemon cannot be reached from there at all: the launcher is started as `LAUNCHER run --task FILE`, reads the
  // run's artifact store by what the file says, and leaves there what the step made.
  bool handed = false;
};

// The workspace of an attempt that shares no files with the daemon.
inline Workspace RemoteWorkspace(std::string root, std::string launcher, std::string endpoint) {
  Workspace out;
  out.scratch_dir = root + "/scratch";
  out.output_dir = root + "/output";
  out.root = std::move(root);
  out.launcher = std::move(launcher);
  out.endpoint = std::move(endpoint);
  return out;
}

// A secret's value on its way to a process: it may be on no disk, in no log and in nothing that others can read.
struct SecretValue {
  std::string variable;
  std::string value;
  bool file = false;  // the variable holds the path of a file with the value, which is gone after the attempt
};

// One command to run, with everything filled in.
struct AttemptWork {
  AttemptName name;
  Workspace workspace;
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> env;  // the whole environment, exactly
  std::string working_dir;                               // absolute
  // Of a workspace that is `handed`: a file on this machine, for its user alone. The backend brings it to the platform,
  // where nobody else reads it, and adds the path that it has there to `command`.
  std::string task_file;
  std::string source_dir;            // what the step runs from; empty: nothing
  std::vector<SecretValue> secrets;  // besides `env`
  Resources resources;
  std::string image;
  std::string settings_json;          // the step's settings for this flavor; empty: none
  int64_t grace_micros = 10'000'000;  // between a graceful stop and the forced one
  int64_t log_limit_bytes = int64_t{4} << 30;
};

// What a step asks of its platform, as a submission says it.
struct StepNeeds {
  Resources resources;
  std::string image;          // empty: it names none
  bool builds_image = false;  // it says how its image is made
  bool secrets = false;       // it names some
};

// A unit is what is handed over in one submission: one attempt.
struct Unit {
  std::string key;  // the attempt's
  std::vector<AttemptWork> attempts;
  // Set if the attempt's run is on the platform as a whole: the backend sees to it that the run is there, by making it
  // of this outline if it is not (any thread; reads the database), and starts nothing else: the launcher in the step's
  // task comes for the attempt. What the platform says of the task counts until Began, and after it if that launcher's
  // place ends without a word.
  std::function<absl::StatusOr<RunOutline>()> outline;
};

enum class CancelMode { kGraceful, kForced };

// Takes what a backend reports. Any thread; returns at once. `key` is the attempt's.
class Listener {
 public:
  virtual ~Listener() = default;
  // The platform has it. `handle` is opaque to the daemon, stored, and given back to Adopt.
  virtual void Accepted(absl::string_view key, std::string handle, std::string external_id, std::string url) = 0;
  // It will not run: for now (`transient`, the same key is submitted again later) or for good.
  virtual void Refused(absl::string_view key, bool transient, Reason reason, std::string message) = 0;
  // The answer was lost; the daemon calls Adopt.
  virtual void Unknown(absl::string_view key, std::string message) = 0;
  // It has been accepted and has not begun: why, in the platform's own words. Again when that changes.
  virtual void Pending(absl::string_view /*key*/, Reason /*reason*/, std::string /*message*/) {}
  virtual void Started(absl::string_view key, std::string external_id, std::string node, int64_t wall_micros) = 0;
  virtual void Ended(absl::string_view key, AttemptEnd end) = 0;
  // No such job, from somebody who would know.
  virtual void NotFound(absl::string_view key) = 0;
  // Nobody can say how it ended, and none of its processes is left.
  virtual void Lost(absl::string_view key, std::string message) = 0;
  // The platform can (not) be reached; nothing is submitted while it cannot.
  virtual void HealthChanged(bool healthy, std::string message) = 0;
};

// What Adopt needs to know of an attempt the daemon has on record.
struct KnownAttempt {
  AttemptName name;
  std::string handle;  // empty: Accepted was never committed
  bool stopping = false;
  int64_t grace_micros = 10'000'000;  // as in its AttemptWork; so is the next
  int64_t log_limit_bytes = int64_t{4} << 30;
  // Its run is on the platform as a whole, by this outline; `place` is where it was begun, empty: nowhere yet.
  std::function<absl::StatusOr<RunOutline>()> outline;
  std::string place;
};

// Reads one stream of an attempt's log. Not thread-safe; cheap to open.
class LogReader {
 public:
  virtual ~LogReader() = default;
  // Up to `max_bytes` from `offset`; empty if nothing is there yet.
  virtual absl::StatusOr<std::string> Read(int64_t offset, int64_t max_bytes) = 0;
  virtual absl::StatusOr<int64_t> Size() = 0;
  // When the byte at `offset` was written, to 100 ms, in microseconds UTC; 0: unknown.
  virtual int64_t TimeOf(int64_t offset) = 0;
};

enum class LogStreamName { kStdout = 1, kStderr = 2 };

struct LogAddress {
  std::string run_id;
  uint32_t step_index = 0;
  uint32_t attempt = 0;
  std::string handle;
  std::string log;  // as AttemptName.log
};

// What an orchestrator offers in all; absent means that it does not count it.
struct Capacity {
  std::optional<int64_t> cpu_millis;
  std::optional<int64_t> memory;
  std::optional<int64_t> gpu;
  std::string gpu_kind;  // of all its GPUs; empty: of no named kind
  std::vector<std::pair<std::string, int64_t>> custom;
};

// How a platform is, from having asked it.
struct ProbeReport {
  struct Check {
    std::string name;  // `engine`, `supervisor`, …
    bool good = true;
    std::string text;  // what was found; of a bad one the platform's own words
    std::string fix;   // of a bad one: what to do
  };
  std::vector<Check> checks;  // in the order in which they were made

  bool good() const { return FirstBad() == nullptr; }
  const Check* FirstBad() const {
    for (const Check& check : checks) {
      if (!check.good) return &check;
    }
    return nullptr;
  }
};

// In the place of a secret's value.
inline constexpr char kSecretShown[] = "(secret)";
inline constexpr char kNoKey[] = "aaaaaaaaaaaaaaaaaaaa";  // stands for a key there; no attempt and no run has it

class Backend {
 public:
  virtual ~Backend() = default;

  // Before any other call; `listener` outlives the backend. Fails if the configuration cannot work here.
  virtual absl::Status Start(Listener* listener) = 0;
  // No report comes after it has returned. Jobs go on.
  virtual void Stop() = 0;

  virtual Capacity capacity() const = 0;
  // True if a start is reported by itself soon after Submit, so that no Accepted is needed.
  virtual bool accept_is_start() const { return false; }

  // True if its steps begin in an environment of their own, an image's: then nothing of the submitter's is in theirs.
  virtual bool has_own_environment() const { return false; }

  // False if its attempts share no files with the daemon: then its workspaces are not `on_this_machine`.
  virtual bool shares_files() const { return true; }
  // True if its attempts reach the daemon by a way of the backend's own, so that their workspaces have an `endpoint`.
  virtual bool has_endpoint() const { return false; }

  // True if its workspaces are `handed`.
  virtual bool reaches_only_stores() const { return false; }

  // True if it takes whole runs, where nothing in the run is in the way (WhyStepByStep).
  virtual bool takes_runs() const { return false; }
  // Why this run is too much for one there; empty: it is not. Tokens and environment are not filled in. Pure.
  virtual std::string WhyNotWhole(const RunOutline& /*outline*/) const { return ""; }
  // The launcher of an attempt of a whole run has begun it. `place`: what the backend has given it as ORCH_PLACE. What
  // that is called, for people.
  virtual std::string Began(absl::string_view /*key*/, absl::string_view place) { return std::string(place); }
  // Before Adopt: the ids of the runs that have not ended. Others that are there as a whole are cleaned up.
  virtual void KeepRuns(std::vector<std::string> /*run_ids*/) {}
  // The run has ended: whatever of it is left on the platform is stopped and cleaned up.
  virtual void ReleaseRun(absl::string_view /*run_id*/) {}

  // Checks a step's settings and needs at submit time; all that is wrong, with field paths below the step.
  virtual std::vector<std::string> Check(const Resources& resources, absl::string_view settings_json) const = 0;
  // The same for what is no setting: faults with the step's own fields (`image`, `resources.disk`).
  virtual std::vector<Violation> CheckStep(const StepNeeds& /*needs*/) const { return {}; }

  // What its platform would be asked to make for this attempt, object by object in the order of the requests, as JSON
  // and as it is sent, but for what is secret, which is replaced by kSecretShown. `work` is as Submit would get it.
  // Empty: it does not say. Pure; any thread. Asked only if `tells_native`, which is for backends that share no files
  // with the daemon, and whose Prepare keeps nothing.
  virtual std::vector<std::string> Native(const AttemptWork& /*work*/) const { return {}; }
  virtual bool tells_native() const { return false; }
  // The same of a run that it would be given as a whole, whose tasks have kSecretShown as their tokens.
  virtual std::vector<std::string> NativeRun(const RunOutline& /*outline*/) const { return {}; }

  // The folders for an attempt that is about to be submitted or has been adopted. No I/O. The place is kept until
  // Release.
  virtual absl::StatusOr<Workspace> Prepare(const AttemptName& name) = 0;
  virtual void Submit(Unit unit) = 0;
  virtual void Cancel(absl::string_view key, CancelMode mode) = 0;
  // The attempt's end is committed and its outputs are taken: clean up what is left of it.
  virtual void Release(absl::string_view key) = 0;
  // Before a Stop that no start follows: waits until what was released is gone from the platform; false: it was not in
  // that time, and what is left stays. Any thread but those that report.
  virtual bool FinishReleases(std::chrono::milliseconds /*limit*/) { return true; }
  // After a start of the daemon: report where each of these is. Called once with all live attempts, before any Submit.
  virtual void Adopt(std::vector<KnownAttempt> attempts) = 0;

  // Asks the platform whether it would take work now. Changes nothing. Any thread; may take ten seconds.
  virtual ProbeReport Probe() { return {}; }

  // Removes what it keeps of the logs of a run that has been deleted; OK if that is nothing. Any thread; may take long.
  virtual absl::Status RemoveLogs(const std::string& run_id) = 0;
  // How many bytes it keeps of them, as they lie there. Any thread; may take long.
  virtual int64_t LogBytes(const std::string& /*run_id*/) { return 0; }
  virtual absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) = 0;
};

}  // namespace orch
