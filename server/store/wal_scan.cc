#include "server/store/wal_scan.h"

#include <SQLiteCpp/Exception.h>

#include <array>
#include <cstring>
#include <vector>

namespace orch::store {
namespace {

constexpr int kHeader = 32;
constexpr int kFrameHeader = 24;
constexpr uint32_t kMagic = 0x377f0682;  // and 1: sums of big-endian words

uint32_t Big(const unsigned char* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}
uint64_t Pair(const unsigned char* p) { return uint64_t{Big(p)} << 32 | Big(p + 4); }

struct Sum {
  bool big_endian = false;
  uint32_t a = 0;
  uint32_t b = 0;

  void Add(const unsigned char* p, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
      a += Word(p + i) + b;
      b += Word(p + i + 4) + a;
    }
  }
  bool Is(const unsigned char* p) const { return a == Big(p) && b == Big(p + 4); }
  uint32_t Word(const unsigned char* p) const {
    if (big_endian) return Big(p);
    uint32_t word;
    std::memcpy(&word, p, sizeof(word));
    return word;
  }
};

// False at the end of the file.
bool Read(sqlite3_file* file, void* out, int n, int64_t at) {
  const int rc = file->pMethods->xRead(file, out, n, at);
  if (rc == SQLITE_IOERR_SHORT_READ) return false;
  if (rc != SQLITE_OK) throw SQLite::Exception("the log cannot be read", rc);
  return true;
}

}  // namespace

sqlite3_file* LogFile(sqlite3* db) {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) != SQLITE_OK) return nullptr;
  return file == nullptr || file->pMethods == nullptr ? nullptr : file;
}

uint64_t SaltsOf(sqlite3_file* log) {
  std::array<unsigned char, kHeader> header;
  return Read(log, header.data(), kHeader, 0) ? Pair(&header[16]) : 0;
}

LogPosition ScanLog(sqlite3* db) {
  sqlite3_file* const file = LogFile(db);
  std::array<unsigned char, kHeader> header;
  if (file == nullptr || !Read(file, header.data(), kHeader, 0)) return {};
  Sum sum;
  sum.big_endian = (Big(header.data()) & 1) != 0;
  sum.Add(header.data(), 24);
  const uint32_t page_bytes = Big(&header[8]);
  if ((Big(header.data()) & ~1u) != kMagic || !sum.Is(&header[24]) || page_bytes < 512 || page_bytes > 65536) return {};
  LogPosition end{Pair(&header[16]), 0};
  std::vector<unsigned char> frame(kFrameHeader + page_bytes);
  const auto bytes = static_cast<int64_t>(frame.size());
  for (int64_t n = 0; Read(file, frame.data(), static_cast<int>(bytes), kHeader + n * bytes); ++n) {
    if (Pair(&frame[8]) != end.salts) break;
    sum.Add(frame.data(), 8);
    sum.Add(&frame[kFrameHeader], page_bytes);
    if (!sum.Is(&frame[16]) || Big(frame.data()) == 0) break;
    if (Big(&frame[4]) != 0) end.frames = n + 1;
  }
  return end;
}

}  // namespace orch::store
