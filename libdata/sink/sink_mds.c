/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MDS shards, for MosaicML's streaming library (mds.h).
 *
 * A shard is held in memory until it is whole, for its columns are those of all its
 * samples, and stand ahead of them.
 *
 * The index is made from the shards' own heads, so that a resumed run need remember no
 * columns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/sink/sink_internal.h"
#include "libdata/sink/sink_mds_internal.h"

#define SCHEME "mds:"

struct sink_mds {
    struct prx_sink base;
    char *folder; /* with its slash */
    uint64_t n_shard_bytes_max;
    uint64_t n_shard_samples_max;
    bool no_sync;
    struct prx_ledger ledger;
    uint64_t n_shards_done;

    struct mds_shard held;
    struct prx_shard shard; /* what the ledger is to know of it */
    struct prx_outfile file;
    struct prx_hasher *hasher;
};

static int write_shard(struct sink_mds *mds)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s%s", mds->folder, mds->shard.name));
    PRX_GO(prx_ledger_begin(&mds->ledger, mds->shard.name));
    PRX_GO(prx_outfile_open(&mds->file, path.bytes));
    prx_hasher_reset(mds->hasher);
    PRX_GO(
        mds_shard_write(&mds->held, mds->n_shard_bytes_max, &mds->file, mds->hasher));
    mds->shard.n_bytes = mds->file.n_bytes;
    prx_hasher_hex(mds->hasher, mds->shard.xxh128);
    mds->ledger.has_outputs = true;
    PRX_GO(prx_outfile_commit(&mds->file, mds->no_sync));
out:
    prx_str_release(&path);
    return rc;
}

/* Write what is held; input samples before @next_serial are settled. */
static int shard_commit(struct sink_mds *mds, uint64_t next_serial)
{
    char name[40];

    snprintf(name, sizeof(name), "shard.%05llu.mds",
             (unsigned long long)mds->n_shards_done);
    mds->shard.name = name;
    mds->shard.n_samples = mds->held.n_samples;
    mds->shard.next_serial = next_serial;
    PRX_TRY(write_shard(mds));
    PRX_TRY(prx_ledger_put(&mds->ledger, &mds->shard));
    mds->n_shards_done++;
    mds->shard = (struct prx_shard){
        .first_serial = next_serial,
        .next_serial = next_serial,
    };
    mds_shard_reset(&mds->held);
    return 0;
}

/* --- samples --------------------------------------------------------------- */

static bool is_full(const struct sink_mds *mds, uint64_t n_bytes, size_t n_columns)
{
    return mds->held.n_samples > 0 &&
           (n_bytes > mds->n_shard_bytes_max || n_columns > PRX_MDS_COLUMNS_MAX ||
            (mds->n_shard_samples_max &&
             mds->held.n_samples >= mds->n_shard_samples_max));
}

/* Fields that would be taken for what the columns of their names are. */
static const char *find_taken_name(const struct prx_sample *sample)
{
    static const char *const taken[] = {PRX_MDS_KEY, PRX_MDS_FIELDS, PRX_MDS_PICTURE,
                                        PRX_MDS_CAPTION};

    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        if (prx_sample_find(sample, taken[i]))
            return taken[i];
    return NULL;
}

static int reject(struct sink_mds *mds, const struct prx_sample *sample)
{
    mds->shard.n_rejected++;
    mds->shard.next_serial = sample->serial + 1;
    return prx_ledger_reject(&mds->ledger, sample);
}

static int mds_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_mds *mds = (struct sink_mds *)sink;
    size_t n_columns;

    if (mds->ledger.is_finished)
        return prx_err(PRX_EEXIST, "%s: complete already, but more input has come",
                       mds->ledger.index_path);
    if (sample->reject_reason)
        return reject(mds, sample);
    uint64_t n_bytes = mds_shard_bound(&mds->held, sample, &n_columns);
    if (is_full(mds, n_bytes, n_columns)) {
        PRX_TRY(shard_commit(mds, sample->serial));
        n_bytes = mds_shard_bound(&mds->held, sample, &n_columns);
    }
    if (find_taken_name(sample))
        prx_sample_reject(sample, "write", "field %s: MDS has another column so called",
                          find_taken_name(sample));
    else if (mds->held.n_samples > 0 &&
             strcmp(mds->held.samples[mds->held.n_samples - 1].key, sample->key) == 0)
        prx_sample_reject(sample, "write", "same key as the sample before it");
    else if (n_bytes > PRX_MDS_SHARD_BYTES_MAX || n_columns > PRX_MDS_COLUMNS_MAX)
        prx_sample_reject(sample, "write", "larger than an MDS shard can be");
    if (sample->reject_reason)
        return reject(mds, sample);
    PRX_TRY(mds_shard_add(&mds->held, sample));
    mds->shard.next_serial = sample->serial + 1;
    return 0;
}

/* --- index ----------------------------------------------------------------- */

static int describe_shard(const struct prx_ledger *ledger,
                          const struct prx_shard *shard, json_t *shards)
{
    struct prx_mds_file file = {.fd = -1};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s%s", ledger->folder, shard->name));
    PRX_GO(prx_mds_file_open(&file, path.bytes, NULL, shard->n_bytes));
    json_t *more =
        json_pack("{s{ss sI s{ss}} sI sn}", "raw_data", "basename", shard->name,
                  "bytes", (json_int_t)shard->n_bytes, "hashes", "xxh128",
                  shard->xxh128, "samples", (json_int_t)shard->n_samples, "zip_data");
    if (json_object_update(file.config, more) < 0 ||
        json_array_append(shards, file.config) < 0)
        rc = prx_err_nomem("an index");
    json_decref(more);
out:
    prx_mds_file_close(&file);
    prx_str_release(&path);
    return rc;
}

