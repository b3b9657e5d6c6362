/* SPDX-License-Identifier: Apache-2.0 */
/* Samples made by number. */
#include "tests/lib/made.h"

#include <stdio.h>
#include <stdlib.h>

static void need(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "made: %s\n", prx_err_message());
        abort();
    }
}

void prx_made_field(struct prx_sample *sample, const char *name, size_t n_bytes)
{
    struct prx_buf *buf;

    need(prx_buf_new(n_bytes, &buf));
    for (size_t i = 0; i < n_bytes; i++)
        buf->bytes[i] = (uint8_t)(name[0] + i * 7);
    need(prx_sample_put(sample, name, buf));
}

void prx_made_sample(struct prx_sample *sample, uint64_t serial)
{
    char key[32];

    prx_sample_reset(sample);
    snprintf(key, sizeof(key), "k%03d", (int)serial);
    need(prx_sample_set_key(sample, key));
    need(prx_sample_set_origin(sample, "made.tar"));
    sample->serial = serial;
    prx_made_field(sample, "txt", (size_t)serial);
    prx_made_field(sample, "jpg", 700);
    if (serial % 7 == 6)
        prx_sample_reject(sample, "test", "seventh");
}

int prx_made_put(struct prx_sink *sink, uint64_t first, uint64_t end)
{
    struct prx_sample sample = {0};
    int rc = 0;

    for (uint64_t i = first; i < end && rc == 0; i++) {
        prx_made_sample(&sample, i);
        rc = prx_sink_put(sink, &sample);
    }
    prx_sample_release(&sample);
    return rc;
}

int prx_made_write(const char *word, const struct prx_sink_opts *opts,
                   uint64_t n_samples, struct prx_sink_totals *totals)
{
    struct prx_sink *sink;
    uint64_t n_done;

    PRX_TRY(prx_sink_open(word, opts, &n_done, &sink));
    int rc = prx_made_put(sink, n_done, n_samples);
    if (rc < 0) {
        prx_sink_abort(sink);
        return rc;
    }
    return prx_sink_finish(sink, NULL, totals);
}
