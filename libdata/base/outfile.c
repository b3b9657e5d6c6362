/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that appear whole: temporary name, sync, rename, sync of the folder.
 *
 * Only the last step before the rename may make the bytes durable, so a final
 * name never points at bytes that a power cut could take back.  EINTR and short
 * writes are not failures; a full disk is, and its message names the file.
 * A temporary file is locked while it is written: one without a holder is waste.
 */
#define _GNU_SOURCE /* sync_file_range, where there is one */
#include "libdata/outfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/buf.h"

/* POSIX promises at least 16; every system of today takes 1024. */
#define N_PARTS_A_CALL 1024
/* Enough for one long write of the disk's, little enough to keep it busy. */
#define N_PUSH_BYTES ((uint64_t)8 << 20)

int prx_writev_all(int fd, const char *name, struct iovec *parts, int n_parts)
{
    while (n_parts > 0) {
        if (parts->iov_len == 0) {
            parts++;
            n_parts--;
            continue;
        }
        int n_now = n_parts < N_PARTS_A_CALL ? n_parts : N_PARTS_A_CALL;
        ssize_t n_written = writev(fd, parts, n_now);
        if (n_written < 0 && errno == EINTR)
            continue;
        if (n_written < 0)
            return prx_err_sys("%s", name);
        size_t n_left = (size_t)n_written;
        while (n_parts > 0 && n_left >= parts->iov_len) {
            n_left -= parts->iov_len;
            parts++;
            n_parts--;
        }
        if (n_left > 0) {
            parts->iov_base = (char *)parts->iov_base + n_left;
            parts->iov_len -= n_left;
        }
    }
    return 0;
}

int prx_write_all(int fd, const char *name, const void *bytes, size_t n_bytes)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n_bytes};
    return prx_writev_all(fd, name, &part, 1);
}

static int sync_file(int fd)
{
    int rc;

    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc;
}

int prx_fd_sync(int fd, const char *name)
{
    return sync_file(fd) < 0 ? prx_err_sys("%s", name) : 0;
}

int prx_fd_cut(int fd, const char *name, uint64_t n_bytes)
{
    int rc;

    do
        rc = ftruncate(fd, (off_t)n_bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 || lseek(fd, (off_t)n_bytes, SEEK_SET) < 0)
        return prx_err_sys("%s", name);
    return 0;
}

/* A file system over a network may report a full disk only here.  Interrupted, the
 * descriptor is closed all the same, and there is nothing to be done again. */
int prx_fd_close(int fd, const char *name)
{
    return close(fd) < 0 && errno != EINTR ? prx_err_sys("%s", name) : 0;
}

/* Length of the folder part of @path, with its slash; 0 for the current folder. */
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