/* The list stands first, where prx_mds_index_is() looks for it. */
static int write_index(const struct prx_ledger *ledger, json_t *extra)
{
    const struct prx_index *index = &ledger->index;
    json_t *shards = json_array();
    char *text = NULL;
    json_t *root = json_pack(
        "{si sO sI sI sI ss ss*}", "version", 2, "shards", shards, "samples",
        (json_int_t)index->n_samples, "rejected", (json_int_t)index->n_rejected,
        "bytes", (json_int_t)index->n_bytes, "plan", index->plan, "tool", ledger->tool);
    int rc = 0;

    for (size_t i = 0; i < index->n_shards; i++)
        PRX_GO(describe_shard(ledger, &index->shards[i], shards));
    if (!root || (extra && json_object_update_missing(root, extra) < 0) ||
        !(text = json_dumps(root, JSON_INDENT(1)))) {
        rc = prx_err_nomem("an index");
        goto out;
    }
    PRX_GO(prx_index_put(ledger->index_path, text, ledger->no_sync));
out:
    json_decref(shards);
    json_decref(root);
    free(text);
    return rc;
}

static int mds_finish(struct prx_sink *sink, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct sink_mds *mds = (struct sink_mds *)sink;

    if (mds->held.n_samples > 0)
        PRX_TRY(shard_commit(mds, mds->shard.next_serial));
    /* Rejects behind the last sample belong to no shard. */
    if (!mds->ledger.is_finished)
        mds->ledger.index.n_rejected += mds->shard.n_rejected;
    return prx_ledger_finish(&mds->ledger, extra, totals);
}

/* --- opening --------------------------------------------------------------- */

static void mds_abort(struct prx_sink *sink)
{
    prx_outfile_abort(&((struct sink_mds *)sink)->file);
}

static void mds_release(struct prx_sink *sink)
{
    struct sink_mds *mds = (struct sink_mds *)sink;

    prx_outfile_abort(&mds->file);
    prx_ledger_release(&mds->ledger);
    prx_hasher_free(mds->hasher);
    mds_shard_release(&mds->held);
    free(mds->folder);
    free(mds);
}

static struct prx_ledger *mds_ledger(const struct prx_sink *sink)
{
    return &((struct sink_mds *)(uintptr_t)sink)->ledger;
}

static const struct prx_sink_ops mds_ops = {mds_put, mds_finish, mds_release, mds_abort,
                                            mds_ledger, NULL};

static bool is_shard_name(const void *ctx, const char *name)
{
    (void)ctx;
    if (strncmp(name, "shard.", 6) != 0)
        return false;
    size_t n_digits = strspn(name + 6, "0123456789");
    return n_digits >= 5 && strcmp(name + 6 + n_digits, ".mds") == 0;
}

static int open_ledger(struct sink_mds *mds, const struct prx_sink_opts *opts)
{
    struct prx_str layout = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&layout, "mds 1 bytes %llu samples %llu",
                          (unsigned long long)mds->n_shard_bytes_max,
                          (unsigned long long)mds->n_shard_samples_max));
    struct prx_ledger_place place = {
        .folder = mds->folder,
        .prefix = "",
        .layout = layout.bytes,
        .write_index = write_index,
        .is_output = is_shard_name,
    };
    PRX_GO(prx_ledger_open(&mds->ledger, &place, opts));
    mds->n_shards_done = mds->ledger.index.n_shards;
    mds->shard.first_serial = mds->shard.next_serial = mds->ledger.n_done_serials;
out:
    prx_str_release(&layout);
    return rc;
}

/* "mds:DIR", with a slash behind or without: "DIR/". */
static int set_folder(struct sink_mds *mds, const char *word)
{
    const char *path = word + strlen(SCHEME);
    struct prx_str folder = {0};
    size_t n_path = strlen(path);

    if (n_path == 0)
        return prx_err(PRX_EINVAL, "%s: want " SCHEME "DIR", word);
    int rc = prx_str_printf(&folder, "%s%s", path, path[n_path - 1] == '/' ? "" : "/");
    mds->folder = folder.bytes;
    return rc;
}

int prx_sink_mds_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out)
{
    struct sink_mds *mds = calloc(1, sizeof(*mds));
    int rc = 0;

    if (!mds)
        return prx_err_nomem("a sink");
    mds->base.ops = &mds_ops;
    mds->file.fd = -1;
    mds->n_shard_bytes_max =
        opts->n_shard_bytes_max ? opts->n_shard_bytes_max : PRX_SHARD_BYTES_MAX;
    mds->n_shard_samples_max = opts->n_shard_samples_max;
    mds->no_sync = opts->no_sync;
    if (mds->n_shard_bytes_max > PRX_MDS_SHARD_BYTES_MAX) {
        rc = prx_err(PRX_EINVAL, "%s: shards of MDS are smaller than 4 GiB", word);
        goto out;
    }
    PRX_GO(prx_hasher_new(&mds->hasher));
    PRX_GO(set_folder(mds, word));
    PRX_GO(open_ledger(mds, opts));
    *n_done_serials = mds->ledger.n_done_serials;
    *out = &mds->base;
out:
    if (rc < 0)
        mds_release(&mds->base);
    return rc;
}
