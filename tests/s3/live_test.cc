// The client against a server: ORCH_TEST_S3 is `ADDRESS BUCKET ACCESS SECRET`; without it nothing is tested here.
#include <curl/curl.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/s3/client.h"

namespace orch::s3 {
namespace {

class Live : public testing::Test {
 protected:
  void SetUp() override {
    const char* text = getenv("ORCH_TEST_S3");
    if (text == nullptr) GTEST_SKIP() << "no server";
    const std::vector<std::string> words = absl::StrSplit(text, ' ');
    config_.endpoint = words[0];
    config_.bucket = words[1];
    config_.path_style = true;
    config_.tries = 2;
    credentials_ = {words[2], words[3], ""};
    client_ = Make(config_, credentials_, 0);
  }
  static std::unique_ptr<Client> Make(const BucketConfig& config, const Credentials& credentials, int64_t shift) {
    return std::make_unique<Client>(
        config, [credentials]() -> absl::StatusOr<Credentials> { return credentials; },
        [shift] { return Clock::Real().Now().wall + shift; });
  }
  std::string File(const std::string& bytes) {
    const std::string path = absl::StrCat(testing::TempDir(), "live-", Hex(RandomBytes(6)));
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  static std::string Read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  // A call by somebody who has the address and nothing else.
  static long Stranger(const Presigned& address, const std::string* body, std::string* answer) {
    CURL* handle = curl_easy_init();
    curl_slist* headers = nullptr;
    for (const auto& [name, value] : address.headers) {
      headers = curl_slist_append(headers, absl::StrCat(name, ": ", value).c_str());
    }
    headers = curl_slist_append(headers, "Expect:");
    headers = curl_slist_append(headers, "Content-Type:");
    curl_easy_setopt(handle, CURLOPT_URL, address.url.c_str());
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(
        handle, CURLOPT_WRITEFUNCTION, +[](char* data, size_t size, size_t n, void* out) -> size_t {
          static_cast<std::string*>(out)->append(data, size * n);
          return size * n;
        });
    if (body != nullptr) {
      curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body->data());
      curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body->size()));
      curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, "PUT");
    }
    long status = 0;
    if (curl_easy_perform(handle) == CURLE_OK) curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(handle);
    return status;
  }

  BucketConfig config_;
  Credentials credentials_;
  std::unique_ptr<Client> client_;
};

TEST_F(Live, ObjectsGoInAndComeOut) {
  const std::string bytes = RandomBytes(200) + "\n";
  const std::string digest = Sha256Of(bytes);
  for (const std::string key : {"plain", "a b/c+d/e=f&g", "é/日本", "~tilde-._"}) {
    ASSERT_TRUE(client_->PutFile(key, File(bytes), 201, digest).ok()) << key;
    EXPECT_EQ(*client_->Head(key), 201);
    const std::string back = File("") + ".back";
    const absl::Status got = client_->GetFile(key, back, digest);
    ASSERT_TRUE(got.ok()) << got;
    EXPECT_EQ(Read(back), bytes);
    EXPECT_EQ(ReasonOf(client_->GetFile(key, back + "2", Sha256Of("other"))), "DIGEST_MISMATCH");
    EXPECT_EQ(Read(back + "2"), "");
    EXPECT_TRUE(client_->Remove(key).ok());
    EXPECT_TRUE(client_->Remove(key).ok());
    EXPECT_EQ(ReasonOf(client_->Head(key).status()), "OBJECT_MISSING");
    EXPECT_EQ(ReasonOf(client_->GetFile(key, back + "3", digest)), "OBJECT_MISSING");
  }
}

TEST_F(Live, OtherBytesThanTheDigestSaysAreRefusedByTheServer) {
  const absl::Status put = client_->PutFile("wrong", File("these"), 5, Sha256Of("those"));
  EXPECT_FALSE(put.ok());
  EXPECT_EQ(ReasonOf(client_->Head("wrong").status()), "OBJECT_MISSING");
}

