// A real API server for a test: ORCH_TEST_KUBECONFIG names its kubeconfig, whose account may do what docs/kubernetes.md
// says. ORCH_TEST_PART is the command `…/tests/platforms/kubernetes/part FOLDER`, for what happens to the cluster.
// tests/kubernetes/test_platform.py starts one and sets both; elsewhere these tests are skipped.
#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <string>

#include "backends/kubernetes/api/client.h"
#include "backends/kubernetes/api/kubeconfig.h"

namespace orch::kubernetes {

// What a command prints; it must end well.
std::string Output(const std::string& command);

class LiveTest : public ::testing::Test {
 protected:
  void SetUp() override;
  // A client of the account's; `change` is who it says it is.
  std::unique_ptr<Client> Connect(const std::function<void(Cluster*)>& change = nullptr);
  // `part` with these words; what it prints.
  std::string Part(const std::string& words);
  // A token of the account that is good for as long as the secret `secret`, which is made here, is there.
  std::string BoundToken(const std::string& secret);

  bool Wait(const std::function<bool()>& done) { return Wait(client_.get(), done); }
  bool Wait(Client* client, const std::function<bool()>& done);
  Answer Ask(Request request) { return Ask(client_.get(), std::move(request)); }
  Answer Ask(Client* client, Request request);
  // A single try.
  Answer Once(Request request);
  // As whom the server knows that client, or what went wrong.
  std::string WhoAmI(Client* client);

  nlohmann::json Job(const std::string& name, const std::string& script);
  void Make(const std::string& name, const std::string& script);
  void Delete(const std::string& name);
  std::string Selector() const { return "orch.io/test=" + name_; }

  std::string jobs_, pods_;  // paths
  std::string name_;         // of this test, unlike any other's
  Cluster cluster_;
  std::unique_ptr<Client> client_;
};

}  // namespace orch::kubernetes
