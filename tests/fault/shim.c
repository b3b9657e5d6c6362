/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library for LD_PRELOAD that lets one system call of a program go wrong.
 *
 *     PRX_FAULT=CALL:K:ERROR[:PATHPART]    PRX_FAULT_LOG=FILE
 *
 * Calls that change files are counted, those of name CALL or, with "any", all; with
 * PATHPART only where it is part of the path; what would change nothing is not
 * counted.  The K-th, from 1, does not happen:
 *
 *     ENOSPC EIO ...  it fails with that errno (close does close)
 *     SHORT           a write takes half of its first piece; other calls don't count
 *     EINTR           as an error, but only calls that POSIX lets a signal interrupt
 *                     count
 *     KILL            the program is killed before the call
 *
 * FILE then says which call it was, and on what; without FILE none has gone wrong.
 */
#undef _FILE_OFFSET_BITS /* both names of open are defined here, so neither is macro */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) (__extension__(__typeof__(&(name))) dlsym(RTLD_NEXT, #name))

enum {
    CAN_BE_SHORT = 1,
    CAN_BE_INTERRUPTED = 2,
};

enum action {
    PASS,
    FAIL, /* errno is set */
    SHORTEN,
};

static struct {
    char call[32];
    unsigned long k;
    bool is_short, is_kill;
    int error;
    const char *part;
    const char *log_path;
} plan;
static atomic_ulong n_calls;

static int error_of_name(const char *name, size_t n_name)
{
    static const struct {
        const char *name;
        int error;
    } rows[] = {
        {"ENOSPC", ENOSPC},
        {"EDQUOT", EDQUOT},
        {"EIO", EIO},
        {"EINTR", EINTR},
        {"EROFS", EROFS},
        {"EACCES", EACCES},
        {"EMFILE", EMFILE},
        {"ENOMEM", ENOMEM},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strlen(rows[i].name) == n_name && memcmp(rows[i].name, name, n_name) == 0)
            return rows[i].error;
    return 0;
}

__attribute__((constructor)) static void read_plan(void)
{
    const char *text = getenv("PRX_FAULT");
    int n_head = 0;

    plan.log_path = getenv("PRX_FAULT_LOG");
    if (!text || sscanf(text, "%31[a-z_]:%lu:%n", plan.call, &plan.k, &n_head) != 2)
        return;
    const char *what = text + n_head;
    size_t n_what = strcspn(what, ":");
    plan.is_short = n_what == 5 && memcmp(what, "SHORT", 5) == 0;
    plan.is_kill = n_what == 4 && memcmp(what, "KILL", 4) == 0;
    plan.error = error_of_name(what, n_what);
    plan.part = what[n_what] ? what + n_what + 1 : NULL;
    if (n_head == 0 || (!plan.is_short && !plan.is_kill && !plan.error)) {
        fprintf(stderr, "shim: PRX_FAULT=%s makes no sense\n", text);
        _exit(99);
    }
}

