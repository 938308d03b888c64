// The chain of the platform's credentials, over scripted answers: the order, what is kept and renewed, what is refused.
#include "server/s3/credentials.h"

#include <fstream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::s3 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int64_t kNow = 1'800'000'000'000'000;  // 2027-01-15T08:00:00Z
constexpr int64_t kSecond = 1'000'000;

std::string Answer(const std::string& key, const std::string& until) {
  return absl::StrCat(R"({"Code":"Success","AccessKeyId":")", key,
                      R"(","SecretAccessKey":"s","Token":"t","Expiration":")", until, "\"}");
}

class Chain : public testing::Test {
 protected:
  Chain()
      : chain_(
            {"eu-west-1", [this](const char* name) { return variables_[name]; }, [this] { return now_; },
             [this](const std::string& method, const std::string& url, const Pairs& headers, const std::string& body) {
               std::string call = absl::StrCat(method, " ", url);
               for (const auto& [name, value] : headers) absl::StrAppend(&call, " ", name, "=", value);
               if (!body.empty()) absl::StrAppend(&call, " ", body);
               calls_.push_back(call);
               const auto found = answers_.find(absl::StrCat(method, " ", url));
               return found == answers_.end() ? HttpReply{0, "nobody is there"} : found->second;
             }}) {
    variables_["HOME"] = testing::TempDir() + "no-home";
  }
  std::string Key() {
    const auto got = chain_.Get();
    return got.ok() ? got->access_key : absl::StrCat(ReasonOf(got.status()), ": ", got.status().message());
  }
  static std::string File(const std::string& text) {
    const std::string path = absl::StrCat(testing::TempDir(), "credentials-", Hex(RandomBytes(6)));
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::map<std::string, std::string> variables_;
  std::map<std::string, HttpReply> answers_;
  std::vector<std::string> calls_;
  int64_t now_ = kNow;
  CredentialChain chain_;
};

TEST_F(Chain, TheFirstThatIsThereIsTheOne) {
  answers_["PUT http://169.254.169.254/latest/api/token"] = {200, "session"};
  answers_["GET http://169.254.169.254/latest/meta-data/iam/security-credentials/"] = {200, "a role\nanother"};
  answers_["GET http://169.254.169.254/latest/meta-data/iam/security-credentials/a%20role"] = {
      200, Answer("machine", "2027-01-15T08:10:00Z")};
  EXPECT_EQ(Key(), "machine");
  EXPECT_THAT(calls_, ElementsAre(HasSubstr("X-aws-ec2-metadata-token-ttl-seconds=21600"),
                                  HasSubstr("X-aws-ec2-metadata-token=session"),
                                  HasSubstr("X-aws-ec2-metadata-token=session")));
  const auto fresh = [&](const char* name, const std::string& value) {
    variables_[name] = value;
    now_ += 3600 * kSecond;  // what is kept is over
  };
  fresh("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x");
  answers_["GET http://169.254.170.2/v2/credentials/x"] = {200, Answer("container", "2027-01-15T09:30:00Z")};
  EXPECT_EQ(Key(), "container");
  fresh("AWS_SHARED_CREDENTIALS_FILE", File("[default]\naws_access_key_id = profile\naws_secret_access_key=s\n"));
  EXPECT_EQ(Key(), "profile");
  variables_["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/r";
  fresh("AWS_WEB_IDENTITY_TOKEN_FILE", File("a+token\n"));
  answers_["POST https://sts.eu-west-1.amazonaws.com/"] = {
      200,
      "<A><AccessKeyId>web</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
      "<Expiration>2027-01-15T12:00:00Z</Expiration></A>"};
  EXPECT_EQ(Key(), "web");
  EXPECT_THAT(calls_.back(), HasSubstr("WebIdentityToken=a%2Btoken"));
  EXPECT_THAT(calls_.back(), HasSubstr("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"));
  variables_["AWS_ACCESS_KEY_ID"] = "variable";
  fresh("AWS_SECRET_ACCESS_KEY", "s");
  EXPECT_EQ(Key(), "variable");
}

TEST_F(Chain, GrantedOnesAreKeptAndRenewedBeforeTheirEnd) {
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1:1/c";
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "tok";
  HttpReply& answer = answers_["GET http://127.0.0.1:1/c"];
  answer = {200, Answer("one", "2027-01-15T09:00:00Z")};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Key(), "one");
  EXPECT_THAT(calls_, ElementsAre("GET http://127.0.0.1:1/c Authorization=tok"));
  answer = {200, Answer("two", "2027-01-15T10:00:00Z")};
  now_ = kNow + 3299 * kSecond;
  EXPECT_EQ(Key(), "one");
  now_ = kNow + 3301 * kSecond;
  EXPECT_EQ(Key(), "two");
  // Not renewed: good to its end, and asked about every five seconds only.
  answer = {500, "not now"};
  now_ = kNow + 6901 * kSecond;
  calls_.clear();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Key(), "two");
  EXPECT_EQ(calls_.size(), 1u);
  now_ += 6 * kSecond;
  EXPECT_EQ(Key(), "two");
  EXPECT_EQ(calls_.size(), 2u);
  now_ = kNow + 7201 * kSecond;
  EXPECT_THAT(Key(), HasSubstr("HTTP status 500: not now"));
  EXPECT_THAT(Key(), HasSubstr("STORE_CREDENTIALS"));
  EXPECT_EQ(calls_.size(), 3u);
  // The token's file is read anew each time.
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = File("from-a-file\n");
  answer = {200, Answer("three", "2027-01-15T11:00:00Z")};
  now_ += 6 * kSecond;
  EXPECT_EQ(Key(), "three");
  EXPECT_THAT(calls_.back(), HasSubstr("Authorization=from-a-file"));
}

