// A whole flavor in one file: jobs are processes, and a folder for each remembers what became of it.
//
// The folder of a job is the only state. Its files come in this order: `job` (what to run), `began` (the runner's
// process id; whoever makes it is the runner), `stop` (a Cancel has come), `status` (how it ended). The runner is this
// program again, started with `--run FOLDER`: it outlives the plug-in, holds the lock on `lock` while it lives, and
// writes `status`. So a plug-in that is killed at any instant knows on its next start what it knew before.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "orch/backend/v1/plugin.grpc.pb.h"

namespace {

namespace fs = std::filesystem;
using namespace orch::backend::v1;
using grpc::ServerContext;
using grpc::Status;

constexpr char kConfig[] = R"({"type": "object", "additionalProperties": false, "properties": {
  "slots": {"type": "integer", "minimum": 1, "maximum": 1024, "description": "CPUs it offers [2]"}}})";
constexpr char kSettings[] = R"({"type": "object", "additionalProperties": false, "properties": {
  "nice": {"type": "integer", "minimum": 0, "maximum": 19, "description": "as nice(1) [0]"}}})";

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Whole or not at all, whoever dies meanwhile.
void Write(const fs::path& path, const std::string& text) {
  const fs::path fresh = path.string() + ".new";
  std::ofstream(fresh, std::ios::binary) << text;
  std::error_code gone;  // released meanwhile
  fs::rename(fresh, path, gone);
}

// The number behind `"name":` in a flat object that the daemon has checked by our schema.
int Number(const std::string& json, const std::string& name, int otherwise) {
  const size_t at = json.find('"' + name + "\":");
  return at == std::string::npos ? otherwise : std::atoi(json.c_str() + at + name.size() + 3);
}

// --- the runner: one for each job ---

pid_t child = 0;
unsigned grace = 10;

void OnSignal(int signal) {
  static bool asked = false;
  if (child == 0 || (signal == SIGTERM && std::exchange(asked, true))) return;
  kill(-child, signal == SIGTERM ? SIGTERM : SIGKILL);  // SIGUSR1 is a forced stop, SIGALRM the end of the grace
  if (signal == SIGTERM) alarm(grace);
}

