/* A double of a slow, failing or full disk and of a clock that jumps: preloaded into the real daemon, told by a file.
 *
 * FAULT_SHIM names a file of seven 64-bit numbers: microseconds that a sync takes longer; errno of a sync; errno of a
 * write; microseconds that CLOCK_REALTIME is ahead; how many syncs failed or waited so far (written here); errno of
 * making a file; 1: only files whose path contains ".db" are concerned, 2: only those with "/blobs/" or "/staging/".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { kSyncDelay, kSyncError, kWriteError, kClock, kHits, kCreateError, kWhich, kNumbers };

static volatile int64_t nothing[kNumbers];
static volatile int64_t* told = nothing;

__attribute__((constructor)) static void Begin(void) {
  const char* path = getenv("FAULT_SHIM");
  if (path == NULL) return;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* map = mmap(NULL, sizeof(nothing), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED) told = map;
}

static int PathConcerned(const char* path) {
  if (told[kWhich] == 2) return strstr(path, "/blobs") != NULL || strstr(path, "/staging") != NULL;
  return strstr(path, ".db") != NULL;
}

static int Concerned(int fd) {
  char link[40], path[512];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof(path) - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return PathConcerned(path);
}

static int SyncFails(int fd) {
  if ((told[kSyncDelay] == 0 && told[kSyncError] == 0) || !Concerned(fd)) return 0;
  __atomic_fetch_add(&told[kHits], 1, __ATOMIC_RELAXED);
  const int64_t micros = told[kSyncDelay];
  if (micros > 0) {
    const struct timespec wait = {micros / 1000000, micros % 1000000 * 1000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &wait, NULL);
  }
  errno = (int)told[kSyncError];
  return told[kSyncError] != 0;
}

static int WriteFails(int fd) {
  if (told[kWriteError] == 0 || !Concerned(fd)) return 0;
  __atomic_fetch_add(&told[kHits], 1, __ATOMIC_RELAXED);
  errno = (int)told[kWriteError];
  return 1;
}

int fsync(int fd) { return SyncFails(fd) ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return SyncFails(fd) ? -1 : (int)syscall(SYS_fdatasync, fd); }
ssize_t write(int fd, const void* bytes, size_t n) { return WriteFails(fd) ? -1 : syscall(SYS_write, fd, bytes, n); }
ssize_t pwrite(int fd, const void* bytes, size_t n, off_t at) {
  return WriteFails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t n, off64_t at) { return pwrite(fd, bytes, n, at); }

ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t n, unsigned flags) {
  return WriteFails(out) ? -1 : syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
}

int link(const char* from, const char* to) {
  if (told[kCreateError] != 0 && PathConcerned(to)) {
    __atomic_fetch_add(&told[kHits], 1, __ATOMIC_RELAXED);
    errno = (int)told[kCreateError];
    return -1;
  }
  return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void Shift(struct timespec* t, int64_t micros) {
  int64_t nanos = t->tv_nsec + micros % 1000000 * 1000;
  t->tv_sec += micros / 1000000;
  for (; nanos < 0; nanos += 1000000000) --t->tv_sec;
  for (; nanos >= 1000000000; nanos -= 1000000000) ++t->tv_sec;
  t->tv_nsec = nanos;
}

int clock_gettime(clockid_t id, struct timespec* out) {
  const int rc = (int)syscall(SYS_clock_gettime, id, out);
  if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) Shift(out, told[kClock]);
  return rc;
}

time_t time(time_t* out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval* out, void* zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

/* A wait until a time of the jumping clock: the kernel's has not jumped. */
long syscall(long number, ...) {
  static long (*real)(long, ...);
  if (real == NULL) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; ++i) a[i] = va_arg(list, long);
  va_end(list);
  struct timespec until;
  if (number == SYS_futex && ((int)a[1] & FUTEX_CLOCK_REALTIME) != 0 && a[3] != 0 && told[kClock] != 0) {
    until = *(const struct timespec*)a[3];
    Shift(&until, -told[kClock]);
    if (until.tv_sec < 0) until.tv_sec = 0;
    a[3] = (long)&until;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
