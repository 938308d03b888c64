// The client on a real API server: what it answers, refuses and tells of changes, and the ways to say who one is.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <fstream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/api/pod_log.h"
#include "backends/kubernetes/api/watch.h"
#include "tests/kubernetes/live_cluster.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::AnyOf;
using ::testing::HasSubstr;

// Of this process.
int Sockets() {
  int out = 0;
  DIR* folder = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(folder)) {
    char target[PATH_MAX] = {};
    const std::string path = absl::StrCat("/proc/self/fd/", entry->d_name);
    if (readlink(path.c_str(), target, sizeof(target) - 1) > 0 && absl::StartsWith(target, "socket:")) ++out;
  }
  closedir(folder);
  return out;
}

void Write(const std::string& file, const std::string& text) {
  std::ofstream(file) << text;
  ASSERT_EQ(chmod(file.c_str(), 0700), 0);
}

std::string Folder() { return ::testing::TempDir(); }

TEST_F(LiveTest, AJobIsMadeOnceWatchedToItsEndAndItsLogRead) {
  std::map<std::string, std::string> ended;  // by name
  std::string log;
  bool log_ended = false, listed = false;
  Watch jobs(client_.get(), jobs_, Selector(),
             {[] {},
              [&](const json& job) {
                for (const json& condition : job.value("/status/conditions"_json_pointer, json::array())) {
                  if (condition["status"] == "True") ended[MetadataText(job, "name")] = condition["type"];
                }
              },
              [&](const json& job) { ended[MetadataText(job, "name")] = "gone"; }, [&] { listed = true; },
              [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }});
  std::unique_ptr<PodLog> follower;
  Watch pods(
      client_.get(), pods_, Selector(),
      {[] {},
       [&](const json& object) {
         const std::string phase = object.value("/status/phase"_json_pointer, "");
         if (follower == nullptr && phase != "Pending" && !phase.empty()) {
           follower = std::make_unique<PodLog>(
               client_.get(), absl::StrCat(pods_, "/", MetadataText(object, "name")), "main", LogPosition{},
               PodLog::Calls{[&](absl::string_view text, int64_t) { log.append(text.data(), text.size()); },
                             [&] { log_ended = true; }, [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }});
           follower->Start();
         }
         if (follower != nullptr && (phase == "Succeeded" || phase == "Failed")) follower->Finish();
       },
       [](const json&) {}, [] {}, [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }});
  jobs.Start();
  pods.Start();
  ASSERT_TRUE(Wait([&] { return listed; }));
  // A line is kept in pieces of 16 KiB by the node, and another one is no whole line.
  const std::string script =
      "for i in 1 2 3; do echo line $i; sleep 0.2; done; printf '%040000d\\n' 7; printf end; exit 3";
  const Request create{"POST", jobs_, Job(name_, script).dump()};
  const Answer made = Ask(create);
  EXPECT_EQ(made.code, 201) << made.Words();
  const Answer again = Ask(create);
  EXPECT_EQ(again.code, 409);
  EXPECT_EQ(again.reason, "AlreadyExists");
  EXPECT_TRUE(Wait([&] { return log_ended && ended[name_] == "Failed"; })) << log << ended[name_];
  EXPECT_EQ(log, absl::StrCat("line 1\nline 2\nline 3\n", std::string(39999, '0'), "7\nend"));
  EXPECT_EQ(jobs.lists(), 1);
  Delete(name_);
  EXPECT_TRUE(Wait([&] { return ended[name_] == "gone"; }));
}

TEST_F(LiveTest, ManyPagesAreOneList) {
  for (int i = 0; i < 5; ++i) Make(absl::StrCat(name_, "-", i), "true");
  std::map<std::string, int> seen;
  bool listed = false;
  Watch watch(client_.get(), jobs_, Selector(),
              {[] {}, [&](const json& job) { seen[MetadataText(job, "name")] += listed ? 0 : 1; }, [](const json&) {},
               [&] { listed = true; }, [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }},
              {/*page=*/2, /*stream_seconds=*/300});
  watch.Start();
  EXPECT_TRUE(Wait([&] { return listed; }));
  EXPECT_EQ(seen.size(), 5U);
  for (const auto& [name, times] : seen) EXPECT_EQ(times, 1) << name;
  EXPECT_EQ(watch.lists(), 1);
  for (int i = 0; i < 5; ++i) Delete(absl::StrCat(name_, "-", i));
}

