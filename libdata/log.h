/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the one way a program speaks on standard error: "prx-NAME: level: text".
 *
 * The library itself returns failures and counts rejects; it logs only what no
 * caller could act on.  Tools and the training loop log.  Lines are whole and never
 * mixed between threads; a progress line on the terminal is cleared before one is
 * printed.
 */
#ifndef PRX_LIBDATA_LOG_H
#define PRX_LIBDATA_LOG_H

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_log_level { PRX_LOG_ERROR,
                     PRX_LOG_WARNING,
                     PRX_LOG_INFO,
                     PRX_LOG_DEBUG };

/** prx_log_init - name the program (kept, not copied) and the most talkative level. */
void prx_log_init(const char *program, enum prx_log_level level);
enum prx_log_level prx_log_level(void);

void prx_log(enum prx_log_level level, const char *fmt, ...) PRX_PRINTF(2, 3);

#define prx_log_error(...)   prx_log(PRX_LOG_ERROR, __VA_ARGS__)
#define prx_log_warning(...) prx_log(PRX_LOG_WARNING, __VA_ARGS__)
#define prx_log_info(...)    prx_log(PRX_LOG_INFO, __VA_ARGS__)
#define prx_log_debug(...)   prx_log(PRX_LOG_DEBUG, __VA_ARGS__)

/**
 * prx_log_line - replace the transient line at the bottom of the terminal.
 *
 * @text NULL removes it.  prx_log() clears it first and draws it again after.
 * On anything but a terminal the text is printed as a line of its own.
 */
void prx_log_line(const char *text);

#ifdef __cplusplus
}
#endif
#endif
