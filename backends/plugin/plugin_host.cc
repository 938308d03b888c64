// How a plug-in becomes a flavor: what it says of itself is asked once, checked, and stored with its name.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backends/plugin/call_loop.h"
#include "backends/plugin/convert.h"
#include "backends/plugin/plugin_backend.h"
#include "backends/plugin/schema.h"
#include "server/base/digest.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch {
namespace plugin {
namespace {

constexpr size_t kNameBytes = 100;
constexpr int kWords = 50;

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > kNameBytes || !absl::ascii_isalnum(static_cast<unsigned char>(name[0])))
    return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-') return false;
  }
  return true;
}

// All that is wrong with a description, at once.
absl::Status CheckDescription(const v1::DescribeResponse& d) {
  std::vector<Violation> faults;
  const auto add = [&](const char* field, const std::string& what) { faults.push_back({field, what, "WRONG_TYPE"}); };
  if (!IsName(d.flavor())) {
    add("flavor", absl::StrCat("must be letters, digits, `_ -`, begin with a letter or digit, and have at most ",
                               kNameBytes, " bytes"));
  }
  for (const auto& [field, text] : {std::pair{"description", &d.description()}, std::pair{"version", &d.version()},
                                    std::pair{"needs", &d.needs()}}) {
    if (text->size() > 1000) add(field, "has more than 1000 bytes");
  }
  if (d.native_size() > kWords || d.supplied_size() > kWords) add("native", "has more than 50 words");
  for (const auto& [field, text] : {std::pair{"config_schema_json", &d.config_schema_json()},
                                    std::pair{"settings_schema_json", &d.settings_schema_json()}}) {
    std::vector<std::string> wrong;
    CheckSchema(*text, &wrong);
    for (const std::string& what : wrong) add(field, what);
  }
  const v1::Capabilities& can = d.capabilities();
  if (can.poll_micros() != 0 && (can.poll_micros() < 100'000 || can.poll_micros() > 300'000'000)) {
    add("capabilities.poll_micros", "must be 100000 to 300000000");
  }
  if (can.submit_batch() < 0 || can.submit_batch() > 10'000) add("capabilities.submit_batch", "must be 0 to 10000");
  if (can.submit_linger_micros() < 0 || can.submit_linger_micros() > 1'000'000) {
    add("capabilities.submit_linger_micros", "must be 0 to 1000000");
  }
  if (can.log_streams() < 0 || can.log_streams() > 1'000) add("capabilities.log_streams", "must be 0 to 1000");
  if (faults.empty()) return absl::OkStatus();
  return InvalidInput("FLAVOR_INVALID", "what the plug-in says of itself cannot be used", faults);
}

class Host : public PluginHost {
 public:
  explicit Host(const Limits& limits) : limits_(limits) {}

  absl::StatusOr<std::string> Describe(const PluginSource& source) override {
    const std::string folder =
        absl::StrCat(std::filesystem::temp_directory_path().string(), "/orchd-plugin-", Hex(RandomBytes(8)));
    struct Answer {
      Mutex mutex;
      CondVar changed;
      std::optional<absl::StatusOr<v1::DescribeResponse>> got ABSL_GUARDED_BY(mutex);
    };
    Answer answer;
    const auto take = [&answer](absl::StatusOr<v1::DescribeResponse> got) {
      MutexLock lock(&answer.mutex);
      if (!answer.got.has_value()) answer.got = std::move(got);
      answer.changed.NotifyAll();
    };
    CallLoop loop;
    Session::Options options;
    options.source = source;
    options.folder = folder;
    options.only_describe = true;
    options.limits = limits_;
    Session::Handlers handlers;
    handlers.up = [&](const v1::DescribeResponse& d, const v1::ConfigureResponse&) { take(d); };
    handlers.down = [&](const absl::Status& why) { take(why); };
    handlers.probed = [](bool, const std::string&) {};
    auto session = std::make_unique<Session>(&loop, std::move(options), std::move(handlers));
    loop.Start();
    loop.Post([&] { session->Open(); });
    absl::StatusOr<v1::DescribeResponse> got =
        Error(absl::StatusCode::kFailedPrecondition, "PLUGIN_UNUSABLE", "the plug-in did not answer in time");
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::microseconds(limits_.start_micros + 2 * limits_.call_micros);
    {
      MutexLock lock(&answer.mutex);
      while (!answer.got.has_value()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
        if (left.count() <= 0) break;
        answer.changed.WaitFor(&answer.mutex, left);
      }
      if (answer.got.has_value()) got = *answer.got;
    }
    loop.Stop([&] { session->Close(); });
    session.reset();
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    RETURN_IF_ERROR(got.status());
    RETURN_IF_ERROR(CheckDescription(*got));
    got->DiscardUnknownFields();
    return got->SerializeAsString();
  }

  absl::StatusOr<FlavorInfo> Flavor(const std::string& name, const PluginSource& source,
                                    const std::string& description) override {
    v1::DescribeResponse d;
    if (!d.ParseFromString(description)) {
      return Error(absl::StatusCode::kInternal, "FLAVOR_INVALID", "the stored description cannot be read");
    }
    FlavorInfo info;
    info.name = name.empty() ? d.flavor() : name;
    info.description = d.description();
    info.units = {"step"};
    info.needs = d.needs();
    info.native.assign(d.native().begin(), d.native().end());
    info.supplied.assign(d.supplied().begin(), d.supplied().end());
    info.config_schema = d.config_schema_json();
    info.settings_schema = d.settings_schema_json();
    info.plugin = source.program.empty() ? source.address : source.program;
    info.plugin_version = d.version();
    info.missing = [source]() -> std::string {
      if (source.program.empty() || access(source.program.c_str(), X_OK) == 0) return "";
      return absl::StrCat("the program ", source.program);
    };
    info.make = [limits = limits_, flavor = info.name, source,
                 d](const BackendContext& context) -> absl::StatusOr<std::unique_ptr<Backend>> {
      const std::vector<Violation> faults = Validate(d.config_schema_json(), context.config_json, "config");
      if (!faults.empty()) return InvalidInput("CONFIG_INVALID", "the configuration cannot be used", faults);
      return MakePluginBackend(context, flavor, source, d, limits);
    };
    return info;
  }

 private:
  const Limits limits_;
};

}  // namespace
}  // namespace plugin

std::unique_ptr<PluginHost> MakePluginHost(const plugin::Limits& limits) {
  return std::make_unique<plugin::Host>(limits);
}

}  // namespace orch
