/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_internal.h - where the bytes of a shard come from.
 *
 * A file, standard input, a URL or a command: bytes in order, from the first to the
 * last.  Only a file can be sought in.  A read that waits looks at is_canceled.
 *
 * A failure says whose it is.  PRX_ECORRUPT: the bytes are not what they should be,
 * which concerns this shard only.  Anything else: the run cannot go on.  A stream
 * that knows by what its bytes are to be judged (a hash, an exit status) fails in
 * that way instead of ending.
 *
 * One thread at a time.
 */
#ifndef PRX_STREAM_INTERNAL_H
#define PRX_STREAM_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

struct prx_stream;

struct prx_stream_ops {
    /* Up to @n_max of the next bytes, at least one; *@n_got is 0 at the end only. */
    int (*read)(struct prx_stream *stream, void *bytes, size_t n_max, size_t *n_got);
    /* Go to byte @at_bytes; NULL where that cannot be done. */
    int (*seek)(struct prx_stream *stream, uint64_t at_bytes);
    /* What the other side calls the bytes ("text/html"), or ""; NULL: nothing. */
    const char *(*type)(const struct prx_stream *stream);
    /* However much has been read. */
    void (*close)(struct prx_stream *stream);
};

/* The first member of every kind's own struct. */
struct prx_stream {
    const struct prx_stream_ops *ops;
    const atomic_bool *is_canceled; /* set by who reads; not NULL when reading */
    uint64_t n_bytes;               /* where it can be sought in */
};

/**
 * prx_stream_file - the file, pipe or device at @path; "-": standard input.
 *
 * A regular file can be sought in, unless it is standard input, of which somebody may
 * have read a part.
 */
PRX_MUST_USE int prx_stream_file(const char *path, struct prx_stream **out);

/**
 * prx_stream_command - what sh -c CMD writes to its standard output.
 *
 * @word: "pipe:CMD".
 * It is begun with the first read, in a process group of its own, with nothing to
 * read.  If it ends otherwise than with status 0, so does the stream, with
 * PRX_ECORRUPT.  Closed before that, the group is ended.
 */
PRX_MUST_USE int prx_stream_command(const char *word, struct prx_stream **out);

/**
 * prx_stream_ahead - @inner (taken), read by a thread, up to @n_bytes_max ahead.
 *
 * It begins at once.  Errors: PRX_ENOMEM, PRX_EIO (no thread); @inner is then closed.
 */
PRX_MUST_USE int prx_stream_ahead(struct prx_stream *inner, size_t n_bytes_max,
                                  struct prx_stream **out);

/**
 * prx_fd_read - as read(2), but looking at @is_canceled before, and while it waits.
 *
 * @name: for messages.  Errors: PRX_EIO, PRX_ECANCELED.
 */
PRX_MUST_USE int prx_fd_read(int fd, const char *name, const atomic_bool *is_canceled,
                             void *bytes, size_t n_max, size_t *n_got);

void prx_stream_close(struct prx_stream *stream); /* NULL is fine */

#endif
