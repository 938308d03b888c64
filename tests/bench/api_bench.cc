// Measures a running daemon from outside, through the client library; one line of JSON a measurement. Not a test.
//
//   api_bench WORKLOAD N ORCHESTRATOR
//
// Runs of N steps: chain, wide, files-chain, files-wide, cached (wide, from the cache from the second time on), accept
// (wide and new each time, cancelled once it is accepted), why (layers of 100; each call asks about another step while
// it runs), plan (the same, cached or not, without a run), plan-fan-out (of one step with N instances). N runs of a
// step: submit, first-step, open-runs (named watched-0, …, and left running).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "client/lib/client.h"

namespace {

using namespace orch;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

v1::Pipeline Make(const std::string& workload, int n) {
  v1::Pipeline pipeline;
  pipeline.set_name("bench-" + workload);
  const bool cached = workload == "cached";
  const bool files = workload.compare(0, 5, "files") == 0;
  const bool chain = workload.find("chain") != std::string::npos;
  const bool layers = workload == "why" || workload == "plan";
  if (workload == "plan-fan-out") {
    v1::StepSpec* step = pipeline.add_steps();
    step->set_name("each");
    step->add_command("/bin/true");
    step->add_command("${item.i}");
    step->mutable_cache()->set_enabled(true);
    v1::ForeachKey* key = step->add_foreach();
    key->set_key("i");
    for (int i = 0; i < n; ++i) key->mutable_values()->add_values()->set_number_value(i);
    return pipeline;
  }
  for (int i = 0; i < n; ++i) {
    v1::StepSpec* step = pipeline.add_steps();
    step->set_name("s" + std::to_string(i));
    step->mutable_resources()->set_cpu(1);
    if (cached || workload == "plan") step->mutable_cache()->set_enabled(true);
    if (layers) {
      (*step->mutable_outputs())["x"];
      if (i >= 100) (*step->mutable_inputs())["y"].set_from("s" + std::to_string(i - 100) + ".x");
    }
    if (workload == "why") {
      (*(*step->mutable_settings())["fake"].mutable_fields())["duration"].set_string_value("1h");
    }
    const int upstream = chain ? i - 1 : 0;
    if (!files) {
      step->add_command("/bin/true");
      if (cached) step->add_command(step->name());  // or all of them were one
      if (chain && i > 0) step->add_after("s" + std::to_string(upstream));
      continue;
    }
    (*step->mutable_outputs())["x"];
    step->add_command("/bin/sh");
    step->add_command("-c");
    if (i == 0) {
      step->add_command("echo 0123456789abcdef > ${outputs.x}");
    } else {
      step->add_command("cat ${inputs.y} > ${outputs.x}");
      (*step->mutable_inputs())["y"].set_from("s" + std::to_string(upstream) + ".x");
    }
  }
  return pipeline;
}

void PrintQuantiles(const char* what, std::vector<double> ms);
int Fail(const absl::Status& status);

// How long the questions about a run of many steps take: why of a hundred of its steps, or what a submission would do.
int Ask(client::Client& client, const std::string& workload, const v1::SubmitRunRequest& submission) {
  std::vector<double> ms;
  const int steps = submission.pipeline().steps_size();
  if (workload.compare(0, 4, "plan") == 0) {
    v1::PlanRunRequest request;
    *request.mutable_submission() = submission;
    for (int i = 0; i < 40; ++i) {
      const auto begin = Clock::now();
      const auto plan = client.PlanRun(request);
      if (!plan.ok()) return Fail(plan.status());
      ms.push_back(Seconds(begin) * 1000);
    }
    PrintQuantiles("plan", std::move(ms));
    return 0;
  }
  const auto run = client.SubmitRun(submission);
  if (!run.ok()) return Fail(run.status());
  for (int i = 0; i < 200; ++i) {
    v1::ExplainRunRequest request;
    request.set_name(run->name());
    if (i % 10 != 0) request.set_step("s" + std::to_string(i * 37 % steps));
    const auto begin = Clock::now();
    const auto why = client.ExplainRun(request);
    if (!why.ok()) return Fail(why.status());
    ms.push_back(Seconds(begin) * 1000);
  }
  v1::CancelRunRequest cancel;
  cancel.set_name(run->name());
  cancel.set_force(true);
  (void)client.CancelRun(cancel);  // its steps would run for an hour
  PrintQuantiles("why", std::move(ms));
  return 0;
}

int Fail(const absl::Status& status) {
  fprintf(stderr, "api_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

void PrintQuantiles(const char* what, std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double q) {
    return ms[std::min(ms.size() - 1, static_cast<size_t>(q * static_cast<double>(ms.size())))];
  };
  printf("{\"workload\":\"%s\",\"n\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", what, ms.size(), at(0.5),
         at(0.99), ms.back());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: api_bench WORKLOAD N ORCHESTRATOR\n");
    return 2;
  }
  const std::string workload = argv[1];
  const int n = atoi(argv[2]);
  auto client = client::Client::Connect({});
  if (!client.ok()) return Fail(client.status());
  if (workload == "submit" || workload == "first-step") {
    std::vector<double> ms;
    for (int i = 0; i < n; ++i) {
      v1::SubmitRunRequest request;
      *request.mutable_pipeline() = Make("chain", 1);
      request.set_orchestrator(argv[3]);
      const auto wall = std::chrono::system_clock::now();
      const auto begin = Clock::now();
      auto run = (*client)->SubmitRun(request);
      if (!run.ok()) return Fail(run.status());
      const double acknowledged = Seconds(begin) * 1000;
      run = (*client)->WaitRun(run->name(), std::chrono::seconds(30));
      if (!run.ok()) return Fail(run.status());
      if (workload == "submit") {
        ms.push_back(acknowledged);
        continue;
      }
      v1::GetStepRequest get;
      get.set_run(run->name());
      get.set_step("s0");
      const auto step = (*client)->GetStep(get);
      if (!step.ok()) return Fail(step.status());
      const double started = static_cast<double>(step->start_time().seconds()) * 1000 +
                             static_cast<double>(step->start_time().nanos()) / 1e6;
      ms.push_back(started - std::chrono::duration<double, std::milli>(wall.time_since_epoch()).count());
    }
    PrintQuantiles(workload.c_str(), std::move(ms));
    return 0;
  }
  if (workload == "open-runs") {
    for (int i = 0; i < n; ++i) {
      v1::SubmitRunRequest request;
      *request.mutable_pipeline() = Make("chain", 1);
      request.mutable_pipeline()->mutable_steps(0)->mutable_resources()->set_cpu(0);
      (*(*request.mutable_pipeline()->mutable_steps(0)->mutable_settings())["fake"].mutable_fields())["duration"]
          .set_string_value("1h");
      request.set_name("watched-" + std::to_string(i));
      request.set_orchestrator(argv[3]);
      const auto run = (*client)->SubmitRun(request);
      if (!run.ok()) return Fail(run.status());
    }
    printf("{}\n");
    return 0;
  }
  v1::SubmitRunRequest request;
  *request.mutable_pipeline() = Make(workload, n);
  request.set_orchestrator(argv[3]);
  if (workload == "why" || workload.compare(0, 4, "plan") == 0) return Ask(**client, workload, request);
  if (workload == "accept") {  // never seen before
    request.mutable_pipeline()->set_description(std::to_string(Clock::now().time_since_epoch().count()));
  }
  const auto begin = Clock::now();
  auto run = (*client)->SubmitRun(request);
  if (!run.ok()) return Fail(run.status());
  const double accepted = Seconds(begin);
  if (workload == "accept") {
    v1::CancelRunRequest cancel;
    cancel.set_name(run->name());
    cancel.set_force(true);
    run = (*client)->CancelRun(cancel);
    if (run.ok()) run = (*client)->WaitRun(run->name(), std::chrono::minutes(1));
    if (!run.ok()) return Fail(run.status());
    printf("{\"workload\":\"accept\",\"n\":%d,\"accepted_ms\":%.2f}\n", n, accepted * 1000);
    return 0;
  }
  run = (*client)->WaitRun(run->name(), std::chrono::minutes(30));
  if (!run.ok()) return Fail(run.status());
  const double seconds = Seconds(begin);
  if (run->state() != v1::Run::SUCCEEDED) {
    fprintf(stderr, "api_bench: the run ended as %s\n", v1::Run::State_Name(run->state()).c_str());
    return 1;
  }
  printf(
      "{\"workload\":\"%s\",\"n\":%d,\"seconds\":%.6f,\"ms_per_step\":%.4f,\"steps_per_s\":%.0f,\"accepted_ms\":%.2f}"
      "\n",
      workload.c_str(), n, seconds, seconds * 1000 / n, n / seconds, accepted * 1000);
  return 0;
}
