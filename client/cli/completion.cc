// completion: scripts for three shells, made from the same facts as --help.
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/command_line.h"
#include "client/cli/verbs.h"

namespace orch::cli {
namespace {

// Live names come from the daemon, quietly and without waiting long. nullptr: this kind has none.
const char* NamesOf(Kind kind) {
  switch (kind) {
    case Kind::kRun:
      return "orchctl list-runs -o name -q --limit 100 --timeout 2s 2>/dev/null";
    case Kind::kOrchestrator:
      return "orchctl list-orchestrators -o name -q --timeout 2s 2>/dev/null";
    case Kind::kPool:
      return "orchctl list-pools -o name -q --timeout 2s 2>/dev/null";
    case Kind::kPipeline:
      return "orchctl list-pipelines -o name -q --timeout 2s 2>/dev/null";
    case Kind::kSecret:
      return "orchctl list-secrets -o name -q --timeout 2s 2>/dev/null";
    case Kind::kToken:
      return "orchctl list-tokens -o name -q --timeout 2s 2>/dev/null";
    case Kind::kStack:
      return "orchctl list-stacks -o name -q --timeout 2s 2>/dev/null";
    case Kind::kArtifactStore:
      return "orchctl list-artifact-stores -o name -q --timeout 2s 2>/dev/null";
    case Kind::kText:
    case Kind::kFile:
    case Kind::kStep:
    case Kind::kVerb:
      break;
  }
  return nullptr;
}

// Of steps, which need their run; `run`: what the shell calls it.
std::string StepNames(const char* run) {
  return absl::StrCat("orchctl list-steps ", run, " -o name -q --limit 1000 --timeout 2s 2>/dev/null");
}

// RUN STEP …
bool NamesSteps(const CommandFacts& command) {
  return command.positionals.size() > 1 && command.positionals[0] == Kind::kRun &&
         command.positionals[1] == Kind::kStep;
}

// In bash: names as words to complete from.
std::string BashNames(Kind kind) {
  return absl::StrCat("COMPREPLY=($(compgen -W \"$(", NamesOf(kind), ")\" -- \"$cur\"))");
}

// In zsh: `:run:_orchctl_names '…'`.
std::string ZshNames(Kind kind) {
  return absl::StrCat(":name:{ local -a names; names=(${(f)\"$(", NamesOf(kind), ")\"}); compadd -a names }");
}

std::string Words(const CommandFacts& command) {
  std::vector<std::string> words;
  for (const FlagFacts& flag : command.flags) words.insert(words.end(), flag.names.begin(), flag.names.end());
  words.emplace_back("--help");
  return absl::StrJoin(words, " ");
}

bool Wants(const CommandFacts& command, Kind kind) {
  return !command.positionals.empty() && command.positionals[0] == kind;
}

// In a `case` of sh: `--format|-o) …`.
std::string ShCase(const FlagFacts& flag, const std::string& action) {
  return absl::StrCat("    ", absl::StrJoin(flag.names, "|"), ") ", action, "; return ;;\n");
}

std::string Bash(const std::vector<CommandFacts>& commands) {
  std::string verbs, flags, values, positionals;
  for (const CommandFacts& command : commands) {
    for (const FlagFacts& flag : command.flags) {
      if (!flag.choices.empty()) {
        absl::StrAppend(&values, ShCase(flag, absl::StrCat("COMPREPLY=($(compgen -W '",
                                                           absl::StrJoin(flag.choices, " "), "' -- \"$cur\"))")));
      } else if (flag.kind == Kind::kFile) {
        absl::StrAppend(&values, ShCase(flag, "COMPREPLY=($(compgen -f -- \"$cur\"))"));
      } else if (NamesOf(flag.kind) != nullptr) {
        absl::StrAppend(&values, ShCase(flag, BashNames(flag.kind)));
      }
    }
    if (command.name.empty()) continue;
    absl::StrAppend(&verbs, verbs.empty() ? "" : " ", command.name);
    absl::StrAppend(&flags, "    ", command.name, ") flags='", Words(command), "' ;;\n");
    if (Wants(command, Kind::kFile)) {
      absl::StrAppend(&positionals, "    ", command.name, ") COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n");
    } else if (NamesSteps(command)) {
      absl::StrAppend(&positionals, "    ", command.name, ") if [[ -n $run ]]; then COMPREPLY=($(compgen -W \"$(",
                      StepNames("\"$run\""), ")\" -- \"$cur\")); else ", BashNames(Kind::kRun), "; fi ;;\n");
    } else if (!command.positionals.empty() && NamesOf(command.positionals[0]) != nullptr) {
      absl::StrAppend(&positionals, "    ", command.name, ") ", BashNames(command.positionals[0]), " ;;\n");
    }
  }
  return absl::StrCat(
      "# orchctl completion for bash: source <(orchctl completion bash)\n_orchctl() {\n",
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= run= word flags=\n",
      "  local verbs='", verbs, "' global='", Words(commands[0]), "'\n",
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n",
      "    if [[ -z $verb ]]; then\n      if [[ \" $verbs \" == *\" $word \"* ]]; then verb=$word; fi\n",
      "    elif [[ -z $run && $word != -* ]]; then run=$word; fi\n  done\n", "  case $prev in\n", values, "  esac\n",
      "  if [[ -z $verb && $cur != -* ]]; then COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\")); return; fi\n",
      "  if [[ $cur == -* ]]; then\n    case $verb in\n", flags,
      "    esac\n    COMPREPLY=($(compgen -W \"$flags $global\" -- \"$cur\"))\n    return\n  fi\n", "  case $verb in\n",
      positionals, "    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\")) ;;\n",
      "  esac\n}\ncomplete -o filenames -o bashdefault -F _orchctl orchctl\n");
}

std::string Quoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string Zsh(const std::vector<CommandFacts>& commands) {
  const auto specs = [](const CommandFacts& command) {
    std::string out;
    for (const FlagFacts& flag : command.flags) {
      const std::string help = absl::StrReplaceAll(flag.help, {{"[", "("}, {"]", ")"}, {":", ";"}});
      std::string action;
      if (flag.takes_value) {
        action = !flag.choices.empty()           ? absl::StrCat(":value:(", absl::StrJoin(flag.choices, " "), ")")
                 : flag.kind == Kind::kFile      ? ":file:_files"
                 : NamesOf(flag.kind) != nullptr ? ZshNames(flag.kind)
                                                 : ":value:";
      }
      for (const std::string& name : flag.names) {
        absl::StrAppend(&out, " \\\n        ", Quoted(absl::StrCat("*", name, "[", help, "]", action)));
      }
    }
    for (const Kind kind : command.positionals) {
      absl::StrAppend(&out, " \\\n        ",
                      kind == Kind::kFile        ? "':file:_files'"
                      : NamesOf(kind) != nullptr ? Quoted(ZshNames(kind))
                      : kind == Kind::kStep
                          ? Quoted(absl::StrCat(":step:{ local -a names; names=(${(f)\"$(", StepNames("\"$words[2]\""),
                                                ")\"}); compadd -a names }"))
                          : "':value:'");
    }
    return out;
  };
  std::string verbs, cases;
  for (const CommandFacts& command : commands) {
    if (command.name.empty()) continue;
    absl::StrAppend(&verbs, "    ", Quoted(absl::StrCat(command.name, ":", command.summary)), "\n");
    absl::StrAppend(&cases, "      ", command.name, ") _arguments", specs(command), specs(commands[0]), " ;;\n");
  }
  return absl::StrCat(
      "#compdef orchctl\n# orchctl completion for zsh: orchctl completion zsh > \"${fpath[1]}/_orchctl\"\n",
      "_orchctl() {\n  local context state line\n  local -a verbs=(\n", verbs, "  )\n  _arguments -C",
      specs(commands[0]), " \\\n        '1:verb:->verb' '*::argument:->rest'\n  case $state in\n",
      "    verb) _describe verb verbs ;;\n    rest) case $line[1] in\n", cases,
      "      esac ;;\n  esac\n}\ncompdef _orchctl orchctl\n");
}

std::string Fish(const std::vector<CommandFacts>& commands) {
  std::string out =
      "# orchctl completion for fish: orchctl completion fish | source\n"
      "complete -c orchctl -f\n";
  std::vector<std::string> verbs;
  for (const CommandFacts& command : commands) {
    if (!command.name.empty()) verbs.push_back(command.name);
  }
  const std::string none = absl::StrCat("not __fish_seen_subcommand_from ", absl::StrJoin(verbs, " "));
  for (const CommandFacts& command : commands) {
    std::string when;
    if (!command.name.empty()) {
      absl::StrAppend(&out, "complete -c orchctl -n ", Quoted(none), " -a ", command.name, " -d ",
                      Quoted(command.summary), "\n");
      when = absl::StrCat(" -n ", Quoted("__fish_seen_subcommand_from " + command.name));
      if (Wants(command, Kind::kFile)) absl::StrAppend(&out, "complete -c orchctl", when, " -F\n");
      const char* names = command.positionals.empty() ? nullptr : NamesOf(command.positionals[0]);
      if (NamesSteps(command)) {
        absl::StrAppend(&out, "complete -c orchctl -n ",
                        Quoted(absl::StrCat("__fish_seen_subcommand_from ", command.name,
                                            "; and test (count (commandline -opc)) -ge 3")),
                        " -a ", Quoted(absl::StrCat("(", StepNames("(commandline -opc)[3]"), ")")), "\n");
      }
      if (names != nullptr) {
        absl::StrAppend(&out, "complete -c orchctl", when, " -a ", Quoted(absl::StrCat("(", names, ")")), "\n");
      }
    }
    for (const FlagFacts& flag : command.flags) {
      absl::StrAppend(&out, "complete -c orchctl", when);
      for (const std::string& name : flag.names) {
        absl::StrAppend(&out, name[1] == '-' ? " -l " : " -s ", name.substr(name[1] == '-' ? 2 : 1));
      }
      if (flag.takes_value) absl::StrAppend(&out, flag.kind == Kind::kFile ? " -r -F" : " -x");
      if (!flag.choices.empty()) absl::StrAppend(&out, " -a ", Quoted(absl::StrJoin(flag.choices, " ")));
      if (const char* names = NamesOf(flag.kind)) absl::StrAppend(&out, " -a ", Quoted(absl::StrCat("(", names, ")")));
      absl::StrAppend(&out, " -d ", Quoted(flag.help), "\n");
    }
  }
  absl::StrAppend(&out, "complete -c orchctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n");
  return out;
}

class CompletionVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("SHELL", &shell_, "bash, zsh or fish", Kind::kText); }
  absl::StatusOr<int> Run(Session&) override {
    const std::vector<CommandFacts> commands = DescribeCommands();
    if (shell_ == "bash") {
      WriteOut(Bash(commands));
    } else if (shell_ == "zsh") {
      WriteOut(Zsh(commands));
    } else if (shell_ == "fish") {
      WriteOut(Fish(commands));
    } else {
      return UsageError(absl::StrCat("there is no completion for `", shell_, "`: choose bash, zsh or fish"));
    }
    return kOk;
  }

 private:
  std::string shell_;
};

}  // namespace

std::unique_ptr<Verb> MakeCompletion() { return std::make_unique<CompletionVerb>(); }

}  // namespace orch::cli
