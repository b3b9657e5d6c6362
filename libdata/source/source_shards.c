/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards, one after another: their members, gathered into samples by key.
 *
 * The members of a sample stand next to each other; a key that comes again later is
 * another sample.  That holds for a zip too.
 *
 * A shard is believed up to its first fault.  The sample that was being gathered
 * when the shard tore may lack members, so it is rejected, with shard and byte;
 * so is the last sample of a tar that just stops.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/skip.h"
#include "libdata/source/members_internal.h"
#include "libdata/source/source_internal.h"

#define N_STREAMS (PRX_SHARDS_AHEAD_MAX + 1)

struct source_shards {
    struct prx_source base;
    const struct prx_shard_kind *kind;
    struct prx_shard_place *places;
    size_t n_places;
    size_t i_place;                        /* the next one to be read */
    struct prx_stream *streams[N_STREAMS]; /* open before their turn, by i_place */
    uint64_t n_member_bytes_max;
    struct prx_members *members;  /* of the shard that is being read, or NULL; */
    const char *path;             /* its place's, */
    char name[PRX_KEY_BYTES_MAX]; /* its name for messages, */
    struct prx_skip skip;         /* its skip list */
    bool with_hidden;
    struct prx_sample sample; /* being gathered; key NULL: none */
    struct prx_sample torn;   /* tells of a tear, comes behind sample; likewise */
    atomic_bool is_canceled;
};

static struct source_shards *shards_of(struct prx_source *source)
{
    return (struct source_shards *)source;
}

static int open_stream(struct source_shards *shards, size_t i)
{
    struct prx_stream **stream = &shards->streams[i % N_STREAMS];

    if (*stream)
        return 0;
    PRX_TRY(shards->kind->open(&shards->places[i], stream));
    (*stream)->is_canceled = &shards->is_canceled;
    return 0;
}

/* The stream of shard @i, and those that may be open while it is read. */
static int take_stream(struct source_shards *shards, size_t i, struct prx_stream **out)
{
    size_t n_open = 1 + shards->kind->n_ahead;

    for (size_t j = i; j < shards->n_places && j < i + n_open; j++)
        PRX_TRY(open_stream(shards, j));
    *out = shards->streams[i % N_STREAMS];
    shards->streams[i % N_STREAMS] = NULL;
    return 0;
}

static void close_shard(struct source_shards *shards)
{
    prx_members_close(shards->members);
    shards->members = NULL;
}

/*
 * The shard is useless from here on, as the failure @rc says: reject the sample being
 * gathered, or, where there is none or it is rejected already, one named after the
 * shard's file.  A sample's key has no dot where that name has one, so that a skip list
 * can name either.  Other failures are passed on.
 */
static int give_up_shard(struct source_shards *shards, int rc)
{
    struct prx_sample *sample = &shards->sample;
    const char *slash = strrchr(shards->name, '/');

    if (rc != PRX_ECORRUPT)
        return rc;
    if (!sample->key || sample->reject_reason) {
        sample = &shards->torn;
        PRX_TRY(prx_sample_set_origin(sample, shards->name));
        PRX_TRY(prx_sample_set_key(sample, slash ? slash + 1 : shards->name));
    }
    prx_sample_reject(sample, "read", "%s", prx_err_message());
    close_shard(shards);
    return 0;
}

static int open_shard(struct source_shards *shards, size_t i)
{
    struct prx_stream *stream = NULL;

    shards->path = shards->places[i].path;
    shards->kind->show(shards->path, shards->name, sizeof(shards->name));
    prx_skip_release(&shards->skip);
    if (shards->kind->is_local && strcmp(shards->path, "-") != 0 &&
        !shards->with_hidden)
        PRX_TRY(prx_skip_read(&shards->skip, shards->path));
    PRX_TRY(take_stream(shards, i, &stream));
    int rc = prx_members_open(stream, shards->name, shards->n_member_bytes_max,
                              &shards->members);
    return rc < 0 ? give_up_shard(shards, rc) : 0;
}

/*
 * The sample that @name belongs to is the one that is gathered from here on.
 * 1: @done is the one before, which is whole.
 */
static int turn_to(struct source_shards *shards, const char *name, size_t n_key,
                   struct prx_sample *done)
{
    struct prx_sample next = {0};
    int rc = prx_sample_begin(&next, name, n_key, shards->name);

    if (rc < 0 || (shards->sample.key && strcmp(shards->sample.key, next.key) == 0)) {
        prx_sample_release(&next);
        return rc;
    }
    rc = shards->sample.key != NULL;
    prx_sample_move(done, &shards->sample);
    prx_sample_move(&shards->sample, &next);
    return rc;
}

