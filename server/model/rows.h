// Typed rows: what the core decides and the store keeps. Times are microseconds UTC unless the name ends in _mono
// (CLOCK_BOOTTIME of the boot in `meta`); 0 means "not yet".
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/model/pipeline.h"
#include "server/model/states.h"

namespace orch {

using RunKey = int64_t;   // the row's number; grows
using StepIx = uint32_t;  // a step's number in its run
using ArtifactId = int64_t;

// What of a run changes only when it is retried. Kept apart from RunRow so that an update does not rewrite it.
struct RunHeader {
  RunKey key = 0;
  std::string id;  // UUID
  std::string project;
  std::string name;
  int64_t pipeline_id = 0;
  std::string pipeline;  // its name
  int64_t pipeline_version = 0;
  std::string orchestrator;
  std::string artifact_store;   // empty: the local folder alone
  std::string stack;            // that was named; empty: none
  std::string parameters_json;  // an object, defaults filled in
  std::vector<std::pair<std::string, std::string>> labels;
  std::string submitter_host;
  std::string source_dir;
  std::vector<std::pair<std::string, std::string>> environment;
  ExecutionMode execution_mode = ExecutionMode::kContinueOnFailure;
  int max_parallel = 0;
  int priority = 0;
  bool use_cache = true;
  int64_t timeout_micros = 0;
  int64_t created = 0;
  int64_t step_count = 0;
  int numbering = 0;  // the generation that gave its steps their numbers; 0: they follow from the pipeline
};

// What of a run changes.
struct RunRow {
  RunKey key = 0;
  RunState state = RunState::kPending;
  Reason reason = Reason::kNone;
  std::string message;
  int generation = 1;
  int64_t started = 0;
  int64_t ended = 0;
  int64_t deadline = 0;  // wall
  int64_t deadline_mono = 0;
  int64_t version = 1;
  int64_t last_sequence = 0;
  bool cancel_forced = false;
  std::array<int64_t, kStepStateCount> counts{};  // by StepState
};

// How a generation of a run ended that has been retried since, and what it ran with.
struct GenerationRow {
  int generation = 0;
  int64_t pipeline_version = 0;
  std::string parameters_json;
  RunState state = RunState::kFailed;
  Reason reason = Reason::kNone;
  std::string message;
  int64_t started = 0;
  int64_t ended = 0;
};

// A step that has left WAITING, or has come back to it; written whole with every change.
struct StepRow {
  RunKey run = 0;
  StepIx ix = 0;
  std::string name;  // `train[2]`
  StepState state = StepState::kWaiting;
  Reason reason = Reason::kNone;
  std::string message;
  uint32_t attempt = 0;
  uint32_t earlier_attempts = 0;  // up to this one they are of earlier generations: their outputs do not count
  std::optional<int> exit_code;
  std::optional<int> signal;
  int64_t ready = 0;
  int64_t started = 0;
  int64_t ended = 0;
  int64_t retry_at = 0;
  int64_t retry_at_mono = 0;
  std::string orchestrator;
  std::string cached_from;  // the run's name
};

// The numbers of the steps of a run that was retried with other steps.
struct NumberingRow {
  RunKey run = 0;
  int generation = 0;   // the first that has them
  std::string numbers;  // EncodeNumbering
};

// What a fan-out made at run time became; written with the end of its group.
struct FanoutRow {
  RunKey run = 0;
  uint32_t step = 0;   // its template
  StepIx first = 0;    // its first new instance
  std::string items;   // EncodeItems
  int64_t number = 0;  // 1, 2, … in the run; given by the store
};

struct AttemptRow {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t number = 0;
  AttemptState state = AttemptState::kNone;
  Reason reason = Reason::kNone;
  std::string message;
  std::string key;
  std::string orchestrator;
  std::string handle;
  std::string external_id;
  std::string url;
  std::string node;
  std::optional<int> exit_code;
  std::optional<int> signal;
  int64_t created = 0;
  int64_t created_mono = 0;
  int64_t started = 0;
  int64_t started_mono = 0;
  int64_t ended = 0;
  bool stopping = false;  // a stop was asked for
  Reason stop_reason = Reason::kNone;
  bool platform_failure = false;  // ended before its command began; counts against platform_attempts
  bool release_pending = false;   // the backend still has to clean up
  double cpu_seconds = 0;
  int64_t peak_memory = 0;
  int64_t stdout_bytes = 0;
  int64_t stderr_bytes = 0;
  std::string cache_key;  // 32 raw bytes or empty: what its outputs are entered under when it succeeds
  // The newest artifact when it was submitted. Of each producer it reads the newest up to this one.
  ArtifactId inputs_upto = 0;
  std::vector<ArtifactId> external;  // by input what an `artifact:` was found to be, 0 for others; empty: there is none
};

// Bytes by their SHA-256. Small ones are kept in the row, the others as a file in the blob folder.
struct BlobRow {
  std::string digest;  // 32 raw bytes
  int64_t size = 0;
  bool directory = false;
  std::optional<std::string> inline_bytes;
  std::string store;  // of a new one: the artifact store that has a copy; empty: none
  // Keeps the bytes from being removed before this row, and what refers to it, is committed. No column.
  std::shared_ptr<const void> hold;
};

struct ArtifactRow {
  ArtifactId id = 0;
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
  std::string output;
  std::string project;
  std::string name;     // `pipeline.step.output` or the name given by `as`
  int64_t version = 0;  // given by the store at commit
  std::string type;
  std::string digest;  // 32 raw bytes
  int64_t size = 0;
  std::optional<std::string> value_json;
  bool early = false;
  std::string metadata_json;
  int64_t created = 0;
};

struct CacheEntryRow {
  std::string project;
  std::string key;  // 32 raw bytes
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
  std::string parts_json;             // what the key was made of, for `why`
  std::vector<ArtifactId> artifacts;  // in the order of the step's outputs
  int64_t created = 0;
  std::string pipeline;  // the names of what made it
  std::string step;      // `train[2]`
  std::string run_name;
};

// Why a step's outputs did not come from the cache.
enum class CacheVerdict : uint8_t {
  kNoEntry = 1,       // nothing is entered under its key
  kExpired = 2,       // the entry is older than the step's `ttl`
  kBytesMissing = 3,  // the entry's bytes are not in the store any more, or not the same
};

// That a step was looked up in the cache in vain, and under what.
struct CacheMissRow {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;  // the one that then computes
  std::string key;       // 32 raw bytes
  std::string parts_json;
  CacheVerdict verdict = CacheVerdict::kNoEntry;
  int64_t created = 0;
};

// A hook of a run (ix -1) or of a step, in one generation of the run. What it is about is kept with it, since the run
// may have left memory.
struct HookRow {
  RunKey run = 0;
  int64_t ix = -1;
  int generation = 1;
  bool on_failure = false;
  std::string id;    // [a-z2-7]{20}, the same however often it is begun
  std::string step;  // `train[2]`; empty: of the run
  // What has ended, and how.
  uint32_t attempt = 0;
  uint8_t of_state = 0;  // RunState or StepState
  Reason reason = Reason::kNone;
  std::string message;
  std::optional<int> of_exit_code;
  std::vector<std::vector<ArtifactId>> inputs;  // as Intent::inputs, then the step's outputs; only if it uses them
  // The hook itself.
  HookState state = HookState::kPending;
  uint32_t tries = 0;
  std::string key;     // of the newest try, on the supervisor
  std::string result;  // why it failed
  std::optional<int> exit_code;
  std::optional<int> signal;
  int64_t created = 0;
  int64_t started = 0;
  int64_t ended = 0;
};

enum class EventType : uint8_t {
  kRunSubmitted = 1,
  kRunStateChanged = 2,
  kStepStateChanged = 3,
  kArtifactLanded = 4,
  kRunDeleted = 5,  // `message` is the run's name, `output` its id: its row is gone
};

struct EventRow {
  int64_t sequence = 0;
  int64_t time = 0;
  EventType type = EventType::kRunStateChanged;
  RunKey run = 0;
  int64_t ix = -1;  // -1: of the run
  uint32_t attempt = 0;
  uint8_t state = 0;  // RunState or StepState
  Reason reason = Reason::kNone;
  std::string message;
  std::optional<int> exit_code;
  ArtifactId artifact = 0;
  std::string output;
};

struct OrchestratorRow {
  std::string project;
  std::string name;
  std::string flavor;
  std::string config_json;
  int max_parallel = 0;
  int64_t created = 0;
  int64_t updated = 0;
  int64_t version = 1;
  int64_t rate_milli = 0;  // submissions a second, in thousandths; 0: no limit
};

// A flavor that a plug-in brings.
struct FlavorRow {
  std::string name;
  std::string program;  // absolute path; empty: `address`
  std::string address;
  std::string ca_file;  // of an address, as the next two: files on this machine
  std::string certificate_file;
  std::string key_file;
  std::string description;  // what it said of itself; opaque but for the plug-in host
  int64_t created = 0;
  int64_t updated = 0;
  int64_t version = 1;  // grows with each change
};

struct PoolRow {
  std::string name;
  int64_t slots = 0;
  std::string description;
};

struct SecretRow {
  std::string project;
  std::string name;
  std::string sealed;  // encrypted; empty in lists
  bool text = true;    // the value has no zero byte
  int64_t created = 0;
  int64_t updated = 0;
  int64_t version = 1;  // grows with each change
};

enum class TokenScope : uint8_t {
  kRead = 1,  // calls that change nothing
  kFull = 2,  // every call but those that administer tokens
};

struct ApiTokenRow {
  std::string name;
  std::string digest;  // SHA-256 of the token, 32 raw bytes
  TokenScope scope = TokenScope::kRead;
  int64_t created = 0;
  int64_t expires = 0;    // 0: never
  int64_t last_used = 0;  // to the hour; 0: never
  int64_t revoked = 0;    // 0: not
};

// A token was used; nothing if it is not the one that was made then.
struct TokenUse {
  std::string name;
  int64_t created = 0;
  int64_t last_used = 0;
};

struct ArtifactStoreRow {
  std::string name;
  std::string flavor;  // `local`, `s3`
  std::string config_json;
  int64_t created = 0;
  int64_t updated = 0;
  int64_t version = 1;
};

struct StackRow {
  std::string name;
  std::string orchestrator;
  std::string artifact_store;
  std::string image_registry;
  bool is_default = false;
};

struct PipelineRow {
  int64_t id = 0;  // 0: not stored yet
  std::string project;
  std::string name;
  int64_t version = 0;
  std::string digest;  // 32 raw bytes, of the serialized orch.v1.Pipeline
  int64_t created = 0;
  int64_t step_count = 0;  // before fan-out
  int64_t bytes = 0;
};

}  // namespace orch
