// The client of an API server against a scripted double: what is repeated and when, who we are, what an answer says.
#include "backends/kubernetes/api/client.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/kubernetes/scripted_transport.h"

namespace orch::kubernetes {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr int64_t kSecond = 1'000'000;

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/orch-kubeclient-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override {
    client_.reset();
    std::filesystem::remove_all(folder_);
  }
  Client* Make(Identity identity = {}) {
    Cluster cluster;
    cluster.identity = std::move(identity);
    auto transport = std::make_unique<ScriptedTransport>(&clock_);
    script_ = transport.get();
    client_ = std::make_unique<Client>(std::move(cluster), std::move(transport), &clock_, 1);
    return client_.get();
  }
  // Until it is answered, or an hour of the script is over.
  Answer Ask(Request request) {
    Answer out;
    bool done = false;
    client_->Call(std::move(request), [&](Answer answer) {
      out = std::move(answer);
      done = true;
    });
    const int64_t end = clock_.mono + 3600 * kSecond;
    while (!done && clock_.mono < end) client_->Poll(1000);
    EXPECT_TRUE(done);
    return out;
  }
  // A program that gives credentials.
  Identity Program(const std::string& script) {
    const std::string file = folder_ + "/login";
    std::ofstream(file) << "#!/bin/sh\n" << script;
    chmod(file.c_str(), 0700);
    Identity out;
    out.exec =
        ExecPlugin{"client.authentication.k8s.io/v1", file, {"word"}, {{"FOLDER", folder_}}, "install it so", true};
    return out;
  }

  ScriptedClock clock_;
  ScriptedTransport* script_ = nullptr;
  std::unique_ptr<Client> client_;
  std::string folder_;
};

TEST_F(ClientTest, WhatMayBeCreatedLaterIsToldFromWhatMayNot) {
  const auto for_now = [](int code, const char* message) {
    Answer answer;
    answer.code = code;
    answer.message = message;
    return answer.refused_for_now();
  };
  EXPECT_TRUE(for_now(403, "jobs.batch \"j\" is forbidden: exceeded quota: none, requested: count/jobs.batch=1"));
  EXPECT_TRUE(
      for_now(403, "jobs.batch \"j\" is forbidden: status unknown for quota: none, resources: count/jobs.batch"));
  EXPECT_TRUE(for_now(429, ""));
  EXPECT_TRUE(for_now(500, "failed calling webhook \"w\": connection refused"));
  EXPECT_FALSE(for_now(403, "jobs.batch is forbidden: User \"u\" cannot create resource \"jobs\""));
  EXPECT_FALSE(for_now(500, "etcdserver: request timed out"));
  EXPECT_FALSE(for_now(0, "exceeded quota"));
}

TEST_F(ClientTest, AnAnswerIsReadAndAStatusToldApart) {
  Make();
  script_->Expect("GET", "/version", 200, R"({"major":"1"})");
  script_->Expect("POST", "/jobs", 409,
                  R"({"kind":"Status","reason":"AlreadyExists","message":"jobs \"a\" already exists","code":409})");
  script_->Expect(
      "POST", "/jobs", 422,
      R"({"kind":"Status","reason":"Invalid","message":"Job is invalid","details":{"causes":[{"reason":"R","message":"must be 1","field":"spec.x"}]}})");
  script_->Expect("GET", "/", 404, "<html>nothing here</html>");
  script_->Expect("GET", "/", 200, "hello");
  EXPECT_EQ(Ask({"GET", "/version"}).object["major"], "1");
  const Answer taken = Ask({"POST", "/jobs", "{}"});
  EXPECT_EQ(taken.code, 409);
  EXPECT_EQ(taken.reason, "AlreadyExists");
  EXPECT_EQ(Ask({"POST", "/jobs", "{}"}).Words(), "422 Invalid: Job is invalid; spec.x: must be 1");
  EXPECT_EQ(Ask({"GET", "/"}).Words(), "404: <html>nothing here</html>");
  Request once{"GET", "/"};
  once.tries = 1;
  EXPECT_THAT(Ask(once).Words(), HasSubstr("is this an API server?"));
  EXPECT_THAT(script_->odd, IsEmpty());
}

