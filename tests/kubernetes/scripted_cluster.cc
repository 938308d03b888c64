#include "tests/kubernetes/scripted_cluster.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace orch::kubernetes {

using nlohmann::json;

ScriptedCluster::ScriptedCluster() {
  char name[] = "/tmp/orch-scripted-XXXXXX";
  folder_ = mkdtemp(name);
  context.orchestrator = "k8s";
  context.instance = "4f2b";
  context.data_dir = folder_;
  Renew("first");
}

ScriptedCluster::~ScriptedCluster() { std::filesystem::remove_all(folder_); }

void ScriptedCluster::Renew(const std::string& token) {
  std::ofstream(file()) << "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: "
                           "u, user: {token: "
                        << token << "}}]\nclusters: [{name: c, cluster: {server: 'http://h'}}]\n";
}

ClusterLink::Dial ScriptedCluster::dial(std::vector<std::string> kinds) {
  kinds_ = std::move(kinds);
  return [this](const Cluster& cluster) {
    auto transport = std::make_unique<ScriptedTransport>(&clock);
    transport_ = transport.get();
    for (const std::string& kind : kinds_) Watched(kind);
    return std::make_unique<Client>(cluster, std::move(transport), &clock, 1);
  };
}

void ScriptedCluster::Watched(const std::string& kind) {
  const json list = {{"metadata", {{"resourceVersion", "1"}}},
                     {"items", items_.emplace(kind, json::array()).first->second}};
  transport_->Expect("GET", kind + "?limit=500", 200, list.dump());
  transport_->Expect("GET", kind + "?watch=1", 200).open = true;
}

void ScriptedCluster::Relist(ClusterLink* link, const std::string& kind) {
  const size_t stream = Last(kind + "?watch=1");
  Watched(kind);
  HttpAnswer gone;
  gone.status = 410;
  transport_->End(stream, gone);
  Settle(link);
}

void ScriptedCluster::Tell(const std::string& kind, const std::string& type, const json& object) {
  json told = object;
  told["metadata"]["resourceVersion"] = "2";
  transport_->Push(Last(kind + "?watch=1"), json({{"type", type}, {"object", told}}).dump() + "\n");
}

void ScriptedCluster::Settle(ClusterLink* link) {
  for (int i = 0; i < 60; ++i) link->Poll(0);
}

void ScriptedCluster::Pass(ClusterLink* link, int64_t micros) {
  const int64_t end = clock.mono + micros;
  while (clock.mono < end) link->Poll(static_cast<int>((end - clock.mono + 999) / 1000));
  Settle(link);
}

std::vector<std::string> ScriptedCluster::Asked(const std::string& part) const {
  std::vector<std::string> out;
  for (const auto& seen : transport_->seen) {
    std::string line = absl::StrCat(seen.request.method, " ", seen.request.path);
    if (absl::StrContains(line, part)) out.push_back(std::move(line));
  }
  return out;
}

size_t ScriptedCluster::Last(const std::string& part) const {
  for (size_t i = transport_->seen.size(); i > 0; --i) {
    const HttpRequest& request = transport_->seen[i - 1].request;
    if (absl::StrContains(absl::StrCat(request.method, " ", request.path), part)) return i - 1;
  }
  ADD_FAILURE() << "nobody has asked for " << part;
  return 0;
}

}  // namespace orch::kubernetes
