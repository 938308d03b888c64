#include "backends/local/log_archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"

namespace orch::local {
namespace {

constexpr size_t kFrameBytes = 256 << 10;  // of log
constexpr int kLevel = 3;
// The table is a frame that other readers skip: its magic, its size, 8 bytes for each frame, and the footer: how many,
// a byte of flags, the format's magic. All little-endian, as this machine is.
constexpr uint32_t kSkippable = 0x184D2A5E;
constexpr uint32_t kSeekable = 0x8F92EAB1;
constexpr size_t kHeaderBytes = 8;
constexpr size_t kEntryBytes = 8;
constexpr size_t kFooterBytes = 9;
constexpr int64_t kMaxFrames = 64 << 20;

void Append32(uint32_t value, std::string* out) { out->append(reinterpret_cast<const char*>(&value), sizeof(value)); }
uint32_t Read32(const char* at) {
  uint32_t value = 0;
  memcpy(&value, at, sizeof(value));
  return value;
}

// True if all of it was read.
bool ReadAt(int fd, int64_t offset, size_t bytes, std::string* out) {
  out->resize(bytes);
  size_t at = 0;
  while (at < bytes) {
    const ssize_t n = pread(fd, out->data() + at, bytes - at, offset + static_cast<int64_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

bool WriteAll(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    data += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

absl::Status Missing(const std::string& path) {
  return Error(absl::StatusCode::kNotFound, "LOG_MISSING", absl::StrCat("there is no log ", path));
}

absl::Status NotCompressed(const std::string& path, absl::string_view why) {
  return Error(absl::StatusCode::kInternal, "LOG_NOT_COMPRESSED", absl::StrCat(path, " stays as it is: ", why));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogArchive>> LogArchive::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return Missing(path);
    return Error(absl::StatusCode::kInternal, "LOG_UNREADABLE",
                 absl::StrCat("cannot read ", path, ": ", strerror(errno)));
  }
  auto archive = absl::WrapUnique(new LogArchive(path, fd));
  RETURN_IF_ERROR(archive->ReadTable());
  return archive;
}

LogArchive::~LogArchive() { close(fd_); }

absl::Status LogArchive::Damaged(const char* what) const {
  return Error(absl::StatusCode::kInternal, "LOG_UNREADABLE", absl::StrCat(path_, " is damaged: ", what));
}

absl::Status LogArchive::ReadTable() {
  struct stat st {};
  if (fstat(fd_, &st) != 0) return Damaged(strerror(errno));
  const int64_t size = st.st_size;
  std::string footer;
  if (size < static_cast<int64_t>(kHeaderBytes + kFooterBytes) ||
      !ReadAt(fd_, size - static_cast<int64_t>(kFooterBytes), kFooterBytes, &footer) ||
      Read32(footer.data() + 5) != kSeekable || footer[4] != 0) {
    return Damaged("it has no table at its end");
  }
  const int64_t count = Read32(footer.data());
  const int64_t bytes = count * static_cast<int64_t>(kEntryBytes) + static_cast<int64_t>(kFooterBytes);
  std::string table;
  if (count > kMaxFrames || size < bytes + static_cast<int64_t>(kHeaderBytes) ||
      !ReadAt(fd_, size - bytes - static_cast<int64_t>(kHeaderBytes),
              kHeaderBytes + static_cast<size_t>(count) * kEntryBytes, &table) ||
      Read32(table.data()) != kSkippable || Read32(table.data() + 4) != bytes) {
    return Damaged("its table is cut");
  }
  Frame frame;
  for (int64_t i = 0; i < count; ++i) {
    const char* entry = table.data() + kHeaderBytes + static_cast<size_t>(i) * kEntryBytes;
    frame.at += frame.file_size;
    frame.file_size = Read32(entry);
    const int64_t plain = Read32(entry + 4);
    if (plain == 0 || plain > static_cast<int64_t>(kFrameBytes) || frame.file_size == 0) {
      return Damaged("its table has a frame of no possible size");
    }
    frame.end += plain;
    frames_.push_back(frame);
  }
  if (frame.at + frame.file_size != size - bytes - static_cast<int64_t>(kHeaderBytes)) {
    return Damaged("its table is of another file");
  }
  return absl::OkStatus();
}

absl::Status LogArchive::Load(size_t number) {
  if (loaded_ == number) return absl::OkStatus();
  loaded_ = SIZE_MAX;
  const Frame& frame = frames_[number];
  const auto plain = static_cast<size_t>(frame.end - (number == 0 ? 0 : frames_[number - 1].end));
  std::string packed;
  if (!ReadAt(fd_, frame.at, static_cast<size_t>(frame.file_size), &packed)) return Damaged("a frame is cut");
  bytes_.resize(plain);
  const size_t got = ZSTD_decompress(bytes_.data(), plain, packed.data(), packed.size());
  if (ZSTD_isError(got) != 0) return Damaged(ZSTD_getErrorName(got));
  if (got != plain) return Damaged("a frame is shorter than its table says");
  loaded_ = number;
  return absl::OkStatus();
}

absl::StatusOr<std::string> LogArchive::Read(int64_t offset, int64_t max_bytes) {
  std::string out;
  if (offset < 0 || offset >= size() || max_bytes <= 0) return out;
  const int64_t end = offset + std::min(max_bytes, size() - offset);
  auto frame =
      std::upper_bound(frames_.begin(), frames_.end(), offset, [](int64_t at, const Frame& f) { return at < f.end; });
  while (offset < end) {
    const auto number = static_cast<size_t>(frame - frames_.begin());
    RETURN_IF_ERROR(Load(number));
    const int64_t first = number == 0 ? 0 : frames_[number - 1].end;
    const int64_t upto = std::min(end, frame->end);
    out.append(bytes_, static_cast<size_t>(offset - first), static_cast<size_t>(upto - offset));
    offset = upto;
    ++frame;
  }
  return out;
}

absl::Status CompressLog(const std::string& path, const std::atomic<bool>& stop) {
  const int in = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (in < 0 && errno == ENOENT) return Missing(path);
  if (in < 0) return NotCompressed(path, strerror(errno));
  const auto close_in = absl::MakeCleanup([in] { close(in); });
  const std::string made = path + ".zst";
  const std::string staged = path + ".zst.part";
  const int out = open(staged.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out < 0) return NotCompressed(path, strerror(errno));
  bool done = false;
  const auto close_out = absl::MakeCleanup([&] {
    close(out);
    if (!done) unlink(staged.c_str());
  });
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  const auto free_context = absl::MakeCleanup([context] { ZSTD_freeCCtx(context); });
  if (context == nullptr) return NotCompressed(path, "no memory");
  (void)ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, kLevel);
  (void)ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string plain(kFrameBytes, '\0');
  std::string packed(ZSTD_compressBound(kFrameBytes), '\0');
  std::string table;
  uint32_t frames = 0;
  for (bool more = true; more;) {
    if (stop) return NotCompressed(path, "the daemon stops");
    size_t filled = 0;
    while (filled < kFrameBytes) {
      const ssize_t n = read(in, plain.data() + filled, kFrameBytes - filled);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return NotCompressed(path, strerror(errno));
      if (n == 0) {
        more = false;
        break;
      }
      filled += static_cast<size_t>(n);
    }
    if (filled == 0) break;
    const size_t size = ZSTD_compress2(context, packed.data(), packed.size(), plain.data(), filled);
    if (ZSTD_isError(size) != 0) return NotCompressed(path, ZSTD_getErrorName(size));
    if (!WriteAll(out, packed.data(), size)) return NotCompressed(path, strerror(errno));
    Append32(static_cast<uint32_t>(size), &table);
    Append32(static_cast<uint32_t>(filled), &table);
    ++frames;
  }
  std::string end;
  Append32(kSkippable, &end);
  Append32(static_cast<uint32_t>(table.size() + kFooterBytes), &end);
  end += table;
  Append32(frames, &end);
  end.push_back('\0');
  Append32(kSeekable, &end);
  // On the disk before the log goes, which may be there already.
  if (!WriteAll(out, end.data(), end.size()) || fdatasync(out) != 0) return NotCompressed(path, strerror(errno));
  if (rename(staged.c_str(), made.c_str()) != 0) return NotCompressed(path, strerror(errno));
  done = true;
  ORCH_FAULT("logs.compressed");
  (void)unlink(path.c_str());  // both hold the same
  return absl::OkStatus();
}

}  // namespace orch::local
