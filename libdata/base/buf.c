/* SPDX-License-Identifier: Apache-2.0 */
/* Counted immutable buffers and growing strings. */
#include "libdata/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int prx_buf_take(uint8_t *bytes, size_t n_bytes,
                 void (*free_bytes)(uint8_t *, size_t), struct prx_buf **out)
{
    struct prx_buf *buf = malloc(sizeof(*buf));
    if (!buf) {
        if (free_bytes)
            free_bytes(bytes, n_bytes);
        else
            free(bytes);
        return prx_err_nomem("a buffer");
    }
    *buf = (struct prx_buf){bytes, n_bytes, 1, free_bytes};
    *out = buf;
    return 0;
}

int prx_buf_new(size_t n_bytes, struct prx_buf **out)
{
    uint8_t *bytes = NULL;
    if (n_bytes > 0 && !(bytes = malloc(n_bytes)))
        return prx_err(PRX_ENOMEM, "out of memory for a buffer of %zu bytes", n_bytes);
    return prx_buf_take(bytes, n_bytes, NULL, out);
}

int prx_buf_dup(const void *bytes, size_t n_bytes, struct prx_buf **out)
{
    PRX_TRY(prx_buf_new(n_bytes, out));
    if (n_bytes > 0)
        memcpy((*out)->bytes, bytes, n_bytes);
    return 0;
}

struct prx_buf *prx_buf_ref(struct prx_buf *buf)
{
    __atomic_fetch_add(&buf->refs, 1, __ATOMIC_RELAXED);
    return buf;
}

void prx_buf_unref(struct prx_buf *buf)
{
    if (!buf || __atomic_fetch_sub(&buf->refs, 1, __ATOMIC_ACQ_REL) > 1)
        return;
    if (buf->free_bytes)
        buf->free_bytes(buf->bytes, buf->n_bytes);
    else
        free(buf->bytes);
    free(buf);
}

void prx_str_release(struct prx_str *str)
{
    free(str->bytes);
    *str = (struct prx_str){0};
}

void prx_str_reset(struct prx_str *str)
{
    str->n_bytes = 0;
    if (str->bytes)
        str->bytes[0] = '\0';
}

int prx_str_reserve(struct prx_str *str, size_t n_more_bytes)
{
    if (n_more_bytes >= SIZE_MAX - str->n_bytes)
        return prx_err_nomem("a string");
    size_t want_bytes = str->n_bytes + n_more_bytes + 1;
    if (want_bytes <= str->cap_bytes)
        return 0;
    size_t cap_bytes = str->cap_bytes ? str->cap_bytes : 64;
    while (cap_bytes < want_bytes)
        cap_bytes = cap_bytes > SIZE_MAX / 2 ? want_bytes : cap_bytes * 2;
    char *bytes = realloc(str->bytes, cap_bytes);
    if (!bytes)
        return prx_err_nomem("a string");
    str->bytes = bytes;
    str->cap_bytes = cap_bytes;
    return 0;
}

int prx_str_add(struct prx_str *str, const void *bytes, size_t n_bytes)
{
    PRX_TRY(prx_str_reserve(str, n_bytes));
    if (n_bytes > 0)
        memcpy(str->bytes + str->n_bytes, bytes, n_bytes);
    str->n_bytes += n_bytes;
    str->bytes[str->n_bytes] = '\0';
    return 0;
}

int prx_str_puts(struct prx_str *str, const char *text)
{
    return prx_str_add(str, text, strlen(text));
}

int prx_str_printf(struct prx_str *str, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n_chars = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    PRX_BUG_IF(n_chars < 0);
    PRX_TRY(prx_str_reserve(str, (size_t)n_chars));
    va_start(args, fmt);
    vsnprintf(str->bytes + str->n_bytes, (size_t)n_chars + 1, fmt, args);
    va_end(args);
    str->n_bytes += (size_t)n_chars;
    return 0;
}

int prx_str_take(struct prx_str *str, struct prx_buf **out)
{
    uint8_t *bytes = (uint8_t *)str->bytes;
    size_t n_bytes = str->n_bytes;
    *str = (struct prx_str){0};
    return prx_buf_take(bytes, n_bytes, NULL, out);
}

int prx_strdup(const char *text, char **out)
{
    *out = strdup(text);
    return *out ? 0 : prx_err_nomem("a string");
}
