// Submits a pipeline of two steps and waits for its end. Build: target example_cpp. Needs a running daemon.
#include <chrono>
#include <iostream>

#include "client/lib/client.h"

int main() {
  // Finds the daemon as orchctl does: ORCH_SERVER, else ORCH_DATA_DIR, else the default data directory.
  auto client = orch::client::Client::Connect({});
  if (!client.ok()) {
    std::cerr << client.status().message() << "\n";
    return 7;
  }

  orch::v1::SubmitRunRequest request;
  orch::v1::Pipeline* pipeline = request.mutable_pipeline();
  pipeline->set_name("hello-cpp");

  orch::v1::StepSpec* greet = pipeline->add_steps();
  greet->set_name("greet");
  // A value is written as JSON to the output's path.
  for (const char* word : {"/bin/sh", "-c", "printf '\"hello\"' > \"$ORCH_OUTPUT_TEXT\""}) greet->add_command(word);
  (*greet->mutable_outputs())["text"].set_value(true);

  orch::v1::StepSpec* print = pipeline->add_steps();
  print->set_name("print");
  for (const char* word : {"/bin/echo", "${values.text}"}) print->add_command(word);
  (*print->mutable_inputs())["text"].set_from("greet.text");

  auto run = (*client)->SubmitRun(request);
  if (run.ok()) {
    std::cout << run->name() << "\n" << run->run_metadata().at("orchestrator_url") << "\n";
    run = (*client)->WaitRun(run->name(), std::chrono::minutes(1));
  }
  if (!run.ok()) {
    std::cerr << run.status().message() << "\n";
    return 8;
  }
  std::cout << orch::v1::Run::State_Name(run->state()) << "\n";
  return run->state() == orch::v1::Run::SUCCEEDED ? 0 : 1;
}
