// watch-run, wait-run, and what submit uses of them.
#include "client/cli/watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/interrupt.h"
#include "client/cli/run_text.h"
#include "client/cli/run_view.h"
#include "client/cli/text.h"
#include "client/cli/verbs.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

constexpr auto kFrame = std::chrono::milliseconds(100);  // no faster than this
constexpr auto kTick = std::chrono::milliseconds(500);   // elapsed times go on without news

constexpr int kLastFrame = 100;  // lines that stay when the run has ended

v1::WatchRunsRequest WatchRequest(const std::string& run) {
  v1::WatchRunsRequest request;
  request.set_run(run);
  request.set_snapshot(true);
  request.set_until_done(true);
  return request;
}

void SayHowToReturn(const Session& session, const std::string& run) {
  WriteErr(absl::StrCat(session.err().color() ? "\r\x1b[K" : "",
                        "detached; the run goes on. Back to it: orchctl watch-run ", run,
                        "; stop it: orchctl cancel-run ", run, "\n"));
}

// The picture in place: each frame overwrites the one before.
class LiveTable {
 public:
  explicit LiveTable(const Style& style) : style_(style) {}

  void Draw(const RunView& view, const std::string& trouble, bool last) {
    winsize size{};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size = {24, 80, 0, 0};
    // The last line stays free for the cursor: a full screen would scroll.
    const int height = std::max(3, static_cast<int>(size.ws_row) - 2);
    std::vector<std::string> lines =
        view.Lines(WallNow(), size.ws_col, last ? std::max(height, kLastFrame) : height, style_);
    if (!trouble.empty() && !last) lines.push_back(style_.Paint(Fit(Clean(trouble), size.ws_col), Color::kYellow));
    std::string frame;
    if (drawn_ > 0) absl::StrAppend(&frame, "\x1b[", drawn_, "A");
    absl::StrAppend(&frame, "\r");
    // Clear to the end of each line and, below, of the screen: no flicker as from clearing all first.
    for (const std::string& line : lines) absl::StrAppend(&frame, line, "\x1b[K\n");
    absl::StrAppend(&frame, "\x1b[J");
    WriteErr(frame);
    drawn_ = static_cast<int>(lines.size());
  }

 private:
  Style style_;
  int drawn_ = 0;
};

// What the watching thread tells the drawing one.
struct Shared {
  explicit Shared(const std::string& run) : view(run) {}
  Mutex mutex;
  CondVar changed;
  RunView view ABSL_GUARDED_BY(mutex);
  std::string trouble ABSL_GUARDED_BY(mutex);
  bool fresh ABSL_GUARDED_BY(mutex) = true;
  bool done ABSL_GUARDED_BY(mutex) = false;
};

absl::Status WatchLive(Session& session, client::Client& client, const std::string& run, client::Cancellation* cancel) {
  Shared shared(run);
  absl::Status status;
  std::thread watcher([&] {
    status = client.WatchRuns(
        WatchRequest(run),
        [&shared](const v1::WatchRunsResponse& message) {
          MutexLock lock(&shared.mutex);
          shared.view.Apply(message, nullptr);
          shared.trouble.clear();
          shared.fresh = shared.fresh || !message.has_bookmark();
          shared.changed.NotifyAll();
          return true;
        },
        cancel,
        [&shared](const absl::Status& trouble) {
          MutexLock lock(&shared.mutex);
          shared.trouble = OneLine(trouble);
          shared.fresh = true;
          shared.changed.NotifyAll();
        });
    MutexLock lock(&shared.mutex);
    shared.done = true;
    shared.changed.NotifyAll();
  });
  LiveTable table(session.err());
  bool done = false;
  while (!done) {
    {
      MutexLock lock(&shared.mutex);
      // Nothing is drawn before anything is known: an error must not leave an empty table behind.
      if (shared.view.known()) table.Draw(shared.view, shared.trouble, shared.done);
      shared.fresh = false;
      done = shared.done;
    }
    if (done) break;
    MutexLock lock(&shared.mutex);
    // At least one frame's time between two drawings, however much happens.
    const auto next = std::chrono::steady_clock::now() + kFrame;
    while (!shared.done && std::chrono::steady_clock::now() < next) {
      shared.changed.WaitFor(&shared.mutex, std::chrono::duration_cast<std::chrono::microseconds>(
                                                next - std::chrono::steady_clock::now()));
    }
    if (!shared.done && !shared.fresh) shared.changed.WaitFor(&shared.mutex, kTick);
  }
  watcher.join();
  return status;
}

