/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MDS shards, for MosaicML's streaming library (mds.h).
 *
 * All samples of an MDS shard have the same columns, and ours need not have the same
 * fields.  So a shard is held in memory until it is whole, and then has a column for
 * every field that any of its samples has.  PRX_MDS_FIELDS says which fields are a
 * sample's own; in the columns of the others it has something that can be read, and
 * means nothing.
 *
 * A column's encoding is the most telling one that all its values allow: pictures are
 * "jpeg" or "png" (their reader opens any format), text "str", metadata "json", arrays
 * "ndarray:TYPE".  Where one value is no such thing, or a picture is missing, all are
 * "bytes".  Either way every sample comes back to the byte.
 *
 * The index is made from the shards' own heads, so that a resumed run need remember no
 * columns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/hash.h"
#include "libdata/image.h"
#include "libdata/mds.h"
#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"

#define SCHEME        "mds:"
#define N_BLOCK_BYTES ((size_t)1 << 20)

/* What the parts of a shard take at most, beside the bytes of fields. */
#define N_HEAD_BYTES_MAX   1024
#define N_COLUMN_BYTES_MAX 64 /* in the head, beside the name */
#define N_VALUE_BYTES_MAX  8  /* a size, and the value of a field that is not there */

enum kind { BYTES,
            JPEG,
            PNG,
            STR,
            JSON,
            ARRAY }; /* and then one for each type of arrays */

struct column {
    char *name; /* owned */
    int kind;
    size_t n_values; /* samples that have it */
};

struct sink_mds {
    struct prx_sink base;
    char *folder; /* with its slash */
    uint64_t n_shard_bytes_max;
    uint64_t n_shard_samples_max;
    bool no_sync;
    struct prx_ledger ledger;
    uint64_t n_shards_done;

    struct prx_shard shard; /* being gathered; its name comes last */
    struct prx_sample *held;
    size_t n_held, cap_held;
    uint64_t n_held_bytes;  /* of values */
    struct column *columns; /* in byte order of name */
    size_t n_columns, cap_columns;
    uint64_t n_name_bytes; /* of columns */

    struct prx_outfile file;
    struct prx_hasher *hasher;
    struct prx_str block; /* to be written */
    struct prx_str value; /* scratch */
};

/* --- columns --------------------------------------------------------------- */

