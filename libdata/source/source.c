/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several inputs, one after another, as one source, of which one rank takes its
 * part, or which is read unit by unit.
 *
 * Ranks take whole shards where every input is a shard file and there are at
 * least as many as ranks (rank r: shards r, r + world, …): each then reads only
 * its own.  Otherwise every rank walks through all samples and takes each
 * world-th.  Either way every sample goes to one rank.
 *
 * Cut into units, a shard file is one, opened when its turn comes.  Other inputs
 * are walked through, forward as long as the units asked for follow each other.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/path.h"
#include "libdata/source/source_internal.h"

/* One reader: of one input, or of shards that stand next to each other. */
struct part {
    struct prx_source *source;
    size_t i_input; /* its first */
    size_t n_inputs;
    uint64_t n_seen; /* samples, where the source is cut */
};

struct source_all {
    struct prx_source base;
    struct prx_inputs inputs; /* of this rank */
    struct prx_source_opts opts;
    struct part *parts;
    size_t n_parts;
    size_t i_part;
    uint64_t rank, world;
    bool is_split_by_sample;
    uint64_t n_seen; /* samples of all parts, of all ranks */

    uint64_t n_unit_samples; /* 0: not cut */
    uint64_t *end_units;     /* of each input: units in it and all before */
    struct part shard;       /* the unit, where it is a shard */
    struct part *unit;       /* the part that it is read from; NULL: none is set */
    atomic_bool is_canceled;
    uint64_t n_unit_left; /* samples still to come */
};

/* The next sample of the unit. */
static int unit_next(struct source_all *all, struct prx_sample *sample)
{
    struct part *part = all->unit;

    if (all->n_unit_left == 0)
        return 0;
    int got = part->source->ops->next(part->source, sample);
    all->base.n_hidden += part->source->n_hidden;
    part->source->n_hidden = 0;
    if (got == 1) {
        part->n_seen++;
        all->n_unit_left--;
    }
    return got;
}

static int all_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_all *all = (struct source_all *)source;

    if (all->unit)
        return unit_next(all, sample);
    while (all->i_part < all->n_parts) {
        struct prx_source *part = all->parts[all->i_part].source;
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
        PRX_TRY(prx_source_plan(all->parts[i].source, plan));
    return 0;
}

static void all_cancel(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    atomic_store(&all->is_canceled, true);
    for (size_t i = 0; i < all->n_parts; i++)
        prx_source_cancel(all->parts[i].source);
    if (all->shard.source)
        prx_source_cancel(all->shard.source);
}

static void all_close(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        prx_source_close(all->parts[i].source);
    prx_source_close(all->shard.source);
    prx_inputs_release(&all->inputs);
    free(all->end_units);
    free(all->parts);
    free(all);
}

