// The S3 client alone: one object in or out, timed.
//
//   s3_bench put|get ENDPOINT BUCKET KEY FILE      AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; PART_BYTES: in parts
//
// Prints {"seconds", "bytes"} as JSON. A file's digest is made before the clock starts: the daemon has it by then.
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/engine/blob_store.h"
#include "server/s3/client.h"

int main(int argc, char** argv) {
  const auto variable = [](const char* name) {
    const char* value = getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (argc != 6) {
    fprintf(stderr, "usage: s3_bench put|get ENDPOINT BUCKET KEY FILE\n");
    return 2;
  }
  const std::string op = argv[1];
  const std::string file = argv[5];
  orch::s3::BucketConfig config;
  config.endpoint = argv[2];
  config.bucket = argv[3];
  config.path_style = true;
  if (!variable("PART_BYTES").empty()) config.part_bytes = config.whole_bytes = std::stoll(variable("PART_BYTES"));
  const orch::s3::Credentials credentials{variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), ""};
  orch::s3::Client client(
      config, [&]() -> absl::StatusOr<orch::s3::Credentials> { return credentials; },
      [] { return orch::Clock::Real().Now().wall; });
  absl::StatusOr<orch::ContentDigest> content = orch::ContentDigest();
  if (op == "put") content = orch::DigestOfFile(file);
  if (!content.ok()) {
    fprintf(stderr, "%s\n", content.status().ToString().c_str());
    return 1;
  }
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status done =
      op == "put" ? client.PutFile(argv[4], file, content->size, content->digest) : client.GetFile(argv[4], file, "");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!done.ok()) {
    fprintf(stderr, "%s\n", done.ToString().c_str());
    return 1;
  }
  struct stat st {};
  stat(file.c_str(), &st);
  printf("{\"seconds\": %.4f, \"bytes\": %lld}\n", took.count(), static_cast<long long>(st.st_size));
  return 0;
}
