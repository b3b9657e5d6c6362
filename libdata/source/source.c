/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several inputs, one after another, as one source, of which one rank takes its
 * part.
 *
 * Ranks take whole shards where every input is a shard file and there are at
 * least as many as ranks (rank r: shards r, r + world, …): each then reads only
 * its own.  Otherwise every rank walks through all samples and takes each
 * world-th.  Either way every sample goes to one rank.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/path.h"
#include "libdata/source/source_internal.h"

struct source_all {
    struct prx_source base;
    struct prx_source **parts;
    size_t n_parts;
    size_t i_part;
    uint64_t rank, world;
    bool is_split_by_sample;
    uint64_t n_seen; /* samples of all parts, of all ranks */
};

static int all_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_all *all = (struct source_all *)source;

    while (all->i_part < all->n_parts) {
        struct prx_source *part = all->parts[all->i_part];
        int got = part->ops->next(part, sample);
        if (got < 0)
            return got;
        all->base.n_hidden += part->n_hidden;
        part->n_hidden = 0;
        if (got == 0)
            all->i_part++;
        else if (!all->is_split_by_sample || all->n_seen++ % all->world == all->rank)
            return 1;
        prx_sample_reset(sample);
    }
    return 0;
}

static int all_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_all *all = (const struct source_all *)source;

    if (all->world > 1)
        PRX_TRY(prx_str_printf(plan, "part %llu of %llu by %s\n",
                               (unsigned long long)all->rank,
                               (unsigned long long)all->world,
                               all->is_split_by_sample ? "sample" : "shard"));
    for (size_t i = 0; i < all->n_parts; i++)
        PRX_TRY(all->parts[i]->ops->plan(all->parts[i], plan));
    return 0;
}

static void all_cancel(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        if (all->parts[i]->ops->cancel)
            all->parts[i]->ops->cancel(all->parts[i]);
}

static void all_close(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        prx_source_close(all->parts[i]);
    free(all->parts);
    free(all);
}

static bool all_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct source_all *all = (const struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        if (all->parts[i]->ops->has(all->parts[i], path, is_folder))
            return true;
    return false;
}

static const struct prx_source_ops all_ops = {all_next, all_plan, all_cancel, all_close,
                                              all_has};

/* Keep the inputs of this rank; false where they cannot be shared out whole. */
static bool split_by_shard(struct prx_inputs *inputs, uint64_t rank, uint64_t world)
{
    size_t n_mine = 0;

    if (inputs->n_inputs < world)
        return false;
    for (size_t i = 0; i < inputs->n_inputs; i++)
        if (!inputs->inputs[i].kind->is_shard)
            return false;
    for (size_t i = 0; i < inputs->n_inputs; i++) {
        if (i % world == rank)
            inputs->inputs[n_mine++] = inputs->inputs[i];
        else
            free(inputs->inputs[i].path);
    }
    inputs->n_inputs = n_mine;
    return true;
}

/* Inputs from i on that one source reads: of one kind, next to each other. */
static int open_part(const struct prx_inputs *inputs, size_t *i,
                     const struct prx_source_opts *opts, struct prx_source **out)
{
    const struct prx_source_kind *kind = inputs->inputs[*i].kind;
    size_t i_end = *i, n_paths = 0;
    bool is_known = true;
    uint64_t n_samples = 0;

    const char **paths = malloc((inputs->n_inputs - *i) * sizeof(*paths));
    if (!paths)
        return prx_err_nomem("a list of inputs");
    do {
        const struct prx_input *input = &inputs->inputs[i_end++];
        paths[n_paths++] = input->path;
        n_samples += input->n_samples;
        is_known &= input->n_samples > 0;
    } while (kind->is_shard && i_end < inputs->n_inputs &&
             inputs->inputs[i_end].kind == kind);
    int rc = kind->open(paths, n_paths, opts, out);
    if (rc == 0 && is_known) {
        (*out)->n_total = n_samples;
        (*out)->has_total = true;
    }
    free(paths);
    *i = i_end;
    return rc;
}

