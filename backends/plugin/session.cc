#include "backends/plugin/session.h"

#include <errno.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backends/plugin/convert.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::plugin {
namespace {

constexpr int64_t kFirstPause = 200'000;
constexpr int64_t kLastPause = 30'000'000;
constexpr int64_t kSteadyAfter = 10'000'000;  // up for so long: the next pause is the first again
constexpr int64_t kProbeEvery = 10'000'000;
constexpr int64_t kProbeMicros = 10'000'000;
constexpr int kSilentProbes = 2;  // then it hangs
constexpr int64_t kShutdownMicros = 1'000'000;
constexpr size_t kSocketPath = 100;  // a Unix socket's path has at most 107 bytes

int64_t Mono() { return Clock::Real().Now().mono; }

absl::Status Unusable(const std::string& what) {
  return Error(absl::StatusCode::kFailedPrecondition, "PLUGIN_UNUSABLE", what);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in || text.str().empty()) return Unusable(absl::StrCat("cannot read ", path));
  return text.str();
}

std::string Words(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return "it did not answer in time";
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return "it does not serve this call";
  return status.error_message().substr(0, 1000);
}

// A folder that is only this user's, new if it was not there.
absl::Status MakePrivate(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  struct stat st {};
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Unusable(absl::StrCat("cannot make ", path, ": ", strerror(errno)));
  }
  if (lstat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
    return Unusable(absl::StrCat(path, " is not a folder of this user's"));
  }
  if ((st.st_mode & 077) != 0) chmod(path.c_str(), 0700);
  return absl::OkStatus();
}

}  // namespace

int ChooseProtocol(const std::vector<int>& offered, int newest, int oldest) {
  int best = 0;
  for (const int one : offered) {
    if (one <= newest && one >= oldest) best = std::max(best, one);
  }
  return best;
}

Session::Session(CallLoop* loop, Options options, Handlers handlers)
    : loop_(loop), options_(std::move(options)), handlers_(std::move(handlers)) {}

Session::~Session() { *alive_ = false; }

std::string Session::Who() const {
  return absl::StrCat("the plug-in ", options_.source.program.empty() ? "at " : "",
                      options_.source.program.empty() ? options_.source.address : options_.source.program);
}

CallLoop::Task Session::OfThisTry(CallLoop::Task task) {
  return [this, alive = alive_, number = try_, task = std::move(task)] {
    if (*alive && number == try_ && !closed_) task();
  };
}

void Session::Open() { Try(); }

void Session::Try() {
  ++try_;
  ready_protocol_ = protocol_ = silent_probes_ = 0;
  const absl::Status begun = options_.source.program.empty() ? Dial() : Launch();
  if (!begun.ok()) Fail(begun);
}

std::vector<std::string> Session::Environment(const std::string& socket) const {
  std::vector<std::string> out;
  for (const char* name : {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"}) {
    if (const char* value = getenv(name)) out.push_back(absl::StrCat(name, "=", value));
  }
  out.push_back(absl::StrCat("ORCH_PLUGIN_SOCKET=", socket));
  out.push_back(absl::StrCat("ORCH_PLUGIN_TOKEN=", token_));
  out.push_back(absl::StrCat("ORCH_PLUGIN_EPOCH=", options_.origin.epoch()));
  out.push_back(absl::StrCat("ORCH_PLUGIN_STATE=", options_.folder, "/state"));
  return out;
}

absl::Status Session::Launch() {
  RETURN_IF_ERROR(MakePrivate(options_.folder));
  RETURN_IF_ERROR(MakePrivate(options_.folder + "/state"));
  // A name of its own for each try: one that was killed may still hold the last.
  std::string run = options_.folder + "/run";
  if (run.size() > kSocketPath - 24) run = absl::StrCat("/tmp/orchd-", Hex(Sha256Of(run)).substr(0, 16));
  RETURN_IF_ERROR(MakePrivate(run));
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run, error)) {
    if (entry.path() != run + "/pid") unlink(entry.path().c_str());
  }
  socket_ = absl::StrCat(run, "/", options_.origin.epoch(), ".", try_);
  token_ = Hex(RandomBytes(32));
  Process::Options process;
  process.program = options_.source.program;
  process.environment = Environment(socket_);
  process.pid_file = run + "/pid";
  process.log = options_.folder + "/plugin.log";
  process.log_bytes = options_.limits.log_bytes;
  Process::Handlers handlers;
  handlers.ready = [this, alive = alive_, number = try_, loop = loop_](std::string line) {
    loop->Post([this, alive, number, line = std::move(line)] {
      if (*alive && number == try_ && !closed_) OnReady(line);
    });
  };
  handlers.ended = [this, alive = alive_, number = try_, loop = loop_](std::string why) {
    loop->Post([this, alive, number, why = std::move(why)] {
      if (*alive && number == try_ && !closed_) Fail(Unusable(absl::StrCat(Who(), ": ", why)));
    });
  };
  ASSIGN_OR_RETURN(process_, Process::Start(std::move(process), std::move(handlers)));
  loop_->After(options_.limits.start_micros, OfThisTry([this] {
                 if (ready_protocol_ != 0) return;
                 Fail(Unusable(absl::StrCat(Who(), " did not say that it is ready within ",
                                            options_.limits.start_micros / 1'000'000,
                                            " s (limit plugin_start_seconds): it has to write {\"protocol\": 1} and a "
                                            "line end to stdout; its log is ",
                                            options_.folder, "/plugin.log")));
               }));
  return absl::OkStatus();
}

