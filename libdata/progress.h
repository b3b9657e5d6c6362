/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - the meter: one line on standard error, sampled by its caller.
 *
 * On a terminal it appears after 1 s and is redrawn at most 4 times a second;
 * elsewhere it is a line a minute, or a second where it is asked for always.  No
 * signals, no threads: prx_meter_tick() is cheap enough to be called for every sample.
 */
#ifndef PRX_LIBDATA_PROGRESS_H
#define PRX_LIBDATA_PROGRESS_H

#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_meter_when { PRX_METER_AUTO,
                      PRX_METER_ALWAYS,
                      PRX_METER_NEVER };

struct prx_meter {
    enum prx_meter_when when;
    const char *verb;  /* "shard", borrowed */
    const char *unit;  /* "samples", borrowed */
    uint64_t n_total;  /* 0 = unknown */
    uint64_t n_before; /* done by an earlier run, set after init; the rate is without */
    int64_t start_ns;
    int64_t shown_ns;
};

void prx_meter_init(struct prx_meter *meter, enum prx_meter_when when,
                    const char *verb, const char *unit, uint64_t n_total);

/**
 * prx_meter_tick - @n_done units, @n_bytes bytes so far (0: they are not shown).
 *
 * @note: appended; may be NULL.
 */
void prx_meter_tick(struct prx_meter *meter, uint64_t n_done, uint64_t n_bytes,
                    const char *note);

/** prx_meter_finish - remove the line. */
void prx_meter_finish(struct prx_meter *meter);

double prx_meter_elapsed_s(const struct prx_meter *meter);

/** prx_now_ns - monotonic clock. */
int64_t prx_now_ns(void);

#ifdef __cplusplus
}
#endif
#endif
