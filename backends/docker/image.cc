#include "backends/docker/image.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "backends/docker/container_end.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr char kUsualPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr size_t kLongestLine = 1 << 20;

}  // namespace

ImageReference ParseImage(absl::string_view image) {
  ImageReference out;
  out.repository = std::string(image);
  const size_t slash = image.find('/');
  const absl::string_view first = image.substr(0, slash == absl::string_view::npos ? 0 : slash);
  const bool registry = absl::StrContains(first, '.') || absl::StrContains(first, ':') || first == "localhost";
  out.registry = registry ? std::string(first) : "docker.io";
  if (absl::StrContains(image, '@')) return out;
  const size_t last = image.rfind('/');
  const size_t colon = image.rfind(':');
  if (colon == absl::string_view::npos || (last != absl::string_view::npos && colon < last)) {
    out.tag = "latest";
  } else {
    out.repository = std::string(image.substr(0, colon));
    out.tag = std::string(image.substr(colon + 1));
  }
  return out;
}

std::string PathOf(const std::string& description) {
  const json parsed = json::parse(description, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("Config") || !parsed["Config"].is_object()) return kUsualPath;
  const auto env = parsed["Config"].find("Env");
  if (env == parsed["Config"].end() || !env->is_array()) return kUsualPath;
  for (const json& variable : *env) {
    absl::string_view text = variable.is_string() ? absl::string_view(variable.get_ref<const std::string&>()) : "";
    if (absl::ConsumePrefix(&text, "PATH=")) return std::string(text);
  }
  return kUsualPath;
}

void PullProgress::Feed(absl::string_view bytes) {
  text_.append(bytes.data(), bytes.size());
  for (size_t end; (end = text_.find('\n')) != std::string::npos; text_.erase(0, end + 1)) Line(text_.substr(0, end));
  if (text_.size() > kLongestLine) text_.clear();
}

void PullProgress::Line(const std::string& line) {
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return;
  if (object.contains("error")) fault_ = TextField(object, "error");
  const std::string status = TextField(object, "status");
  if (status.empty()) return;
  status_ = status;
  there_ = total_ = 0;
  const auto detail = object.find("progressDetail");
  if (detail == object.end() || !detail->is_object()) return;
  const auto number = [&](const char* name) {
    const auto found = detail->find(name);
    return found != detail->end() && found->is_number() ? found->get<int64_t>() : 0;
  };
  there_ = number("current");
  total_ = number("total");
}

std::string PullProgress::Words() const {
  if (total_ <= 0) return status_;
  return absl::StrCat(status_, " ", there_ / 1'000'000, " of ", total_ / 1'000'000, " MB");
}

}  // namespace orch::docker
