#include "server/engine/secrets.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/fault.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr size_t kKeyBytes = crypto_aead_xchacha20poly1305_ietf_KEYBYTES;
constexpr size_t kNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr size_t kTagBytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;

unsigned char* Bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* Bytes(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// What the ciphertext is bound to: one taken from another row does not open.
std::string Binding(const SecretRow& row) {
  std::string out = "orchd secret";
  for (const std::string& part : {row.project, row.name, absl::StrCat(row.version)}) {
    out.push_back('\0');
    out += part;
  }
  return out;
}

absl::Status Unusable(absl::string_view what, absl::string_view path) {
  return Error(absl::StatusCode::kInternal, "DATA_DIR_UNUSABLE",
               absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
}

// Whole and synced under its name, or not there at all.
absl::Status WriteKey(const std::string& path, const std::string& key) {
  const std::string fresh = path + ".new";
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Unusable("write", fresh);
  const bool written =
      fchmod(fd, 0600) == 0 && write(fd, key.data(), key.size()) == static_cast<ssize_t>(key.size()) && fsync(fd) == 0;
  close(fd);
  ORCH_FAULT("secret.key_written");
  if (!written || rename(fresh.c_str(), path.c_str()) != 0) return Unusable("write", path);
  const int dir = open(path.substr(0, path.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = dir >= 0 && fsync(dir) == 0;
  if (dir >= 0) close(dir);
  return synced ? absl::OkStatus() : Unusable("sync the folder of", path);
}

}  // namespace

Secrets::Secrets(std::string path) : path_(std::move(path)) { CHECK(sodium_init() >= 0); }

Secrets::~Secrets() {
  MutexLock lock(&mutex_);
  sodium_memzero(key_.data(), key_.size());
}

absl::Status Secrets::LoadKey(bool may_make) {
  if (!key_.empty()) return absl::OkStatus();
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT) {
    if (!may_make) {
      return Error(absl::StatusCode::kFailedPrecondition, "SECRET_KEY_MISSING",
                   absl::StrCat(path_,
                                " is gone, and without it no stored secret can be read: put it back from a backup, "
                                "or delete all secrets (orchctl delete-secret) and set them again"));
    }
    std::string key(kKeyBytes, '\0');
    randombytes_buf(key.data(), key.size());
    RETURN_IF_ERROR(WriteKey(path_, key));
    key_ = std::move(key);
    return absl::OkStatus();
  }
  if (fd < 0) return Unusable("read", path_);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat st {};
  if (fstat(fd, &st) != 0) return Unusable("read", path_);
  if ((st.st_mode & 077) != 0 || st.st_uid != geteuid()) {
    return Error(absl::StatusCode::kFailedPrecondition, "SECRET_KEY_UNSAFE",
                 absl::StrCat("others may read ", path_, ": chmod 600 it, and set the secrets anew if somebody did"));
  }
  std::string key(kKeyBytes, '\0');
  if (!S_ISREG(st.st_mode) || st.st_size != static_cast<off_t>(kKeyBytes) ||
      read(fd, key.data(), key.size()) != static_cast<ssize_t>(key.size())) {
    return Error(absl::StatusCode::kDataLoss, "SECRET_DAMAGED",
                 absl::StrCat(path_, " is no key of ", kKeyBytes, " bytes; put it back from a backup"));
  }
  key_ = std::move(key);
  return absl::OkStatus();
}

absl::Status Secrets::Seal(absl::string_view value, bool may_make, SecretRow* row) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(LoadKey(may_make));
  const std::string binding = Binding(*row);
  std::string nonce(kNonceBytes, '\0');
  randombytes_buf(nonce.data(), nonce.size());
  std::string sealed(value.size() + kTagBytes, '\0');
  CHECK(crypto_aead_xchacha20poly1305_ietf_encrypt(
            Bytes(sealed), nullptr, reinterpret_cast<const unsigned char*>(value.data()), value.size(), Bytes(binding),
            binding.size(), nullptr, Bytes(nonce), Bytes(std::as_const(key_))) == 0);
  row->sealed = nonce + sealed;
  row->text = value.find('\0') == absl::string_view::npos;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Secrets::Open(const SecretRow& row) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(LoadKey(/*may_make=*/false));
  const std::string binding = Binding(row);
  if (row.sealed.size() >= kNonceBytes + kTagBytes) {
    std::string value(row.sealed.size() - kNonceBytes - kTagBytes, '\0');
    const unsigned char* sealed = Bytes(row.sealed) + kNonceBytes;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(Bytes(value), nullptr, nullptr, sealed,
                                                   row.sealed.size() - kNonceBytes, Bytes(binding), binding.size(),
                                                   Bytes(row.sealed), Bytes(std::as_const(key_))) == 0) {
      return value;
    }
  }
  return Error(absl::StatusCode::kDataLoss, "SECRET_DAMAGED",
               absl::StrCat("secret `", row.name, "` cannot be read with ", path_,
                            ": put the right key back, or set the secret again (orchctl set-secret ", row.name, ")"));
}

}  // namespace orch