TEST_F(ClientTest, AnAnswerWithoutABodyIsNoneWhereAnObjectIsNeeded) {
  Make();
  script_->Expect("DELETE", "/", 204);
  script_->Expect("GET", "/", 200);
  script_->Expect("POST", "/", 204);
  const Answer deleted = Ask({"DELETE", "/"});
  EXPECT_TRUE(deleted.ok());
  EXPECT_TRUE(deleted.object.is_object()) << "whoever looks into it does not throw";
  for (const char* method : {"GET", "POST"}) {
    Request once{method, "/"};
    once.tries = 1;
    EXPECT_EQ(Ask(once).code, 0) << method;
  }
  EXPECT_THAT(script_->odd, IsEmpty());
}

TEST_F(ClientTest, RetryAfterIsKept) {
  Make();
  script_->Expect("GET", "/a", 429, "Too many requests, please try again later.").answer.retry_after = "7";
  script_->Expect("GET", "/a", 503, R"({"kind":"Status","details":{"retryAfterSeconds":3}})");
  script_->Expect("GET", "/a", 200, "{}");
  EXPECT_TRUE(Ask({"GET", "/a"}).ok());
  ASSERT_THAT(script_->seen, SizeIs(3));
  EXPECT_GE(script_->seen[1].at - script_->seen[0].at, 7 * kSecond);
  EXPECT_LT(script_->seen[1].at - script_->seen[0].at, 8 * kSecond);
  EXPECT_GE(script_->seen[2].at - script_->seen[1].at, 3 * kSecond);
  EXPECT_LT(script_->seen[2].at - script_->seen[1].at, 4 * kSecond);
}

TEST_F(ClientTest, PausesGrowAndTriesEnd) {
  Make();
  for (int i = 0; i < 4; ++i) script_->Expect("GET", "/a", i % 2 == 0 ? 0 : 500, "broke");
  Request request{"GET", "/a"};
  request.tries = 4;
  const Answer answer = Ask(request);
  EXPECT_EQ(answer.code, 500);
  ASSERT_THAT(script_->seen, SizeIs(4));
  for (int n = 1; n <= 3; ++n) {
    const int64_t pause = script_->seen[static_cast<size_t>(n)].at - script_->seen[static_cast<size_t>(n) - 1].at;
    EXPECT_GE(pause, (kSecond / 4) << (n - 1));
    EXPECT_LE(pause, ((kSecond / 2) << (n - 1)) + 1000);
  }
  for (int n = 1; n < 40; ++n) EXPECT_LE(client_->Pause(n), 30 * kSecond);
  // What would be no better later is not asked again.
  script_->Expect("GET", "/b", 404, R"({"kind":"Status","reason":"NotFound","message":"not here"})");
  EXPECT_EQ(Ask({"GET", "/b"}).code, 404);
  EXPECT_THAT(script_->seen, SizeIs(5));
}

TEST_F(ClientTest, AServerThatHasJustComeUpDoesNotKnowWhoMayWhat) {
  Make();
  constexpr char kForbidden[] = R"({"kind":"Status","reason":"Forbidden","message":"may not"})";
  Request once{"POST", "/a"};
  once.tries = 1;
  script_->Expect("POST", "/a", 403, kForbidden);
  EXPECT_EQ(Ask(once).code, 403) << "it was never away";
  script_->Expect("POST", "/a", 0, "broke");
  EXPECT_EQ(Ask(once).code, 0);
  for (int i = 0; i < 3; ++i) script_->Expect("POST", "/a", 403, kForbidden);
  script_->Expect("POST", "/a", 201, "{}");
  EXPECT_EQ(Ask(once).code, 201);
  // And not for ever.
  for (int i = 0; i < 20; ++i) script_->Expect("POST", "/b", 403, kForbidden);
  once.path = "/b";
  EXPECT_EQ(Ask(once).code, 403);
  const size_t asked = script_->seen.size();
  EXPECT_GE(asked, 16u);
  EXPECT_LE(asked, 22u);
  EXPECT_EQ(Ask(once).code, 403);
  EXPECT_EQ(script_->seen.size(), asked + 1);
}

