#include "client/launch/install.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace orch::launch {

std::string Install(const std::string& folder) {
  const std::string path = folder + "/orch-launch";
  const std::string made = path + ".new";
  const auto failed = [](const std::string& what) { return what + ": " + strerror(errno); };
  const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat st {};
  if (from < 0 || fstat(from, &st) != 0) return failed("this program cannot be read");
  const int to = open(made.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  if (to < 0) {
    std::string error = failed(made);
    close(from);
    return error;
  }
  std::string error;
  for (off_t at = 0; at < st.st_size && error.empty();) {
    const ssize_t n = sendfile(to, from, &at, static_cast<size_t>(st.st_size - at));
    if (n == 0) error = made + ": it ended early";
    if (n < 0 && errno != EINTR) error = failed(made);
  }
  if (error.empty() && fchmod(to, 0755) != 0) error = failed(made);
  if (close(to) != 0 && error.empty()) error = failed(made);
  close(from);
  if (error.empty() && rename(made.c_str(), path.c_str()) != 0) error = failed(path);
  return error;
}

}  // namespace orch::launch
