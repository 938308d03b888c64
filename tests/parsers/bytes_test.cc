// Inputs that fuzzing found, in what programs send each other. Each failed once.
#include <google/protobuf/any.pb.h>

#include <limits>

#include "backends/local/wire.h"
#include "client/launch/http_answer.h"
#include "client/lib/errors.h"
#include "gmock/gmock.h"
#include "google/rpc/status.pb.h"
#include "server/base/folder_listing.h"
#include "server/base/folder_pack.h"
#include "server/base/status.h"
#include "server/rpc/checks.h"

namespace orch {
namespace {

TEST(Wire, HasOneEncodingForEachMessage) {
  std::string cancel = Encode(local::Cancel{"k", true, 7}).substr(5);
  local::Cancel read;
  ASSERT_TRUE(Decode(cancel, &read));
  cancel[5] = 2;  // neither true nor false
  EXPECT_FALSE(Decode(cancel, &read));
  std::string welcome = Encode(local::Welcome{"v", 1, false, {}}).substr(5);
  local::Welcome got;
  ASSERT_TRUE(Decode(welcome, &got));
  welcome.back() = '\xcb';  // a negative number of entries
  EXPECT_FALSE(Decode(welcome, &got));
}

TEST(FolderPack, IsReadWholeOrNotAtAll) {
  const std::string listing = WriteListing({{"s", FolderEntry::Kind::kFolder, false, ""},
                                            {"s/n", FolderEntry::Kind::kFile, false, std::string(32, '1')},
                                            {"x", FolderEntry::Kind::kFile, true, std::string(32, '2')}});
  const std::string good =
      PackHead(static_cast<int64_t>(listing.size())) + listing + PackLength(5) + "hello" + PackLength(0);
  const auto read = [](const std::string& bytes) {
    const ReadAt at = [&](int64_t offset, char* out, size_t n) {
      if (static_cast<size_t>(offset) + n > bytes.size()) return false;
      bytes.copy(out, n, static_cast<size_t>(offset));
      return true;
    };
    return ReadPack(at, static_cast<int64_t>(bytes.size()), 3);
  };
  const auto pack = read(good);
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_EQ(pack->listing, listing);
  ASSERT_EQ(pack->files.size(), 2u);
  EXPECT_EQ(good.substr(static_cast<size_t>(pack->files[0].offset), static_cast<size_t>(pack->files[0].size)), "hello");
  EXPECT_EQ(pack->files[1].digest, std::string(32, '2'));
  EXPECT_EQ(pack->files[1].size, 0);
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(read(good.substr(0, n)).ok()) << n;
  EXPECT_EQ(ReasonOf(read(good + "x").status()), "PACK_INVALID");
  EXPECT_EQ(ReasonOf(read(PackHead(-1) + listing).status()), "PACK_INVALID");
  EXPECT_EQ(ReasonOf(read(PackHead(static_cast<int64_t>(listing.size())) + listing + PackLength(INT64_MAX)).status()),
            "PACK_INVALID");
  EXPECT_EQ(ReasonOf(read(PackHead(8) + "nolisting" + PackLength(0)).status()), "LISTING_INVALID");
}

TEST(ErrorDetails, ADelayFromOutsideIsBounded) {
  for (const int64_t seconds : {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(seconds);
    google::rpc::Status status;
    status.add_details()->PackFrom(retry);
    const absl::Status read =
        client::FromGrpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, "m", status.SerializeAsString()));
    EXPECT_GE(RetryDelayOf(read), 0);
    EXPECT_LE(RetryDelayOf(read), 24 * 3600 * 1000);
  }
}

TEST(DurationCheck, RefusesTheSmallestNumbers) {
  google::protobuf::Duration duration;
  duration.set_seconds(std::numeric_limits<int64_t>::min());
  rpc::Checks seconds;
  EXPECT_EQ(seconds.Duration("f", duration, 0), 0);
  EXPECT_FALSE(seconds.ok());
  duration.set_seconds(0);
  duration.set_nanos(std::numeric_limits<int32_t>::min());
  rpc::Checks nanos;
  EXPECT_EQ(nanos.Duration("f", duration, 0), 0);
  ASSERT_FALSE(nanos.ok());
  EXPECT_EQ(nanos.violations()[0].reason, "WRONG_TYPE");
}

TEST(JsonCheck, RefusesWhatNobodyCouldRead) {
  const auto nested = [](int levels) {
    google::protobuf::Value value;
    google::protobuf::Value* at = &value;
    for (int i = 0; i < levels; ++i) at = at->mutable_list_value()->add_values();
    at->set_bool_value(true);
    return value;
  };
  rpc::Checks checks;
  checks.Json("good", nested(30));
  EXPECT_TRUE(checks.ok());
  checks.Json("deep", nested(31));
  google::protobuf::Value number;
  number.mutable_list_value()->add_values()->set_number_value(std::numeric_limits<double>::quiet_NaN());
  checks.Json("number", number);
  ASSERT_EQ(checks.violations().size(), 2U);
  EXPECT_EQ(checks.violations()[0].reason, "TOO_LARGE");
  EXPECT_EQ(checks.violations()[1].reason, "OUT_OF_RANGE");
}

launch::HttpAnswer Answer(std::string_view text) {
  launch::AnswerReader reader;
  for (const char c : text) {
    if (reader.complete()) break;
    reader.Append({&c, 1});
  }
  return reader.Finish();
}

TEST(HttpAnswer, IsReadWholeOrRefused) {
  EXPECT_EQ(Answer("HTTP/1.1 200 OK\r\nCONTENT-length:  2\r\n\r\n{}x").body, "{}");
  EXPECT_EQ(Answer("HTTP/1.1 404 No\r\n\r\n").status, 404);
  EXPECT_EQ(Answer("HTTP/1.1 200 OK\r\n\r\nto the end").body, "to the end");
  EXPECT_EQ(Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\n{}\r\n0\r\n\r\n").body, "{}");
  for (const char* text : {"", "HTTP/1.1", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1 999 OK\r\n\r\n",
                           "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
                           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"}) {
    EXPECT_EQ(Answer(text).status, 0) << text;
    EXPECT_NE(Answer(text).error, "") << text;
  }
}

}  // namespace
}  // namespace orch