TEST_F(LiveTest, AWatchWithoutNewsGoesOnFromBookmarks) {
  std::vector<std::string> told;
  Watch watch(client_.get(), jobs_, Selector(),
              {[] {}, [&](const json& job) { told.push_back("seen " + MetadataText(job, "name")); },
               [&](const json& job) { told.push_back("gone " + MetadataText(job, "name")); }, [] {},
               [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }},
              {/*page=*/500, /*stream_seconds=*/5});
  watch.Start();
  EXPECT_TRUE(Wait([&] { return watch.lists() == 1; }));
  const std::string before = watch.version();
  // Others' objects change meanwhile; of ours there is nothing to tell.
  json other = Job(name_ + "-other", "true");
  other["metadata"]["labels"] = {{"orch.io/test", "other"}};  // without any it would get its pods'
  const Answer made = Ask({"POST", jobs_, other.dump()});
  ASSERT_EQ(made.code, 201) << made.Words();
  const auto number = [](const std::string& version) {  // only here: to a client it is a text
    int64_t out = 0;
    EXPECT_TRUE(absl::SimpleAtoi(version, &out)) << version;
    return out;
  };
  EXPECT_TRUE(Wait([&] { return number(watch.version()) >= number(MetadataText(made.object, "resourceVersion")); }))
      << before << " " << watch.version();
  EXPECT_THAT(told, ::testing::IsEmpty());
  Make(name_, "true");
  EXPECT_TRUE(Wait([&] { return !told.empty(); }));
  EXPECT_EQ(told[0], "seen " + name_);
  EXPECT_EQ(watch.lists(), 1) << "no second list over any number of streams";
  Delete(name_);
  Delete(name_ + "-other");
}

TEST_F(LiveTest, WhatIsRefusedSaysWhy) {
  json wrong = Job(name_, "true");
  wrong["spec"]["template"]["spec"]["restartPolicy"] = "Always";
  const Answer invalid = Ask({"POST", jobs_, wrong.dump()});
  EXPECT_EQ(invalid.code, 422) << invalid.Words();
  EXPECT_EQ(invalid.reason, "Invalid");
  ASSERT_FALSE(invalid.causes.empty());
  EXPECT_THAT(invalid.causes[0].field, HasSubstr("restartPolicy"));
  EXPECT_EQ(Ask({"POST", jobs_, "{"}).code, 400);
  json unknown = Job(name_, "true");
  unknown["spec"]["backofLimit"] = 1;
  const Answer strict = Ask({"POST", jobs_ + "?fieldValidation=Strict", unknown.dump()});
  EXPECT_EQ(strict.code, 400);
  EXPECT_THAT(strict.message, HasSubstr("unknown field \"spec.backofLimit\""));
  const Answer forbidden = Ask({"GET", "/api/v1/nodes"});
  EXPECT_EQ(forbidden.code, 403);
  EXPECT_EQ(forbidden.reason, "Forbidden");
  EXPECT_THAT(forbidden.message, HasSubstr("cannot list resource \"nodes\""));
  EXPECT_EQ(Ask({"GET", jobs_ + "/none"}).reason, "NotFound");
  json big = Job(name_, "true");
  big["metadata"]["annotations"] = {{"a", std::string(4 << 20, 'x')}};
  const Answer large = Once({"POST", jobs_, big.dump()});
  EXPECT_EQ(large.code, 413);
  EXPECT_THAT(large.message, HasSubstr("too large"));
  // Of what is refused before its body has been read the words arrive, too.
  const Answer elsewhere = Ask({"POST", "/apis/batch/v1/namespaces/kube-system/jobs", Job(name_, "true").dump()});
  EXPECT_EQ(elsewhere.code, 403);
  EXPECT_EQ(elsewhere.reason, "Forbidden");
  EXPECT_THAT(elsewhere.message, HasSubstr("cannot create resource \"jobs\" in API group \"batch\" in the namespace"));
  // An image that cannot be had is no error of the API's.
  const Answer warned = Ask({"POST", jobs_ + "?fieldValidation=Warn&dryRun=All", unknown.dump()});
  EXPECT_EQ(warned.code, 201) << warned.Words();
  ASSERT_FALSE(warned.warnings.empty());
  EXPECT_THAT(warned.warnings[0], HasSubstr("backofLimit"));
}

