// TLS of the HTTP port: which certificate a handshake is given.
#pragma once

#include <microhttpd.h>

#include <vector>

#include "absl/status/statusor.h"
#include "server/base/tls_files.h"

namespace orch::http {

// The library's options for TLS 1.2 and 1.3 with the pair that is in force at each handshake. INTERNAL if the library
// has no TLS, FAILED_PRECONDITION (TLS_FILES) if it cannot use the pair. The library's callback knows nothing of who
// set it, so that the newest `files` serve the whole process; they outlive every server.
absl::StatusOr<std::vector<MHD_OptionItem>> UseTls(const TlsFiles* files);

}  // namespace orch::http
