/* SPDX-License-Identifier: Apache-2.0 */
/* Whole lines on standard error, with at most one transient line below them. */
#include "libdata/log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *program_name = "prx";
static enum prx_log_level max_level = PRX_LOG_WARNING;
static char transient[512];

void prx_log_init(const char *program, enum prx_log_level level)
{
    program_name = program;
    max_level = level;
}

enum prx_log_level prx_log_level(void)
{
    return max_level;
}

void prx_log(enum prx_log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char text[PRX_ERR_TEXT_BYTES + 256];
    va_list args;

    if (level > max_level)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    pthread_mutex_lock(&lock);
    const char *clear = transient[0] ? "\r\033[K" : "";
    fprintf(stderr, "%s%s: %s: %s\n%s", clear, program_name, names[level], text,
            transient);
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}

void prx_log_line(const char *text)
{
    int is_tty = isatty(STDERR_FILENO);

    pthread_mutex_lock(&lock);
    if (!text) {
        if (transient[0])
            fputs("\r\033[K", stderr);
        transient[0] = '\0';
    } else if (is_tty) {
        snprintf(transient, sizeof(transient), "%s", text);
        fprintf(stderr, "\r\033[K%s", transient);
    } else {
        fprintf(stderr, "%s: %s\n", program_name, text);
    }
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}
