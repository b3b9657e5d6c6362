/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MDS shards: what an index.json of MosaicML's streaming library lists (mds.h).
 *
 * Every shard is an input, so that ranks can share them out.  A shard whose file
 * cannot be what the index says is one reject, which tells how many samples are lost
 * by it; in a shard that was cut off, each sample that reaches beyond its end is one.
 *
 * Where the file lies there as it is, it is read in place, a few bytes a sample; a
 * compressed one is unpacked into memory, shard by shard.  If both are there, the raw
 * one is read.  A sample without a key is named after its shard and its number,
 * "00000-000012" from shard.00000.mds.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/skip.h"
#include "libdata/source/source_mds_internal.h"

/* One shard. */
struct part {
    char *path;        /* of the raw file, whether or not it is there */
    char *file_path;   /* of the file that is read */
    char *compression; /* of that, or NULL */
    char *stem;        /* what keys begin with: "0.500/00000" */
    uint64_t n_samples, n_raw_bytes;
    uint64_t n_file_bytes;
    const struct mds_layout *layout;
};

struct source_mds {
    struct prx_source base;
    struct part *parts;
    size_t n_parts, i_part;
    struct mds_layout **layouts; /* each of other columns than the one before */
    size_t n_layouts;

    bool is_open; /* parts[i_part] is */
    struct prx_mds_file file;
    uint32_t i_sample;
    struct prx_skip skip;
    bool with_hidden;
    struct mds_reader reader;
    struct prx_str key; /* scratch */
};

/* --- opening --------------------------------------------------------------- */

/* The columns of the next shard, which mostly are those of the one before. */
static int add_layout(struct source_mds *mds, json_t *object,
                      const struct mds_layout **out)
{
    struct prx_mds_columns columns = {0};
    struct mds_layout **grown;
    int rc = 0;

    PRX_TRY(prx_mds_columns_parse(object, &columns));
    if (mds->n_layouts > 0 &&
        prx_mds_columns_equal(&columns, &mds->layouts[mds->n_layouts - 1]->columns)) {
        *out = mds->layouts[mds->n_layouts - 1];
        goto out;
    }
    grown = realloc(mds->layouts, (mds->n_layouts + 1) * sizeof(struct mds_layout *));
    if (!grown) {
        rc = prx_err_nomem("columns");
        goto out;
    }
    mds->layouts = grown;
    PRX_GO(mds_layout_new(&columns, &mds->layouts[mds->n_layouts]));
    *out = mds->layouts[mds->n_layouts++];
out:
    prx_mds_columns_release(&columns);
    return rc;
}

/* Folder of @index and @name below it. */
static int join(const char *index, const char *name, char **out)
{
    const char *slash = strrchr(index, '/');
    struct prx_str path = {0};
    int rc = prx_str_printf(&path, "%.*s%s", slash ? (int)(slash - index) + 1 : 0,
                            index, name);

    if (rc == 0)
        rc = prx_strdup(path.bytes, out);
    prx_str_release(&path);
    return rc;
}

/* "0.500/" and "shard.00000.mds": "0.500/00000". */
static int make_stem(const char *folder, size_t n_folder, const char *name, char **out)
{
    struct prx_str stem = {0};
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    size_t n_base = strlen(base);
    int rc = 0;

    if (n_base > 4 && strcmp(base + n_base - 4, ".mds") == 0)
        n_base -= 4;
    if (n_base > 6 && strncmp(base, "shard.", 6) == 0) {
        base += 6;
        n_base -= 6;
    }
    PRX_GO(prx_str_add(&stem, folder, n_folder));
    PRX_GO(prx_str_add(&stem, name, slash ? (size_t)(slash - name) + 1 : 0));
    size_t n_before = stem.n_bytes;
    PRX_GO(prx_str_add(&stem, base, n_base));
    for (char *p = stem.bytes + n_before; *p; p++)
        if (*p == '.')
            *p = '_';
    PRX_GO(prx_strdup(stem.bytes, out));
out:
    prx_str_release(&stem);
    return rc;
}