TEST_F(LiveTest, ANamespaceThatIsBeingDeletedTakesNothing) {
  const std::string space = name_ + "-space";
  (void)Part(absl::StrCat("kubectl create namespace ", space));
  (void)Part(absl::StrCat("kubectl -n ", space, " create configmap stays"));
  const std::string patch = absl::StrCat("kubectl -n ", space, " patch configmap stays --type merge -p ");
  (void)Part(patch + R"('{"metadata":{"finalizers":["orch.io/stays"]}}')");
  (void)Part(absl::StrCat("kubectl delete --wait=false namespace ", space));
  const auto file = Folder() + name_ + "-admin";
  Write(file, Part("kubectl config view --raw"));
  auto admin = ReadKubeconfig({file}, "");
  ASSERT_TRUE(admin.ok()) << admin.status();
  const auto client = Connect([&](Cluster* cluster) { *cluster = *admin; });
  const Answer refused = Ask(
      client.get(), {"POST", absl::StrCat("/apis/batch/v1/namespaces/", space, "/jobs"), Job(name_, "true").dump()});
  EXPECT_EQ(refused.code, 403) << refused.Words();
  ASSERT_FALSE(refused.causes.empty());
  EXPECT_EQ(refused.causes[0].reason, "NamespaceTerminating");
  (void)Part(patch + R"('{"metadata":{"finalizers":null}}')");
  unlink(file.c_str());
}

TEST_F(LiveTest, ItIsKnownByATokenOrByACertificate) {
  EXPECT_EQ(WhoAmI(client_.get()), absl::StrCat("system:serviceaccount:", cluster_.space, ":orchd"));
  const auto file = Folder() + name_ + "-admin";
  Write(file, Part("kubectl config view --raw"));
  auto admin = ReadKubeconfig({file}, "");
  unlink(file.c_str());
  ASSERT_TRUE(admin.ok()) << admin.status();
  ASSERT_FALSE(admin->identity.certificate_pem.empty());
  const auto certified = Connect([&](Cluster* cluster) { *cluster = *admin; });
  EXPECT_EQ(WhoAmI(certified.get()), "admin");
  const auto as_other = Connect([&](Cluster* cluster) {
    *cluster = *admin;
    cluster->identity.impersonation = {"Impersonate-User: somebody"};
  });
  EXPECT_EQ(WhoAmI(as_other.get()), "somebody");
  const auto nobody = Connect([](Cluster* cluster) { cluster->identity.token = "wrong"; });
  EXPECT_THAT(WhoAmI(nobody.get()), HasSubstr("401 Unauthorized"));
  const auto anonymous = Connect([](Cluster* cluster) { cluster->identity = {}; });
  EXPECT_THAT(WhoAmI(anonymous.get()), AnyOf(HasSubstr("system:anonymous"), HasSubstr("401"), HasSubstr("403")));
  const auto stranger = Connect([](Cluster* cluster) { cluster->server.ca_pem.clear(); });
  Request version{"GET", "/version"};
  version.tries = 1;
  const Answer untrusted = Ask(stranger.get(), version);
  EXPECT_EQ(untrusted.code, 0);
  EXPECT_TRUE(untrusted.unheard);
  EXPECT_THAT(untrusted.message, HasSubstr("certificate"));
  const auto misnamed = Connect([](Cluster* cluster) { cluster->server.tls_server_name = "other.example"; });
  EXPECT_THAT(Ask(misnamed.get(), version).message, HasSubstr("other.example"));
  const auto named = Connect([](Cluster* cluster) { cluster->server.tls_server_name = "kubernetes.default.svc"; });
  EXPECT_TRUE(Ask(named.get(), version).ok());
}

TEST_F(LiveTest, ATokenThatIsWithdrawnIsReadAgainFromItsFile) {
  const std::string file = Folder() + name_ + "-token";
  Write(file, BoundToken(name_ + "-a"));
  const auto client = Connect([&](Cluster* cluster) {
    cluster->identity = {};
    cluster->identity.token_file = file;
  });
  ASSERT_TRUE(Ask(client.get(), {"GET", jobs_}).ok());
  // The server has believed a token for up to ten seconds.
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete secret ", name_, "-a"));
  EXPECT_TRUE(Wait(client.get(), [&] { return Ask(client.get(), {"GET", jobs_}).code == 401; }));
  Write(file, BoundToken(name_ + "-b") + "\n");
  EXPECT_EQ(Ask(client.get(), {"GET", jobs_}).code, 200) << "the first request after it, without a 401 for the caller";
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete secret ", name_, "-b"));
  unlink(file.c_str());
}