int Run(const fs::path& folder) {
  const int lock = open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  flock(lock, LOCK_EX);
  const int began = open((folder / "began").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (began < 0) return 0;  // somebody else runs it, or has
  const std::string me = std::to_string(getpid());
  if (write(began, me.data(), me.size()) < 0) return 1;
  close(began);
  Job job;
  if (!job.ParseFromString(Read(folder / "job")) || job.command().empty()) return 1;
  grace = static_cast<unsigned>((job.grace_micros() + 999'999) / 1'000'000);
  signal(SIGCHLD, SIG_DFL);
  for (const int signal : {SIGTERM, SIGUSR1, SIGALRM}) {
    struct sigaction action {};
    action.sa_handler = OnSignal;
    sigaction(signal, &action, nullptr);
  }
  fs::create_directories(job.scratch_dir());
  fs::create_directories(job.output_dir());
  if (const int nice = Number(job.settings_json(), "nice", 0); nice > 0) setpriority(PRIO_PROCESS, 0, nice);
  std::vector<char*> words;
  for (std::string& word : *job.mutable_command()) words.push_back(word.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, (folder / "out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addopen(&files, 2, (folder / "err").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addchdir_np(&files, job.working_dir().c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setpgroup(&attributes, 0);  // so that a stop reaches all of it, and not us
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  // Our own environment is the job's: see Start.
  const int fault = posix_spawnp(&child, words[0], &files, &attributes, words.data(), environ);
  if (fault != 0) {
    Write(folder / "status", "missing " + std::to_string(fault));
    return 0;
  }
  if (fs::exists(folder / "stop")) OnSignal(SIGTERM);  // it came before there was anybody to hear it
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  kill(-child, SIGKILL);  // what it left behind
  Write(folder / "status", WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                               : "exit " + std::to_string(WEXITSTATUS(status)));
  return 0;
}

// --- the plug-in ---

class Sample final : public BackendPlugin::Service {
 public:
  Sample(const fs::path& state, std::string token)
      : jobs_(state / "jobs"), released_(state / "released"), token_(std::move(token)) {
    fs::remove_all(released_);
    for (const fs::path& folder : {jobs_, released_}) fs::create_directories(folder);
  }

  Status Describe(ServerContext* context, const DescribeRequest*, DescribeResponse* answer) override {
    if (!Known(context)) return kStranger;
    answer->add_protocols(1);
    answer->set_flavor("sample");
    answer->set_version("1.0");
    answer->set_description("processes of a sample plug-in");
    answer->add_native("cancel");
    answer->set_config_schema_json(kConfig);
    answer->set_settings_schema_json(kSettings);
    answer->mutable_capabilities()->set_poll_micros(200'000);
    return Status::OK;
  }

  Status Configure(ServerContext* context, const ConfigureRequest* request, ConfigureResponse* answer) override {
    if (!Known(context)) return kStranger;
    answer->mutable_capacity()->set_cpu_millis(1000 * Number(request->config_json(), "slots", 2));
    return Status::OK;
  }

  Status Submit(ServerContext* context, const SubmitRequest* request, SubmitResponse* answer) override {
    if (!Known(context)) return kStranger;
    for (const Job& job : request->jobs()) {
      const fs::path folder = jobs_ / job.name().key();
      fs::create_directories(folder);
      // From here on it is submitted; asked again, this changes nothing.
      if (!fs::exists(folder / "job")) Write(folder / "job", job.SerializeAsString());
      SubmitResult* result = answer->add_results();
      result->set_key(job.name().key());
      result->set_outcome(SubmitResult::ACCEPTED);
      *result->mutable_observation() = Look(folder);
    }
    return Status::OK;
  }

  Status Find(ServerContext* context, const FindRequest* request, FindResponse* answer) override {
    if (!Known(context)) return kStranger;
    for (const KnownJob& known : request->jobs()) {
      FindResult* result = answer->add_results();
      result->set_key(known.key());
      const bool there = fs::exists(jobs_ / known.key() / "job");
      result->set_answer(there ? FindResult::FOUND : FindResult::NOT_FOUND);
      if (there) *result->mutable_observation() = Look(jobs_ / known.key());
    }
    return Status::OK;
  }

  Status Observe(ServerContext* context, const ObserveRequest*, ObserveResponse* answer) override {
    if (!Known(context)) return kStranger;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(jobs_, error)) {
      if (fs::exists(entry.path() / "job")) *answer->add_observations() = Look(entry.path());
    }
    return Status::OK;
  }

  Status Cancel(ServerContext* context, const CancelRequest* request, CancelResponse*) override {
    if (!Known(context)) return kStranger;
    const fs::path folder = jobs_ / request->key();
    const bool again = fs::exists(folder / "stop");
    if (fs::exists(folder / "job")) Write(folder / "stop", "");
    if (request->force() || !again) Signal(folder, request->force() ? SIGUSR1 : SIGTERM);
    return Status::OK;
  }

  Status Release(ServerContext* context, const ReleaseRequest* request, ReleaseResponse*) override {
    if (!Known(context)) return kStranger;
    for (const KnownJob& known : request->jobs()) {
      Signal(jobs_ / known.key(), SIGUSR1);
      std::error_code error;
      // Out of sight at once: whoever looks at half of it would take it for a job that has not begun.
      fs::rename(jobs_ / known.key(), released_ / known.key(), error);
      fs::remove_all(released_ / known.key(), error);
    }
    return Status::OK;
  }

  Status Logs(ServerContext* context, const LogsRequest* request, grpc::ServerWriter<LogsResponse>* writer) override {
    if (!Known(context)) return kStranger;
    const fs::path folder = jobs_ / request->key();
    const Phase phase = Look(folder).phase();  // before the reading: what is written later is read next time
    Send(folder / "out", LogsResponse::STDOUT, request->stdout_offset(), writer);
    Send(folder / "err", LogsResponse::STDERR, request->stderr_offset(), writer);
    LogsResponse last;
    last.set_complete(phase == ENDED || phase == LOST);
    writer->Write(last);
    return Status::OK;
  }

  Status Probe(ServerContext* context, const ProbeRequest*, ProbeResponse* answer) override {
    if (!Known(context)) return kStranger;
    answer->set_healthy(access(jobs_.c_str(), W_OK) == 0);
    answer->set_message("cannot write to " + jobs_.string());
    return Status::OK;
  }

  Status Shutdown(ServerContext*, const ShutdownRequest*, ShutdownResponse*) override { return Status::OK; }

 private:
  const Status kStranger{grpc::StatusCode::UNAUTHENTICATED, "this is not the daemon that started me"};

  bool Known(ServerContext* context) const {
    const auto found = context->client_metadata().find("orch-token");
    return found != context->client_metadata().end() &&
           std::string(found->second.data(), found->second.size()) == token_;
  }

  static bool IsLocked(const fs::path& folder) {
    const int fd = open((folder / "lock").c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return false;
    const bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return locked;
  }

  static void Signal(const fs::path& folder, int signal) {
    const int pid = std::atoi(Read(folder / "began").c_str());
    if (pid > 0 && IsLocked(folder)) kill(pid, signal);  // nobody else has its number while it lives
  }

  // Starts the runner; of several only one runs the job.
  static void Start(const fs::path& folder) {
    Job job;
    if (!job.ParseFromString(Read(folder / "job")) || job.command().empty()) return;  // released meanwhile
    std::vector<std::string> environment;
    for (const EnvironmentVariable& v : job.environment()) environment.push_back(v.name() + "=" + v.value());
    std::vector<char*> variables;
    for (std::string& v : environment) variables.push_back(v.data());
    variables.push_back(nullptr);
    std::string path = folder.string(), program = "/proc/self/exe", flag = "--run";
    char* const words[] = {program.data(), flag.data(), path.data(), nullptr};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (const int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);  // so that it outlives us
    pid_t pid = 0;
    posix_spawn(&pid, program.c_str(), &files, &attributes, words, variables.data());
  }

  // What the folder says.
  static Observation Look(const fs::path& folder) {
    Observation out;
    out.set_key(folder.filename());
    out.set_external_id(Read(folder / "began"));
    // In this order: a runner that has begun holds the lock until `status` is written.
    const bool began = fs::exists(folder / "began");
    const bool locked = IsLocked(folder);
    std::istringstream status(Read(folder / "status"));
    std::string word;
    int number = 0;
    if (status >> word >> number) {
      out.set_phase(ENDED);
      End* end = out.mutable_end();
      end->set_stopped(fs::exists(folder / "stop"));
      if (word == "exit") end->set_exit_code(number);
      if (word == "signal") end->set_signal(number);
      if (word == "missing") {
        end->set_reason(COMMAND_NOT_FOUND);
        end->set_message(std::string("the command cannot be executed: ") + strerror(number));
      }
    } else if (!began) {
      out.set_phase(QUEUED);
      if (!locked) Start(folder);
    } else {
      out.set_phase(locked ? RUNNING : LOST);
      out.set_message("its runner was killed");
    }
    return out;
  }

  static void Send(const fs::path& path, LogsResponse::Stream stream, int64_t offset,
                   grpc::ServerWriter<LogsResponse>* writer) {
    std::ifstream in(path, std::ios::binary);
    in.seekg(offset);
    std::vector<char> buffer(256 << 10);
    while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
      LogsResponse piece;
      piece.set_stream(stream);
      piece.set_offset(offset);
      piece.set_data(buffer.data(), static_cast<size_t>(in.gcount()));
      offset += in.gcount();
      if (!writer->Write(piece)) return;
    }
  }

  const fs::path jobs_, released_;
  const std::string token_;
};

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--run") return Run(argv[2]);
  signal(SIGCHLD, SIG_IGN);  // runners are nobody's to wait for
  Sample sample(Variable("ORCH_PLUGIN_STATE"), Variable("ORCH_PLUGIN_TOKEN"));
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + Variable("ORCH_PLUGIN_SOCKET"), grpc::InsecureServerCredentials());
  builder.RegisterService(&sample);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::puts("{\"protocol\": 1}");
  std::fflush(stdout);
  while (std::getchar() != EOF) {  // ends with the daemon
  }
  return 0;
}
