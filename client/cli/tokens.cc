// create-token, list-tokens, revoke-token.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

constexpr std::optional<std::chrono::milliseconds> kUsualLifetime = std::chrono::hours(30 * 24);

const char* WordOf(v1::Token::Scope scope) { return scope == v1::Token::READ ? "read" : "full"; }

std::string StateOf(const v1::Token& token, int64_t now) {
  if (token.has_revoke_time()) return "revoked";
  return token.has_expire_time() && Micros(token.expire_time()) <= now ? "expired" : "good";
}

// The file must be new: what it had would be lost, and who may read it could be anybody.
absl::StatusOr<int> MakeFile(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return UsageError(absl::StrCat("cannot make ", path, ": ", strerror(errno)));
  return fd;
}

class CreateTokenVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "What it is called; letters, digits, `_ - .`", Kind::kText);
    flags.Text("--expires", &expires_, "TIME", "How long it is good for: 12h, 30d, or never [30d]");
    flags.Choice("--scope", &scope_, {"read", "full"}, "What it may be used for [full]");
    flags.Text("--output", &output_, "FILE", "Write the token to this new file instead of stdout", Kind::kFile);
  }

  absl::StatusOr<int> Run(Session& session) override {
    v1::CreateTokenRequest request;
    request.set_name(name_);
    request.set_scope(scope_ == "read" ? v1::Token::READ : v1::Token::FULL);
    if (expires_ != "never") {
      const std::optional<std::chrono::milliseconds> lifetime =
          expires_.empty() ? kUsualLifetime : ParseDuration(expires_);
      if (!lifetime.has_value()) {
        return UsageError(absl::StrCat("--expires: `", expires_, "` is no duration: write 12h, 30d, or never"));
      }
      request.mutable_lifetime()->set_seconds(lifetime->count() / 1000);
      request.mutable_lifetime()->set_nanos(static_cast<int>(lifetime->count() % 1000) * 1'000'000);
    }
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    int fd = -1;
    if (!output_.empty()) {
      ASSIGN_OR_RETURN(fd, MakeFile(output_));
    }
    absl::StatusOr<v1::CreateTokenResponse> made = client->CreateToken(std::move(request));
    if (fd >= 0) {
      const std::string line = made.ok() ? absl::StrCat(made->value(), "\n") : "";
      const bool written = write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && fsync(fd) == 0;
      close(fd);
      if (!made.ok()) unlink(output_.c_str());
      if (made.ok() && !written) {
        return Error(absl::StatusCode::kDataLoss, "TOKEN_LOST",
                     absl::StrCat("the token was made, but ", output_, " could not be written: `orchctl revoke-token ",
                                  name_, "`, and make it again"));
      }
      if (made.ok()) made->clear_value();
    }
    RETURN_IF_ERROR(made.status());
    const v1::Token& token = made->token();
    const auto words = [&] {
      return output_.empty() ? absl::StrCat(made->value(), "\n") : absl::StrCat(output_, "\n");
    };
    RETURN_IF_ERROR(session.Show(*made, words, {token.name()}));
    session.Note(absl::StrCat("token ", token.name(), " (", WordOf(token.scope()), ") is good ",
                              token.has_expire_time()
                                  ? absl::StrCat("for ", Elapsed(Micros(token.expire_time()) - WallNow()))
                                  : "until revoked",
                              output_.empty() ? "; it is not shown again" : ""));
    return kOk;
  }

 private:
  std::string name_, expires_, output_;
  std::string scope_ = "full";
};

class ListTokensVerb : public Verb {
 public:
  void Define(Flags&) override {}
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListTokensRequest request;
    request.set_page_size(1000);
    v1::ListTokensResponse answer;
    do {
      ASSIGN_OR_RETURN(v1::ListTokensResponse page, client->ListTokens(request));
      for (v1::Token& token : *page.mutable_tokens()) *answer.add_tokens() = std::move(token);
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    std::vector<std::string> names;
    for (const v1::Token& token : answer.tokens()) names.push_back(token.name());
    const auto render = [&] {
      Table table({"NAME", "SCOPE", "STATE", "CREATED", "EXPIRES", "LAST USED"});
      const int64_t now = WallNow();
      for (const v1::Token& token : answer.tokens()) {
        const std::string state = StateOf(token, now);
        const std::string expires = token.has_expire_time() ? Ago(Micros(token.expire_time()), now) : "never";
        table.Add({token.name(),
                   WordOf(token.scope()),
                   {state, state == "good" ? Color::kGreen : Color::kYellow},
                   Ago(Micros(token.create_time()), now),
                   state == "good" ? expires : "",
                   token.has_last_use_time() ? Ago(Micros(token.last_use_time()), now) : "never"});
      }
      return table.Render(session.out());
    };
    RETURN_IF_ERROR(session.Show(answer, render, names));
    return kOk;
  }
};

class RevokeTokenVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("NAME", &name_, "The token's name", Kind::kToken); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::RevokeTokenRequest request;
    request.set_name(name_);
    ASSIGN_OR_RETURN(const v1::Token token, client->RevokeToken(request));
    RETURN_IF_ERROR(
        session.Show(token, [&] { return absl::StrCat("token ", token.name(), " is revoked\n"); }, {token.name()}));
    return kOk;
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Verb> MakeCreateToken() { return std::make_unique<CreateTokenVerb>(); }
std::unique_ptr<Verb> MakeListTokens() { return std::make_unique<ListTokensVerb>(); }
std::unique_ptr<Verb> MakeRevokeToken() { return std::make_unique<RevokeTokenVerb>(); }

}  // namespace orch::cli