TEST_F(ClientTest, AbortedInAnyState) {
  Make();
  bool called = false;
  const auto fail = [&](Answer) { called = true; };
  script_->Expect("GET", "/a", 500);
  const uint64_t waits = client_->Call({"GET", "/a"}, fail);
  client_->Poll(0);  // answered, and in its pause
  client_->Abort(waits);
  script_->Expect("GET", "/b", 200, "{}");
  client_->Abort(client_->Call({"GET", "/b"}, fail));
  client_->Abort(client_->After(0, [&] { called = true; }));
  client_->Abort(0);
  for (int i = 0; i < 100; ++i) client_->Poll(1000);
  EXPECT_FALSE(called);
  EXPECT_THAT(script_->seen, SizeIs(2));
}

TEST_F(ClientTest, ATokensFileIsReadAgain) {
  Identity identity;
  identity.token_file = folder_ + "/token";
  std::ofstream(identity.token_file) << "one\n";
  Make(identity);
  for (int i = 0; i < 2; ++i) script_->Expect("GET", "/a", 200, "{}");
  (void)Ask({"GET", "/a"});
  std::ofstream(identity.token_file) << "two\n";
  (void)Ask({"GET", "/a"});
  EXPECT_THAT(script_->seen[0].request.headers, Contains("Authorization: Bearer one"));
  EXPECT_THAT(script_->seen[1].request.headers, Contains("Authorization: Bearer one"));
  // One that is refused is read at once, and the request repeated, but not for ever.
  for (int i = 0; i < 2; ++i) script_->Expect("GET", "/a", 401, R"({"kind":"Status","reason":"Unauthorized"})");
  EXPECT_EQ(Ask({"GET", "/a"}).code, 401);
  EXPECT_THAT(script_->seen[3].request.headers, Contains("Authorization: Bearer two"));
  ASSERT_THAT(script_->seen, SizeIs(4));
  std::ofstream(identity.token_file) << "three\n";
  clock_.mono += 61 * kSecond;
  script_->Expect("GET", "/a", 200, "{}");
  (void)Ask({"GET", "/a"});
  EXPECT_THAT(script_->seen[4].request.headers, Contains("Authorization: Bearer three"));
}

TEST_F(ClientTest, AProgramGivesCredentialsOnceForAllThatWait) {
  Make(
      Program("echo \"$KUBERNETES_EXEC_INFO\" > \"$FOLDER/info\"; echo run >> \"$FOLDER/runs\"\n"
              "n=$(wc -l < \"$FOLDER/runs\")\n"
              "printf "
              "'{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/"
              "v1\",\"status\":{\"token\":\"t%s-%s\",'"
              "'\"clientCertificateData\":\"CERT\",\"clientKeyData\":\"KEY\"}}' $n \"$1\"\n"));
  int done = 0;
  for (int i = 0; i < 3; ++i) {
    script_->Expect("GET", "/a", 200, "{}");
    client_->Call({"GET", "/a"}, [&](const Answer& answer) { done += answer.ok() ? 1 : 0; });
  }
  for (int i = 0; i < 100000 && done < 3; ++i) client_->Poll(1000);
  ASSERT_EQ(done, 3);
  for (const auto& seen : script_->seen) EXPECT_THAT(seen.request.headers, Contains("Authorization: Bearer t1-word"));
  EXPECT_THAT(script_->certificates, Contains(std::make_pair(std::string("CERT"), std::string("KEY"))));
  std::stringstream info;
  info << std::ifstream(folder_ + "/info").rdbuf();
  EXPECT_THAT(info.str(), HasSubstr("\"interactive\":false"));
  EXPECT_THAT(info.str(), HasSubstr("\"cluster\":"));
  // Refused: it is run once more, and the request repeated.
  script_->Expect("GET", "/b", 401);
  script_->Expect("GET", "/b", 200, "{}");
  EXPECT_TRUE(Ask({"GET", "/b"}).ok());
  EXPECT_THAT(script_->seen.back().request.headers, Contains("Authorization: Bearer t2-word"));
}