int prx_sync_dir(const char *path)
{
    char *folder = NULL;
    int rc = 0;
    size_t n_folder = folder_bytes(path);

    PRX_TRY(prx_strdup(n_folder ? path : "./", &folder));
    if (n_folder)
        folder[n_folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems cannot sync a folder and say EINVAL: nothing to do. */
    if (fd < 0 || (sync_file(fd) < 0 && errno != EINVAL))
        rc = prx_err_sys("%s", folder);
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

int prx_temp_open(const char *folder, int *fd)
{
    struct prx_str path = {0};
    int rc = 0;

    if (!folder)
        folder = getenv("TMPDIR");
    if (!folder || !*folder)
        folder = "/tmp";
    PRX_GO(prx_str_printf(&path, "%s/prx-XXXXXX", folder));
    *fd = mkostemp(path.bytes, O_CLOEXEC);
    if (*fd < 0 || unlink(path.bytes) < 0)
        rc = prx_err_sys("%s", path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

/* What mkdir(2) was refused for may stand all the same.  Keeps errno. */
static bool is_there(const char *path)
{
    int saved_errno = errno;
    bool is = access(path, F_OK) == 0;

    errno = saved_errno;
    return is;
}

int prx_mkdirs(const char *path)
{
    char *work = NULL;
    int rc = 0;

    PRX_TRY(prx_strdup(path, &work));
    for (char *p = work;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (p > work && mkdir(work, 0777) == 0) {
            PRX_GO(prx_sync_dir(work));
        } else if (p > work && errno != EEXIST && !is_there(work)) {
            rc = prx_err_sys("%s", path);
            goto out;
        }
        *p = end;
        if (end == '\0')
            break;
    }
    struct stat st;
    if (*path && stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        rc = prx_err(PRX_EEXIST, "%s: not a folder", path);
out:
    free(work);
    return rc;
}

static int mkdirs_above(const char *path)
{
    char *folder = NULL;
    size_t n_folder = folder_bytes(path);

    if (n_folder <= 1)
        return 0;
    PRX_TRY(prx_strdup(path, &folder));
    folder[n_folder - 1] = '\0';
    int rc = prx_mkdirs(folder);
    free(folder);
    return rc;
}

/* A pipe, a device, /dev/stderr: written to, never replaced. */
static bool is_stream(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static int open_stream(struct prx_outfile *file)
{
    file->fd = open(file->path, O_WRONLY | O_CLOEXEC);
    return file->fd < 0 ? prx_err_sys("%s", file->path) : 0;
}

int prx_outfile_open(struct prx_outfile *file, const char *path)
{
    struct prx_str temp = {0};
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    int n_folder = (int)folder_bytes(path);
    int rc = 0;

    *file = (struct prx_outfile){.fd = -1};
    PRX_GO(prx_strdup(path, &file->path));
    if (is_stream(path)) {
        rc = open_stream(file);
        goto out;
    }
    PRX_GO(prx_str_printf(&temp, "%.*s.%s.tmp.%ld", n_folder, path, path + n_folder,
                          (long)getpid()));
    file->temp_path = temp.bytes;
    temp = (struct prx_str){0};

    file->fd = open(file->temp_path, flags, 0666);
    if (file->fd < 0 && errno == ENOENT) {
        PRX_GO(mkdirs_above(path));
        file->fd = open(file->temp_path, flags, 0666);
    }
    if (file->fd < 0)
        rc = prx_err_sys("%s", path);
    else
        (void)flock(file->fd, LOCK_EX | LOCK_NB); /* for prx_outfile_sweep() alone */
out:
    prx_str_release(&temp);
    if (rc < 0)
        prx_outfile_abort(file);
    return rc;
}

int prx_outfile_writev(struct prx_outfile *file, struct iovec *parts, int n_parts)
{
    uint64_t n_bytes = 0;
    for (int i = 0; i < n_parts; i++)
        n_bytes += parts[i].iov_len;
    PRX_TRY(prx_writev_all(file->fd, file->path, parts, n_parts));
    file->n_bytes += n_bytes;
    return 0;
}

int prx_outfile_write(struct prx_outfile *file, const void *bytes, size_t n_bytes)
{
    PRX_TRY(prx_write_all(file->fd, file->path, bytes, n_bytes));
    file->n_bytes += n_bytes;
    return 0;
}

void prx_outfile_push(struct prx_outfile *file)
{
#ifdef SYNC_FILE_RANGE_WRITE
    uint64_t n_new_bytes = file->n_bytes - file->n_pushed_bytes;

    if (n_new_bytes < N_PUSH_BYTES)
        return;
    /* A hint: what goes wrong here, the sync at the end reports. */
    (void)sync_file_range(file->fd, (off_t)file->n_pushed_bytes, (off_t)n_new_bytes,
                          SYNC_FILE_RANGE_WRITE);
    file->n_pushed_bytes = file->n_bytes;
#else
    (void)file;
#endif
}

int prx_outfile_cut(struct prx_outfile *file, uint64_t n_bytes)
{
    PRX_TRY(prx_fd_cut(file->fd, file->path, n_bytes));
    file->n_bytes = n_bytes;
    if (file->n_pushed_bytes > n_bytes)
        file->n_pushed_bytes = n_bytes;
    return 0;
}

int prx_outfile_commit(struct prx_outfile *file, bool no_sync)
{
    bool is_file = file->temp_path != NULL;
    int rc = 0;

    if (is_file && !no_sync)
        PRX_GO(prx_fd_sync(file->fd, file->path));
    int fd = file->fd;
    file->fd = -1;
    PRX_GO(prx_fd_close(fd, file->path));
    if (is_file && rename(file->temp_path, file->path) < 0) {
        rc = prx_err_sys("%s", file->path);
        goto out;
    }
    free(file->temp_path);
    file->temp_path = NULL;
    if (is_file && !no_sync)
        rc = prx_sync_dir(file->path);
out:
    prx_outfile_abort(file);
    return rc;
}

/* ".NAME.tmp.PID" for @base as NAME? */
static bool is_temp_of(const char *base, const char *name)
{
    size_t n_base = strlen(base);

    if (*name != '.' || strncmp(name + 1, base, n_base) != 0 ||
        strncmp(name + 1 + n_base, ".tmp.", 5) != 0)
        return false;
    const char *digits = name + 1 + n_base + 5;
    return *digits && digits[strspn(digits, "0123456789")] == '\0';
}

void prx_outfile_sweep(const char *path)
{
    size_t n_folder = folder_bytes(path);
    struct prx_str folder = {0};
    struct dirent *here;
    DIR *dir = NULL;

    if (prx_str_puts(&folder, "./") == 0 && n_folder > 0) {
        prx_str_reset(&folder);
        if (prx_str_add(&folder, path, n_folder) < 0)
            goto out;
    }
    dir = folder.bytes ? opendir(folder.bytes) : NULL;
    while (dir && (here = readdir(dir))) {
        if (!is_temp_of(path + n_folder, here->d_name))
            continue;
        int fd = openat(dirfd(dir), here->d_name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(dir), here->d_name, 0);
        if (fd >= 0)
            close(fd);
    }
out:
    if (dir)
        closedir(dir);
    prx_str_release(&folder);
}

void prx_outfile_abort(struct prx_outfile *file)
{
    if (!file->path)
        return;
    if (file->temp_path)
        unlink(file->temp_path);
    if (file->fd >= 0)
        close(file->fd);
    free(file->temp_path);
    free(file->path);
    *file = (struct prx_outfile){.fd = -1};
}

int prx_file_put(const char *path, const void *bytes, size_t n_bytes)
{
    struct prx_outfile file;

    PRX_TRY(prx_outfile_open(&file, path));
    int rc = prx_outfile_write(&file, bytes, n_bytes);
    if (rc < 0) {
        prx_outfile_abort(&file);
        return rc;
    }
    return prx_outfile_commit(&file, false);
}

int prx_file_get(const char *path, uint64_t n_bytes_max, struct prx_buf **out)
{
    struct prx_str text = {0};
    struct stat st;
    int rc = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    /* The size is a hint only: a file may grow, and a pipe has none. */
    size_t n_step = st.st_size > 0 && (uint64_t)st.st_size <= n_bytes_max
                        ? (size_t)st.st_size + 1
                        : 65536;
    for (;;) {
        PRX_GO(prx_str_reserve(&text, n_step));
        ssize_t n_got = read(fd, text.bytes + text.n_bytes, n_step);
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0) {
            rc = prx_err_sys("%s", path);
            goto out;
        }
        if (n_got == 0)
            break;
        text.n_bytes += (size_t)n_got;
        if (text.n_bytes > n_bytes_max) {
            rc = prx_err(PRX_EINVAL, "%s: larger than %llu bytes", path,
                         (unsigned long long)n_bytes_max);
            goto out;
        }
    }
    text.bytes[text.n_bytes] = '\0';
    PRX_GO(prx_str_take(&text, out));
out:
    if (fd >= 0)
        close(fd);
    prx_str_release(&text);
    return rc;
}
