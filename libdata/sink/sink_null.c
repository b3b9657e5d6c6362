/* SPDX-License-Identifier: Apache-2.0 */
/* "null:": count, and drop; where a function is given, that sees each sample first. */
#include <stdlib.h>

#include "libdata/sink/sink_internal.h"

struct sink_null {
    struct prx_sink base;
    struct prx_sink_totals totals;
    int (*fn)(void *ctx, struct prx_sample *sample); /* or NULL */
    void *ctx;
};

static int null_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_null *null = (struct sink_null *)sink;
    struct prx_sink_totals *totals = &null->totals;

    if (null->fn)
        PRX_TRY(null->fn(null->ctx, sample));
    if (sample->reject_reason) {
        totals->n_rejected++;
    } else {
        totals->n_samples++;
        totals->n_bytes += prx_sample_bytes(sample);
    }
    return 0;
}

static int null_finish(struct prx_sink *sink, json_t *extra,
                       struct prx_sink_totals *totals)
{
    (void)extra;
    *totals = ((struct sink_null *)sink)->totals;
    return 0;
}

static void null_abort(struct prx_sink *sink)
{
    (void)sink;
}

static void null_release(struct prx_sink *sink)
{
    free(sink);
}

static const struct prx_sink_ops null_ops = {null_put, null_finish, null_release,
                                             null_abort, NULL, NULL};

int prx_sink_call(int (*fn)(void *ctx, struct prx_sample *sample), void *ctx,
                  struct prx_sink **out)
{
    struct sink_null *null = calloc(1, sizeof(*null));

    if (!null)
        return prx_err_nomem("a sink");
    null->base.ops = &null_ops;
    null->fn = fn;
    null->ctx = ctx;
    *out = &null->base;
    return 0;
}

int prx_sink_null_open(const char *word, const struct prx_sink_opts *opts,
                       uint64_t *n_done_serials, struct prx_sink **out)
{
    (void)word, (void)opts, (void)n_done_serials;
    return prx_sink_call(NULL, NULL, out);
}
