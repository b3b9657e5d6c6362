/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another source in an order that only the seed decides, larger than memory.
 *
 * The first next() reads the inner source to its end.  Every sample becomes a
 * record in an unlinked temporary file: a field that can be read again is noted
 * by place, one that cannot, out of a pipe or a compressed tar, is kept there.
 * In memory a sample is 16 bytes: its draw and the place of its record.  The
 * draw is Philox's for (seed, serial), so the order depends on nothing else.
 *
 *     record = n_head u64, head, kept bytes of the fields in their order
 *     head   = key, origin, shard, stage, reason, n_fields, fields
 *     field  = name, path, offset_bytes, n_bytes; an empty path: kept
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/source/source_internal.h"

#define PENDING_BYTES ((size_t)1 << 20) /* gathered before they are written */

struct place {
    uint64_t draw;
    uint64_t at_bytes; /* also the order in which they came */
};

struct source_shuffle {
    struct prx_source base;
    struct prx_source *inner; /* owned */
    uint64_t seed;
    uint64_t n_unit_samples;
    char *folder;
    int spool; /* -1 before it is opened */
    uint64_t n_spool_bytes;
    struct prx_str pending; /* not yet in the spool */
    struct prx_str head;    /* scratch */
    struct place *places;
    size_t n_places, cap_places;
    size_t i_next, i_end; /* of the unit, or of all */
    bool is_read;         /* the inner source, to its end */
    atomic_bool is_cancelled;
};

static int add_u64(struct prx_str *out, uint64_t number)
{
    return prx_str_add(out, &number, sizeof(number));
}

/* With its NUL; NULL as an empty one. */
static int add_text(struct prx_str *out, const char *text)
{
    return prx_str_add(out, text ? text : "", text ? strlen(text) + 1 : 1);
}

static int format_head(struct prx_str *head, const struct prx_sample *sample)
{
    PRX_TRY(add_text(head, sample->key));
    PRX_TRY(add_text(head, sample->origin));
    PRX_TRY(add_text(head, sample->shard));
    /* A static string: its address is good as long as this process lives. */
    PRX_TRY(add_u64(head, (uint64_t)(uintptr_t)sample->reject_stage));
    PRX_TRY(add_text(head, sample->reject_reason));
    PRX_TRY(add_u64(head, sample->n_fields));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        PRX_TRY(add_text(head, field->name));
        PRX_TRY(add_text(head, field->bytes ? NULL : field->path));
        PRX_TRY(add_u64(head, field->offset_bytes));
        PRX_TRY(add_u64(head, field->n_bytes));
    }
    return 0;
}

static int flush_spool(struct source_shuffle *shuffle)
{
    PRX_TRY(prx_write_all(shuffle->spool, shuffle->folder, shuffle->pending.bytes,
                          shuffle->pending.n_bytes));
    prx_str_reset(&shuffle->pending);
    return 0;
}

static int add_place(struct source_shuffle *shuffle, uint64_t serial)
{
    struct prx_rng rng;

    if (shuffle->n_places == shuffle->cap_places) {
        size_t cap = shuffle->cap_places ? shuffle->cap_places * 2 : 1024;
        struct place *grown = realloc(shuffle->places, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("the order of samples");
        shuffle->places = grown;
        shuffle->cap_places = cap;
    }
    prx_rng_init(&rng, shuffle->seed, PRX_RNG_SHUFFLE, 0, serial);
    uint64_t high = prx_rng_u32(&rng), low = prx_rng_u32(&rng);
    shuffle->places[shuffle->n_places++] =
        (struct place){high << 32 | low, shuffle->n_spool_bytes};
    return 0;
}

static int spool_sample(struct source_shuffle *shuffle, const struct prx_sample *sample)
{
    struct prx_str *head = &shuffle->head;

    PRX_TRY(add_place(shuffle, sample->serial));
    prx_str_reset(head);
    PRX_TRY(format_head(head, sample));
    PRX_TRY(add_u64(&shuffle->pending, head->n_bytes));
    PRX_TRY(prx_str_add(&shuffle->pending, head->bytes, head->n_bytes));
    shuffle->n_spool_bytes += sizeof(uint64_t) + head->n_bytes;
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_buf *bytes = sample->fields[i].bytes;
        if (!bytes)
            continue;
        PRX_TRY(prx_str_add(&shuffle->pending, bytes->bytes, bytes->n_bytes));
        shuffle->n_spool_bytes += bytes->n_bytes;
    }
    return shuffle->pending.n_bytes < PENDING_BYTES ? 0 : flush_spool(shuffle);
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->at_bytes < y->at_bytes ? -1 : 1;
}

