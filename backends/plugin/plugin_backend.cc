#include "backends/plugin/plugin_backend.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/api/platform_thread.h"
#include "backends/plugin/backend_impl.h"
#include "backends/plugin/convert.h"
#include "backends/plugin/schema.h"
#include "server/base/status.h"

namespace orch::plugin {
namespace {
constexpr int64_t kValidateMicros = 5'000'000;
constexpr int64_t kProbeMicros = 9'000'000;
constexpr size_t kRemembered = 1'000;  // answers of Validate
}  // namespace

PluginBackend::PluginBackend(BackendContext context, std::string flavor, const PluginSource& source,
                             v1::DescribeResponse description, Limits limits)
    : context_(std::move(context)),
      flavor_(std::move(flavor)),
      described_(std::move(description)),
      limits_(limits),
      folder_(absl::StrCat(context_.data_dir, "/plugins/", context_.orchestrator)) {
  origin_.set_instance(context_.instance);
  origin_.set_orchestrator(context_.orchestrator);
  origin_.set_epoch(context_.epoch);
  Session::Options options;
  options.source = source;
  options.origin = origin_;
  options.config_json = context_.config_json;
  options.folder = folder_;
  options.workspace_dir = folder_ + "/attempts";
  options.launcher = context_.binary_dir + "/orch-launch";
  if (!context_.step_sockets.empty()) options.step_socket = context_.step_sockets + "/http.sock";
  options.limits = limits_;
  Session::Handlers handlers;
  handlers.up = [this](const v1::DescribeResponse&, const v1::ConfigureResponse& configured) { Up(configured); };
  handlers.down = [this](const absl::Status& why) { Down(why); };
  handlers.probed = [this](bool healthy, const std::string& message) { Probed(healthy, message); };
  session_ = std::make_unique<Session>(&loop_, std::move(options), std::move(handlers));
  LogCopier::Handlers logs;
  logs.complete = [this](const std::string& key) { ReportEnd(key); };
  logs.over_limit = [this](const std::string& key) { OverLimit(key); };
  copier_ = std::make_unique<LogCopier>(&loop_, session_.get(), origin_, limits_.call_micros, std::move(logs));
}

absl::Status PluginBackend::Start(Listener* listener) {
  listener_ = listener;
  if (context_.registered) ReadConfigured();
  loop_.Start();
  loop_.Post([this] { session_->Open(); });
  if (context_.registered) return absl::OkStatus();  // what it served before is known; it comes when it comes
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::microseconds(limits_.start_micros + 2 * limits_.call_micros);
  absl::Status first;
  {
    MutexLock lock(&mutex_);
    while (!first_.has_value()) {
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
      if (left.count() <= 0) break;
      changed_.WaitFor(&mutex_, left);
    }
    first = first_.value_or(absl::DeadlineExceededError("the plug-in did not answer"));
  }
  if (!first.ok()) Stop();
  return first;
}

void PluginBackend::Stop() {
  loop_.Stop([this] { session_->Close(); });
  session_.reset();  // ends the program
}

std::vector<std::string> PluginBackend::Check(const Resources& resources, absl::string_view settings_json) const {
  std::vector<std::string> faults;
  for (const Violation& fault : Validate(described_.settings_schema_json(), settings_json, "")) {
    faults.push_back(absl::StrCat("`", fault.field, "`: ", fault.description));
  }
  if (faults.empty() && described_.capabilities().validates())
    faults = const_cast<PluginBackend*>(this)->Ask(resources, settings_json);
  return faults;
}

std::vector<Violation> PluginBackend::CheckStep(const StepNeeds& needs) const {
  const v1::Capabilities& can = described_.capabilities();
  const std::string who = absl::StrCat("flavor `", flavor_, "` offers");
  std::vector<Violation> faults;
  const auto add = [&](const std::string& field, const std::string& what) {
    faults.push_back({field, what, "UNSUPPORTED"});
  };
  if (needs.resources.memory > 0 && !can.memory()) {
    add("resources.memory", absl::StrCat(who, " none that it can hold a step to; leave it out"));
  }
  if (needs.resources.gpu > 0 && !can.gpus()) add("resources.gpu", absl::StrCat(who, " no GPUs; leave it out"));
  if (needs.resources.disk > 0) add("resources.disk", absl::StrCat(who, " no disk that is counted; leave it out"));
  const Capacity offered = capacity();
  for (const auto& [name, count] : needs.resources.custom) {
    const bool there = std::any_of(offered.custom.begin(), offered.custom.end(),
                                   [&, wanted = name](const auto& entry) { return entry.first == wanted; });
    if (!there) add(absl::StrCat("resources.custom.", name), absl::StrCat(who, " none"));
  }
  if ((!needs.image.empty() || needs.builds_image) && !can.images()) {
    add("image", absl::StrCat("a step of flavor `", flavor_, "` does not run in an image; leave it out"));
  }
  if (needs.secrets && !can.secrets() && shares_files()) {
    add("secrets", absl::StrCat("the plug-in of flavor `", flavor_,
                                "` cannot keep them secret; leave them out, or use an orchestrator of it whose steps a "
                                "launcher runs, if there is such a configuration (`artifacts: daemon`)"));
  }
  return faults;
}

absl::StatusOr<Workspace> PluginBackend::Prepare(const AttemptName& name) {
  MutexLock lock(&mutex_);
  if (!remote_.has_value()) return Workspace{Dir(name.key) + "/scratch", Dir(name.key) + "/output", true};
  return RemoteWorkspace(absl::StrCat(remote_->root(), "/", name.key),
                         remote_->launcher().empty() ? "orch-launch" : remote_->launcher(), remote_->endpoint());
}

void PluginBackend::Submit(Unit unit) {
  for (AttemptWork& work : unit.attempts) {
    loop_.Post([this, work = std::make_shared<AttemptWork>(std::move(work))] { Begin(*work); });
  }
}

void PluginBackend::Cancel(absl::string_view key, CancelMode mode) {
  loop_.Post([this, key = std::string(key), mode] { StopJob(key, mode == CancelMode::kForced); });
}

void PluginBackend::Release(absl::string_view key) {
  loop_.Post([this, key = std::string(key)] { Forget(key); });
}

bool PluginBackend::FinishReleases(std::chrono::milliseconds limit) {
  return WaitUntilOn([this](CallLoop::Task task) { loop_.Post(std::move(task)); }, [this] { return releases_.empty(); },
                     limit);
}

void PluginBackend::Adopt(std::vector<KnownAttempt> attempts) {
  loop_.Post([this, attempts = std::move(attempts)] {
    for (const KnownAttempt& known : attempts) AdoptOne(known);
    adopted_ = true;
    FindJobs();
  });
}

absl::StatusOr<std::unique_ptr<LogReader>> PluginBackend::OpenLog(const LogAddress& address, LogStreamName stream) {
  return local::OpenLogFile(LogPrefix(address) + (stream == LogStreamName::kStdout ? ".out" : ".err"));
}

void PluginBackend::Again(int64_t micros, CallLoop::Task task) {
  loop_.After(micros, [this, number = connection_, task = std::move(task)] {
    if (number == connection_ && session_->up()) task();
  });
}

void PluginBackend::Up(const v1::ConfigureResponse& configured) {
  ++connection_;
  {
    MutexLock lock(&mutex_);
    Apply(configured);
    up_ = true;
    first_ = absl::OkStatus();
    changed_.NotifyAll();
  }
  KeepConfigured(configured);
  finding_ = submitting_ = releasing_ = polled_ = false;
  find_pause_ = 0;
  for (auto& [key, job] : jobs_) {
    job.cancel_sent = 0;
    if (job.phase == Phase::kQueued || job.phase == Phase::kRunning) job.ask = true;
  }
  FindJobs();
  FlushReleases();
  if (session_->capabilities().watches()) {
    WatchJobs();
  } else {
    Poll();
  }
  copier_->Connected();
}

void PluginBackend::Down(const absl::Status& why) {
  ++connection_;
  {
    MutexLock lock(&mutex_);
    up_ = false;
    if (!first_.has_value()) first_ = why;
    changed_.NotifyAll();
  }
  copier_->Disconnected();
  std::vector<std::string> unknown;
  for (const auto& [key, job] : jobs_) {
    if (job.phase == Phase::kSubmitting) unknown.push_back(key);
  }
  for (const std::string& key : unknown) Doubt(key, std::string(why.message()));
  std::string text(why.message());
  for (const Violation& fault : ViolationsOf(why)) absl::StrAppend(&text, "; ", fault.field, " ", fault.description);
  SetHealth(false, text);
}

void PluginBackend::Probed(bool healthy, const std::string& message) {
  SetHealth(healthy, healthy ? "" : message.empty() ? "the plug-in says that its platform cannot be used" : message);
  if (healthy) SubmitWaiting();
}

void PluginBackend::SetHealth(bool healthy, const std::string& message) {
  const bool news = !health_told_ || healthy != healthy_ || message != health_message_;
  healthy_ = healthy;
  health_told_ = true;
  health_message_ = message;
  if (news) listener_->HealthChanged(healthy, message);
}

void PluginBackend::Apply(const v1::ConfigureResponse& configured) {
  capacity_ = ToCapacity(configured.capacity());
  remote_.reset();
  if (configured.has_remote_workspace()) remote_ = configured.remote_workspace();
}

void PluginBackend::KeepConfigured(const v1::ConfigureResponse& configured) {
  std::error_code error;
  std::filesystem::create_directories(folder_ + "/attempts", error);
  std::ofstream(ConfiguredFile(), std::ios::binary) << configured.SerializeAsString();
}

void PluginBackend::ReadConfigured() {
  std::ifstream in(ConfiguredFile(), std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  v1::ConfigureResponse configured;
  MutexLock lock(&mutex_);
  if (configured.ParseFromString(text.str())) Apply(configured);
}

ProbeReport PluginBackend::Probe() {
  struct Reply {
    Mutex mutex;
    CondVar changed;
    bool done ABSL_GUARDED_BY(mutex) = false;
    ProbeReport report ABSL_GUARDED_BY(mutex);
  };
  const std::string log = absl::StrCat("its own log is ", folder_, "/plugin.log");
  auto reply = std::make_shared<Reply>();
  loop_.Post([this, reply, log] {
    const auto answer = [reply](ProbeReport report) {
      MutexLock lock(&reply->mutex);
      reply->done = true;
      reply->report = std::move(report);
      reply->changed.NotifyAll();
    };
    ProbeReport report;
    if (!session_->up()) {
      report.checks.push_back({"plug-in", false, health_message_.empty() ? "it has not answered yet" : health_message_,
                               absl::StrCat("it is started again by itself; ", log)});
      return answer(std::move(report));
    }
    v1::ProbeRequest request;
    *request.mutable_origin() = origin_;
    request.set_thorough(true);
    session_->calls().Call<v1::ProbeRequest, v1::ProbeResponse>(
        &v1::BackendPlugin::Stub::AsyncProbe, request, kProbeMicros,
        [this, answer, log](const grpc::Status& status, v1::ProbeResponse& response) {
          ProbeReport asked;
          std::string text = absl::StrCat(flavor_, " ", described_.version(), " answers");
          if (!status.ok()) {
            const bool silent = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
            text = silent ? absl::StrCat("it did not answer within ", kProbeMicros / 1'000'000, " s")
                          : absl::StrCat("Probe: ", Cut(status.error_message(), 1000));
          }
          asked.checks.push_back({"plug-in", status.ok(), text, status.ok() ? "" : log});
          if (status.ok()) AddChecks(response, &asked);
          answer(std::move(asked));
        });
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kProbeMicros + 500'000);
  MutexLock lock(&reply->mutex);
  while (!reply->done) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      ProbeReport report;
      report.checks.push_back({"plug-in", false, "it went away while it was asked", log});
      return report;
    }
    reply->changed.WaitFor(&reply->mutex, left);
  }
  return reply->report;
}

std::vector<std::string> PluginBackend::Ask(const Resources& resources, absl::string_view settings_json) {
  struct Reply {
    Mutex mutex;
    CondVar changed;
    bool done ABSL_GUARDED_BY(mutex) = false;
    std::vector<std::string> faults ABSL_GUARDED_BY(mutex);
  };
  v1::ValidateRequest request;
  *request.mutable_origin() = origin_;
  *request.mutable_resources() = ToResources(resources);
  request.set_settings_json(std::string(settings_json));
  const std::string asked = absl::StrCat(resources.cpu_millis, "/", resources.memory, "/", resources.gpu, "/",
                                         resources.gpu_kind, "/", resources.disk, "/", settings_json);
  {
    MutexLock lock(&mutex_);
    const auto known = validated_.find(asked);
    if (known != validated_.end() && resources.custom.empty()) return known->second;
    if (!up_) return {};
  }
  auto reply = std::make_shared<Reply>();
  loop_.Post([this, request, reply] {
    const auto answer = [reply](std::vector<std::string> faults) {
      MutexLock lock(&reply->mutex);
      reply->done = true;
      reply->faults = std::move(faults);
      reply->changed.NotifyAll();
    };
    if (!session_->up()) return answer({});
    session_->calls().Call<v1::ValidateRequest, v1::ValidateResponse>(
        &v1::BackendPlugin::Stub::AsyncValidate, request, kValidateMicros,
        [answer](const grpc::Status& status, v1::ValidateResponse& response) {
          std::vector<std::string> faults;
          for (const v1::FieldFault& fault : response.faults()) {
            if (status.ok() && faults.size() < 100)
              faults.push_back(absl::StrCat("`", Cut(fault.field(), 200), "`: ", Cut(fault.message(), 1000)));
          }
          answer(std::move(faults));
        });
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kValidateMicros);
  std::vector<std::string> faults;
  {
    MutexLock lock(&reply->mutex);
    while (!reply->done) {
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
      if (left.count() <= 0) return {};
      reply->changed.WaitFor(&reply->mutex, left);
    }
    faults = reply->faults;
  }
  MutexLock lock(&mutex_);
  if (validated_.size() >= kRemembered) validated_.clear();
  validated_[asked] = faults;
  return faults;
}

std::unique_ptr<Backend> MakePluginBackend(const BackendContext& context, const std::string& flavor,
                                           const PluginSource& source, const v1::DescribeResponse& description,
                                           const Limits& limits) {
  return std::make_unique<PluginBackend>(context, flavor, source, description, limits);
}

}  // namespace orch::plugin
