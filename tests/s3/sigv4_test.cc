// The signer against the examples that AWS publishes: those of S3's documentation, and of the general test suite.
#include "server/s3/sigv4.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

namespace orch::s3 {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr char kDate[] = "20130524T000000Z";
const Credentials kExample = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
constexpr char kHost[] = "examplebucket.s3.amazonaws.com";

std::string Sign(SignedRequest request) { return Authorization(request, kExample, {"us-east-1", "s3"}, kDate); }

TEST(S3Examples, GetObject) {
  SignedRequest request;
  request.path = "/test.txt";
  request.payload_hash = kEmptyHash;
  request.headers = {
      {"Host", kHost}, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", kEmptyHash}, {"x-amz-date", kDate}};
  EXPECT_EQ(Sign(request),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(S3Examples, PutObject) {
  SignedRequest request;
  request.method = "PUT";
  request.path = "/test$file.text";
  request.payload_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
  request.headers = {{"Host", kHost},
                     {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                     {"x-amz-content-sha256", request.payload_hash},
                     {"x-amz-date", kDate},
                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
  EXPECT_THAT(Sign(request), EndsWith("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST(S3Examples, QueriesWithAndWithoutValues) {
  SignedRequest request;
  request.query = {{"lifecycle", ""}};
  request.payload_hash = kEmptyHash;
  request.headers = {{"Host", kHost}, {"x-amz-content-sha256", kEmptyHash}, {"x-amz-date", kDate}};
  EXPECT_THAT(Sign(request), EndsWith("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
  request.query = {{"prefix", "J"}, {"max-keys", "2"}};  // not sorted
  EXPECT_THAT(Sign(request), EndsWith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST(S3Examples, PresignedAddress) {
  SignedRequest request;
  request.path = "/test.txt";
  request.payload_hash = kUnsigned;
  request.headers = {{"host", kHost}};
  EXPECT_EQ(PresignedQuery(request, kExample, {"us-east-1", "s3"}, kDate, 86400),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_"
            "request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

// The general suite: region us-east-1, service `service`, one date, one pair of keys.
std::string Suite(const std::string& method, const std::string& path, const Pairs& query, Pairs headers,
                  const std::string& hash = kEmptyHash) {
  SignedRequest request;
  request.method = method;
  request.path = path;
  request.query = query;
  request.payload_hash = hash;
  request.headers = std::move(headers);
  request.headers.emplace_back("Host", "example.amazonaws.com");
  request.headers.emplace_back("X-Amz-Date", "20150830T123600Z");
  const std::string all = Authorization(request, {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ""},
                                        {"us-east-1", "service"}, "20150830T123600Z");
  return all.substr(all.rfind('=') + 1);
}

TEST(Suite, Vectors) {
  EXPECT_EQ(Suite("GET", "/", {}, {}), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
  EXPECT_EQ(Suite("POST", "/", {}, {}), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
  EXPECT_EQ(Suite("GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}}, {}),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
  EXPECT_EQ(Suite("GET", "/", {{"\xe1\x88\xb4", "bar"}}, {}),
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04");
  EXPECT_EQ(Suite("GET", "/\xe1\x88\xb4", {}, {}), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
  EXPECT_EQ(Suite("GET", "/", {}, {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}}),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
  EXPECT_EQ(Suite("GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", {}, {}),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f");
}

TEST(Signing, ASessionTokenIsPartOfAnAddress) {
  SignedRequest request;
  request.headers = {{"host", kHost}};
  request.payload_hash = kUnsigned;
  Credentials with = kExample;
  with.session_token = "a+b/c=";
  EXPECT_THAT(PresignedQuery(request, with, {"us-east-1", "s3"}, kDate, 60),
              HasSubstr("X-Amz-Security-Token=a%2Bb%2Fc%3D"));
}

TEST(Signing, TheDateIsUtc) { EXPECT_EQ(AmzDate(1369353600000000), kDate); }

}  // namespace
}  // namespace orch::s3