static int read_inner(struct source_shuffle *shuffle)
{
    struct prx_sample sample = {0};
    int rc;

    PRX_GO(prx_temp_open(shuffle->folder, &shuffle->spool));
    while ((rc = prx_source_next(shuffle->inner, &sample)) == 1) {
        PRX_GO(spool_sample(shuffle, &sample));
        if (atomic_load(&shuffle->is_cancelled))
            PRX_GO(prx_err(PRX_ECANCELED, "interrupted"));
    }
    if (rc < 0)
        goto out;
    shuffle->base.n_hidden = prx_source_hidden(shuffle->inner);
    PRX_GO(flush_spool(shuffle));
    if (shuffle->n_places > 0)
        qsort(shuffle->places, shuffle->n_places, sizeof(*shuffle->places),
              compare_places);
    prx_str_release(&shuffle->pending);
    shuffle->i_end = shuffle->n_places;
    shuffle->is_read = true;
out:
    prx_sample_release(&sample);
    return rc;
}

static int read_spool(const struct source_shuffle *shuffle, uint64_t at_bytes,
                      void *bytes, size_t n_bytes)
{
    size_t n_done = 0;

    while (n_done < n_bytes) {
        ssize_t n_got = pread(shuffle->spool, (char *)bytes + n_done, n_bytes - n_done,
                              (off_t)(at_bytes + n_done));
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("shuffled samples in %s", shuffle->folder);
        if (n_got == 0)
            return prx_err(PRX_EIO, "shuffled samples in %s: cut off", shuffle->folder);
        n_done += (size_t)n_got;
    }
    return 0;
}

/* The head is our own, in a file that nobody else can open: it is as written. */
static uint64_t take_u64(const char **head)
{
    uint64_t number;

    memcpy(&number, *head, sizeof(number));
    *head += sizeof(number);
    return number;
}

static const char *take_text(const char **head)
{
    const char *text = *head;

    *head += strlen(text) + 1;
    return text;
}

static int parse_field(const struct source_shuffle *shuffle, const char **head,
                       uint64_t *kept_at_bytes, struct prx_sample *sample)
{
    const char *name = take_text(head), *path = take_text(head);
    uint64_t offset_bytes = take_u64(head), n_bytes = take_u64(head);
    struct prx_buf *bytes;

    if (*path)
        return prx_sample_put_path(sample, name, path, offset_bytes, n_bytes);
    PRX_TRY(prx_buf_new((size_t)n_bytes, &bytes));
    int rc = read_spool(shuffle, *kept_at_bytes, bytes->bytes, (size_t)n_bytes);
    if (rc < 0) {
        prx_buf_unref(bytes);
        return rc;
    }
    *kept_at_bytes += n_bytes;
    return prx_sample_put(sample, name, bytes);
}

static int parse_record(struct source_shuffle *shuffle, uint64_t at_bytes,
                        struct prx_sample *sample)
{
    uint64_t n_head;

    PRX_TRY(read_spool(shuffle, at_bytes, &n_head, sizeof(n_head)));
    at_bytes += sizeof(n_head);
    prx_str_reset(&shuffle->head);
    PRX_TRY(prx_str_reserve(&shuffle->head, (size_t)n_head));
    PRX_TRY(read_spool(shuffle, at_bytes, shuffle->head.bytes, (size_t)n_head));
    at_bytes += n_head;

    const char *head = shuffle->head.bytes;
    PRX_TRY(prx_sample_set_key(sample, take_text(&head)));
    PRX_TRY(prx_sample_set_origin(sample, take_text(&head)));
    const char *shard = take_text(&head);
    if (*shard)
        PRX_TRY(prx_sample_set_shard(sample, shard));
    const char *stage = (const char *)(uintptr_t)take_u64(&head);
    const char *reason = take_text(&head);
    if (stage)
        prx_sample_reject(sample, stage, "%s", reason);
    uint64_t n_fields = take_u64(&head);
    for (uint64_t i = 0; i < n_fields; i++)
        PRX_TRY(parse_field(shuffle, &head, &at_bytes, sample));
    return 0;
}

