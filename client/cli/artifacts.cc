// list-artifacts, get-artifact.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

std::string NameAndVersion(const v1::Artifact& a) { return absl::StrCat(a.name(), "@", a.version()); }

std::string ValueText(const v1::Artifact& a) { return a.has_value() ? ToJson(a.value()).dump() : ""; }

class ListArtifactsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Text("--run", &run_, "RUN", "Only those of this run", Kind::kRun);
    flags.Text("--step", &step_, "STEP", "Only those of this step of the run", Kind::kStep);
    flags.Text("--name", &name_, "NAME", "Only versions of this name");
    flags.Int("--limit,--page-size", &limit_, 1, 1'000'000, "At most so many [50]");
    flags.Text("--page-token", &token_, "TOKEN", "Go on after an earlier answer (its next_page_token)");
    flags.Switch("--all", &all_, "All of them");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    v1::ListArtifactsRequest request;
    request.set_run(run_);
    request.set_step(step_);
    request.set_name(name_);
    request.set_page_token(token_);
    v1::ListArtifactsResponse answer;
    while (true) {
      const int64_t left = all_ ? 1000 : limit_ - answer.artifacts_size();
      request.set_page_size(static_cast<int32_t>(std::min<int64_t>(left, 1000)));
      ASSIGN_OR_RETURN(v1::ListArtifactsResponse page, client->ListArtifacts(request));
      for (v1::Artifact& a : *page.mutable_artifacts()) *answer.add_artifacts() = std::move(a);
      answer.set_next_page_token(page.next_page_token());
      if (page.next_page_token().empty() || (!all_ && answer.artifacts_size() >= limit_)) break;
      request.set_page_token(page.next_page_token());
    }
    std::vector<std::string> names;
    for (const v1::Artifact& a : answer.artifacts()) names.push_back(NameAndVersion(a));
    RETURN_IF_ERROR(session.Show(
        answer, [&] { return Render(answer, session); }, names));
    if (session.human() && !answer.next_page_token().empty()) {
      session.Note(absl::StrCat("more with --all, or --page-token ", answer.next_page_token()));
    }
    return kOk;
  }

 private:
  static std::string Render(const v1::ListArtifactsResponse& answer, const Session& session) {
    std::vector<std::string> headers = {"NAME", "TYPE", "SIZE", "CREATED", "VALUE"};
    if (session.wide()) headers.insert(headers.end(), {"RUN", "STEP", "DIGEST", "ID", "URI"});
    Table table(headers);
    const int64_t now = WallNow();
    for (const v1::Artifact& a : answer.artifacts()) {
      const std::string value = ValueText(a);
      std::vector<Cell> row = {NameAndVersion(a), a.type(), Bytes(a.size()),
                               a.has_create_time() ? Ago(Micros(a.create_time()), now) : "",
                               session.wide() ? value : Fit(Clean(value), 40)};
      if (session.wide()) {
        for (const std::string& text : {a.run(), a.step(), a.digest(), a.id(), a.uri()}) row.emplace_back(text);
      }
      table.Add(std::move(row));
    }
    return table.Render(session.out());
  }

  std::string run_, step_, name_, token_;
  int64_t limit_ = 50;
  bool all_ = false;
};

// A file that appears under its name only when it is whole.
class PartFile {
 public:
  explicit PartFile(std::string path) : path_(std::move(path)), part_(absl::StrCat(path_, ".part.", getpid())) {}
  ~PartFile() {
    if (fd_ >= 0) close(fd_);
    if (!done_) unlink(part_.c_str());
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  absl::Status Open() {
    fd_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return fd_ >= 0 ? absl::OkStatus() : Failed("make", part_);
  }
  absl::Status Write(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("write", part_);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }
  absl::Status Finish() {
    if (rename(part_.c_str(), path_.c_str()) != 0) return Failed("make", path_);
    done_ = true;
    return absl::OkStatus();
  }

 private:
  static absl::Status Failed(const char* what, const std::string& path) {
    return Error(absl::StatusCode::kFailedPrecondition, "FILE_UNWRITABLE",
                 absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
  }
  std::string path_, part_;
  int fd_ = -1;
  bool done_ = false;
};

class GetArtifactVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("NAME", &name_, "`name@version`, `name` for the newest, or an id `art-…`", Kind::kText);
    flags.Text("--output", &output_, "PATH", "Download it to this file or into this folder; `-`: stdout", Kind::kFile);
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const v1::Artifact a, client->GetArtifact(name_));
    if (output_.empty()) {
      const auto render = [&] {
        return RenderFacts(
            {{"Name", NameAndVersion(a)},
             {"Type", a.type()},
             {"Value", ValueText(a)},
             {"Size", Bytes(a.size())},
             {"Digest", a.digest()},
             {"Made by", a.run().empty() ? "" : absl::StrCat(a.run(), " ", a.step(), " attempt ", a.attempt())},
             {"Created", a.has_create_time() ? Ago(Micros(a.create_time()), WallNow()) : ""},
             {"ID", a.id()},
             {"URI", a.uri()}},
            session.out());
      };
      RETURN_IF_ERROR(session.Show(a, render, {NameAndVersion(a)}));
      return kOk;
    }
    // By id: `name` alone could mean another version in the middle.
    const std::string id = a.id().empty() ? NameAndVersion(a) : a.id();
    if (output_ == "-") {
      RETURN_IF_ERROR(client->DownloadArtifact(id, [](absl::string_view bytes) {
        return WriteOut(bytes)
                   ? absl::OkStatus()
                   : Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
      }));
      return kOk;
    }
    const bool folder = a.type() == "dir";
    std::string path = output_;
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      absl::StrAppend(&path, "/", a.name(), folder ? ".tar" : "");
    }
    RETURN_IF_ERROR(Download(*client, a, id, folder, path));
    session.Note(absl::StrCat(NameAndVersion(a), " → ", path, folder ? " (a tar file of the folder)" : ""));
    return kOk;
  }

 private:
  static absl::Status Download(client::Client& client, const v1::Artifact& a, const std::string& id, bool folder,
                               const std::string& path) {
    PartFile file(path);
    RETURN_IF_ERROR(file.Open());
    Sha256 sha;
    RETURN_IF_ERROR(client.DownloadArtifact(id, [&](absl::string_view bytes) {
      sha.Update(bytes);
      return file.Write(bytes);
    }));
    // A folder's digest is over its files, not over the tar file.
    const std::string got = absl::StrCat("sha256:", Hex(sha.Finish()));
    if (!folder && absl::StartsWith(a.digest(), "sha256:") && got != a.digest()) {
      return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH",
                   absl::StrCat(NameAndVersion(a), " is damaged: its bytes have ", got, ", recorded is ", a.digest(),
                                "; run its step again"));
    }
    return file.Finish();
  }

  std::string name_, output_;
};

}  // namespace

std::unique_ptr<Verb> MakeListArtifacts() { return std::make_unique<ListArtifactsVerb>(); }
std::unique_ptr<Verb> MakeGetArtifact() { return std::make_unique<GetArtifactVerb>(); }

}  // namespace orch::cli