TEST_F(LiveTest, AProgramGivesTokensAndCertificates) {
  const std::string base = Folder() + name_, program = base + "-login", answer = base + "-answer",
                    runs = base + "-runs";
  Write(program, absl::StrCat("#!/bin/sh\necho run >>", runs, "\ncat ", answer, "\n"));
  const auto credential = [](json status) {
    return json{
        {"apiVersion", "client.authentication.k8s.io/v1"}, {"kind", "ExecCredential"}, {"status", std::move(status)}}
        .dump();
  };
  const auto count = [&] {
    std::ifstream in(runs);
    int lines = 0;
    for (std::string line; std::getline(in, line);) ++lines;
    return lines;
  };
  Write(answer, credential({{"token", BoundToken(name_ + "-a")}}));
  const auto client = Connect([&](Cluster* cluster) {
    cluster->identity = {};
    cluster->identity.exec = ExecPlugin{"client.authentication.k8s.io/v1", program, {}, {}, "", false};
  });
  int good = 0, done = 0;
  for (int i = 0; i < 50; ++i) {
    client->Call({"GET", jobs_ + "?limit=1"}, [&](const Answer& a) {
      ++done;
      good += a.ok() ? 1 : 0;
    });
  }
  EXPECT_TRUE(Wait(client.get(), [&] { return done == 50; }));
  EXPECT_EQ(good, 50);
  EXPECT_EQ(count(), 1) << "one run for all of them";
  // It is withdrawn before it has expired: the program is run again, and no caller sees it.
  Write(answer, credential({{"token", BoundToken(name_ + "-b")}}));
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete secret ", name_, "-a"));
  EXPECT_TRUE(Wait(client.get(), [&] {
    EXPECT_EQ(Ask(client.get(), {"GET", jobs_ + "?limit=1"}).code, 200);
    return count() == 2;
  }));
  // Now it gives a certificate, which only a new connection can show.
  const auto file = base + "-admin";
  Write(file, Part("kubectl config view --raw"));
  auto admin = ReadKubeconfig({file}, "");
  unlink(file.c_str());
  ASSERT_TRUE(admin.ok()) << admin.status();
  Write(answer, credential({{"clientCertificateData", admin->identity.certificate_pem},
                            {"clientKeyData", admin->identity.key_pem}}));
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete secret ", name_, "-b"));
  EXPECT_TRUE(Wait(client.get(), [&] { return WhoAmI(client.get()) == "admin"; })) << WhoAmI(client.get());
  EXPECT_EQ(count(), 3);
  Write(program, "#!/bin/sh\necho you are not logged in >&2\nexit 1\n");
  const auto failing = Connect([&](Cluster* cluster) {
    cluster->identity = {};
    cluster->identity.exec =
        ExecPlugin{"client.authentication.k8s.io/v1", program, {}, {}, "ask an administrator", false};
  });
  EXPECT_THAT(WhoAmI(failing.get()),
              ::testing::AllOf(HasSubstr("you are not logged in"), HasSubstr("ask an administrator")));
  for (const std::string& path : {program, answer, runs}) unlink(path.c_str());
}

TEST_F(LiveTest, ManyAtOnceOverFewConnections) {
  constexpr int kMany = 500;
  const int before = Sockets();
  int done = 0, good = 0, most = 0;
  for (int i = 0; i < kMany; ++i) {
    client_->Call({"GET", jobs_ + "?limit=1"}, [&](const Answer& answer) {
      ++done;
      good += answer.ok() ? 1 : 0;
    });
  }
  EXPECT_TRUE(Wait([&] {
    most = std::max(most, Sockets() - before);
    return done == kMany;
  }));
  EXPECT_EQ(good, kMany);
  EXPECT_LE(most, 30) << "one for a hundred streams, and one after each that the server has ended";
}

TEST_F(LiveTest, ManyStreamsLeaveRoomForRequests) {
  constexpr int kMany = 300;
  const int before = Sockets();
  std::vector<std::unique_ptr<Watch>> watches;
  std::map<int, int> seen;
  for (int i = 0; i < kMany; ++i) {
    watches.push_back(std::make_unique<Watch>(
        client_.get(), jobs_, Selector(),
        Watch::Calls{[] {}, [&seen, i](const json&) { ++seen[i]; }, [](const json&) {}, [] {},
                     [](const Answer&) {}}));  // a server that ends connections may take one along
    watches.back()->Start();
  }
  EXPECT_TRUE(Wait([&] {
    for (const auto& watch : watches) {
      if (watch->lists() == 0) return false;
    }
    return true;
  }));
  Make(name_, "true");
  EXPECT_TRUE(Wait([&] { return seen.size() == kMany; })) << seen.size();
  EXPECT_LE(Sockets() - before, 30);
  watches.clear();
  Delete(name_);
}

}  // namespace
}  // namespace orch::kubernetes