static void log_strike(const char *call, const char *path)
{
    char line[PATH_MAX + 64];

    if (!plan.log_path)
        return;
    int fd = NEXT(open)(plan.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int n_line = snprintf(line, sizeof(line), "%s %s\n", call, path);
    if (fd < 0 || NEXT(write)(fd, line, (size_t)n_line) < 0)
        _exit(99);
    NEXT(close)
    (fd);
}

/* What is to become of @call on @path. */
static enum action strike(const char *call, int can, const char *path)
{
    if (plan.k == 0 || (strcmp(plan.call, "any") != 0 && strcmp(plan.call, call) != 0))
        return PASS;
    if ((plan.is_short && !(can & CAN_BE_SHORT)) ||
        (plan.error == EINTR && !(can & CAN_BE_INTERRUPTED)) ||
        (plan.part && !strstr(path, plan.part)))
        return PASS;
    if (atomic_fetch_add(&n_calls, 1) + 1 != plan.k)
        return PASS;
    log_strike(call, path);
    if (plan.is_kill)
        kill(getpid(), SIGKILL);
    errno = plan.error;
    return plan.is_short ? SHORTEN : FAIL;
}

static enum action strike_fd(const char *call, int can, int fd)
{
    char link[64], path[PATH_MAX];
    int saved_errno = errno;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n_path = readlink(link, path, sizeof(path) - 1);
    path[n_path > 0 ? n_path : 0] = '\0';
    errno = saved_errno;
    return strike(call, can, path);
}

/* --- by descriptor -------------------------------------------------------------- */

ssize_t write(int fd, const void *bytes, size_t n_bytes)
{
    int can = CAN_BE_INTERRUPTED | (n_bytes > 1 ? CAN_BE_SHORT : 0);
    enum action action = strike_fd("write", can, fd);

    if (action == FAIL)
        return -1;
    return NEXT(write)(fd, bytes, action == SHORTEN ? n_bytes / 2 : n_bytes);
}

static size_t first_bytes(const struct iovec *parts, int n_parts)
{
    return n_parts > 0 ? parts[0].iov_len : 0;
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts)
{
    int can =
        CAN_BE_INTERRUPTED | (first_bytes(parts, n_parts) > 1 ? CAN_BE_SHORT : 0);
    enum action action = strike_fd("writev", can, fd);

    if (action == FAIL)
        return -1;
    if (action == SHORTEN)
        return NEXT(write)(fd, parts[0].iov_base, parts[0].iov_len / 2);
    return NEXT(writev)(fd, parts, n_parts);
}

#define DEFINE_PWRITE(name, offset_type)                                     \
 ssize_t name(int fd, const void *bytes, size_t n_bytes, offset_type offset) \
 {                                                                           \
  int can = CAN_BE_INTERRUPTED | (n_bytes > 1 ? CAN_BE_SHORT : 0);           \
  enum action action = strike_fd("pwrite", can, fd);                         \
  if (action == FAIL)                                                        \
   return -1;                                                                \
  return NEXT(name)(fd, bytes, action == SHORTEN ? n_bytes / 2 : n_bytes,    \
                    offset);                                                 \
 }

#define DEFINE_PWRITEV(name, offset_type)                                         \
 ssize_t name(int fd, const struct iovec *parts, int n_parts, offset_type offset) \
 {                                                                                \
  if (strike_fd("pwritev", CAN_BE_INTERRUPTED, fd) == FAIL)                       \
   return -1;                                                                     \
  return NEXT(name)(fd, parts, n_parts, offset);                                  \
 }

#define DEFINE_FTRUNCATE(name, offset_type)                   \
 int name(int fd, offset_type n_bytes)                        \
 {                                                            \
  if (strike_fd("ftruncate", CAN_BE_INTERRUPTED, fd) == FAIL) \
   return -1;                                                 \
  return NEXT(name)(fd, n_bytes);                             \
 }

/* Says what went wrong by its value, not by errno. */
#define DEFINE_FALLOCATE(name, offset_type)                           \
 int name(int fd, offset_type offset, offset_type n_bytes)            \
 {                                                                    \
  int saved_errno = errno;                                            \
  if (strike_fd("posix_fallocate", CAN_BE_INTERRUPTED, fd) == FAIL) { \
   errno = saved_errno;                                               \
   return plan.error;                                                 \
  }                                                                   \
  return NEXT(name)(fd, offset, n_bytes);                             \
 }

DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITEV(pwritev, off_t)
DEFINE_FTRUNCATE(ftruncate, off_t)
DEFINE_FALLOCATE(posix_fallocate, off_t)
#ifdef __GLIBC__ /* the names that _FILE_OFFSET_BITS=64 gives to the same calls */
DEFINE_PWRITE(pwrite64, off64_t)
DEFINE_PWRITEV(pwritev64, off64_t)
DEFINE_FTRUNCATE(ftruncate64, off64_t)
DEFINE_FALLOCATE(posix_fallocate64, off64_t)
#endif

int fsync(int fd)
{
    if (strike_fd("fsync", CAN_BE_INTERRUPTED, fd) == FAIL)
        return -1;
    return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
    if (strike_fd("fdatasync", CAN_BE_INTERRUPTED, fd) == FAIL)
        return -1;
    return NEXT(fdatasync)(fd);
}

int msync(void *address, size_t n_bytes, int flags)
{
    if (strike("msync", 0, "") == FAIL)
        return -1;
    return NEXT(msync)(address, n_bytes, flags);
}

ssize_t copy_file_range(int from_fd, off64_t *from, int fd, off64_t *to, size_t n_bytes,
                        unsigned flags)
{
    if (strike_fd("copy_file_range", 0, fd) == FAIL)
        return -1;
    return NEXT(copy_file_range)(from_fd, from, fd, to, n_bytes, flags);
}

/* Of files that were written to and still have a name: others lose nothing by it. */
int close(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    bool is_written = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY &&
                      fstat(fd, &st) == 0 && st.st_nlink > 0;
    enum action action = is_written ? strike_fd("close", CAN_BE_INTERRUPTED, fd) : PASS;
    int rc = NEXT(close)(fd);

    if (action != FAIL)
        return rc;
    errno = plan.error;
    return -1;
}

/* --- by name --------------------------------------------------------------------- */

#define MODE_OF(flags, mode)                                           \
 do {                                                                  \
  va_list args;                                                        \
  va_start(args, flags);                                               \
  (mode) = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0; \
  va_end(args);                                                        \
 } while (0)

#define DEFINE_OPEN(name)                                   \
 int name(const char *path, int flags, ...)                 \
 {                                                          \
  mode_t mode;                                              \
  MODE_OF(flags, mode);                                     \
  if ((flags & O_CREAT) && strike("open", 0, path) == FAIL) \
   return -1;                                               \
  return NEXT(name)(path, flags, mode);                     \
 }

#define DEFINE_OPENAT(name)                                   \
 int name(int folder_fd, const char *path, int flags, ...)    \
 {                                                            \
  mode_t mode;                                                \
  MODE_OF(flags, mode);                                       \
  if ((flags & O_CREAT) && strike("openat", 0, path) == FAIL) \
   return -1;                                                 \
  return NEXT(name)(folder_fd, path, flags, mode);            \
 }

DEFINE_OPEN(open)
DEFINE_OPENAT(openat)
#ifdef __GLIBC__
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat64)
#endif

int rename(const char *from, const char *to)
{
    if (strike("rename", 0, to) == FAIL)
        return -1;
    return NEXT(rename)(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    if (strike("renameat", 0, to) == FAIL)
        return -1;
    return NEXT(renameat)(from_fd, from, to_fd, to);
}

int link(const char *from, const char *to)
{
    if (strike("link", 0, to) == FAIL)
        return -1;
    return NEXT(link)(from, to);
}

int unlink(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && strike("unlink", 0, path) == FAIL)
        return -1;
    return NEXT(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    if (access(path, F_OK) != 0 && strike("mkdir", 0, path) == FAIL)
        return -1;
    return NEXT(mkdir)(path, mode);
}