static int open_parts(struct source_all *all, const struct prx_inputs *inputs,
                      const struct prx_source_opts *opts)
{
    bool is_known = true;
    uint64_t n_total = 0;

    all->parts = calloc(inputs->n_inputs + 1, sizeof(*all->parts));
    if (!all->parts)
        return prx_err_nomem("a source");
    for (size_t i = 0; i < inputs->n_inputs;) {
        PRX_TRY(open_part(inputs, &i, opts, &all->parts[all->n_parts]));
        const struct prx_source *part = all->parts[all->n_parts++];
        is_known &= part->has_total;
        n_total += part->n_total;
    }
    if (all->is_split_by_sample)
        n_total = n_total / all->world + (all->rank < n_total % all->world);
    all->base.has_total = is_known;
    all->base.n_total = is_known ? n_total : 0;
    return 0;
}

int prx_source_open(const char *const *words, size_t n_words,
                    const struct prx_source_opts *opts, struct prx_source **out)
{
    static const struct prx_source_opts no_opts;
    struct prx_inputs inputs = {0};
    struct source_all *all = NULL;
    int rc = 0;

    if (!opts)
        opts = &no_opts;
    if (opts->world < 0 || opts->rank < 0 ||
        opts->rank >= (opts->world ? opts->world : 1))
        return prx_err(PRX_EINVAL, "rank %d of %d processes", opts->rank, opts->world);
    PRX_GO(prx_inputs_read(&inputs, words, n_words, opts));
    all = calloc(1, sizeof(*all));
    if (!all) {
        rc = prx_err_nomem("a source");
        goto out;
    }
    all->base.ops = &all_ops;
    all->rank = (uint64_t)opts->rank;
    all->world = opts->world ? (uint64_t)opts->world : 1;
    if (all->world > 1)
        all->is_split_by_sample = !split_by_shard(&inputs, all->rank, all->world);
    PRX_GO(open_parts(all, &inputs, opts));
    *out = &all->base;
    all = NULL;
out:
    if (all)
        all_close(&all->base);
    prx_inputs_release(&inputs);
    return rc;
}

int prx_source_next(struct prx_source *source, struct prx_sample *sample)
{
    prx_sample_reset(sample);
    int got = source->ops->next(source, sample);
    if (got == 1)
        sample->serial = source->n_given++;
    return got;
}

int prx_source_plan(const struct prx_source *source, struct prx_str *plan)
{
    return source->ops->plan(source, plan);
}

uint64_t prx_source_total(const struct prx_source *source)
{
    return source->n_total;
}

uint64_t prx_source_hidden(const struct prx_source *source)
{
    return source->n_hidden;
}

bool prx_path_is_below(const char *path, const char *root)
{
    size_t n_root = strlen(root);

    return strcmp(root, "/") == 0 ||
           (strncmp(path, root, n_root) == 0 &&
            (path[n_root] == '/' || path[n_root] == '\0'));
}

bool prx_path_has(const char *input, const char *path, bool is_folder)
{
    char *resolved = realpath(input, NULL);
    bool has = resolved && (is_folder ? prx_path_is_below(resolved, path)
                                      : strcmp(resolved, path) == 0);

    free(resolved);
    return has;
}

bool prx_source_has(const struct prx_source *source, const char *path)
{
    struct stat st;
    char *resolved = realpath(path, NULL);
    bool has = resolved && stat(resolved, &st) == 0 &&
               source->ops->has(source, resolved, S_ISDIR(st.st_mode));

    free(resolved);
    return has;
}

void prx_source_cancel(struct prx_source *source)
{
    if (source->ops->cancel)
        source->ops->cancel(source);
}

void prx_source_close(struct prx_source *source)
{
    if (source)
        source->ops->close(source);
}
