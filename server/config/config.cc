#include "server/config/config.h"

#include <yaml.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/clock.h"
#include "server/base/json.h"
#include "server/base/status.h"
#include "server/base/tls_files.h"
#include "server/base/utf8.h"
#include "server/config/data_dir.h"
#include "server/http/listen.h"

namespace orch::config {
namespace {

struct LimitField {
  const char* name;
  int64_t Limits::*field;
  int64_t low;
  int64_t high;
};

constexpr int64_t kTera = int64_t{1} << 40;
constexpr LimitField kLimits[] = {
    {"steps_per_run", &Limits::steps_per_run, 1, 10'000'000},
    {"message_bytes", &Limits::message_bytes, 1 << 20, (int64_t{1} << 31) - 1},
    {"value_bytes", &Limits::value_bytes, 16, 16 << 20},
    {"fanout_width", &Limits::fanout_width, 1, 10'000'000},
    {"outputs_per_run", &Limits::outputs_per_run, 1, 100'000'000},
    {"item_links", &Limits::item_links, 1, 1'000'000'000},
    {"expressions", &Limits::expressions, 0, 100'000},
    {"labels", &Limits::labels, 0, 10'000},
    {"log_bytes", &Limits::log_bytes, 1 << 10, kTera},
    {"log_compress_bytes", &Limits::log_compress_bytes, 1, kTera},
    {"live_runs", &Limits::live_runs, 1, 10'000'000},
    {"inline_blob_bytes", &Limits::inline_blob_bytes, 0, 16 << 20},
    {"concurrent_calls", &Limits::concurrent_calls, 4, 10'000},
    {"hook_seconds", &Limits::hook_seconds, 1, 86'400},
    {"hooks_at_once", &Limits::hooks_at_once, 1, 1'000},
    {"secret_bytes", &Limits::secret_bytes, 1, 1 << 20},
    {"breaker_failures", &Limits::breaker_failures, 0, 1'000'000},
    {"api_tokens", &Limits::api_tokens, 0, 100'000},
    {"watch_streams", &Limits::watch_streams, 1, 1'000'000},
    {"artifact_bytes", &Limits::artifact_bytes, 1 << 10, kTera * 64},
    {"folder_entries", &Limits::folder_entries, 1, 10'000'000},
    {"uploads_at_once", &Limits::uploads_at_once, 1, 10'000},
    {"launcher_patience_seconds", &Limits::launcher_patience_seconds, 1, 86'400},
    {"left_patience_seconds", &Limits::left_patience_seconds, 1, 604'800},
    {"place_patience_seconds", &Limits::place_patience_seconds, 1, 86'400},
    {"source_bytes", &Limits::source_bytes, 1, kTera},
    {"handed_inline_bytes", &Limits::handed_inline_bytes, 0, 16 << 20},
    {"handed_bytes", &Limits::handed_bytes, 0, 1 << 30},
    {"watch_patience_seconds", &Limits::watch_patience_seconds, 1, 86'400},
    {"plugin_start_seconds", &Limits::plugin_start_seconds, 1, 3'600},
    {"plugin_call_seconds", &Limits::plugin_call_seconds, 1, 3'600},
    {"plugin_message_bytes", &Limits::plugin_message_bytes, 64 << 10, 1 << 30},
    {"plugin_log_bytes", &Limits::plugin_log_bytes, 64 << 10, kTera},
    {"plugin_messages_per_second", &Limits::plugin_messages_per_second, 1, 1'000'000},
};

const std::map<std::string, LogLevel>& LogLevels() {
  static const std::map<std::string, LogLevel> kLevels = {{"debug", LogLevel::kDebug},
                                                          {"info", LogLevel::kInfo},
                                                          {"warning", LogLevel::kWarning},
                                                          {"error", LogLevel::kError}};
  return kLevels;
}

// A number, perhaps with a unit from `units` (longest names first are not needed: the unit is what follows the digits).
bool ParseWithUnit(absl::string_view text, const std::map<std::string, int64_t>& units, int64_t* out) {
  size_t digits = 0;
  while (digits < text.size() && (absl::ascii_isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '_'))
    ++digits;
  std::string number(text.substr(0, digits));
  std::string plain;
  for (const char c : number) {
    if (c != '_') plain.push_back(c);
  }
  int64_t value = 0;
  const auto unit = units.find(std::string(text.substr(digits)));
  if (!absl::SimpleAtoi(plain, &value) || unit == units.end()) return false;
  return !__builtin_mul_overflow(value, unit->second, out);
}

bool ParseSize(absl::string_view text, int64_t* out) {
  static const std::map<std::string, int64_t> kUnits = {{"", 1},
                                                        {"K", 1000},
                                                        {"KB", 1000},
                                                        {"M", 1000'000},
                                                        {"MB", 1000'000},
                                                        {"G", 1000'000'000},
                                                        {"GB", 1000'000'000},
                                                        {"T", 1000'000'000'000},
                                                        {"TB", 1000'000'000'000},
                                                        {"Ki", 1 << 10},
                                                        {"Mi", 1 << 20},
                                                        {"Gi", 1 << 30},
                                                        {"Ti", kTera}};
  return ParseWithUnit(text, kUnits, out);
}

bool ParseDuration(absl::string_view text, int64_t* micros) {
  static const std::map<std::string, int64_t> kUnits = {{"ms", 1000},
                                                        {"s", 1'000'000},
                                                        {"m", int64_t{60} * 1'000'000},
                                                        {"h", int64_t{3600} * 1'000'000},
                                                        {"d", int64_t{86400} * 1'000'000}};
  return ParseWithUnit(text, kUnits, micros);
}

// libyaml's parser and one document of its, freed with the object. It does not recurse, and names a node that aliases
// stand for once.
class Document {
 public:
  explicit Document(const std::string& text) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.c_str()), text.size());
  }
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;
  ~Document() {
    if (loaded_) yaml_document_delete(&document_);
    yaml_parser_delete(&parser_);
  }

  // The next one; false for broken text, of which problem() and mark() tell.
  bool Load() {
    if (loaded_) yaml_document_delete(&document_);
    loaded_ = yaml_parser_load(&parser_, &document_) == 1;
    return loaded_;
  }
  // Null at the end of the text.
  const yaml_node_t* root() { return yaml_document_get_root_node(&document_); }
  const yaml_node_t& at(int index) { return *yaml_document_get_node(&document_, index); }
  absl::string_view problem() const { return parser_.problem == nullptr ? "it is no YAML" : parser_.problem; }
  const yaml_mark_t& mark() const { return parser_.problem_mark; }

 private:
  yaml_parser_t parser_{};
  yaml_document_t document_{};
  bool loaded_ = false;
};

// Nothing in a configuration is deep, and libyaml takes time with the square of the depth: the first place that is
// deeper than this, before anything is built.
constexpr int kMaxDepth = 16;
std::optional<yaml_mark_t> FindTooDeep(const std::string& text) {
  yaml_parser_t parser{};
  yaml_parser_initialize(&parser);
  const auto free_parser = absl::MakeCleanup([&] { yaml_parser_delete(&parser); });
  yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&parser, reinterpret_cast<const unsigned char*>(text.c_str()), text.size());
  int depth = 0;
  for (;;) {
    yaml_event_t event{};
    if (yaml_parser_parse(&parser, &event) == 0) return std::nullopt;  // said by who reads the document
    const yaml_event_type_t type = event.type;
    const yaml_mark_t mark = event.start_mark;
    yaml_event_delete(&event);
    if (type == YAML_STREAM_END_EVENT) return std::nullopt;
    if (type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT) --depth;
    if (type != YAML_SEQUENCE_START_EVENT && type != YAML_MAPPING_START_EVENT) continue;
    if (++depth > kMaxDepth) return mark;
  }
}

bool IsScalar(const yaml_node_t& node) { return node.type == YAML_SCALAR_NODE; }

// Empty for what is no scalar.
std::string TextOf(const yaml_node_t& node) {
  if (!IsScalar(node)) return {};
  return {reinterpret_cast<const char*>(node.data.scalar.value), node.data.scalar.length};
}

bool IsNull(const yaml_node_t& node) {
  if (!IsScalar(node) || node.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
  const std::string text = TextOf(node);
  return text.empty() || text == "~" || text == "null";
}

class Reader {
 public:
  Reader(std::string file, Config* config) : file_(std::move(file)), config_(*config) {}

  std::vector<std::string> Read(const std::string& text) {
    if (const auto deep = FindTooDeep(text)) {
      Fault(*deep, "it is nested too deep for a configuration");
      return std::move(faults_);
    }
    Document document(text);
    document_ = &document;
    if (!document.Load()) {
      Fault(document.mark(), document.problem());
      return std::move(faults_);
    }
    if (document.root() == nullptr) return {};
    if (!IsNull(*document.root())) Top(*document.root());
    if (!document.Load()) {
      Fault(document.mark(), document.problem());
    } else if (document.root() != nullptr) {
      Fault(document.root()->start_mark, "a second document; one is read");
    }
    return std::move(faults_);
  }

 private:
  using Handler = std::function<void(const yaml_node_t&)>;

  void Fault(const yaml_mark_t& mark, absl::string_view what) {
    faults_.push_back(absl::StrCat(file_, ":", mark.line + 1, ":", mark.column + 1, ": ", what));
  }
  void Fault(const yaml_node_t& node, absl::string_view what) { Fault(node.start_mark, what); }

  void Map(const yaml_node_t& node, absl::string_view where, const std::map<std::string, Handler>& fields) {
    if (node.type != YAML_MAPPING_NODE) {
      Fault(node, absl::StrCat(where, " must be a mapping"));
      return;
    }
    std::set<std::string> seen;
    const auto& pairs = node.data.mapping.pairs;
    for (const yaml_node_pair_t* pair = pairs.start; pair < pairs.top; ++pair) {
      const yaml_node_t& key_node = document_->at(pair->key);
      const std::string key = IsScalar(key_node) ? TextOf(key_node) : "?";
      const auto found = fields.find(key);
      if (found == fields.end()) {
        std::string known;
        for (const auto& [name, unused] : fields) absl::StrAppend(&known, known.empty() ? "" : ", ", name);
        Fault(key_node, absl::StrCat("unknown field `", key, "` in ", where, "; known are ", known));
      } else if (!seen.insert(key).second) {
        Fault(key_node, absl::StrCat("`", key, "` is there twice"));
      } else {
        found->second(document_->at(pair->value));
      }
    }
  }

  Handler Text(std::string* out) {
    return [this, out](const yaml_node_t& node) {
      if (!IsScalar(node)) return Fault(node, "a text is needed here");
      *out = TextOf(node);
      if (out->find('\0') != std::string::npos) Fault(node, "a text without a zero byte is needed here");
    };
  }

  void Top(const yaml_node_t& node) {
    Map(node, "the configuration",
        {{"data_dir", Text(&config_.data_dir)},
         {"listen", Text(&config_.listen)},
         {"http_listen", Text(&config_.http_listen)},
         {"tls_cert", Text(&config_.tls_cert)},
         {"tls_key", Text(&config_.tls_key)},
         {"token_file", Text(&config_.token_file)},
         {"step_endpoint", Text(&config_.step_endpoint)},
         {"step_ca", Text(&config_.step_ca)},
         {"public_url", Text(&config_.public_url)},
         {"log_level",
          [this](const yaml_node_t& value) {
            const auto found = LogLevels().find(TextOf(value));
            if (found == LogLevels().end()) return Fault(value, "log_level must be debug, info, warning or error");
            config_.log_level = found->second;
          }},
         {"grace",
          [this](const yaml_node_t& value) {
            if (!IsScalar(value) || !ParseDuration(TextOf(value), &config_.grace_micros) ||
                config_.grace_micros > int64_t{3600} * 1'000'000) {
              Fault(value, "grace must be a duration of at most an hour, such as 10s or 500ms");
            }
          }},
         {"reserve_after",
          [this](const yaml_node_t& value) {
            if (!IsScalar(value) || !ParseDuration(TextOf(value), &config_.reserve_after_micros) ||
                config_.reserve_after_micros > int64_t{86400} * 1'000'000) {
              Fault(value, "reserve_after must be a duration of at most a day, such as 30s or 500ms");
            }
          }},
         {"flavors",
          [this](const yaml_node_t& value) {
            Map(value, "flavors", {{"fake", [this](const yaml_node_t& fake) {
                                      const std::string word = TextOf(fake);
                                      if (word != "true" && word != "false") {
                                        return Fault(fake, "fake must be true or false");
                                      }
                                      config_.fake_flavor = word == "true";
                                    }}});
          }},
         {"retention", [this](const yaml_node_t& value) { ReadRetention(value); }},
         {"backup",
          [this](const yaml_node_t& value) {
            Map(value, "backup",
                {{"folder", [this](const yaml_node_t& folder) { config_.backup.folder = TextOf(folder); }},
                 {"every", Duration(1'000'000, &config_.backup.every_micros)},
                 {"keep", Number(&config_.backup.keep)}});
            if (config_.backup.folder.empty() || config_.backup.folder[0] != '/' ||
                !IsPrintable(config_.backup.folder)) {
              Fault(value, "backup.folder must be there, and be an absolute path");
            }
          }},
         {"limits", [this](const yaml_node_t& value) { ReadLimits(value); }}});
  }

  Handler Duration(int64_t low, int64_t* out) {
    return [this, low, out](const yaml_node_t& value) {
      if (!IsScalar(value) || !ParseDuration(TextOf(value), out) || *out < low) {
        Fault(value, absl::StrCat("a duration of at least ", low / 1'000'000, "s is needed here, such as 12h or 30d"));
      }
    };
  }
  Handler Number(int64_t* out) {
    return [this, out](const yaml_node_t& value) {
      if (!IsScalar(value) || !ParseSize(TextOf(value), out) || *out < 1) {
        Fault(value, "a number of at least 1 is needed here, perhaps with K M G T or Ki Mi Gi Ti");
      }
    };
  }
  void ReadRetention(const yaml_node_t& node) {
    std::map<std::string, Handler> fields = {{"every", Duration(60'000'000, &config_.retention.every_micros)}};
    for (int k = 0; k < kKeptCount; ++k) {
      const std::string name(kKeptNames[static_cast<size_t>(k)]);
      RetentionRule* const rule = &config_.retention.rules[static_cast<size_t>(k)];
      fields.emplace(name, [this, name, rule](const yaml_node_t& value) {
        Map(value, absl::StrCat("retention.", name),
            {{"max_age", Duration(1'000'000, &rule->max_age_micros)},
             {"max_count", Number(&rule->max_count)},
             {"max_size", Number(&rule->max_bytes)}});
      });
    }
    Map(node, "retention", fields);
  }

  void ReadLimits(const yaml_node_t& node) {
    std::map<std::string, Handler> fields;
    for (const LimitField& limit : kLimits) {
      fields.emplace(limit.name, [this, &limit](const yaml_node_t& value) {
        int64_t number = 0;
        if (!IsScalar(value) || !ParseSize(TextOf(value), &number)) {
          return Fault(value, absl::StrCat(limit.name, " must be a number, perhaps with K M G T or Ki Mi Gi Ti"));
        }
        if (number < limit.low || number > limit.high) {
          return Fault(value,
                       absl::StrCat(limit.name, ": ", number, " is not between ", limit.low, " and ", limit.high));
        }
        config_.limits.*limit.field = number;
      });
    }
    Map(node, "limits", fields);
  }

  const std::string file_;
  Config& config_;
  Document* document_ = nullptr;
  std::vector<std::string> faults_;
};

std::string WordOf(LogLevel level) {
  for (const auto& [word, value] : LogLevels()) {
    if (value == level) return word;
  }
  return "info";
}

void CheckAddress(absl::string_view flag, const std::string& address, bool tls, std::vector<std::string>* faults) {
  const auto parsed = http::ParseAddress(address);
  if (!parsed.ok()) {
    faults->push_back(absl::StrCat(flag, ": ", parsed.status().message()));
  } else if (!tls && !http::IsLoopback(parsed->host)) {
    faults->push_back(absl::StrCat(flag, ": ", address,
                                   " is no loopback address, and beyond this machine tokens travel by TLS alone: give "
                                   "--tls-cert FILE and --tls-key FILE too (docs/security.md makes them), or listen on "
                                   "127.0.0.1"));
  }
}

// An absolute path: the daemon reads the files again when they change.
void CheckTls(Config* config, std::vector<std::string>* faults) {
  if (config->tls_cert.empty() && config->tls_key.empty()) return;
  if (config->tls_cert.empty() || config->tls_key.empty()) {
    const bool key = config->tls_cert.empty();
    faults->push_back(key ? "tls_cert: there is a key (tls_key) without its certificate; give --tls-cert FILE too"
                          : "tls_key: there is a certificate (tls_cert) without its key; give --tls-key FILE too");
    return;
  }
  for (std::string* file : {&config->tls_cert, &config->tls_key}) {
    std::error_code error;
    if (IsPrintable(*file)) *file = std::filesystem::absolute(*file, error).lexically_normal().string();
  }
  const auto pair = ReadTlsPair(config->tls_cert, config->tls_key, Clock::Real().Now().wall / 1'000'000);
  for (const Violation& v : ViolationsOf(pair.status())) faults->push_back(absl::StrCat(v.field, ": ", v.description));
}

void CheckStepEndpoint(Config* config, std::vector<std::string>* faults) {
  std::string& url = config->step_endpoint;
  if (!url.empty()) {
    absl::string_view rest = url;
    const bool tls = absl::ConsumePrefix(&rest, "https://");
    (void)absl::ConsumeSuffix(&rest, "/");
    const size_t colon = rest.rfind(':');
    int port = 0;
    const bool good = tls && colon != absl::string_view::npos && colon > 0 &&
                      absl::SimpleAtoi(rest.substr(colon + 1), &port) && port > 0 && port < 65536 &&
                      rest.find_first_of("/?#@ \"'\\") == absl::string_view::npos && IsPrintable(std::string(rest));
    if (!good) {
      faults->push_back(
          "step_endpoint: it must be https://HOST:PORT, the address of http_listen as steps elsewhere reach it; a "
          "step's "
          "token travels by TLS alone");
    }
    url = absl::StrCat("https://", rest);
  }
  if (config->step_ca.empty()) return;
  if (url.empty())
    faults->push_back("step_ca: it is for a step_endpoint, and there is none; give --step-endpoint URL too");
  const absl::Status read = ReadCertificates(config->step_ca).status();
  if (!read.ok()) faults->push_back(absl::StrCat("step_ca: ", read.message()));
}

}  // namespace

std::vector<std::string> ReadYaml(const std::string& text, const std::string& file, Config* config) {
  return Reader(file, config).Read(text);
}

std::string DefaultDataDir() {
  const char* xdg = std::getenv("XDG_DATA_HOME");
  if (xdg != nullptr && *xdg != '\0') return absl::StrCat(xdg, "/orchd");
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return absl::StrCat(home, "/.local/share/orchd");
  return {};
}

std::vector<std::string> Finish(Config* config) {
  std::vector<std::string> faults;
  if (config->data_dir.empty()) config->data_dir = DefaultDataDir();
  if (config->data_dir.empty()) {
    faults.push_back("data_dir: neither HOME nor XDG_DATA_HOME is set; give --data-dir DIR");
  } else if (!IsPrintable(config->data_dir)) {
    faults.push_back("data_dir: the path must be UTF-8 without control characters; give another --data-dir DIR");
  } else {
    std::error_code error;
    config->data_dir = std::filesystem::absolute(config->data_dir, error).lexically_normal().string();
    while (config->data_dir.size() > 1 && config->data_dir.back() == '/') config->data_dir.pop_back();
  }
  const bool tls = !config->tls_cert.empty() || !config->tls_key.empty();
  CheckAddress("listen", config->listen, tls, &faults);
  CheckAddress("http_listen", config->http_listen, tls, &faults);
  CheckTls(config, &faults);
  CheckStepEndpoint(config, &faults);
  if (!config->token_file.empty()) {
    const absl::Status read = ReadGivenToken(config->token_file).status();
    if (!read.ok()) faults.push_back(absl::StrCat("token_file: ", read.message()));
  }
  std::string& url = config->public_url;
  while (!url.empty() && url.back() == '/') url.pop_back();
  bool good = url.empty() || absl::StartsWith(url, "http://") || absl::StartsWith(url, "https://");
  for (const char c : url)
    good = good && c > ' ' && c < '\x7f' && c != '"' && c != '<' && c != '>' && c != '?' && c != '#';
  if (!good)
    faults.push_back("public_url: it must be an http or https URL without a query, such as https://host/orchd");
  return faults;
}

std::string ToYaml(const Config& config) {
  std::string out =
      absl::StrCat("data_dir: ", YamlQuote(config.data_dir), "\nlisten: ", YamlQuote(config.listen),
                   "\nhttp_listen: ", YamlQuote(config.http_listen), "\ntls_cert: ", YamlQuote(config.tls_cert),
                   "\ntls_key: ", YamlQuote(config.tls_key), "\ntoken_file: ", YamlQuote(config.token_file),
                   "\nstep_endpoint: ", YamlQuote(config.step_endpoint), "\nstep_ca: ", YamlQuote(config.step_ca),
                   "\npublic_url: ", YamlQuote(config.public_url), "\nlog_level: ", WordOf(config.log_level),
                   "\ngrace: ", config.grace_micros / 1000, "ms\nreserve_after: ", config.reserve_after_micros / 1000,
                   "ms\nflavors:\n  fake: ", config.fake_flavor ? "true" : "false", "\n");
  std::string rules;
  const auto field = [](absl::string_view name, int64_t value, absl::string_view unit, std::string* to) {
    if (value > 0) absl::StrAppend(to, to->empty() ? "" : ", ", name, ": ", value, unit);
  };
  if (config.retention.every_micros > 0) {
    absl::StrAppend(&rules, "  every: ", config.retention.every_micros / 1000, "ms\n");
  }
  for (int k = 0; k < kKeptCount; ++k) {
    const RetentionRule& rule = config.retention.rules[static_cast<size_t>(k)];
    std::string line;
    field("max_age", rule.max_age_micros / 1000, "ms", &line);
    field("max_count", rule.max_count, "", &line);
    field("max_size", rule.max_bytes, "", &line);
    if (!line.empty()) absl::StrAppend(&rules, "  ", kKeptNames[static_cast<size_t>(k)], ": {", line, "}\n");
  }
  if (!config.backup.folder.empty()) {
    absl::StrAppend(&out, "backup:\n  folder: ", YamlQuote(config.backup.folder),
                    "\n  every: ", config.backup.every_micros / 1000, "ms\n  keep: ", config.backup.keep, "\n");
  }
  absl::StrAppend(&out, rules.empty() ? "" : absl::StrCat("retention:\n", rules), "limits:\n");
  for (const LimitField& limit : kLimits) {
    absl::StrAppend(&out, "  ", limit.name, ": ", config.limits.*limit.field, "\n");
  }
  return out;
}

}  // namespace orch::config