static int shuffle_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_shuffle *shuffle = (struct source_shuffle *)source;

    if (!shuffle->is_read)
        PRX_TRY(read_inner(shuffle));
    if (shuffle->i_next == shuffle->i_end)
        return 0;
    PRX_TRY(parse_record(shuffle, shuffle->places[shuffle->i_next].at_bytes, sample));
    shuffle->i_next++;
    return 1;
}

static int shuffle_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_shuffle *shuffle = (const struct source_shuffle *)source;

    PRX_TRY(prx_str_printf(plan, "shuffle %llu\n", (unsigned long long)shuffle->seed));
    return prx_source_plan(shuffle->inner, plan);
}

static void shuffle_cancel(struct prx_source *source)
{
    struct source_shuffle *shuffle = (struct source_shuffle *)source;

    atomic_store(&shuffle->is_cancelled, true);
    prx_source_cancel(shuffle->inner);
}

static void shuffle_close(struct prx_source *source)
{
    struct source_shuffle *shuffle = (struct source_shuffle *)source;

    prx_source_close(shuffle->inner);
    if (shuffle->spool >= 0)
        close(shuffle->spool);
    prx_str_release(&shuffle->pending);
    prx_str_release(&shuffle->head);
    free(shuffle->places);
    free(shuffle->folder);
    free(shuffle);
}

static bool shuffle_has(const struct prx_source *source, const char *path,
                        bool is_folder)
{
    const struct prx_source *inner = ((const struct source_shuffle *)source)->inner;
    return inner->ops->has(inner, path, is_folder);
}

/* Units are cut from the new order, which is known only when all is read. */
static int shuffle_cut(struct prx_source *source, uint64_t n_unit_samples,
                       uint64_t *n_units)
{
    struct source_shuffle *shuffle = (struct source_shuffle *)source;

    if (!shuffle->is_read)
        PRX_TRY(read_inner(shuffle));
    shuffle->n_unit_samples = n_unit_samples;
    *n_units = shuffle->n_places / n_unit_samples +
               (shuffle->n_places % n_unit_samples > 0);
    return 0;
}

static int shuffle_set_unit(struct prx_source *source, uint64_t i_unit)
{
    struct source_shuffle *shuffle = (struct source_shuffle *)source;
    uint64_t n_left = shuffle->n_places - i_unit * shuffle->n_unit_samples;

    shuffle->i_next = shuffle->n_places - n_left;
    shuffle->i_end = shuffle->i_next + (n_left < shuffle->n_unit_samples
                                            ? n_left
                                            : shuffle->n_unit_samples);
    shuffle->base.n_hidden = i_unit == 0 ? prx_source_hidden(shuffle->inner) : 0;
    return 0;
}

static const struct prx_source_unit_ops shuffle_unit_ops = {shuffle_cut,
                                                            shuffle_set_unit};

static const struct prx_source_ops shuffle_ops = {
    shuffle_next, shuffle_plan, shuffle_cancel, shuffle_close, shuffle_has};

int prx_source_shuffle(struct prx_source *inner, uint64_t seed, const char *folder,
                       struct prx_source **out)
{
    struct source_shuffle *shuffle = calloc(1, sizeof(*shuffle));

    if (!shuffle) {
        prx_source_close(inner);
        return prx_err_nomem("a source");
    }
    shuffle->base.ops = &shuffle_ops;
    shuffle->base.unit_ops = &shuffle_unit_ops;
    shuffle->base.has_stream = inner->has_stream;
    shuffle->base.n_total = prx_source_total(inner);
    shuffle->inner = inner;
    shuffle->seed = seed;
    shuffle->spool = -1;
    int rc = prx_strdup(folder, &shuffle->folder);
    if (rc < 0)
        shuffle_close(&shuffle->base);
    else
        *out = &shuffle->base;
    return rc;
}
