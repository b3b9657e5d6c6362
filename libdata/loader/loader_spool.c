/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream put to rest: tar shards with just the parts that training reads.
 *
 * They get an index.json like any other data set, written last, so that a spool
 * without one is an unfinished one.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/loader/loader_internal.h"
#include "libdata/outfile.h"
#include "libdata/sink.h"

struct loader_spool {
    const struct prx_loader_opts *opts;
    size_t i_set, n_sets;
    struct prx_sink *sink;
};

/* The folder of a set's spool, with a slash behind, added to @out. */
static int add_folder(const struct prx_loader_opts *opts, size_t i_set, size_t n_sets,
                      struct prx_str *out)
{
    if (n_sets > 1)
        return prx_str_printf(out, "%s/%zu/", opts->spool_dir, i_set);
    return prx_str_printf(out, "%s/", opts->spool_dir);
}

int prx_loader_spool_open(const struct prx_loader_opts *opts, size_t i_set,
                          size_t n_sets, struct loader_spool **out)
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
    *spool = (struct loader_spool){.opts = opts, .i_set = i_set, .n_sets = n_sets};
    PRX_GO(add_folder(opts, i_set, n_sets, &word));
    PRX_GO(prx_mkdirs(word.bytes));
    PRX_GO(prx_str_puts(&word, "%06d.tar"));
    PRX_GO(prx_sink_open(word.bytes, &sink_opts, &n_done, &spool->sink));
    *out = spool;
    spool = NULL;
out:
    prx_str_release(&word);
    free(spool);
    return rc;
}

static bool is_wanted(const struct prx_loader_opts *opts,
                      const struct prx_sample *sample, const struct prx_field *field)
{
    const struct loader_layout layout = prx_loader_layout(opts);
    char name[LOADER_PART_NAME_BYTES];

    for (size_t i = 0; i < layout.n_parts; i++) {
        prx_loader_part_name(opts, i, name);
        if (*name ? strcmp(field->name, name) == 0
                  : field == prx_sample_find_image(sample))
            return true;
    }
    return strcmp(field->name, "json") == 0;
}

int prx_loader_spool_put(struct loader_spool *spool, struct prx_sample *sample)
{
    for (size_t i = sample->n_fields; i-- > 0;)
        if (!is_wanted(spool->opts, sample, &sample->fields[i]))
            prx_sample_drop(sample, sample->fields[i].name);
    PRX_TRY(prx_sample_load(sample));
    return prx_sink_put(spool->sink, sample);
}

int prx_loader_spool_reopen(const struct prx_loader_opts *opts, size_t i_set,
                            size_t n_sets, struct prx_source **out)
{
    const struct prx_source_opts source_opts = {0};
    struct prx_str path = {0};
    int rc = 0;

    *out = NULL;
    PRX_GO(add_folder(opts, i_set, n_sets, &path));
    PRX_GO(prx_str_puts(&path, "index.json"));
    /* Of several sets just some may be streams. */
    if (n_sets > 1 && access(path.bytes, F_OK) < 0)
        goto out;
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
        rc = prx_loader_spool_reopen(spool->opts, spool->i_set, spool->n_sets, out);
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