/* Which file is read; that none is there is known now. */
static int choose_file(struct part *part, const char *index,
                       const struct prx_mds_shard *shard)
{
    struct stat st;
    char *zip_path = NULL;
    int rc = 0;

    PRX_GO(join(index, shard->raw_name, &part->path));
    if (shard->zip_name)
        PRX_GO(join(index, shard->zip_name, &zip_path));
    if (zip_path && stat(part->path, &st) < 0) {
        PRX_GO(prx_strdup(shard->compression, &part->compression));
        part->file_path = zip_path;
        zip_path = NULL;
    } else {
        PRX_GO(prx_strdup(part->path, &part->file_path));
    }
    if (stat(part->file_path, &st) < 0)
        rc = prx_err_sys("%s", part->file_path);
    else
        part->n_file_bytes = (uint64_t)st.st_size;
out:
    free(zip_path);
    return rc;
}

/* Add shard @i_shard of @index, whose path from @n_root on keys begin with. */
static int add_part(struct source_mds *mds, const char *index, size_t n_root,
                    json_t *shards, size_t i_shard)
{
    struct part *part = &mds->parts[mds->n_parts++];
    struct prx_mds_shard shard = {0};
    const char *slash = strrchr(index, '/');
    size_t n_folder = slash ? (size_t)(slash - index) + 1 : 0;
    json_t *object = json_array_get(shards, i_shard);
    int rc = 0;

    PRX_GO(prx_mds_shard_parse(object, &shard));
    PRX_GO(add_layout(mds, object, &part->layout));
    PRX_GO(make_stem(index + n_root, n_folder - n_root, shard.raw_name, &part->stem));
    part->n_samples = shard.n_samples;
    part->n_raw_bytes = shard.n_raw_bytes;
    PRX_GO(choose_file(part, index, &shard));
out:
    prx_mds_shard_release(&shard);
    if (rc < 0)
        return prx_err_frame(rc, "%s: shard %zu", index, i_shard);
    return 0;
}

static void mds_close(struct prx_source *source);

static const struct prx_source_ops mds_ops;

int mds_open(const char *const *paths, size_t n_paths,
             const struct prx_source_opts *opts, struct prx_source **out)
{
    struct source_mds *mds = calloc(1, sizeof(*mds));
    json_t *root = NULL, *shards = NULL;
    const char *open_index = "";
    int rc = 0;

    if (!mds)
        return prx_err_nomem("an MDS source");
    mds->base.ops = &mds_ops;
    mds->file.fd = -1;
    mds->with_hidden = opts->with_hidden;
    mds->reader.n_value_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    mds->parts = calloc(n_paths + 1, sizeof(*mds->parts));
    if (!mds->parts) {
        rc = prx_err_nomem("an MDS source");
        goto out;
    }
    for (size_t i = 0; i < n_paths; i++) {
        size_t i_shard, n_root;
        const char *index = mds_input_parse(paths[i], &i_shard, &n_root);
        if (strcmp(index, open_index) != 0) {
            json_decref(root);
            root = NULL;
            PRX_GO(prx_mds_index_read(index, &root, &shards));
            open_index = index;
        }
        PRX_GO(add_part(mds, index, n_root, shards, i_shard));
    }
    *out = &mds->base;
out:
    json_decref(root);
    if (rc < 0)
        mds_close(&mds->base);
    return rc;
}

/* --- samples --------------------------------------------------------------- */

static void part_close(struct source_mds *mds)
{
    prx_mds_file_close(&mds->file);
    mds->is_open = false;
    mds->i_part++;
}

static int check_head(const struct prx_mds_file *file, const struct part *part)
{
    struct prx_mds_columns columns = {0};

    if (file->n_samples != part->n_samples)
        return prx_err(PRX_ECORRUPT, "%s: %u samples, but the index says %" PRIu64,
                       file->path, file->n_samples, part->n_samples);
    PRX_TRY(prx_mds_columns_parse(file->config, &columns));
    bool is_same = prx_mds_columns_equal(&columns, &part->layout->columns);
    prx_mds_columns_release(&columns);
    if (!is_same)
        return prx_err(PRX_ECORRUPT, "%s: of other columns than the index says",
                       file->path);
    return 0;
}

