/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream put to rest: tar shards with just the parts that training reads.
 *
 * They get an index.json like any other data set, written last, so that a spool
 * without one is an unfinished one.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"
#include "libdata/outfile.h"
#include "libdata/sink.h"

struct loader_spool {
    const struct prx_loader_opts *opts;
    struct prx_sink *sink;
};

int prx_loader_spool_open(const struct prx_loader_opts *opts, struct loader_spool **out)
{
    const struct prx_sink_opts sink_opts = {
        .exists = opts->spool_overwrite ? PRX_SINK_OVERWRITE : PRX_SINK_REFUSE,
        .plan = "spool",
        .tool = "prx loader",
        .no_dali_index = true,
    };
    struct prx_str word = {0};
    uint64_t n_done = 0;
    int rc = 0;

    if (!opts->spool_dir)
        return prx_err(PRX_EINVAL, "a stream needs a folder to be spooled to");
    struct loader_spool *spool = calloc(1, sizeof(*spool));
    if (!spool)
        return prx_err_nomem("a spool");
    spool->opts = opts;
    PRX_GO(prx_mkdirs(opts->spool_dir));
    PRX_GO(prx_str_printf(&word, "%s/%%06d.tar", opts->spool_dir));
    PRX_GO(prx_sink_open(word.bytes, &sink_opts, &n_done, &spool->sink));
    *out = spool;
    spool = NULL;
out:
    prx_str_release(&word);
    free(spool);
    return rc;
}

static bool is_wanted(const struct prx_loader_opts *opts, const char *field)
{
    char name[LOADER_PART_NAME_BYTES];

    for (size_t i = 0; i <= opts->n_captions; i++) {
        prx_loader_part_name(opts, i, name);
        if (strcmp(field, name) == 0)
            return true;
    }
    return strcmp(field, "json") == 0;
}

int prx_loader_spool_put(struct loader_spool *spool, struct prx_sample *sample)
{
    for (size_t i = sample->n_fields; i-- > 0;)
        if (!is_wanted(spool->opts, sample->fields[i].name))
            prx_sample_drop(sample, sample->fields[i].name);
    PRX_TRY(prx_sample_load(sample));
    return prx_sink_put(spool->sink, sample);
}

int prx_loader_spool_reopen(const struct prx_loader_opts *opts, struct prx_source **out)
{
    const struct prx_source_opts source_opts = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/index.json", opts->spool_dir));
    const char *words[] = {path.bytes};
    rc = prx_source_open(words, 1, &source_opts, out);
out:
    prx_str_release(&path);
    return rc;
}

int prx_loader_spool_finish(struct loader_spool *spool, struct prx_source **out)
{
    int rc = prx_sink_finish(spool->sink, NULL, NULL);

    spool->sink = NULL;
    if (rc == 0)
        rc = prx_loader_spool_reopen(spool->opts, out);
    prx_loader_spool_abort(spool);
    return rc;
}

void prx_loader_spool_abort(struct loader_spool *spool)
{
    if (!spool)
        return;
    if (spool->sink)
        prx_sink_abort(spool->sink);
    free(spool);
}
