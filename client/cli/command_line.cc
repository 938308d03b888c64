#include "client/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/text.h"

namespace orch::cli {
namespace {

// Flags on a CLI11 command; records the facts on the side.
class AppFlags : public Flags {
 public:
  AppFlags(CLI::App* app, CommandFacts* facts) : app_(app), facts_(facts) {}

  void Positional(const char* name, std::string* value, const char* help, Kind kind, bool required) override {
    app_->add_option(name, *value, help)->required(required)->type_name("");
    facts_->positionals.push_back(kind);
  }
  void Text(const char* names, std::string* value, const char* word, const char* help, Kind kind) override {
    app_->add_option(names, *value, help)->type_name(word);
    Record(names, help, true).kind = kind;
  }
  void List(const char* names, std::vector<std::string>* values, const char* word, const char* help) override {
    // One value for each flag: a list must not swallow the positional that follows it.
    app_->add_option(names, *values, help)->type_name(word)->allow_extra_args(false)->take_all();
    Record(names, help, true);
  }
  void Int(const char* names, int64_t* value, int64_t min, int64_t max, const char* help) override {
    app_->add_option(names, *value, help)->type_name("N")->check(CLI::Range(min, max).description(""));
    Record(names, help, true);
  }
  void Switch(const char* names, bool* value, const char* help) override {
    app_->add_flag(names, *value, help);
    Record(names, help, false);
  }
  void Choice(const char* names, std::string* value, const std::vector<std::string>& words, const char* help) override {
    app_->add_option(names, *value, help)->type_name(absl::StrJoin(words, "|"))->check(Among(words));
    Record(names, help, true).choices = words;
  }
  void Duration(const char* names, std::chrono::milliseconds* value, const char* help) override {
    app_->add_option_function<std::string>(
            names,
            [value](const std::string& text) {
              const auto parsed = ParseDuration(text);
              if (!parsed.has_value()) {
                throw CLI::ValidationError(absl::StrCat("`", text, "` is no duration: write 500ms, 30s, 5m, 2h or 1d"));
              }
              *value = *parsed;
            },
            help)
        ->type_name("TIME");
    Record(names, help, true);
  }

 private:
  static CLI::Validator Among(std::vector<std::string> words) {
    return CLI::Validator(
        [words](std::string& text) {
          for (const std::string& word : words) {
            if (word == text) return std::string();
          }
          return absl::StrCat("`", text, "` is none of ", absl::StrJoin(words, ", "));
        },
        "");
  }
  FlagFacts& Record(const char* names, const char* help, bool takes_value) {
    FlagFacts facts;
    facts.names = absl::StrSplit(names, ',');
    facts.help = help;
    facts.takes_value = takes_value;
    facts_->flags.push_back(facts);
    return facts_->flags.back();
  }