static int open_file(struct source_mds *mds, const struct part *part)
{
    PRX_TRY(mds_layout_check(part->layout));
    PRX_TRY(prx_mds_file_open(&mds->file, part->file_path, part->compression,
                              part->n_raw_bytes));
    PRX_TRY(check_head(&mds->file, part));
    return mds_reader_begin(&mds->reader, &mds->file, part->layout);
}

/* 1: the shard is open; 0: it cannot be, and @sample says so. */
static int part_open(struct source_mds *mds, struct prx_sample *sample)
{
    const struct part *part = &mds->parts[mds->i_part];
    char shown[PRX_ERR_TEXT_BYTES / 2];

    prx_skip_release(&mds->skip);
    if (!mds->with_hidden)
        PRX_TRY(prx_skip_read(&mds->skip, part->path));
    int rc = open_file(mds, part);
    if (rc == PRX_ENOMEM || rc == PRX_EIO || rc == PRX_ENOENT)
        return rc;
    mds->i_sample = 0;
    mds->is_open = rc == 0;
    if (rc == 0)
        return 1;
    prx_sample_reject(sample, "read", "%s; its %" PRIu64 " samples are lost",
                      prx_err_message(), part->n_samples);
    PRX_TRY(prx_sample_set_origin(sample, part->file_path));
    PRX_TRY(prx_sample_set_shard(sample, part->path));
    const char *slash = strrchr(part->path, '/');
    prx_escape(slash ? slash + 1 : part->path, shown, sizeof(shown));
    PRX_TRY(prx_sample_set_key(sample, shown));
    part_close(mds);
    return 0;
}

static int mds_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_mds *mds = (struct source_mds *)source;

    while (mds->i_part < mds->n_parts) {
        if (!mds->is_open) {
            int is_opened = part_open(mds, sample);
            if (is_opened <= 0)
                return is_opened < 0 ? is_opened : 1;
        }
        if (mds->i_sample == mds->file.n_samples) {
            part_close(mds);
            continue;
        }
        prx_str_reset(&mds->key);
        PRX_TRY(prx_str_printf(&mds->key, "%s-%06u", mds->parts[mds->i_part].stem,
                               mds->i_sample));
        PRX_TRY(mds_reader_get(&mds->reader, mds->i_sample++, mds->key.bytes, sample));
        PRX_TRY(prx_sample_set_shard(sample, mds->parts[mds->i_part].path));
        if (!prx_skip_find(&mds->skip, sample->key))
            return 1;
        mds->base.n_hidden++;
        prx_sample_reset(sample);
    }
    return 0;
}

static int mds_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_mds *mds = (const struct source_mds *)source;

    for (size_t i = 0; i < mds->n_parts; i++) {
        const struct part *part = &mds->parts[i];
        PRX_TRY(prx_str_printf(plan, "mds %s %" PRIu64 "\n", part->file_path,
                               part->n_file_bytes));
        PRX_TRY(prx_skip_plan(part->path, plan));
    }
    return 0;
}

static bool mds_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct source_mds *mds = (const struct source_mds *)source;
    bool has = false;

    for (size_t i = 0; i < mds->n_parts && !has; i++) {
        char *shard = realpath(mds->parts[i].file_path, NULL);
        has = shard &&
              (is_folder ? prx_path_is_below(shard, path) : strcmp(shard, path) == 0);
        free(shard);
    }
    return has;
}

static void mds_close(struct prx_source *source)
{
    struct source_mds *mds = (struct source_mds *)source;

    prx_mds_file_close(&mds->file);
    for (size_t i = 0; i < mds->n_parts; i++) {
        free(mds->parts[i].path);
        free(mds->parts[i].file_path);
        free(mds->parts[i].compression);
        free(mds->parts[i].stem);
    }
    free(mds->parts);
    for (size_t i = 0; i < mds->n_layouts; i++)
        mds_layout_free(mds->layouts[i]);
    free(mds->layouts);
    mds_reader_release(&mds->reader);
    prx_skip_release(&mds->skip);
    prx_str_release(&mds->key);
    free(mds);
}

static const struct prx_source_ops mds_ops = {mds_next, mds_plan, NULL, mds_close,
                                              mds_has};