absl::Status Session::Dial() {
  grpc::SslCredentialsOptions tls;
  ASSIGN_OR_RETURN(tls.pem_root_certs, ReadFile(options_.source.ca_file));
  ASSIGN_OR_RETURN(tls.pem_cert_chain, ReadFile(options_.source.certificate_file));
  ASSIGN_OR_RETURN(tls.pem_private_key, ReadFile(options_.source.key_file));
  Connect(options_.source.address, grpc::SslCredentials(tls));
  return absl::OkStatus();
}

void Session::OnReady(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto protocol = json.is_object() ? json.find("protocol") : json.end();
  if (!json.is_object() || protocol == json.end() || !protocol->is_number_integer() || *protocol < 1 ||
      *protocol > 1'000'000) {
    return Fail(
        Unusable(absl::StrCat(Who(), " began with `", line.substr(0, 200), "` on stdout, not with {\"protocol\": 1}")));
  }
  ready_protocol_ = protocol->get<int>();
  Connect(absl::StrCat("unix:", socket_), grpc::InsecureChannelCredentials());
}

void Session::Connect(const std::string& target, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(options_.limits.message_bytes));
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  channel_ = grpc::CreateCustomChannel(target, credentials, arguments);
  connection_ = std::make_shared<Connection>(loop_, channel_, token_);
  Describe();
}

void Session::Describe() {
  v1::DescribeRequest request;
  for (int protocol = kNewestProtocol; protocol >= kOldestProtocol; --protocol) request.add_protocols(protocol);
  connection_->Call<v1::DescribeRequest, v1::DescribeResponse>(
      &v1::BackendPlugin::Stub::AsyncDescribe, request, options_.limits.call_micros,
      [this](const grpc::Status& status, v1::DescribeResponse& answer) {
        if (!status.ok()) return Fail(Unusable(absl::StrCat(Who(), ": Describe: ", Words(status))));
        OnDescribed(answer);
      });
}

void Session::OnDescribed(const v1::DescribeResponse& answer) {
  const std::vector<int> offered(answer.protocols().begin(), answer.protocols().end());
  const auto incompatible = [&](const std::string& what) {
    Fail(Error(absl::StatusCode::kFailedPrecondition, "PLUGIN_INCOMPATIBLE",
               absl::StrCat(Who(), what, "; this daemon speaks orch.backend ", kOldestProtocol,
                            kOldestProtocol == kNewestProtocol ? "" : absl::StrCat(" to ", kNewestProtocol),
                            ". Nothing was started")));
  };
  if (ready_protocol_ != 0 && std::find(offered.begin(), offered.end(), ready_protocol_) == offered.end()) {
    return incompatible(absl::StrCat(" contradicts itself: its first line says protocol ", ready_protocol_,
                                     ", Describe says ", offered.empty() ? "none" : absl::StrJoin(offered, ", ")));
  }
  protocol_ = ChooseProtocol(offered, kNewestProtocol, kOldestProtocol);
  if (protocol_ == 0) {
    return incompatible(absl::StrCat(" speaks protocol ", offered.empty() ? "none" : absl::StrJoin(offered, ", ")));
  }
  description_ = answer;
  if (options_.only_describe) {
    up_ = true;
    handlers_.up(description_, v1::ConfigureResponse());
    return;
  }
  Configure();
}

