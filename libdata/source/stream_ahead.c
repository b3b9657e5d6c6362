/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another stream, read ahead by a thread into a ring of bytes.
 *
 *     ring   . . . [begin ── n_full ──) . . .       positions modulo cap
 *
 * The thread fills the free part behind, the reader empties the full part in front;
 * each touches its own part without the lock, and moves the border with it.  Where
 * the inner stream ends or fails, that is told after the last byte.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libdata/source/stream_internal.h"

#define N_STEP_BYTES ((size_t)256 << 10) /* at one read */

struct stream_ahead {
    struct prx_stream base;
    struct prx_stream *inner; /* owned */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_moved;
    atomic_bool is_stopped; /* the reader has gone */
    uint8_t *ring;
    size_t cap, begin, n_full;
    bool is_over;           /* the inner stream, */
    struct prx_error error; /* and how: code 0 is its end */
};

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Where the next bytes belong, and how many, when there is room; 0: stopped. */
static size_t find_room(struct stream_ahead *ahead, uint8_t **at)
{
    size_t n_room = 0;

    pthread_mutex_lock(&ahead->lock);
    while (ahead->n_full == ahead->cap && !atomic_load(&ahead->is_stopped))
        pthread_cond_wait(&ahead->has_moved, &ahead->lock);
    if (!atomic_load(&ahead->is_stopped)) {
        size_t end = (ahead->begin + ahead->n_full) % ahead->cap;
        *at = ahead->ring + end;
        n_room = at_most(ahead->cap - ahead->n_full, ahead->cap - end);
        n_room = at_most(n_room, N_STEP_BYTES);
    }
    pthread_mutex_unlock(&ahead->lock);
    return n_room;
}

static void *run_ahead(void *ctx)
{
    struct stream_ahead *ahead = ctx;
    bool is_over = false;
    uint8_t *at;
    size_t n_room, n_got;

    while (!is_over && (n_room = find_room(ahead, &at)) > 0) {
        int rc = ahead->inner->ops->read(ahead->inner, at, n_room, &n_got);
        is_over = rc < 0 || n_got == 0;
        pthread_mutex_lock(&ahead->lock);
        ahead->n_full += rc < 0 ? 0 : n_got;
        ahead->is_over = is_over;
        if (rc < 0)
            prx_err_save(&ahead->error);
        pthread_cond_signal(&ahead->has_moved);
        pthread_mutex_unlock(&ahead->lock);
    }
    return NULL;
}

/* With the lock held. */
static int wait_for_bytes(struct stream_ahead *ahead)
{
    struct timespec until;

    while (ahead->n_full == 0 && !ahead->is_over) {
        if (atomic_load(ahead->base.is_canceled))
            return prx_err(PRX_ECANCELED, "reading canceled");
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&ahead->has_moved, &ahead->lock, &until);
    }
    return 0;
}

static int ahead_read(struct prx_stream *stream, void *bytes, size_t n_max,
                      size_t *n_got)
{
    struct stream_ahead *ahead = (struct stream_ahead *)stream;

    *n_got = 0;
    pthread_mutex_lock(&ahead->lock);
    int rc = wait_for_bytes(ahead);
    size_t n = at_most(at_most(ahead->n_full, ahead->cap - ahead->begin), n_max);
    const uint8_t *from = ahead->ring + ahead->begin;
    pthread_mutex_unlock(&ahead->lock);
    PRX_TRY(rc);
    if (n == 0)
        return ahead->error.code < 0 ? prx_err_restore(&ahead->error) : 0;
    memcpy(bytes, from, n);
    pthread_mutex_lock(&ahead->lock);
    ahead->begin = (ahead->begin + n) % ahead->cap;
    ahead->n_full -= n;
    pthread_cond_signal(&ahead->has_moved);
    pthread_mutex_unlock(&ahead->lock);
    *n_got = n;
    return 0;
}

/* The thread has written it before the first byte that the reader saw. */
static const char *ahead_type(const struct prx_stream *stream)
{
    const struct stream_ahead *ahead = (const struct stream_ahead *)stream;

    return ahead->inner->ops->type ? ahead->inner->ops->type(ahead->inner) : "";
}

static void ahead_close(struct prx_stream *stream)
{
    struct stream_ahead *ahead = (struct stream_ahead *)stream;

    pthread_mutex_lock(&ahead->lock);
    atomic_store(&ahead->is_stopped, true);
    pthread_cond_signal(&ahead->has_moved);
    pthread_mutex_unlock(&ahead->lock);
    pthread_join(ahead->thread, NULL);
    pthread_cond_destroy(&ahead->has_moved);
    pthread_mutex_destroy(&ahead->lock);
    prx_stream_close(ahead->inner);
    free(ahead->ring);
    free(ahead);
}

static const struct prx_stream_ops ahead_ops = {
    .read = ahead_read,
    .type = ahead_type,
    .close = ahead_close,
};

int prx_stream_ahead(struct prx_stream *inner, size_t n_bytes_max,
                     struct prx_stream **out)
{
    struct stream_ahead *ahead = calloc(1, sizeof(*ahead));
    int rc = 0;

    if (!ahead || !(ahead->ring = malloc(n_bytes_max))) {
        rc = prx_err_nomem("reading ahead");
        goto out;
    }
    ahead->base.ops = &ahead_ops;
    ahead->inner = inner;
    ahead->cap = n_bytes_max;
    inner->is_canceled = &ahead->is_stopped;
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->has_moved, NULL);
    if (pthread_create(&ahead->thread, NULL, run_ahead, ahead) != 0) {
        pthread_cond_destroy(&ahead->has_moved);
        pthread_mutex_destroy(&ahead->lock);
        rc = prx_err(PRX_EIO, "no thread to read ahead with");
        goto out;
    }
    *out = &ahead->base;
    return 0;
out:
    prx_stream_close(inner);
    if (ahead)
        free(ahead->ring);
    free(ahead);
    return rc;
}
