/* SPDX-License-Identifier: Apache-2.0 */
/*
 * made.h - samples made by number, and put into a sink.
 */
#ifndef PRX_TESTS_LIB_MADE_H
#define PRX_TESTS_LIB_MADE_H

#include "libdata/sink.h"

/** prx_made_field - put a field of @n_bytes that depend on its name. */
void prx_made_field(struct prx_sample *sample, const char *name, size_t n_bytes);

/**
 * prx_made_sample - sample number @serial: key "kNNN", 700 bytes of jpg, a txt.
 *
 * Each seventh, 6 and on, is rejected.
 */
void prx_made_sample(struct prx_sample *sample, uint64_t serial);

/** prx_made_put - put samples @first to @end - 1. */
PRX_MUST_USE int prx_made_put(struct prx_sink *sink, uint64_t first, uint64_t end);

/** prx_made_write - open, put what is not settled yet of @n_samples, finish. */
PRX_MUST_USE int prx_made_write(const char *word, const struct prx_sink_opts *opts,
                                uint64_t n_samples, struct prx_sink_totals *totals);

#endif
