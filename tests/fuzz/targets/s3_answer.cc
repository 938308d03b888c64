// What a server that speaks S3 answers, and the address of one: nothing of it is longer than it was, and an endpoint
// that is taken can stand in a URL and a header.
#include "absl/strings/match.h"
#include "server/s3/client.h"
#include "server/s3/credentials.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const absl::string_view text(view.data(), view.size());
  for (const char* name : {"Code", "Message", "UploadId", "ETag"}) {
    REQUIRE(orch::s3::XmlText(text, name).size() <= text.size());
  }
  // Whoever grants credentials is read the same way; an answer that is taken has a key.
  for (const auto& granted : {orch::s3::ReadMetadata(text), orch::s3::ReadAssumed(text)}) {
    REQUIRE(!granted.ok() || !granted->credentials.access_key.empty());
  }
  REQUIRE(orch::s3::ReadProfile(text, "default").secret_key.size() <= text.size());
  if (const auto address = orch::s3::ContainerAddress("", text); address.ok()) REQUIRE(*address == text);
  std::string scheme;
  std::string authority;
  if (!orch::s3::SplitEndpoint(text, &scheme, &authority)) return 0;
  REQUIRE(scheme == "http" || scheme == "https");
  for (const char c : authority) REQUIRE(c > ' ' && c < 127 && c != '/' && c != '@');
  // As SigV4 escapes: what is escaped once has no byte that would be escaped otherwise.
  const std::string escaped = orch::s3::Escape(text, false);
  for (const char c : escaped) REQUIRE(c > ' ' && c < 127);
  return 0;
}
