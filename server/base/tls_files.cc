#include "server/base/tls_files.h"

#include <fcntl.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/small_file.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;
constexpr int64_t kMicros = 1'000'000;

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Bio Over(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free}; }

class Faults {
 public:
  void Add(const char* field, const std::string& file, absl::string_view what) {
    Add(field, absl::StrCat(file, " ", what));
  }
  void Add(const char* field, absl::string_view text) { list_.push_back({field, std::string(text), "TLS_FILES"}); }
  bool none() const { return list_.empty(); }
  const std::string& first() const { return list_.at(0).description; }
  absl::Status ToStatus() const {
    std::string all;
    for (const Violation& v : list_) absl::StrAppend(&all, all.empty() ? "" : "\n", v.field, ": ", v.description);
    return InvalidInput("TLS_FILES", all, list_);
  }

 private:
  std::vector<Violation> list_;
};

// Nothing, with a fault, if it cannot be read.
std::optional<std::string> Read(const char* field, const std::string& file, bool secret, Faults* faults) {
  absl::StatusOr<std::string> text = secret ? ReadSecretFile(file, kMaxBytes) : ReadSmallFile(file, kMaxBytes);
  if (text.ok()) return *std::move(text);
  faults->Add(field, text.status().message());
  return std::nullopt;
}

std::string Day(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "?";
  return absl::StrFormat("%04d-%02d-%02d %02d:%02d UTC", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                         parts.tm_hour, parts.tm_min);
}

int64_t SecondsOf(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? static_cast<int64_t>(timegm(&parts)) : 0;
}

// Never asks a terminal, whatever the key says.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// Which file it is and whether it was written to; the text of two states differs.
std::string StateOf(const std::string& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return absl::StrCat("gone ", errno);
  return absl::StrCat(info.st_dev, " ", info.st_ino, " ", info.st_size, " ", info.st_mode, " ", info.st_uid, " ",
                      info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, " ", info.st_ctim.tv_sec, ".",
                      info.st_ctim.tv_nsec);
}

}  // namespace

absl::StatusOr<TlsPair> ReadTlsPair(const std::string& certificate_file, const std::string& key_file, int64_t now) {
  const auto forget_errors = absl::MakeCleanup([] { ERR_clear_error(); });
  Faults faults;
  TlsPair pair;
  Certificate certificate(nullptr, &X509_free);
  if (auto text = Read("tls_cert", certificate_file, /*secret=*/false, &faults)) {
    pair.certificate_pem = *std::move(text);
    const Bio bio = Over(pair.certificate_pem);
    certificate.reset(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
    bool chain_broken = false;
    while (certificate != nullptr) {
      ERR_clear_error();
      const Certificate next(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), &X509_free);
      if (next != nullptr) continue;
      chain_broken = ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
      break;
    }
    if (certificate == nullptr || chain_broken) {
      faults.Add("tls_cert", certificate_file,
                 chain_broken ? "has a broken certificate after the first" : "holds no certificate in PEM form");
    } else {
      time_t at = static_cast<time_t>(now);
      const ASN1_TIME* from = X509_get0_notBefore(certificate.get());
      const ASN1_TIME* until = X509_get0_notAfter(certificate.get());
      pair.not_after = SecondsOf(until);
      if (X509_cmp_time(until, &at) < 0) {
        faults.Add("tls_cert", certificate_file, absl::StrCat("expired at ", Day(until), ": give a newer one"));
      } else if (X509_cmp_time(from, &at) > 0) {
        faults.Add("tls_cert", certificate_file,
                   absl::StrCat("is valid only from ", Day(from), ": give one that is valid now, or set the clock"));
      }
    }
  }
  if (auto text = Read("tls_key", key_file, /*secret=*/true, &faults)) {
    pair.key_pem = *std::move(text);
    const Bio bio = Over(pair.key_pem);
    bool asked = false;
    const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassphrase, &asked), &EVP_PKEY_free);
    if (key == nullptr) {
      faults.Add("tls_key", key_file,
                 asked ? "needs a passphrase, and nobody is there to type it: take it off (openssl pkey -in … -out …)"
                       : "holds no private key in PEM form");
    } else if (certificate != nullptr && X509_check_private_key(certificate.get(), key.get()) != 1) {
      faults.Add("tls_key", key_file,
                 absl::StrCat("is not the key of the certificate in ", certificate_file, ": give the two that belong ",
                              "together"));
    }
  }
  if (!faults.none()) return faults.ToStatus();
  return pair;
}

absl::StatusOr<std::string> ReadCertificates(const std::string& file) {
  const auto forget_errors = absl::MakeCleanup([] { ERR_clear_error(); });
  Faults faults;
  std::optional<std::string> text = Read("", file, /*secret=*/false, &faults);
  if (text.has_value()) {
    const Bio bio = Over(*text);
    const Certificate first(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr), &X509_free);
    if (first != nullptr) return *std::move(text);
    faults.Add("", file, "holds no certificate in PEM form");
  }
  return Error(absl::StatusCode::kInvalidArgument, "TLS_FILES", faults.first());
}

TlsFiles::TlsFiles(std::string certificate_file, std::string key_file)
    : certificate_file_(std::move(certificate_file)), key_file_(std::move(key_file)) {}

TlsFiles::~TlsFiles() {
  if (fd_ >= 0) ::close(fd_);
}

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(const std::string& certificate_file,
                                                         const std::string& key_file) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(certificate_file, key_file));
  RETURN_IF_ERROR(files->Refresh(/*force=*/true).status());
  return files;
}

std::shared_ptr<const TlsPair> TlsFiles::pair() const {
  MutexLock lock(&mutex_);
  return pair_;
}

absl::Status TlsFiles::Publish(const TlsPair& pair) {
  const std::string text = absl::StrCat(pair.key_pem, "\n", pair.certificate_pem);
  const int fd = ::memfd_create("orchd-tls", MFD_CLOEXEC);
  const auto failed = [fd](absl::string_view what) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    return absl::InternalError(absl::StrCat("cannot ", what, " a file in memory: ", std::strerror(error)));
  };
  if (fd < 0) return failed("make");
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed("write");
    at += static_cast<size_t>(n);
  }
  if (fd_ < 0) {
    fd_ = fd;
    memory_file_ = absl::StrCat("/proc/self/fd/", fd);
    return absl::OkStatus();
  }
  // The name stays, and what it stands for changes at once.
  if (::dup3(fd, fd_, O_CLOEXEC) < 0) return failed("replace");
  ::close(fd);
  return absl::OkStatus();
}

absl::StatusOr<bool> TlsFiles::Refresh(bool force) {
  MutexLock lock(&mutex_);
  std::string state = absl::StrCat(StateOf(certificate_file_), "|", StateOf(key_file_));
  if (state == seen_ && !force) return false;
  // Also of a bad pair: it is complained of once.
  seen_ = std::move(state);
  ASSIGN_OR_RETURN(TlsPair pair, ReadTlsPair(certificate_file_, key_file_, Clock::Real().Now().wall / kMicros));
  if (pair_ != nullptr && pair_->key_pem == pair.key_pem && pair_->certificate_pem == pair.certificate_pem)
    return false;
  RETURN_IF_ERROR(Publish(pair));
  pair_ = std::make_shared<const TlsPair>(std::move(pair));
  return true;
}

}  // namespace orch