/* Add @member, of name @name, to the sample being gathered. */
static int gather(struct source_shards *shards, struct prx_member *member,
                  const char *name, size_t n_key)
{
    struct prx_sample *sample = &shards->sample;
    struct prx_buf *bytes = NULL;

    /* What is rejected is not read: it is as large as somebody likes. */
    if (sample->reject_reason)
        return 0;
    if (!member->fault &&
        member->n_bytes > shards->n_member_bytes_max - prx_sample_bytes(sample))
        member->fault = "larger than the limit with those before it";
    if (!member->fault && !prx_members_is_plain(shards->members))
        PRX_TRY(prx_members_read(shards->members, member, &bytes));
    if (member->fault) {
        prx_sample_reject(sample, "read", "%s: member %s: %s", shards->name, name,
                          member->fault);
        return 0;
    }
    return prx_sample_add_file(sample, name, n_key, bytes, shards->path,
                               member->begin_bytes, member->n_bytes);
}

/* 1: @done is a whole sample; 0: go on. */
static int take_member(struct source_shards *shards, struct prx_member *member,
                       struct prx_sample *done)
{
    const char *name = member->name;

    while (strncmp(name, "./", 2) == 0)
        name += 2;
    size_t n_key = prx_key_split(name);
    if (prx_name_is_reserved(name) || (n_key == 0 && !member->fault))
        return 0;
    int is_done = turn_to(shards, name, n_key ? n_key : strlen(name), done);
    PRX_TRY(is_done);
    int rc = gather(shards, member, name, n_key);
    if (rc < 0)
        PRX_TRY(give_up_shard(shards, rc));
    return is_done;
}

/* Read on in the open shard.  1: @done is a whole sample; 0: the shard's end. */
static int next_in_shard(struct source_shards *shards, struct prx_sample *done)
{
    struct prx_member member;

    while (shards->members) {
        int got = prx_members_next(shards->members, &member);
        if (got > 0)
            got = take_member(shards, &member, done);
        else if (got == 0)
            close_shard(shards);
        else
            got = give_up_shard(shards, got);
        if (got != 0)
            return got;
    }
    struct prx_sample *left = shards->sample.key ? &shards->sample : &shards->torn;
    if (!left->key)
        return 0;
    prx_sample_move(done, left);
    return 1;
}

static int shards_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_shards *shards = shards_of(source);

    for (;;) {
        int got = next_in_shard(shards, sample);
        if (got < 0)
            return got;
        if (got > 0 && !prx_skip_find(&shards->skip, sample->key))
            return got;
        if (got > 0) {
            shards->base.n_hidden++;
            prx_sample_reset(sample);
            continue;
        }
        if (shards->i_place == shards->n_places)
            return 0;
        PRX_TRY(open_shard(shards, shards->i_place++));
    }
}

static int shards_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_shards *shards = (const struct source_shards *)source;

    for (size_t i = 0; i < shards->n_places; i++)
        PRX_TRY(shards->kind->plan(&shards->places[i], plan));
    return 0;
}

static void shards_cancel(struct prx_source *source)
{
    atomic_store(&shards_of(source)->is_canceled, true);
}

static void shards_close(struct prx_source *source)
{
    struct source_shards *shards = shards_of(source);

    close_shard(shards);
    for (size_t i = 0; i < N_STREAMS; i++)
        prx_stream_close(shards->streams[i]);
    for (size_t i = 0; i < shards->n_places; i++) {
        free(shards->places[i].path);
        free(shards->places[i].own);
    }
    free(shards->places);
    prx_skip_release(&shards->skip);
    prx_sample_release(&shards->sample);
    prx_sample_release(&shards->torn);
    free(shards);
}

static bool shards_has(const struct prx_source *source, const char *path,
                       bool is_folder)
{
    const struct source_shards *shards = (const struct source_shards *)source;
    bool has = false;

    for (size_t i = 0; shards->kind->is_local && i < shards->n_places && !has; i++)
        has = prx_path_has(shards->places[i].path, path, is_folder);
    return has;
}

static const struct prx_source_ops shards_ops = {
    shards_next, shards_plan, shards_cancel, shards_close, shards_has};

int prx_source_shards_open(const struct prx_shard_kind *kind, const char *const *paths,
                           size_t n_paths, const struct prx_source_opts *opts,
                           struct prx_source **out)
{
    struct source_shards *shards = calloc(1, sizeof(*shards));
    int rc = 0;

    if (!shards)
        return prx_err_nomem("a source of shards");
    PRX_BUG_IF(kind->n_ahead > PRX_SHARDS_AHEAD_MAX);
    shards->base.ops = &shards_ops;
    shards->kind = kind;
    shards->with_hidden = opts->with_hidden;
    shards->n_member_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    shards->places = calloc(n_paths + 1, sizeof(*shards->places));
    if (!shards->places) {
        rc = prx_err_nomem("a source of shards");
        goto out;
    }
    for (; shards->n_places < n_paths; shards->n_places++)
        PRX_GO(prx_strdup(paths[shards->n_places],
                          &shards->places[shards->n_places].path));
    if (kind->look)
        PRX_GO(kind->look(shards->places, n_paths));
    *out = &shards->base;
    shards = NULL;
out:
    if (shards)
        shards_close(&shards->base);
    return rc;
}
