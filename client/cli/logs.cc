// logs.
#include "absl/strings/str_cat.h"
#include "client/cli/interrupt.h"
#include "client/cli/verbs.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

class LogsVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Positional("STEP", &step_, "The step's name; of a fan-out 'train[2]' (not with --hook)", Kind::kStep,
                     /*required=*/false);
    flags.Text("--hook", &hook_, "ID", "Of this hook; get-run and get-step show the ids");
    flags.Switch("-f,--follow", &follow_, "Go on until the attempt has ended");
    flags.Int("--attempt", &attempt_, 1, 1'000'000, "Which attempt, from 1 [the newest]");
    flags.Choice("--stream", &stream_, {"stdout", "stderr"}, "Only this stream [both]");
    flags.Int("--tail", &tail_, 1, 100'000, "Begin so many lines before the end [at the start]");
  }

  absl::StatusOr<int> Run(Session& session) override {
    if (step_.empty() && hook_.empty()) return UsageError("name the step: orchctl logs RUN STEP");
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    if (!hook_.empty()) return OfHook(*client);
    v1::TailLogsRequest request;
    request.set_run(run_);
    request.set_step(step_);
    request.set_attempt(static_cast<int32_t>(attempt_));
    request.set_follow(follow_);
    request.set_tail_lines(static_cast<int32_t>(tail_));
    if (stream_ == "stdout") request.set_stream(v1::LogStream::STDOUT);
    if (stream_ == "stderr") request.set_stream(v1::LogStream::STDERR);
    client::Cancellation cancel;
    Interrupt interrupt(&cancel);
    bool closed = false;
    RETURN_IF_ERROR(client->TailLogs(
        request,
        [&closed](const v1::TailLogsResponse& chunk) {
          closed = !WriteOut(chunk.data());
          return !closed;
        },
        &cancel));
    if (closed) return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
    return cancel.cancelled() ? kInterrupted : kOk;
  }

 private:
  // First what it printed, then what it complained of: a hook writes little.
  absl::StatusOr<int> OfHook(client::Client& client) {
    for (const v1::LogStream::Name stream : {v1::LogStream::STDOUT, v1::LogStream::STDERR}) {
      if (!stream_.empty() && (stream_ == "stdout") != (stream == v1::LogStream::STDOUT)) continue;
      v1::ReadLogsRequest request;
      request.set_run(run_);
      request.set_hook(hook_);
      request.set_stream(stream);
      for (;;) {
        ASSIGN_OR_RETURN(const v1::ReadLogsResponse piece, client.ReadLogs(request));
        if (!WriteOut(piece.data())) {
          return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
        }
        if (piece.data().empty() || piece.end()) break;
        request.set_offset(piece.next_offset());
      }
    }
    return kOk;
  }

  std::string run_, step_, stream_, hook_;
  int64_t attempt_ = 0, tail_ = 0;
  bool follow_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeLogs() { return std::make_unique<LogsVerb>(); }

}  // namespace orch::cli