static size_t find_place(const struct sink_mds *mds, const char *name, bool *is_there)
{
    size_t low = 0, high = mds->n_columns;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(mds->columns[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_there = low < mds->n_columns && strcmp(mds->columns[low].name, name) == 0;
    return low;
}

/* A value of @kind more in column @name. */
static int count_value(struct sink_mds *mds, const char *name, int kind)
{
    bool is_there;
    size_t i = find_place(mds, name, &is_there);
    struct column *column = &mds->columns[i];

    if (is_there) {
        column->n_values++;
        if (column->kind != kind)
            column->kind = (column->kind == JPEG || column->kind == PNG) &&
                                   (kind == JPEG || kind == PNG)
                               ? JPEG
                               : BYTES;
        return 0;
    }
    if (mds->n_columns == mds->cap_columns) {
        size_t cap = mds->cap_columns ? mds->cap_columns * 2 : 16;
        struct column *grown = realloc(mds->columns, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("columns");
        mds->columns = grown;
        mds->cap_columns = cap;
        column = &mds->columns[i];
    }
    char *own_name;
    PRX_TRY(prx_strdup(name, &own_name));
    memmove(column + 1, column, (mds->n_columns - i) * sizeof(*column));
    *column = (struct column){own_name, kind, 1};
    mds->n_columns++;
    mds->n_name_bytes += strlen(name);
    return 0;
}

static bool ends_with(const char *name, const char *ext)
{
    size_t n_name = strlen(name), n_ext = strlen(ext);
    return n_name >= n_ext && strcmp(name + n_name - n_ext, ext) == 0 &&
           (n_name == n_ext || name[n_name - n_ext - 1] == '.');
}

static bool is_utf8(const struct prx_buf *bytes)
{
    json_t *text = json_stringn(bytes->n_bytes ? (const char *)bytes->bytes : "",
                                bytes->n_bytes);
    json_decref(text);
    return text != NULL;
}

static bool is_json(const struct prx_buf *bytes)
{
    json_t *value = json_loadb(bytes->n_bytes ? (const char *)bytes->bytes : "",
                               bytes->n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_decref(value);
    return value != NULL;
}

/* Would the array, read back and written by npy.h, be these very bytes? */
static bool is_plain_array(const struct prx_buf *bytes, struct prx_npy *npy)
{
    struct prx_buf *again = NULL;

    if (prx_npy_parse(bytes->bytes, bytes->n_bytes, npy) < 0 || npy->n_dims == 0 ||
        npy->n_elements == 0 ||
        prx_npy_format(npy->type, npy->n_dims, npy->dims, npy->bytes, &again) < 0)
        return false;
    bool is_same = again->n_bytes == bytes->n_bytes &&
                   memcmp(again->bytes, bytes->bytes, bytes->n_bytes) == 0;
    prx_buf_unref(again);
    return is_same;
}

/* The most telling kind of column that this field's bytes allow. */
static int kind_of(const struct prx_field *field)
{
    static const char *const pictures[] = {"jpg", "jpeg", "png", "webp"};
    const struct prx_buf *bytes = field->bytes;
    struct prx_npy npy;

    for (size_t i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++) {
        if (!ends_with(field->name, pictures[i]))
            continue;
        switch (prx_image_sniff(bytes->bytes, bytes->n_bytes)) {
        case PRX_IMAGE_UNKNOWN:
            return BYTES;
        case PRX_IMAGE_PNG:
            return PNG;
        default:
            return JPEG;
        }
    }
    if (ends_with(field->name, "txt"))
        return is_utf8(bytes) ? STR : BYTES;
    if (ends_with(field->name, "json"))
        return is_json(bytes) ? JSON : BYTES;
    if (ends_with(field->name, "npy"))
        return is_plain_array(bytes, &npy) ? ARRAY + (int)npy.type : BYTES;
    return BYTES;
}

/* What the column ends as, once all samples are known. */
static int final_kind(const struct sink_mds *mds, const struct column *column)
{
    bool is_picture = column->kind == JPEG || column->kind == PNG;
    return is_picture && column->n_values < mds->n_held ? BYTES : column->kind;
}

static const char *encoding_of(int kind)
{
    static const char *const encodings[] = {"bytes", "jpeg", "png", "str", "json"};
    return kind < ARRAY ? encodings[kind]
                        : prx_mds_array_encoding((enum prx_npy_type)(kind - ARRAY));
}

static const char *picture_of(const struct prx_sample *sample)
{
    const struct prx_field *field = prx_sample_find_image(sample);
    return field ? field->name : NULL;
}

/* The field of @sample that goes into @column, or NULL. */
static const struct prx_field *field_of(const struct prx_sample *sample,
                                        const char *column)
{
    const char *picture = picture_of(sample);

    for (size_t i = 0; i < sample->n_fields; i++)
        if (strcmp(prx_mds_column_name(sample->fields[i].name, picture), column) == 0)
            return &sample->fields[i];
    return NULL;
}

/* --- writing --------------------------------------------------------------- */

static int flush(struct sink_mds *mds)
{
    mds->shard.n_bytes += mds->block.n_bytes;
    prx_hasher_add(mds->hasher, mds->block.bytes, mds->block.n_bytes);
    PRX_TRY(prx_outfile_write(&mds->file, mds->block.bytes, mds->block.n_bytes));
    if (!mds->no_sync)
        prx_outfile_push(&mds->file);
    prx_str_reset(&mds->block);
    return 0;
}

static int emit(struct sink_mds *mds, const void *bytes, size_t n_bytes)
{
    PRX_TRY(prx_str_add(&mds->block, bytes, n_bytes));
    return mds->block.n_bytes < N_BLOCK_BYTES ? 0 : flush(mds);
}

static int list_fields(const struct prx_sample *sample, struct prx_str *out)
{
    for (size_t i = 0; i < sample->n_fields; i++)
        PRX_TRY(prx_str_printf(out, "%s%s", i ? "\n" : "", sample->fields[i].name));
    return 0;
}

struct value {
    const void *bytes;
    size_t n_bytes;
};

/* What @sample has in @column; valid until the next call. */
static int get_value(struct sink_mds *mds, const struct column *column,
                     const struct prx_sample *sample, struct value *out)
{
    static const char empty_array[] = {1 << 2, 0};
    int kind = final_kind(mds, column);
    struct prx_npy npy;

    prx_str_reset(&mds->value);
    if (strcmp(column->name, PRX_MDS_KEY) == 0) {
        *out = (struct value){sample->key, strlen(sample->key)};
        return 0;
    }
    if (strcmp(column->name, PRX_MDS_FIELDS) == 0) {
        PRX_TRY(list_fields(sample, &mds->value));
        *out = (struct value){mds->value.bytes, mds->value.n_bytes};
        return 0;
    }
    const struct prx_field *field = field_of(sample, column->name);
    if (!field) {
        *out = kind == JSON    ? (struct value){"null", 4}
               : kind >= ARRAY ? (struct value){empty_array, sizeof(empty_array)}
                               : (struct value){"", 0};
        return 0;
    }
    *out = (struct value){field->bytes->bytes, field->bytes->n_bytes};
    if (kind < ARRAY)
        return 0;
    PRX_TRY(prx_npy_parse(field->bytes->bytes, field->bytes->n_bytes, &npy));
    PRX_TRY(prx_mds_array_put(&npy, &mds->value));
    *out = (struct value){mds->value.bytes, mds->value.n_bytes};
    return 0;
}

/* The JSON ahead of the samples.  The caller frees it. */
static int format_config(const struct sink_mds *mds, char **out)
{
    json_t *names = json_array(), *encodings = json_array(), *sizes = json_array();
    int rc = names && encodings && sizes ? 0 : -1;

    for (size_t i = 0; i < mds->n_columns && rc == 0; i++) {
        const struct column *column = &mds->columns[i];
        const char *encoding = encoding_of(final_kind(mds, column));
        if (json_array_append_new(names, json_string(column->name)) < 0 ||
            json_array_append_new(encodings, json_string(encoding)) < 0 ||
            json_array_append_new(sizes, json_null()) < 0)
            rc = -1;
    }
    json_t *config =
        json_pack("{sO sO sO sn ss s[s] sI si}", "column_encodings", encodings,
                  "column_names", names, "column_sizes", sizes, "compression", "format",
                  "mds", "hashes", "xxh128", "size_limit",
                  (json_int_t)mds->n_shard_bytes_max, "version", 2);
    json_decref(names);
    json_decref(encodings);
    json_decref(sizes);
    *out = rc == 0 && config ? json_dumps(config, JSON_SORT_KEYS) : NULL;
    json_decref(config);
    return *out ? 0 : prx_err_nomem("the head of a shard");
}

/* Number, offsets, JSON. */
static int write_head(struct sink_mds *mds)
{
    uint32_t n_samples = (uint32_t)mds->n_held;
    struct value value;
    char *config = NULL;
    int rc = 0;

    PRX_GO(format_config(mds, &config));
    uint64_t offset = 4 + 4 * ((uint64_t)mds->n_held + 1) + strlen(config);
    PRX_GO(emit(mds, &n_samples, 4));
    for (size_t i = 0; i <= mds->n_held; i++) {
        PRX_BUG_IF(offset > PRX_MDS_SHARD_BYTES_MAX);
        PRX_GO(emit(mds, &(uint32_t){(uint32_t)offset}, 4));
        for (size_t j = 0; j < mds->n_columns && i < mds->n_held; j++) {
            PRX_GO(get_value(mds, &mds->columns[j], &mds->held[i], &value));
            offset += 4 + value.n_bytes;
        }
    }
    PRX_GO(emit(mds, config, strlen(config)));
out:
    free(config);
    return rc;
}

static int write_sample(struct sink_mds *mds, const struct prx_sample *sample)
{
    struct value value;

    for (size_t i = 0; i < mds->n_columns; i++) {
        PRX_TRY(get_value(mds, &mds->columns[i], sample, &value));
        PRX_TRY(emit(mds, &(uint32_t){(uint32_t)value.n_bytes}, 4));
    }
    for (size_t i = 0; i < mds->n_columns; i++) {
        PRX_TRY(get_value(mds, &mds->columns[i], sample, &value));
        PRX_TRY(emit(mds, value.bytes, value.n_bytes));
    }
    return 0;
}

static void forget_held(struct sink_mds *mds)
{
    while (mds->n_held > 0)
        prx_sample_reset(&mds->held[--mds->n_held]);
    while (mds->n_columns > 0)
        free(mds->columns[--mds->n_columns].name);
    mds->n_held_bytes = mds->n_name_bytes = 0;
}

static int write_shard(struct sink_mds *mds)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s%s", mds->folder, mds->shard.name));
    PRX_GO(prx_ledger_begin(&mds->ledger, mds->shard.name));
    PRX_GO(prx_outfile_open(&mds->file, path.bytes));
    prx_hasher_reset(mds->hasher);
    prx_str_reset(&mds->block);
    PRX_GO(write_head(mds));
    for (size_t i = 0; i < mds->n_held; i++)
        PRX_GO(write_sample(mds, &mds->held[i]));
    PRX_GO(flush(mds));
    prx_hasher_hex(mds->hasher, mds->shard.xxh128);
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
    mds->shard.n_samples = mds->n_held;
    mds->shard.next_serial = next_serial;
    PRX_TRY(write_shard(mds));
    PRX_TRY(prx_ledger_put(&mds->ledger, &mds->shard));
    mds->n_shards_done++;
    mds->shard = (struct prx_shard){
        .first_serial = next_serial,
        .next_serial = next_serial,
    };
    forget_held(mds);
    return 0;
}

/* --- samples --------------------------------------------------------------- */

/* Bytes of the values that @sample adds: of its fields, its key and their list. */
static uint64_t value_bytes(const struct prx_sample *sample)
{
    uint64_t n_bytes = prx_sample_bytes(sample) + strlen(sample->key);

    for (size_t i = 0; i < sample->n_fields; i++)
        n_bytes += strlen(sample->fields[i].name) + 1;
    return n_bytes;
}

/* At least what the shard is going to be with @sample in it, in bytes and columns. */
static uint64_t bound_shard(const struct sink_mds *mds, const struct prx_sample *sample,
                            size_t *n_columns)
{
    const char *picture = picture_of(sample);
    uint64_t n_name_bytes = mds->n_name_bytes, n_samples = mds->n_held + 1;
    bool is_there;

    *n_columns = mds->n_columns ? mds->n_columns : 2;
    for (size_t i = 0; i < sample->n_fields; i++) {
        const char *name = prx_mds_column_name(sample->fields[i].name, picture);
        find_place(mds, name, &is_there);
        *n_columns += !is_there;
        n_name_bytes += is_there ? 0 : strlen(name);
    }
    /* A character of a name takes six bytes at most in JSON. */
    return N_HEAD_BYTES_MAX + *n_columns * N_COLUMN_BYTES_MAX + 6 * n_name_bytes +
           n_samples * (4 + *n_columns * N_VALUE_BYTES_MAX) + mds->n_held_bytes +
           value_bytes(sample);
}

static bool is_full(const struct sink_mds *mds, uint64_t n_bytes, size_t n_columns)
{
    return mds->n_held > 0 &&
           (n_bytes > mds->n_shard_bytes_max || n_columns > PRX_MDS_COLUMNS_MAX ||
            (mds->n_shard_samples_max && mds->n_held >= mds->n_shard_samples_max));
}

static int hold(struct sink_mds *mds, const struct prx_sample *sample)
{
    if (mds->n_held == mds->cap_held) {
        size_t cap = mds->cap_held ? mds->cap_held * 2 : 64;
        struct prx_sample *grown = realloc(mds->held, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a shard");
        memset(grown + mds->cap_held, 0, (cap - mds->cap_held) * sizeof(*grown));
        mds->held = grown;
        mds->cap_held = cap;
    }
    struct prx_sample *held = &mds->held[mds->n_held++];
    const char *picture = picture_of(sample);
    PRX_TRY(prx_sample_set_key(held, sample->key));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        PRX_TRY(prx_sample_put(held, field->name, prx_buf_ref(field->bytes)));
        PRX_TRY(count_value(mds, prx_mds_column_name(field->name, picture),
                            kind_of(field)));
    }
    PRX_TRY(count_value(mds, PRX_MDS_KEY, STR));
    PRX_TRY(count_value(mds, PRX_MDS_FIELDS, STR));
    mds->n_held_bytes += value_bytes(sample);
    return 0;
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
    uint64_t n_bytes = bound_shard(mds, sample, &n_columns);
    if (is_full(mds, n_bytes, n_columns)) {
        PRX_TRY(shard_commit(mds, sample->serial));
        n_bytes = bound_shard(mds, sample, &n_columns);
    }
    if (find_taken_name(sample))
        prx_sample_reject(sample, "write", "field %s: MDS has another column so called",
                          find_taken_name(sample));
    else if (mds->n_held > 0 &&
             strcmp(mds->held[mds->n_held - 1].key, sample->key) == 0)
        prx_sample_reject(sample, "write", "same key as the sample before it");
    else if (n_bytes > PRX_MDS_SHARD_BYTES_MAX || n_columns > PRX_MDS_COLUMNS_MAX)
        prx_sample_reject(sample, "write", "larger than an MDS shard can be");
    if (sample->reject_reason)
        return reject(mds, sample);
    PRX_TRY(hold(mds, sample));
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
    json_t *more = json_pack("{s{ss sI s{ss}} sI sn}", "raw_data", "basename",
                             shard->name, "bytes", (json_int_t)shard->n_bytes, "hashes",
                             "xxh128", shard->xxh128, "samples",
                             (json_int_t)shard->n_samples, "zip_data");
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
    json_t *root =
        json_pack("{si sO sI sI sI ss ss*}", "version", 2, "shards", shards, "samples",
                  (json_int_t)index->n_samples, "rejected",
                  (json_int_t)index->n_rejected, "bytes", (json_int_t)index->n_bytes,
                  "plan", index->plan, "tool", ledger->tool);
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

    if (mds->n_held > 0)
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
    forget_held(mds);
    for (size_t i = 0; i < mds->cap_held; i++)
        prx_sample_release(&mds->held[i]);
    free(mds->held);
    free(mds->columns);
    free(mds->folder);
    prx_str_release(&mds->block);
    prx_str_release(&mds->value);
    free(mds);
}

static struct prx_ledger *mds_ledger(const struct prx_sink *sink)
{
    return &((struct sink_mds *)(uintptr_t)sink)->ledger;
}

static const struct prx_sink_ops mds_ops = {mds_put, mds_finish, mds_release, mds_abort,
                                            mds_ledger};

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