  CLI::App* app_;
  CommandFacts* facts_;
};

void DefineGlobals(Flags& flags, Globals* globals) {
  flags.Text(
      "--server", &globals->discovery.server, "ADDRESS",
      "The daemon: https://HOST:PORT, 127.0.0.1:PORT or unix:PATH [ORCH_SERVER, else found in the data directory]");
  flags.Text("--ca", &globals->discovery.ca_file, "FILE",
             "Who signs the daemon's certificate (PEM), for https [ORCH_CA, else the system's authorities]",
             Kind::kFile);
  flags.Text("--data-dir", &globals->discovery.data_dir, "DIR",
             "The daemon's data directory [ORCH_DATA_DIR, else ~/.local/share/orchd]", Kind::kFile);
  flags.Text("--token-file", &globals->discovery.token_file, "FILE",
             "A file with the token [ORCH_TOKEN, ORCH_TOKEN_FILE, else DIR/token]", Kind::kFile);
  flags.Text("--project", &globals->project, "NAME", "The project [default]");
  flags.Choice("-o,--format", &globals->format, {"table", "wide", "json", "yaml", "name"}, "How to print the answer");
  flags.Text("--jq", &globals->jq, "EXPR", "A jq expression over the JSON answer; strings are printed raw");
  flags.Duration("--timeout", &globals->timeout, "How long one call may take [30s]");
  flags.Switch("--no-color", &globals->no_color, "No colours (also: NO_COLOR)");
  flags.Switch("-q,--quiet", &globals->quiet, "No progress on stderr");
}

struct Tree {
  CLI::App app{"orchctl submits pipelines to orchd and shows what becomes of them.", "orchctl"};
  std::vector<std::pair<CLI::App*, std::unique_ptr<Verb>>> verbs;
  std::vector<CommandFacts> facts;
};

std::unique_ptr<Tree> MakeTree(Globals* globals) {
  auto tree = std::make_unique<Tree>();
  CLI::App& app = tree->app;
  app.option_defaults()->always_capture_default(false);
  app.get_formatter()->column_width(34);
  app.get_formatter()->label("OPTIONS", "FLAGS");
  app.get_formatter()->label("SUBCOMMAND", "VERB");
  app.get_formatter()->label("Options", "Flags");
  app.get_formatter()->label("REQUIRED", "");
  app.set_help_flag("-h,--help", "This help; after a verb, that verb's");
  app.footer(
      "\n`orchctl VERB --help` has an example for each verb. Exit codes: 0 ok, 1 the run failed, 2 usage,\n"
      "3 not found, 4 permission, 5 cancelled, 6 wait timed out, 7 daemon unreachable, 8 refused.");
  tree->facts.reserve(AllVerbs().size() + 1);
  tree->facts.push_back({"", "", {}, {}});
  AppFlags global_flags(&app, &tree->facts.back());
  DefineGlobals(global_flags, globals);
  for (const VerbRow& row : AllVerbs()) {
    CLI::App* sub = app.add_subcommand(row.name, row.summary);
    tree->facts.push_back({row.name, row.summary, {}, {}});
    sub->group("Verbs");
    sub->fallthrough();
    sub->set_help_flag("-h,--help", "This help");
    sub->footer(absl::StrCat(row.details, *row.details != '\0' ? "\n\n" : "", "Example:\n  ",
                             absl::StrJoin(absl::StrSplit(row.example, '\n'), "\n  "),
                             "\n\nFlags for every verb (-o json, --jq, --server, …): orchctl --help"));
    std::unique_ptr<Verb> verb = row.make();
    AppFlags flags(sub, &tree->facts.back());
    verb->Define(flags);
    tree->verbs.emplace_back(sub, std::move(verb));
  }
  return tree;
}

int Complain(const std::string& verb, const std::string& message) {
  WriteErr(absl::StrCat("orchctl", verb.empty() ? "" : " ", verb, ": ", Clean(message), "; see `orchctl",
                        verb.empty() ? "" : " ", verb, " --help`\n"));
  return kUsage;
}

std::vector<std::string> FlagNames(const Tree& tree, const std::string& verb) {
  std::vector<std::string> names;
  for (const CommandFacts& command : tree.facts) {
    if (!command.name.empty() && command.name != verb) continue;
    for (const FlagFacts& flag : command.flags) names.insert(names.end(), flag.names.begin(), flag.names.end());
  }
  return names;
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& candidates) {
  const auto nearest = Nearest(word, candidates);
  return nearest.has_value() ? absl::StrCat(", did you mean `", *nearest, "`?") : "";
}

// What was left over, in words.
int ComplainAboutExtras(Tree& tree, const std::string& verb) {
  const std::vector<std::string> extras = tree.app.remaining(/*recurse=*/true);
  const std::string word = extras.empty() ? "" : extras.front();
  if (absl::StartsWith(word, "-") && word.size() > 1) {
    const std::string flag = word.substr(0, word.find('='));
    return Complain(verb, absl::StrCat("unknown flag ", flag, DidYouMean(flag, FlagNames(tree, verb))));
  }
  if (!verb.empty()) return Complain(verb, absl::StrCat("unexpected argument `", word, "`"));
  std::vector<std::string> verbs;
  for (const VerbRow& row : AllVerbs()) verbs.emplace_back(row.name);
  return Complain("", absl::StrCat("unknown verb `", word, "`", DidYouMean(word, verbs)));
}

}  // namespace

std::optional<int> ReadCommandLine(int argc, char** argv, CommandLine* line) {
  std::vector<std::string> words(argv + 1, argv + argc);
  // `orchctl help submit` is what people try first.
  if (!words.empty() && words[0] == "help") {
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  if (words.size() == 1 && words[0] == "--version") words[0] = "version";
  if (words.empty()) words.emplace_back("--help");
  std::unique_ptr<Tree> tree = MakeTree(&line->globals);
  const auto chosen = [&tree]() -> std::pair<CLI::App*, std::unique_ptr<Verb>>* {
    for (auto& pair : tree->verbs) {
      if (pair.first->parsed()) return &pair;
    }
    return nullptr;
  };
  const auto verb_name = [&chosen] {
    auto* pair = chosen();
    return pair == nullptr ? std::string() : pair->first->get_name();
  };
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    tree->app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    WriteOut(tree->app.help());
    return kOk;
  } catch (const CLI::ExtrasError&) {
    return ComplainAboutExtras(*tree, verb_name());
  } catch (const CLI::RequiredError& e) {
    // An unknown flag explains a missing argument better than the argument does.
    for (const std::string& extra : tree->app.remaining(true)) {
      if (absl::StartsWith(extra, "-")) return ComplainAboutExtras(*tree, verb_name());
    }
    return Complain(verb_name(), e.what());
  } catch (const CLI::ParseError& e) {
    return Complain(verb_name(), e.what());
  }
  auto* pair = chosen();
  if (pair == nullptr) return Complain("", "say what to do");
  for (const VerbRow& row : AllVerbs()) {
    if (pair->first->get_name() == row.name) line->row = &row;
  }
  line->verb = std::move(pair->second);
  return std::nullopt;
}

std::vector<CommandFacts> DescribeCommands() {
  Globals globals;
  return MakeTree(&globals)->facts;
}

}  // namespace orch::cli
