// A compressed log, damaged or not: what is read is what its table promises, and the same however it is cut.
#include "backends/local/log_archive.h"

#include <atomic>

#include "backends/local/log_file.h"
#include "tests/fuzz/scratch.h"

namespace {

void Check(const std::string& path, int64_t piece) {
  const auto archive = orch::local::LogArchive::Open(path);
  if (!archive.ok()) return;
  const int64_t size = (*archive)->size();
  REQUIRE(size >= 0);
  if (size > 4 << 20) return;  // a table may promise much
  const auto whole = (*archive)->Read(0, size);
  if (!whole.ok()) return;
  REQUIRE(static_cast<int64_t>(whole->size()) == size);
  for (int64_t at = 0; at < size; at += piece) {
    const auto part = (*archive)->Read(at, piece);
    REQUIRE(part.ok() && *part == whole->substr(static_cast<size_t>(at), static_cast<size_t>(piece)));
  }
  REQUIRE((*archive)->Read(size, piece).value().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const orch::fuzz::Scratch scratch;
  if (size < 2) return 0;
  const int64_t piece = 1 + int64_t{data[1]} * 97;
  const std::string_view text = orch::fuzz::View(data + 2, size - 2);
  if (data[0] % 2 == 0) {  // as an archive
    Check(scratch.Write("archive.zst", text), piece);
    return 0;
  }
  // As a log: what comes back is the log.
  const std::string path = scratch.Write("log", text);
  const std::atomic<bool> stop{false};
  REQUIRE(orch::local::CompressLog(path, stop).ok());
  Check(path + ".zst", piece);
  const auto reader = orch::local::OpenLogFile(path);
  REQUIRE(reader->Read(0, INT64_MAX).value() == text);
  return 0;
}
