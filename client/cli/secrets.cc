// set-secret, list-secrets, delete-secret.
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"
#include "server/base/utf8.h"

namespace orch::cli {
namespace {

constexpr size_t kMostBytes = 16 << 20;  // the daemon's limit is lower

// All of stdin, or one line that is not shown if a person types.
absl::StatusOr<std::string> ReadValue(const std::string& name) {
  const bool typed = isatty(STDIN_FILENO) == 1;
  termios before{};
  const bool hidden = typed && tcgetattr(STDIN_FILENO, &before) == 0;
  if (hidden) {
    termios quiet = before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  const auto restore = absl::MakeCleanup([&] {
    if (hidden) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    if (typed) WriteErr("\n");
  });
  if (typed) WriteErr(absl::StrCat("Value of ", name, " (not shown): "));
  std::string value;
  char buffer[65536];
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return UsageError(absl::StrCat("stdin cannot be read: ", strerror(errno)));
    if (n == 0) return value;
    value.append(buffer, static_cast<size_t>(n));
    if (value.size() > kMostBytes) return UsageError("stdin has more than any secret may");
    if (typed && value.back() == '\n') return value;
  }
}

class SetSecretVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "What steps name in `secrets`", Kind::kSecret);
    flags.Switch("--raw", &raw_, "Keep a line end at the end of a value of one line");
    flags.Text("--request-id", &request_id_, "ID", "The same id again answers the same");
  }

  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(std::string value, ReadValue(name_));
    // `echo secret |` ends it with a line end that nobody means; a file of several lines is kept as it is.
    const size_t line_end = value.find_first_of("\r\n");
    if (!raw_ && line_end != std::string::npos && value.find_first_not_of("\r\n", line_end) == std::string::npos) {
      value.resize(line_end);
    }
    if (value.empty()) return UsageError("the value is empty; give it on stdin: orchctl set-secret NAME < FILE");
    v1::SetSecretRequest request;
    request.set_name(name_);
    request.set_request_id(request_id_);
    if (IsUtf8(value)) {
      request.set_text(std::move(value));
    } else {
      request.set_data(std::move(value));
    }
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Secret secret, client->SetSecret(std::move(request)));
    const auto words = [&] {
      return absl::StrCat("secret ", secret.name(), " is set", secret.version() > 1 ? " anew" : "",
                          secret.binary() ? "; it has a zero byte, so steps can have it as a file only" : "", "\n");
    };
    RETURN_IF_ERROR(session.Show(secret, words, {secret.name()}));
    return kOk;
  }

 private:
  std::string name_, request_id_;
  bool raw_ = false;
};

class ListSecretsVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListSecretsRequest request;
    request.set_page_size(1000);
    v1::ListSecretsResponse answer;
    do {
      ASSIGN_OR_RETURN(v1::ListSecretsResponse page, client->ListSecrets(request));
      for (v1::Secret& secret : *page.mutable_secrets()) *answer.add_secrets() = std::move(secret);
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    std::vector<std::string> names;
    for (const v1::Secret& secret : answer.secrets()) names.push_back(secret.name());
    const auto render = [&] {
      Table table({"NAME", "SET", "CREATED", "VERSION"});
      const int64_t now = WallNow();
      for (const v1::Secret& secret : answer.secrets()) {
        table.Add({secret.name(), Ago(Micros(secret.update_time()), now), Ago(Micros(secret.create_time()), now),
                   absl::StrCat(secret.version())});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class DeleteSecretVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "The secret's name", Kind::kSecret);
    flags.Switch("--force", &force_, "Also while steps need it: their next attempts fail");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::DeleteSecretRequest request;
    request.set_name(name_);
    request.set_force(force_);
    RETURN_IF_ERROR(client->DeleteSecret(request));
    session.Note(absl::StrCat("secret ", name_, " is deleted"));
    return kOk;
  }

 private:
  std::string name_;
  bool force_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeSetSecret() { return std::make_unique<SetSecretVerb>(); }
std::unique_ptr<Verb> MakeListSecrets() { return std::make_unique<ListSecretsVerb>(); }
std::unique_ptr<Verb> MakeDeleteSecret() { return std::make_unique<DeleteSecretVerb>(); }

}  // namespace orch::cli
