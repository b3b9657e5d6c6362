/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a file descriptor: a file, a pipe, standard input. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/source/stream_internal.h"

struct stream_file {
    struct prx_stream base;
    int fd;
    char *name; /* for messages */
};

static int read_fd(int fd, const char *name, void *bytes, size_t n_max, size_t *n_got)
{
    ssize_t n_read;

    do
        n_read = read(fd, bytes, n_max);
    while (n_read < 0 && errno == EINTR);
    if (n_read < 0)
        return prx_err_sys("%s", name);
    *n_got = (size_t)n_read;
    return 0;
}

/* A pipe is waited for in short turns, so that a canceled run need not wait for it. */
int prx_fd_read(int fd, const char *name, const atomic_bool *is_canceled, void *bytes,
                size_t n_max, size_t *n_got)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    do
        if (atomic_load(is_canceled))
            return prx_err(PRX_ECANCELED, "%s: canceled", name);
    while (poll(&ready, 1, 100) <= 0);
    return read_fd(fd, name, bytes, n_max, n_got);
}

static int pipe_read(struct prx_stream *stream, void *bytes, size_t n_max,
                     size_t *n_got)
{
    struct stream_file *file = (struct stream_file *)stream;

    return prx_fd_read(file->fd, file->name, stream->is_canceled, bytes, n_max, n_got);
}

static int file_read(struct prx_stream *stream, void *bytes, size_t n_max,
                     size_t *n_got)
{
    struct stream_file *file = (struct stream_file *)stream;

    return read_fd(file->fd, file->name, bytes, n_max, n_got);
}

static int file_seek(struct prx_stream *stream, uint64_t at_bytes)
{
    struct stream_file *file = (struct stream_file *)stream;

    if (lseek(file->fd, (off_t)at_bytes, SEEK_SET) < 0)
        return prx_err_sys("%s", file->name);
    return 0;
}

static void file_close(struct prx_stream *stream)
{
    struct stream_file *file = (struct stream_file *)stream;

    if (file->fd > STDIN_FILENO)
        close(file->fd);
    free(file->name);
    free(file);
}

static const struct prx_stream_ops pipe_ops = {.read = pipe_read, .close = file_close};
static const struct prx_stream_ops file_ops = {
    .read = file_read,
    .seek = file_seek,
    .close = file_close,
};

int prx_stream_file(const char *path, struct prx_stream **out)
{
    struct stream_file *file = calloc(1, sizeof(*file));
    bool is_stdin = strcmp(path, "-") == 0;
    struct stat st;
    int rc = 0;

    if (!file)
        return prx_err_nomem("a file");
    file->base.ops = &pipe_ops;
    file->fd = -1;
    PRX_GO(prx_strdup(is_stdin ? "standard input" : path, &file->name));
    file->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &st) < 0) {
        rc = prx_err_sys("%s", file->name);
        goto out;
    }
    if (S_ISREG(st.st_mode) && !is_stdin) {
        file->base.ops = &file_ops;
        file->base.n_bytes = (uint64_t)st.st_size;
    }
    *out = &file->base;
    file = NULL;
out:
    prx_stream_close(file ? &file->base : NULL);
    return rc;
}

void prx_stream_close(struct prx_stream *stream)
{
    if (stream)
        stream->ops->close(stream);
}