TEST_F(Chain, ThoseOfWhichNobodySaysForHowLongAreNotKept) {
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1:1/c";
  HttpReply& answer = answers_["GET http://127.0.0.1:1/c"];
  for (const std::string key : {"one", "two"}) {
    answer = {200, absl::StrCat(R"({"AccessKeyId":")", key, R"(","SecretAccessKey":"s"})")};
    EXPECT_EQ(Key(), key);
  }
  answer = {500, "not now"};
  EXPECT_THAT(Key(), HasSubstr("HTTP status 500"));
  now_ += 6 * kSecond;
  answer = {200, Answer("three", "some day")};
  EXPECT_THAT(Key(), HasSubstr("STORE_CREDENTIALS"));
}

TEST_F(Chain, WhatIsThereAndGivesNothingSaysSo) {
  EXPECT_THAT(Key(), HasSubstr("no metadata service at http://169.254.169.254: nobody is there"));
  now_ += 10 * kSecond;
  answers_["PUT http://169.254.169.254/latest/api/token"] = {200, "session"};
  answers_["GET http://169.254.169.254/latest/meta-data/iam/security-credentials/"] = {404, ""};
  EXPECT_THAT(Key(), HasSubstr("has no role"));
  now_ += 10 * kSecond;
  calls_.clear();
  variables_["AWS_EC2_METADATA_DISABLED"] = "true";
  EXPECT_THAT(Key(), HasSubstr("AWS_EC2_METADATA_DISABLED is true"));
  EXPECT_THAT(calls_, IsEmpty());
  now_ += 10 * kSecond;
  variables_["AWS_PROFILE"] = "mine";
  EXPECT_THAT(Key(), HasSubstr("profile `mine` has none"));
  variables_["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/no/such/file";
  EXPECT_THAT(Key(), HasSubstr("AWS_ROLE_ARN is not"));
  now_ += 10 * kSecond;
  variables_["AWS_ROLE_ARN"] = "arn:r";
  EXPECT_THAT(Key(), HasSubstr("/no/such/file cannot be read"));
  now_ += 10 * kSecond;
  variables_["AWS_WEB_IDENTITY_TOKEN_FILE"] = File("t");
  answers_["POST https://sts.eu-west-1.amazonaws.com/"] = {
      403, "<E><Code>AccessDenied</Code><Message>not this role</Message></E>"};
  EXPECT_THAT(Key(), HasSubstr("STS does not give the role arn:r: AccessDenied: not this role"));
  EXPECT_THAT(Key(), Not(HasSubstr("WebIdentityToken")));
}

TEST(Metadata, IsRead) {
  EXPECT_EQ(ReadMetadata(Answer("k", "2027-01-15T08:00:00Z"))->expires, kNow);
  EXPECT_EQ(ReadMetadata(R"({"AccessKeyId":"k","SecretAccessKey":"s"})")->expires, 0);
  for (const char* end : {R"("soon")", R"("2027-01-15")", "1800000000", "{}"}) {
    const auto bad =
        ReadMetadata(absl::StrCat(R"({"AccessKeyId":"k","SecretAccessKey":"s","Expiration":)", end, "}")).status();
    EXPECT_EQ(ReasonOf(bad), "STORE_CREDENTIALS") << end;
    EXPECT_THAT(bad.message(), HasSubstr("which is no time")) << end;
  }
  EXPECT_THAT(ReadMetadata(R"({"Code":"Failed","Message":"why"})").status().message(), HasSubstr("Failed: why"));
  for (const char* bad : {"", "[]", "{", "{}", R"({"AccessKeyId":1,"SecretAccessKey":"s"})"}) {
    EXPECT_EQ(ReasonOf(ReadMetadata(bad).status()), "STORE_CREDENTIALS") << bad;
  }
  EXPECT_FALSE(ReadAssumed("<Error/>").ok());
  const std::string keys = "<AccessKeyId>k</AccessKeyId><SecretAccessKey>s</SecretAccessKey>";
  EXPECT_EQ(ReadAssumed(keys)->expires, 0);
  EXPECT_EQ(ReasonOf(ReadAssumed(keys + "<Expiration>never</Expiration>").status()), "STORE_CREDENTIALS");
}

TEST(Profile, IsRead) {
  const std::string text =
      "# c\n[a]\naws_access_key_id=1\n\n[ b ]\r\n aws_access_key_id = 2\r\naws_secret_access_key = "
      "3=4\naws_session_token=5\n[c]";
  EXPECT_EQ(ReadProfile(text, "a").access_key, "1");
  EXPECT_EQ(ReadProfile(text, "a").secret_key, "");
  EXPECT_EQ(ReadProfile(text, "b").access_key, "2");
  EXPECT_EQ(ReadProfile(text, "b").secret_key, "3=4");
  EXPECT_EQ(ReadProfile(text, "b").session_token, "5");
  EXPECT_EQ(ReadProfile(text, "c").access_key, "");
  EXPECT_EQ(ReadProfile("", "").access_key, "");
}

TEST(ContainerAddress, TellsTheTokenToNoStranger) {
  EXPECT_EQ(*ContainerAddress("/a?b", "http://elsewhere"), "http://169.254.170.2/a?b");
  for (const char* good : {"https://any.example/x", "http://localhost/x", "http://127.0.0.1:80/x", "http://[::1]:9",
                           "http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1"}) {
    EXPECT_TRUE(ContainerAddress("", good).ok()) << good;
  }
  for (const char* bad : {"http://any.example/x", "http://127.0.0.1.example/x", "http://127.0.0.1@example/",
                          "http://127.0.0.1:80@example/", "http://127.0.0.1909/", "http://127.0.0.1\\@example/",
                          "ftp://x", "", "http://169.254.170.2.example"}) {
    EXPECT_FALSE(ContainerAddress("", bad).ok()) << bad;
  }
  EXPECT_FALSE(ContainerAddress("a", "").ok());
}

}  // namespace
}  // namespace orch::s3