TEST_F(Live, AddressesWorkForAWhileForWhatTheySay) {
  const std::string body = "from a stranger";
  std::string answer;
  const auto put = client_->PresignPut("sent", 15, Sha256Of(body), 60);
  ASSERT_EQ(Stranger(*put, &body, &answer), 200) << answer;
  const auto get = client_->PresignGet("sent", 60);
  answer.clear();
  ASSERT_EQ(Stranger(*get, nullptr, &answer), 200);
  EXPECT_EQ(answer, body);
  // Other bytes, another key, a changed signature.
  const std::string other = "from astranger!";
  EXPECT_GE(Stranger(*client_->PresignPut("sent2", 15, Sha256Of(body), 60), &other, &answer), 400);
  Presigned changed = *get;
  changed.url.back() = changed.url.back() == '0' ? '1' : '0';
  EXPECT_EQ(Stranger(changed, nullptr, &answer), 403);
  Presigned elsewhere = *get;
  elsewhere.url.replace(elsewhere.url.find("/sent?"), 6, "/other?");
  EXPECT_EQ(Stranger(elsewhere, nullptr, &answer), 403);
  // One of a while ago.
  const auto old = Make(config_, credentials_, -120'000'000);
  answer.clear();
  EXPECT_EQ(Stranger(*old->PresignGet("sent", 60), nullptr, &answer), 403) << answer;
  EXPECT_EQ(Stranger(*old->PresignPut("sent", 15, Sha256Of(body), 60), &body, &answer), 403);
  EXPECT_EQ(Stranger(*old->PresignGet("sent", 600), nullptr, &answer), 200);
}

TEST_F(Live, WhatIsWrongHasAWord) {
  Credentials wrong = credentials_;
  wrong.secret_key = "wrong";
  EXPECT_EQ(ReasonOf(Make(config_, wrong, 0)->PutText("k", "t")), "STORE_CREDENTIALS");
  EXPECT_EQ(ReasonOf(Make(config_, wrong, 0)->Head("k").status()), "STORE_CREDENTIALS");
  BucketConfig missing = config_;
  missing.bucket = "no-such-bucket";
  EXPECT_EQ(ReasonOf(Make(missing, credentials_, 0)->PutText("k", "t")), "BUCKET_MISSING");
  BucketConfig away = config_;
  away.endpoint = "http://127.0.0.1:9";
  EXPECT_EQ(ReasonOf(Make(away, credentials_, 0)->PutText("k", "t")), "STORE_UNAVAILABLE");
  const auto stopped = Make(away, credentials_, 0);
  stopped->Stop();
  EXPECT_FALSE(stopped->PutText("k", "t").ok());
}

TEST_F(Live, PartsMakeOneObject) {
  BucketConfig small = config_;
  small.part_bytes = small.whole_bytes = int64_t{5} << 20;
  const auto client = Make(small, credentials_, 0);
  const std::string bytes = RandomBytes(12 << 20);
  const absl::Status put = client->PutFile("parts", File(bytes), 12 << 20, Sha256Of(bytes));
  ASSERT_TRUE(put.ok()) << put;
  const std::string back = File("") + ".back";
  ASSERT_TRUE(client->GetFile("parts", back, Sha256Of(bytes)).ok());
  EXPECT_EQ(Read(back), bytes);
}

TEST(Endpoint, IsSplit) {
  std::string scheme;
  std::string authority;
  ASSERT_TRUE(SplitEndpoint("https://S3.example:443/", &scheme, &authority));
  EXPECT_EQ(scheme + " " + authority, "https s3.example");
  ASSERT_TRUE(SplitEndpoint("http://127.0.0.1:7070", &scheme, &authority));
  EXPECT_EQ(authority, "127.0.0.1:7070");
  for (const char* bad : {"", "s3.example", "ftp://x", "https://", "https://a/b", "https://a@b", "http://a b"}) {
    EXPECT_FALSE(SplitEndpoint(bad, &scheme, &authority)) << bad;
  }
}

TEST(Xml, OneTextIsFound) {
  EXPECT_EQ(XmlText("<Error><Code>NoSuchKey</Code><Message>a &amp; b</Message></Error>", "Message"), "a & b");
  EXPECT_EQ(XmlText("<Error><Code>NoSuchKey", "Code"), "");
  EXPECT_EQ(XmlText("", "Code"), "");
}

}  // namespace
}  // namespace orch::s3