void Session::Configure() {
  v1::ConfigureRequest request;
  *request.mutable_origin() = options_.origin;
  request.set_config_json(options_.config_json);
  request.set_protocol(protocol_);
  request.set_workspace_dir(options_.workspace_dir);
  request.set_launcher(options_.launcher);
  request.set_step_socket(options_.step_socket);
  connection_->Call<v1::ConfigureRequest, v1::ConfigureResponse>(
      &v1::BackendPlugin::Stub::AsyncConfigure, request, options_.limits.call_micros,
      [this](const grpc::Status& status, v1::ConfigureResponse& answer) {
        if (!status.ok()) return Fail(Unusable(absl::StrCat(Who(), ": Configure: ", Words(status))));
        if (answer.faults().empty()) {
          const std::string fault = answer.has_remote_workspace() ? FaultOf(answer.remote_workspace()) : "";
          if (fault.empty()) return Up(answer);
          return Fail(Unusable(absl::StrCat(Who(), " ", fault)));
        }
        std::vector<Violation> faults;
        for (const v1::FieldFault& fault : answer.faults()) {
          if (faults.size() == 100) break;
          faults.push_back({absl::StrCat("config", fault.field().empty() ? "" : ".", fault.field().substr(0, 200)),
                            fault.message().substr(0, 1000), "PLUGIN_REFUSED"});
        }
        Fail(InvalidInput("CONFIG_INVALID", "the plug-in cannot use the configuration", faults));
      });
}

void Session::Up(const v1::ConfigureResponse& answer) {
  up_ = true;
  up_since_ = Mono();
  handlers_.up(description_, answer);
  if (up_) Probe();
}

void Session::Probe() {
  v1::ProbeRequest request;
  *request.mutable_origin() = options_.origin;
  connection_->Call<v1::ProbeRequest, v1::ProbeResponse>(
      &v1::BackendPlugin::Stub::AsyncProbe, request, std::min(kProbeMicros, options_.limits.call_micros),
      [this](const grpc::Status& status, v1::ProbeResponse& answer) {
        const bool silent = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
        if (silent && ++silent_probes_ < kSilentProbes) {
          handlers_.probed(false, absl::StrCat(Who(), " does not answer"));
          if (up_) Probe();
          return;
        }
        if (!status.ok()) {
          return Fail(Unusable(
              absl::StrCat(Who(), silent ? " hangs, and is started again" : ": Probe: ", silent ? "" : Words(status))));
        }
        silent_probes_ = 0;
        handlers_.probed(answer.healthy(), answer.healthy() ? "" : answer.message().substr(0, 2000));
        if (up_) loop_->After(kProbeEvery, OfThisTry([this] { Probe(); }));
      });
}

void Session::Distrust(const std::string& why) {
  Fail(Unusable(absl::StrCat(Who(), " ", why, "; it is not listened to any more, and started again")));
}

void Session::Drop() {
  up_ = false;
  if (connection_ != nullptr) connection_->Close();
  connection_.reset();
  channel_.reset();
}

void Session::Fail(const absl::Status& why) {
  if (closed_) return;
  if (up_ && Mono() - up_since_ > kSteadyAfter) pause_ = 0;
  Drop();
  ++try_;  // what is still said of this one is too late
  if (process_ != nullptr) process_->Kill();
  process_.reset();
  pause_ = std::clamp(2 * pause_, kFirstPause, kLastPause);
  loop_->After(pause_, OfThisTry([this] { Try(); }));
  handlers_.down(why);
}

void Session::Close() {
  if (std::exchange(closed_, true)) return;
  const auto channel = channel_;
  Drop();
  if (channel == nullptr) return;
  v1::ShutdownRequest request;
  *request.mutable_origin() = options_.origin;
  std::make_shared<Connection>(loop_, channel, token_)
      ->Call<v1::ShutdownRequest, v1::ShutdownResponse>(&v1::BackendPlugin::Stub::AsyncShutdown, request,
                                                        kShutdownMicros,
                                                        [](const grpc::Status&, v1::ShutdownResponse&) {});
}

}  // namespace orch::plugin
