/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - bytes: shared and immutable once filled (prx_buf), or growing (prx_str).
 *
 * A prx_buf is counted: every holder owns one reference and gives it back with
 * prx_buf_unref().  Its bytes are written by whoever made it, before it is
 * shared, and never after; so a part passes from source to sink, across
 * threads, without a copy.  Counts are atomic.
 *
 * A prx_str grows and always has a NUL behind its last byte.  {0} is an empty
 * one.  Its bytes are valid until the next call on it.
 */
#ifndef PRX_LIBDATA_BUF_H
#define PRX_LIBDATA_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_buf {
    uint8_t *bytes; /* NULL only when n_bytes is 0 */
    size_t n_bytes;
    int refs;                              /* private */
    void (*free_bytes)(uint8_t *, size_t); /* private */
};

/** prx_buf_new - @n_bytes uninitialised bytes, one reference. Errors: PRX_ENOMEM. */
PRX_MUST_USE int prx_buf_new(size_t n_bytes, struct prx_buf **out);

/** prx_buf_dup - a copy of @n_bytes at @bytes. Errors: PRX_ENOMEM. */
PRX_MUST_USE int prx_buf_dup(const void *bytes, size_t n_bytes, struct prx_buf **out);

/**
 * prx_buf_take - own @bytes, to be given to @free_bytes with the last reference.
 *
 * @free_bytes: NULL for free(3).  Errors: PRX_ENOMEM (@bytes is then freed).
 */
PRX_MUST_USE int prx_buf_take(uint8_t *bytes, size_t n_bytes,
                              void (*free_bytes)(uint8_t *, size_t),
                              struct prx_buf **out);

struct prx_buf *prx_buf_ref(struct prx_buf *buf);
void prx_buf_unref(struct prx_buf *buf); /* NULL is fine */

struct prx_str {
    char *bytes; /* NULL while nothing was ever added */
    size_t n_bytes;
    size_t cap_bytes;
};

void prx_str_release(struct prx_str *str);
void prx_str_reset(struct prx_str *str); /* empty, capacity kept */

/* Appends.  Errors of all: PRX_ENOMEM, @str then unchanged. */
PRX_MUST_USE int prx_str_add(struct prx_str *str, const void *bytes, size_t n_bytes);
PRX_MUST_USE int prx_str_puts(struct prx_str *str, const char *text);
PRX_MUST_USE int prx_str_printf(struct prx_str *str, const char *fmt, ...)
    PRX_PRINTF(2, 3);
PRX_MUST_USE int prx_str_reserve(struct prx_str *str, size_t n_more_bytes);

/** prx_str_take - hand the bytes to a new buffer and leave @str empty. */
PRX_MUST_USE int prx_str_take(struct prx_str *str, struct prx_buf **out);

/** prx_strdup - a heap copy of @text, freed by the caller with free(3). */
PRX_MUST_USE int prx_strdup(const char *text, char **out);

#ifdef __cplusplus
}
#endif
#endif
