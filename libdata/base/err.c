/* SPDX-License-Identifier: Apache-2.0 */
/* The thread's failure record: fixed storage, so that reporting cannot fail. */
#include "libdata/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct prx_error thread_error;

static void record(int code, int sys_errno, const char *fmt, va_list args)
{
    /* Arguments may point into the old text, so format aside first. */
    char text[PRX_ERR_TEXT_BYTES];
    vsnprintf(text, sizeof(text), fmt, args);
    thread_error.code = code;
    thread_error.sys_errno = sys_errno;
    memcpy(thread_error.text, text, sizeof(text));
}

int prx_err(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    record(code, 0, fmt, args);
    va_end(args);
    return code;
}

static int code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOENT:
        return PRX_ENOENT;
    case EEXIST:
        return PRX_EEXIST;
    case ENOMEM:
        return PRX_ENOMEM;
    case EPIPE:
        return PRX_EPIPE;
    default:
        return PRX_EIO;
    }
}

int prx_err_sys(const char *fmt, ...)
{
    int sys_errno = errno;
    int code = code_of_errno(sys_errno);
    char reason[128];
    va_list args;

    va_start(args, fmt);
    record(code, sys_errno, fmt, args);
    va_end(args);
    if (strerror_r(sys_errno, reason, sizeof(reason)) != 0)
        snprintf(reason, sizeof(reason), "errno %d", sys_errno);
    size_t n_used = strlen(thread_error.text);
    snprintf(thread_error.text + n_used, sizeof(thread_error.text) - n_used,
             ": %s", reason);
    return code;
}

int prx_err_nomem(const char *what)
{
    return prx_err(PRX_ENOMEM, "out of memory for %s", what);
}

int prx_err_frame(int code, const char *fmt, ...)
{
    char text[PRX_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text) / 2, fmt, args);
    va_end(args);
    size_t n_used = strlen(text);
    size_t n_kept = strnlen(thread_error.text, sizeof(text) - n_used - 3);
    memcpy(text + n_used, ": ", 2);
    memcpy(text + n_used + 2, thread_error.text, n_kept);
    text[n_used + 2 + n_kept] = '\0';
    memcpy(thread_error.text, text, sizeof(text));
    return code;
}

const char *prx_err_message(void)
{
    return thread_error.text;
}

void prx_err_clear(void)
{
    memset(&thread_error, 0, sizeof(thread_error));
}

void prx_err_save(struct prx_error *out)
{
    *out = thread_error;
}

int prx_err_restore(const struct prx_error *err)
{
    thread_error = *err;
    return err->code;
}

void prx_bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "BUG at %s:%d: %s\n", file, line, what);
    abort();
}
