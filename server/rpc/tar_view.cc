#include "server/rpc/tar_view.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {

constexpr int64_t kBlock = 512;
constexpr size_t kMaxNames = 1'000'000;

int64_t Padded(int64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

// One ustar header; what does not fit is in a pax record before it.
std::string Header(const std::string& name, char type, int mode, const std::string& link, int64_t bytes) {
  std::string out(static_cast<size_t>(kBlock), '\0');
  const auto put = [&](size_t at, const std::string& text, size_t width) {
    std::memcpy(&out[at], text.data(), std::min(text.size(), width));
  };
  const auto octal = [&](size_t at, int64_t value, int width) {
    char text[32];
    std::snprintf(text, sizeof(text), "%0*llo", width, static_cast<unsigned long long>(value));
    put(at, text, static_cast<size_t>(width));
  };
  put(0, name, 100);
  octal(100, mode, 7);
  octal(108, 0, 7);
  octal(116, 0, 7);
  octal(124, bytes < (int64_t{1} << 33) ? bytes : 0, 11);
  octal(136, 0, 11);
  std::memset(&out[148], ' ', 8);
  out[156] = type;
  put(157, link, 100);
  put(257,
      std::string("ustar\0"
                  "00",
                  8),
      8);
  int sum = 0;
  for (const char c : out) sum += static_cast<unsigned char>(c);
  octal(148, sum, 6);
  out[154] = '\0';
  return out;
}

// `LENGTH key=value\n`, where the length counts itself.
std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (length != rest + std::to_string(length).size()) length = rest + std::to_string(length).size();
  return absl::StrCat(length, " ", key, "=", value, "\n");
}

absl::Status Failed(const std::string& path) {
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
}

}  // namespace

void TarView::Add(const std::string& name, char type, int mode, const std::string& link, const std::string& path,
                  int64_t bytes) {
  std::string pax;
  if (name.size() > 100) pax += PaxRecord("path", name);
  if (link.size() > 100) pax += PaxRecord("linkpath", link);
  if (bytes >= (int64_t{1} << 33)) pax += PaxRecord("size", std::to_string(bytes));
  Piece piece;
  piece.offset = size_;
  if (!pax.empty()) {
    piece.header = Header("pax", 'x', 0644, "", static_cast<int64_t>(pax.size()));
    pax.resize(static_cast<size_t>(Padded(static_cast<int64_t>(pax.size()))), '\0');
    piece.header += pax;
  }
  piece.header += Header(name, type, mode, link, bytes);
  piece.path = path;
  piece.bytes = bytes;
  size_ += static_cast<int64_t>(piece.header.size()) + Padded(bytes);
  pieces_.push_back(std::move(piece));
}

absl::StatusOr<TarView> TarView::Open(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(fs::path(it->path()).lexically_relative(folder).string());
    if (names.size() > kMaxNames) {
      return Error(absl::StatusCode::kResourceExhausted, "FOLDER_TOO_LARGE",
                   absl::StrCat("the folder has more than ", kMaxNames, " names; read it where it is"));
    }
  }
  if (error) return absl::InternalError(absl::StrCat(folder, ": ", error.message()));
  std::sort(names.begin(), names.end());
  TarView view;
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(folder, "/", name);
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return Failed(path);
    if (S_ISDIR(info.st_mode)) {
      view.Add(name + "/", '5', 0755, "", "", 0);
    } else if (S_ISLNK(info.st_mode)) {
      std::string link(static_cast<size_t>(info.st_size) + 1, '\0');
      const ssize_t n = ::readlink(path.c_str(), link.data(), link.size());
      if (n < 0) return Failed(path);
      link.resize(static_cast<size_t>(n));
      view.Add(name, '2', 0777, link, "", 0);
    } else if (S_ISREG(info.st_mode)) {
      view.Add(name, '0', (info.st_mode & S_IXUSR) != 0 ? 0755 : 0644, "", path, info.st_size);
    }
  }
  view.size_ += 2 * kBlock;  // the end mark
  return view;
}

absl::StatusOr<std::string> TarView::Read(int64_t offset, int64_t max_bytes) const {
  std::string out;
  if (offset < 0 || offset >= size_) return out;
  const auto want = static_cast<size_t>(std::min(max_bytes, size_ - offset));
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                [](int64_t at, const Piece& p) { return at < p.offset; });
  if (piece != pieces_.begin()) --piece;
  for (; piece != pieces_.end() && out.size() < want; ++piece) {
    int64_t at = offset + static_cast<int64_t>(out.size()) - piece->offset;
    const auto header = static_cast<int64_t>(piece->header.size());
    if (at < header) {
      out.append(piece->header, static_cast<size_t>(at), want - out.size());
      at = header;
      if (out.size() >= want) break;
    }
    int64_t in_file = at - header;
    if (in_file < piece->bytes) {
      const int fd = ::open(piece->path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
      if (fd < 0) return Failed(piece->path);
      const auto close_fd = absl::MakeCleanup([fd] { ::close(fd); });
      while (in_file < piece->bytes && out.size() < want) {
        const auto n =
            static_cast<size_t>(std::min<int64_t>(piece->bytes - in_file, static_cast<int64_t>(want - out.size())));
        const size_t before = out.size();
        out.resize(before + n);
        const ssize_t got = ::pread(fd, &out[before], n, in_file);
        if (got < 0) return Failed(piece->path);
        if (got == 0) return absl::InternalError(absl::StrCat(piece->path, " has become shorter"));
        out.resize(before + static_cast<size_t>(got));
        in_file += got;
      }
      if (out.size() >= want) break;
    }
    const int64_t padding = header + Padded(piece->bytes) - (header + in_file);
    out.append(std::min(want - out.size(), static_cast<size_t>(std::max<int64_t>(padding, 0))), '\0');
  }
  out.resize(want, '\0');  // the end mark
  return out;
}

}  // namespace orch::rpc