TEST_F(ClientTest, ACredentialThatExpiresIsRenewedBefore) {
  Make(Program(
      "echo run >> \"$FOLDER/runs\"\n"
      "printf "
      "'{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{\"token\":\"t%s\",'"
      "'\"expirationTimestamp\":\"2023-11-14T23:00:00Z\"}}' $(wc -l < \"$FOLDER/runs\")\n"));
  // The script's clock begins at 2023-11-14T22:13:21Z.
  for (int i = 0; i < 2; ++i) script_->Expect("GET", "/a", 200, "{}");
  (void)Ask({"GET", "/a"});
  (void)Ask({"GET", "/a"});
  EXPECT_THAT(script_->seen.back().request.headers, Contains("Authorization: Bearer t1"));
  clock_.mono += 2795 * kSecond;
  script_->Expect("GET", "/a", 200, "{}");
  (void)Ask({"GET", "/a"});
  EXPECT_THAT(script_->seen.back().request.headers, Contains("Authorization: Bearer t2"));
}

TEST_F(ClientTest, AProgramThatFailsIsQuoted) {
  Make(Program("echo 'log in first' >&2; exit 3\n"));
  const Answer failed = Ask({"GET", "/a"});
  EXPECT_EQ(failed.code, 0);
  EXPECT_TRUE(failed.unheard);
  EXPECT_THAT(failed.message, HasSubstr("log in first"));
  EXPECT_THAT(failed.message, HasSubstr("install it so"));
  Make(Program("echo nonsense\n"));
  EXPECT_THAT(Ask({"GET", "/a"}).message, HasSubstr("no JSON object"));
  Identity missing;
  missing.exec = ExecPlugin{"client.authentication.k8s.io/v1", "orch-no-such-program", {}, {}, "install it so", false};
  Make(missing);
  EXPECT_THAT(Ask({"GET", "/a"}).message, HasSubstr("there is no program orch-no-such-program: install it so"));
  EXPECT_THAT(script_->seen, IsEmpty());
}

TEST_F(ClientTest, AProgramMaySayMuchBeside) {
  Make(
      Program("head -c 300000 /dev/zero | tr '\\0' x >&2; exec 2>&-\n"
              "echo "
              "'{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/"
              "v1\",\"status\":{\"token\":\"t\"}}'\n"));
  script_->Expect("GET", "/a", 200, "{}");
  EXPECT_TRUE(Ask({"GET", "/a"}).ok());
}

TEST_F(ClientTest, ABasicPasswordAndSomebodyElse) {
  Identity identity;
  identity.username = "me";
  identity.password = "pass";
  identity.impersonation = {"Impersonate-User: robot"};
  Make(identity);
  script_->Expect("GET", "/a", 200, "{}");
  (void)Ask({"GET", "/a"});
  EXPECT_THAT(script_->seen[0].request.headers, Contains("Authorization: Basic bWU6cGFzcw=="));
  EXPECT_THAT(script_->seen[0].request.headers, Contains("Impersonate-User: robot"));
}

TEST(ExecCredentialTest, OnlyWhatIsOneIsTaken) {
  const std::string version = "client.authentication.k8s.io/v1beta1";
  const auto text = [&](const std::string& status) {
    return "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" + version + "\",\"status\":" + status + "}";
  };
  EXPECT_TRUE(ParseExecCredential(text("{\"token\":\"t\"}"), version).ok());
  EXPECT_EQ(
      ParseExecCredential(text("{\"token\":\"t\",\"expirationTimestamp\":\"1970-01-01T00:00:02Z\"}"), version)->expires,
      2'000'000);
  for (const char* bad : {"{}", "1", "{\"token\":\"a\\nb\"}", "{\"clientKeyData\":\"k\"}",
                          "{\"token\":\"t\",\"expirationTimestamp\":\"soon\"}"}) {
    const auto credential = ParseExecCredential(text(bad), version);
    EXPECT_FALSE(credential.ok()) << bad;
  }
  EXPECT_FALSE(ParseExecCredential(text("{\"token\":\"t\"}"), "client.authentication.k8s.io/v1").ok());
}

}  // namespace
}  // namespace orch::kubernetes