absl::Status WatchPlain(Session& session, client::Client& client, const std::string& run,
                        client::Cancellation* cancel) {
  RunView view(run);
  v1::Run::State shown = v1::Run::STATE_UNSPECIFIED;
  return client.WatchRuns(
      WatchRequest(run),
      [&](const v1::WatchRunsResponse& message) {
        std::vector<StepView> changed;
        view.Apply(message, &changed);
        std::string lines;
        for (const StepView& step : changed) {
          int64_t time = WallNow();
          if (message.has_event()) {
            time = Micros(message.event().time());
          } else if (step.end > 0 || step.start > 0) {
            time = step.end > 0 ? step.end : step.start;
          }
          absl::StrAppend(&lines, PlainLine(step, time, session.err()), "\n");
        }
        if (view.state() != shown && view.known()) {
          shown = view.state();
          if (!client::Ended(shown)) {
            absl::StrAppend(&lines, ClockTime(WallNow()), " ", run, " ",
                            session.err().Paint(v1::Run::State_Name(shown), ColorOf(shown)), "\n");
          }
        }
        if (!session.globals().quiet) WriteErr(lines);
        return true;
      },
      cancel,
      [&session](const absl::Status& trouble) { session.Note(absl::StrCat(OneLine(trouble), "; trying again")); });
}

class WatchRunVerb : public Verb {
 public:
  void Define(Flags& flags) override { flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun); }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    ASSIGN_OR_RETURN(const Followed followed, FollowRun(session, *client, run_));
    if (followed.detached) return kInterrupted;
    if (!session.human()) RETURN_IF_ERROR(session.Show(followed.run, nullptr, {followed.run.name()}));
    PrintSummary(session, *client, followed.run);
    return ExitCodeOf(followed.run.state());
  }

 private:
  std::string run_;
};

class WaitRunVerb : public Verb {
 public:
  void Define(Flags& flags) override {
    flags.Positional("RUN", &run_, "A run's name or id", Kind::kRun);
    flags.Duration("--timeout", &timeout_, "Wait at most so long (exit code 6) [for ever]");
  }
  absl::StatusOr<int> Run(Session& session) override {
    ASSIGN_OR_RETURN(client::Client * client, session.Connect());
    std::optional<std::chrono::milliseconds> timeout;
    if (timeout_.count() >= 0) timeout = timeout_;
    ASSIGN_OR_RETURN(const Followed followed, AwaitRun(session, *client, run_, timeout));
    if (followed.detached) return kInterrupted;
    const v1::Run& run = followed.run;
    RETURN_IF_ERROR(session.Show(
        run, [&] { return absl::StrCat(run.name(), " ", v1::Run::State_Name(run.state()), "\n"); }, {run.name()}));
    if (!client::Ended(run.state())) {
      session.Note(absl::StrCat("still ", v1::Run::State_Name(run.state()), " after ", Elapsed(timeout_.count() * 1000),
                                "; the run goes on"));
      return kWaitTimedOut;
    }
    return ExitCodeOf(run.state());
  }

 private:
  std::string run_;
  std::chrono::milliseconds timeout_{-1};
};

}  // namespace

absl::StatusOr<Followed> FollowRun(Session& session, client::Client& client, const std::string& run) {
  client::Cancellation cancel;
  {
    Interrupt interrupt(&cancel);
    const char* term = getenv("TERM");
    const bool moves = term != nullptr && strcmp(term, "dumb") != 0 && isatty(STDERR_FILENO) == 1;
    const bool live = moves && session.human() && !session.globals().quiet;
    RETURN_IF_ERROR(live ? WatchLive(session, client, run, &cancel) : WatchPlain(session, client, run, &cancel));
  }
  Followed followed;
  if (cancel.cancelled()) {
    SayHowToReturn(session, run);
    followed.detached = true;
    return followed;
  }
  ASSIGN_OR_RETURN(followed.run, client.GetRun(run));
  return followed;
}

absl::StatusOr<Followed> AwaitRun(Session& session, client::Client& client, const std::string& run,
                                  std::optional<std::chrono::milliseconds> timeout) {
  client::Cancellation cancel;
  Followed followed;
  absl::StatusOr<v1::Run> result = absl::UnknownError("");
  {
    Interrupt interrupt(&cancel);
    result = client.WaitRun(run, timeout.value_or(std::chrono::hours(24 * 365)), &cancel);
  }
  if (cancel.cancelled()) {
    SayHowToReturn(session, run);
    followed.detached = true;
    return followed;
  }
  ASSIGN_OR_RETURN(followed.run, std::move(result));
  return followed;
}

std::unique_ptr<Verb> MakeWatchRun() { return std::make_unique<WatchRunVerb>(); }
std::unique_ptr<Verb> MakeWaitRun() { return std::make_unique<WaitRunVerb>(); }

}  // namespace orch::cli
