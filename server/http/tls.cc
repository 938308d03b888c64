#include "server/http/tls.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::http {
namespace {

constexpr unsigned kMaxChain = 16;
char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

std::atomic<const TlsFiles*> in_force{nullptr};

gnutls_datum_t Over(const std::string& text) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())), static_cast<unsigned>(text.size())};
}

// GnuTLS frees all of it after the handshake. 0, or a code of GnuTLS and nothing made.
int Load(const TlsPair& pair, gnutls_pcert_st** chain, unsigned* length, gnutls_privkey_t* key) {
  const gnutls_datum_t certificates = Over(pair.certificate_pem);
  const gnutls_datum_t secret = Over(pair.key_pem);
  auto* list = static_cast<gnutls_pcert_st*>(gnutls_calloc(kMaxChain, sizeof(gnutls_pcert_st)));
  if (list == nullptr) return GNUTLS_E_MEMORY_ERROR;
  unsigned count = kMaxChain;
  int code = gnutls_pcert_list_import_x509_raw(list, &count, &certificates, GNUTLS_X509_FMT_PEM, 0);
  if (code != 0) count = 0;
  gnutls_privkey_t made = nullptr;
  if (code == 0) code = gnutls_privkey_init(&made);
  if (code == 0) code = gnutls_privkey_import_x509_raw(made, &secret, GNUTLS_X509_FMT_PEM, nullptr, 0);
  if (code != 0) {
    for (unsigned i = 0; i < count; ++i) gnutls_pcert_deinit(&list[i]);
    gnutls_free(list);
    if (made != nullptr) gnutls_privkey_deinit(made);
    return code;
  }
  *chain = list;
  *length = count;
  *key = made;
  return 0;
}

int Retrieve(gnutls_session_t, const gnutls_cert_retr_st*, gnutls_pcert_st** chain, unsigned* length,
             gnutls_ocsp_data_st** ocsp, unsigned* ocsp_length, gnutls_privkey_t* key, unsigned* flags) {
  *ocsp = nullptr;
  *ocsp_length = 0;
  *flags = GNUTLS_CERT_RETR_DEINIT_ALL;
  const TlsFiles* files = in_force.load();
  return files != nullptr && Load(*files->pair(), chain, length, key) == 0 ? 0 : -1;
}

}  // namespace

absl::StatusOr<std::vector<MHD_OptionItem>> UseTls(const TlsFiles* files) {
  if (MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK2) != MHD_YES) {
    return absl::InternalError("this libmicrohttpd has no TLS whose certificate may change");
  }
  gnutls_pcert_st* chain = nullptr;
  unsigned length = 0;
  gnutls_privkey_t key = nullptr;
  if (const int code = Load(*files->pair(), &chain, &length, &key); code != 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "TLS_FILES",
                 absl::StrCat("tls_cert and tls_key cannot be used for HTTP: ", gnutls_strerror(code)));
  }
  for (unsigned i = 0; i < length; ++i) gnutls_pcert_deinit(&chain[i]);
  gnutls_free(chain);
  gnutls_privkey_deinit(key);
  in_force = files;
  return std::vector<MHD_OptionItem>{{MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
                                     {MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, reinterpret_cast<void*>(&Retrieve)}};
}

}  // namespace orch::http
