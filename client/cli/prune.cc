// prune.
#include <algorithm>
#include <array>
#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

constexpr int kKinds = 5;

// Of one kind; the flags hold on to the members, and their names must last as long.
struct RuleFlags {
  v1::Retention::Kind kind;
  const char* age_flag;
  const char* count_flag;
  const char* size_flag;
  std::chrono::milliseconds max_age{-1};
  int64_t max_count = 0;
  std::string max_size;
};

// `10G`, `512Mi`; -1: none.
int64_t SizeOf(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[digits]))) ++digits;
  int64_t value = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &value)) return -1;
  const std::string unit = text.substr(digits);
  static const std::pair<const char*, int64_t> kUnits[] = {
      {"", 1},         {"K", 1000},     {"M", 1000'000}, {"G", 1000'000'000},     {"T", 1000'000'000'000},
      {"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", int64_t{1} << 40}};
  for (const auto& [name, factor] : kUnits) {
    int64_t out = 0;
    if (unit == name && !__builtin_mul_overflow(value, factor, &out)) return out;
  }
  return -1;
}

class PruneVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    for (RuleFlags& rule : rules_) {
      flags.Duration(rule.age_flag, &rule.max_age, "What is older goes");
      flags.Int(rule.count_flag, &rule.max_count, 1, INT64_MAX,
                rule.kind == v1::Retention::ARTIFACTS ? "So many versions of each name stay" : "So many stay");
      flags.Text(rule.size_flag, &rule.max_size, "SIZE", "So many bytes stay: 500M, 10Gi");
    }
    flags.Switch("--dry-run", &dry_run_, "Only show what would go (this is what happens without --yes)");
    flags.Switch("--yes", &yes_, "Do it");
  }
  absl::StatusOr<int> Run(Session& session) override {
    if (yes_ && dry_run_) return UsageError("--yes and --dry-run exclude each other");
    v1::PruneRequest request;
    for (const RuleFlags& given : rules_) {
      if (given.max_age.count() < 0 && given.max_count == 0 && given.max_size.empty()) continue;
      v1::Retention::Rule* rule = request.add_rules();
      rule->set_kind(given.kind);
      if (given.max_age.count() >= 0) {
        rule->mutable_max_age()->set_seconds(given.max_age.count() / 1000);
        rule->mutable_max_age()->set_nanos(static_cast<int32_t>(given.max_age.count() % 1000 * 1'000'000));
      }
      rule->set_max_count(given.max_count);
      if (!given.max_size.empty()) {
        const int64_t bytes = SizeOf(given.max_size);
        if (bytes <= 0)
          return UsageError(absl::StrCat(given.size_flag, " ", given.max_size, " is no size: 500M, 10Gi"));
        rule->set_max_bytes(bytes);
      }
    }
    request.set_apply(yes_);
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::PruneResponse answer, client->Prune(request));
    std::vector<std::string> names;
    for (const auto& group : answer.groups()) names.insert(names.end(), group.names().begin(), group.names().end());
    RETURN_IF_ERROR(session.Show(
        answer, [&] { return Text(answer, session.out()); }, names));
    if (answer.groups().empty()) {
      session.Note("no rule: give some (--runs-max-age 90d), or `retention:` in the daemon's configuration");
    } else if (!yes_) {
      session.Note("nothing was deleted; --yes does it");
    }
    return kOk;
  }

 private:
  static std::string Text(const v1::PruneResponse& answer, const Style& style) {
    if (answer.groups().empty()) return "";
    Table table({"WHAT", answer.applied() ? "DELETED" : "WOULD GO", "BYTES", "STAY", "NAMES"});
    std::string stay;
    for (const auto& group : answer.groups()) {
      std::string names;
      for (int i = 0; i < std::min(3, group.names_size()); ++i) {
        absl::StrAppend(&names, i > 0 ? ", " : "", Clean(group.names(i)));
      }
      if (group.names_size() > 3) names += ", …";
      const std::string kind = absl::AsciiStrToLower(v1::Retention::Kind_Name(group.kind()));
      table.Add({kind, absl::StrCat(group.count()), Bytes(group.bytes()), absl::StrCat(group.kept_count()), names});
      for (const auto& kept : group.kept()) {
        absl::StrAppend(&stay, "  ", Clean(kept.name()), " stays: needed by ", Clean(kept.by()), "\n");
      }
    }
    return table.Render(style) + stay;
  }

  std::array<RuleFlags, kKinds> rules_ = {
      RuleFlags{v1::Retention::CACHE, "--cache-max-age", "--cache-max-count", "--cache-max-size"},
      RuleFlags{v1::Retention::ARTIFACTS, "--artifacts-max-age", "--artifacts-max-count", "--artifacts-max-size"},
      RuleFlags{v1::Retention::RUNS, "--runs-max-age", "--runs-max-count", "--runs-max-size"},
      RuleFlags{v1::Retention::LOGS, "--logs-max-age", "--logs-max-count", "--logs-max-size"},
      RuleFlags{v1::Retention::EVENTS, "--events-max-age", "--events-max-count", "--events-max-size"}};
  bool dry_run_ = false, yes_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakePrune() { return std::make_unique<PruneVerb>(); }

}  // namespace orch::cli