static bool all_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct source_all *all = (const struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        if (all->parts[i].source->ops->has(all->parts[i].source, path, is_folder))
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

/* Inputs from part->i_input on that one source reads: of one kind, next to each
 * other. */
static int open_part(const struct prx_inputs *inputs,
                     const struct prx_source_opts *opts, struct part *part)
{
    const struct prx_input *input = &inputs->inputs[part->i_input];
    const struct prx_input *end = inputs->inputs + inputs->n_inputs;
    const struct prx_source_kind *kind = input->kind;
    bool is_known = true;
    uint64_t n_samples = 0;

    const char **paths = malloc((size_t)(end - input) * sizeof(*paths));
    if (!paths)
        return prx_err_nomem("a list of inputs");
    do {
        paths[part->n_inputs++] = input->path;
        n_samples += input->n_samples;
        is_known &= input->n_samples > 0;
    } while (kind->is_shard && ++input < end && input->kind == kind);
    int rc = kind->open(paths, part->n_inputs, opts, &part->source);
    if (rc == 0 && is_known) {
        part->source->n_total = n_samples;
        part->source->has_total = true;
    }
    free(paths);
    return rc;
}

static int open_parts(struct source_all *all)
{
    const struct prx_inputs *inputs = &all->inputs;
    bool is_known = true;
    uint64_t n_total = 0;

    all->parts = calloc(inputs->n_inputs + 1, sizeof(*all->parts));
    if (!all->parts)
        return prx_err_nomem("a source");
    for (size_t i = 0; i < inputs->n_inputs;) {
        struct part *part = &all->parts[all->n_parts];
        part->i_input = i;
        PRX_TRY(open_part(inputs, &all->opts, part));
        all->n_parts++;
        all->base.has_stream |= inputs->inputs[i].kind == &prx_source_stream_kind;
        is_known &= part->source->has_total;
        n_total += part->source->n_total;
        i += part->n_inputs;
    }
    if (all->is_split_by_sample)
        n_total = n_total / all->world + (all->rank < n_total % all->world);
    all->base.has_total = is_known;
    all->base.n_total = is_known ? n_total : 0;
    return 0;
}

/* How many samples a folder or list has; where only reading it tells, it is read. */
static int count_samples(struct part *part, uint64_t *n_samples)
{
    struct prx_sample sample = {0};
    int got = 1;

    *n_samples = part->source->n_total;
    if (part->source->has_total)
        return 0;
    while ((got = part->source->ops->next(part->source, &sample)) == 1) {
        part->n_seen++;
        prx_sample_reset(&sample);
    }
    prx_sample_release(&sample);
    *n_samples = part->n_seen;
    return got;
}

static int all_cut(struct prx_source *source, uint64_t n_unit_samples,
                   uint64_t *n_units)
{
    struct source_all *all = (struct source_all *)source;

    PRX_BUG_IF(all->world > 1 || all->end_units);
    *n_units = 0;
    all->n_unit_samples = n_unit_samples;
    all->end_units = calloc(all->inputs.n_inputs + 1, sizeof(*all->end_units));
    if (!all->end_units)
        return prx_err_nomem("units of work");
    for (size_t i_part = 0; i_part < all->n_parts; i_part++) {
        struct part *part = &all->parts[i_part];
        bool is_shard = all->inputs.inputs[part->i_input].kind->is_shard;
        uint64_t n_samples = 0;
        if (!is_shard)
            PRX_TRY(count_samples(part, &n_samples));
        for (size_t i = 0; i < part->n_inputs; i++) {
            *n_units += is_shard ? 1
                                 : n_samples / n_unit_samples +
                                       (n_samples % n_unit_samples > 0);
            all->end_units[part->i_input + i] = *n_units;
        }
    }
    return 0;
}

/* Open @part again, to read it from its beginning: it must be what it was. */
static int reopen_part(struct source_all *all, struct part *part)
{
    struct prx_str before = {0}, now = {0};
    int rc = 0;

    PRX_GO(prx_source_plan(part->source, &before));
    prx_source_close(part->source); /* first: what is locked must not be twice */
    *part = (struct part){.i_input = part->i_input};
    PRX_GO(open_part(&all->inputs, &all->opts, part));
    PRX_GO(prx_source_plan(part->source, &now));
    if (strcmp(before.bytes, now.bytes) != 0)
        rc = prx_err(PRX_ECORRUPT, "%s: has changed while it was read",
                     all->inputs.inputs[part->i_input].path);
out:
    prx_str_release(&before);
    prx_str_release(&now);
    return rc;
}

/* What is hidden before the first sample of a unit belongs to units before it. */
static int seek_sample(struct source_all *all, struct part *part, uint64_t i_sample)
{
    struct prx_sample sample = {0};
    int got = 1;

    if (part->n_seen > i_sample)
        PRX_TRY(reopen_part(all, part));
    for (; part->n_seen < i_sample && got == 1; part->n_seen++) {
        got = part->source->ops->next(part->source, &sample);
        prx_sample_reset(&sample);
    }
    prx_sample_release(&sample);
    if (i_sample > 0)
        part->source->n_hidden = 0;
    return got < 0 ? got : 0;
}

/* The input that unit @i_unit is in: the first that ends behind it. */
static size_t find_input(const struct source_all *all, uint64_t i_unit)
{
    size_t low = 0, high = all->inputs.n_inputs;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (all->end_units[middle] > i_unit)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int all_set_unit(struct prx_source *source, uint64_t i_unit)
{
    struct source_all *all = (struct source_all *)source;
    size_t i_input = find_input(all, i_unit), i_part = 0;

    PRX_BUG_IF(i_input == all->inputs.n_inputs);
    /* A unit was broken off: what has been told to give up is not read on. */
    if (atomic_exchange(&all->is_canceled, false))
        for (size_t i = 0; i < all->n_parts; i++)
            all->parts[i].n_seen = UINT64_MAX;
    const struct prx_input *input = &all->inputs.inputs[i_input];
    all->base.n_hidden = 0;
    all->unit = &all->shard;
    all->n_unit_left = UINT64_MAX;
    if (input->kind->is_shard) {
        const char *path = input->path;
        prx_source_close(all->shard.source);
        all->shard = (struct part){0};
        return input->kind->open(&path, 1, &all->opts, &all->shard.source);
    }
    while (all->parts[i_part].i_input != i_input)
        i_part++;
    all->unit = &all->parts[i_part];
    if (i_unit + 1 < all->end_units[i_input])
        all->n_unit_left = all->n_unit_samples;
    i_unit -= i_input > 0 ? all->end_units[i_input - 1] : 0;
    return seek_sample(all, all->unit, i_unit * all->n_unit_samples);
}

static const struct prx_source_unit_ops all_unit_ops = {all_cut, all_set_unit};

int prx_source_open(const char *const *words, size_t n_words,
                    const struct prx_source_opts *opts, struct prx_source **out)
{
    static const struct prx_source_opts no_opts;
    struct source_all *all = NULL;
    int rc = 0;

    if (!opts)
        opts = &no_opts;
    if (opts->world < 0 || opts->rank < 0 ||
        opts->rank >= (opts->world ? opts->world : 1))
        return prx_err(PRX_EINVAL, "rank %d of %d processes", opts->rank, opts->world);
    all = calloc(1, sizeof(*all));
    if (!all)
        return prx_err_nomem("a source");
    all->base.ops = &all_ops;
    all->base.unit_ops = &all_unit_ops;
    all->opts = *opts;
    PRX_GO(prx_inputs_read(&all->inputs, words, n_words, opts));
    all->rank = (uint64_t)opts->rank;
    all->world = opts->world ? (uint64_t)opts->world : 1;
    if (all->world > 1)
        all->is_split_by_sample = !split_by_shard(&all->inputs, all->rank, all->world);
    PRX_GO(open_parts(all));
    *out = &all->base;
    all = NULL;
out:
    if (all)
        all_close(&all->base);
    return rc;
}

int prx_source_cut(struct prx_source *source, uint64_t n_unit_samples,
                   uint64_t *n_units)
{
    PRX_BUG_IF(n_unit_samples == 0);
    if (source->has_stream)
        return prx_err(PRX_EINVAL,
                       "a pipe among the sources: only one process can read it");
    return source->unit_ops->cut(source, n_unit_samples, n_units);
}

int prx_source_set_unit(struct prx_source *source, uint64_t i_unit)
{
    source->n_given = 0;
    return source->unit_ops->set(source, i_unit);
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
