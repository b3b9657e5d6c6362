/* SPDX-License-Identifier: Apache-2.0 */
/* The columns and the bytes of one MDS shard. */
#include <stdlib.h>
#include <string.h>

#include "libdata/image.h"
#include "libdata/sink/sink_mds_internal.h"

#define N_BLOCK_BYTES ((size_t)1 << 20)

/* What the parts of a shard take at most, beside the bytes of fields. */
#define N_HEAD_BYTES_MAX   1024
#define N_COLUMN_BYTES_MAX 64 /* in the head, beside the name */
#define N_VALUE_BYTES_MAX  8  /* a size, and the value of a field that is not there */

enum kind {
    BYTES,
    JPEG,
    PNG,
    STR,
    JSON,
    ARRAY
}; /* and then one for each type of arrays */

struct mds_column {
    char *name; /* owned */
    int kind;
    size_t n_values; /* samples that have it */
};

/* --- columns --------------------------------------------------------------- */

static size_t find_place(const struct mds_shard *shard, const char *name,
                         bool *is_there)
{
    size_t low = 0, high = shard->n_columns;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(shard->columns[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_there = low < shard->n_columns && strcmp(shard->columns[low].name, name) == 0;
    return low;
}

/* A value of @kind more in column @name. */
static int count_value(struct mds_shard *shard, const char *name, int kind)
{
    bool is_there;
    size_t i = find_place(shard, name, &is_there);
    struct mds_column *column = &shard->columns[i];

    if (is_there) {
        column->n_values++;
        if (column->kind != kind)
            column->kind = (column->kind == JPEG || column->kind == PNG) &&
                                   (kind == JPEG || kind == PNG)
                               ? JPEG
                               : BYTES;
        return 0;
    }
    if (shard->n_columns == shard->cap_columns) {
        size_t cap = shard->cap_columns ? shard->cap_columns * 2 : 16;
        struct mds_column *grown = realloc(shard->columns, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("columns");
        shard->columns = grown;
        shard->cap_columns = cap;
        column = &shard->columns[i];
    }
    char *own_name;
    PRX_TRY(prx_strdup(name, &own_name));
    memmove(column + 1, column, (shard->n_columns - i) * sizeof(*column));
    *column = (struct mds_column){own_name, kind, 1};
    shard->n_columns++;
    shard->n_name_bytes += strlen(name);
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
    json_t *text =
        json_stringn(bytes->n_bytes ? (const char *)bytes->bytes : "", bytes->n_bytes);
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
static int final_kind(const struct mds_shard *shard, const struct mds_column *column)
{
    bool is_picture = column->kind == JPEG || column->kind == PNG;
    return is_picture && column->n_values < shard->n_samples ? BYTES : column->kind;
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

/* --- samples --------------------------------------------------------------- */

/* Bytes of the values that @sample adds: of its fields, its key and their list. */
static uint64_t value_bytes(const struct prx_sample *sample)
{
    uint64_t n_bytes = prx_sample_bytes(sample) + strlen(sample->key);

    for (size_t i = 0; i < sample->n_fields; i++)
        n_bytes += strlen(sample->fields[i].name) + 1;
    return n_bytes;
}

uint64_t mds_shard_bound(const struct mds_shard *shard, const struct prx_sample *sample,
                         size_t *n_columns)
{
    const char *picture = picture_of(sample);
    uint64_t n_name_bytes = shard->n_name_bytes, n_samples = shard->n_samples + 1;
    bool is_there;

    *n_columns = shard->n_columns ? shard->n_columns : 2;
    for (size_t i = 0; i < sample->n_fields; i++) {
        const char *name = prx_mds_column_name(sample->fields[i].name, picture);
        find_place(shard, name, &is_there);
        *n_columns += !is_there;
        n_name_bytes += is_there ? 0 : strlen(name);
    }
    /* A character of a name takes six bytes at most in JSON. */
    return N_HEAD_BYTES_MAX + *n_columns * N_COLUMN_BYTES_MAX + 6 * n_name_bytes +
           n_samples * (4 + *n_columns * N_VALUE_BYTES_MAX) + shard->n_value_bytes +
           value_bytes(sample);
}

int mds_shard_add(struct mds_shard *shard, const struct prx_sample *sample)
{
    if (shard->n_samples == shard->cap_samples) {
        size_t cap = shard->cap_samples ? shard->cap_samples * 2 : 64;
        struct prx_sample *grown = realloc(shard->samples, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a shard");
        memset(grown + shard->cap_samples, 0,
               (cap - shard->cap_samples) * sizeof(*grown));
        shard->samples = grown;
        shard->cap_samples = cap;
    }
    struct prx_sample *held = &shard->samples[shard->n_samples++];
    const char *picture = picture_of(sample);
    PRX_TRY(prx_sample_set_key(held, sample->key));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        PRX_TRY(prx_sample_put(held, field->name, prx_buf_ref(field->bytes)));
        PRX_TRY(count_value(shard, prx_mds_column_name(field->name, picture),
                            kind_of(field)));
    }
    PRX_TRY(count_value(shard, PRX_MDS_KEY, STR));
    PRX_TRY(count_value(shard, PRX_MDS_FIELDS, STR));
    shard->n_value_bytes += value_bytes(sample);
    return 0;
}

void mds_shard_reset(struct mds_shard *shard)
{
    while (shard->n_samples > 0)
        prx_sample_reset(&shard->samples[--shard->n_samples]);
    while (shard->n_columns > 0)
        free(shard->columns[--shard->n_columns].name);
    shard->n_value_bytes = shard->n_name_bytes = 0;
}

void mds_shard_release(struct mds_shard *shard)
{
    mds_shard_reset(shard);
    for (size_t i = 0; i < shard->cap_samples; i++)
        prx_sample_release(&shard->samples[i]);
    free(shard->samples);
    free(shard->columns);
    *shard = (struct mds_shard){0};
}

/* --- writing --------------------------------------------------------------- */

struct writer {
    const struct mds_shard *shard;
    uint64_t size_limit;
    struct prx_outfile *file;
    struct prx_hasher *hasher;
    struct prx_str block; /* to be written */
    struct prx_str value; /* scratch */
};

static int flush(struct writer *to)
{
    prx_hasher_add(to->hasher, to->block.bytes, to->block.n_bytes);
    PRX_TRY(prx_outfile_write(to->file, to->block.bytes, to->block.n_bytes));
    prx_str_reset(&to->block);
    return 0;
}

static int emit(struct writer *to, const void *bytes, size_t n_bytes)
{
    PRX_TRY(prx_str_add(&to->block, bytes, n_bytes));
    return to->block.n_bytes < N_BLOCK_BYTES ? 0 : flush(to);
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
static int get_value(struct writer *to, const struct mds_column *column,
                     const struct prx_sample *sample, struct value *out)
{
    static const char empty_array[] = {1 << 2, 0};
    int kind = final_kind(to->shard, column);
    struct prx_npy npy;

    prx_str_reset(&to->value);
    if (strcmp(column->name, PRX_MDS_KEY) == 0) {
        *out = (struct value){sample->key, strlen(sample->key)};
        return 0;
    }
    if (strcmp(column->name, PRX_MDS_FIELDS) == 0) {
        PRX_TRY(list_fields(sample, &to->value));
        *out = (struct value){to->value.bytes, to->value.n_bytes};
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
    PRX_TRY(prx_mds_array_put(&npy, &to->value));
    *out = (struct value){to->value.bytes, to->value.n_bytes};
    return 0;
}

/* The JSON ahead of the samples.  The caller frees it. */
static int format_config(const struct mds_shard *shard, uint64_t size_limit, char **out)
{
    json_t *names = json_array(), *encodings = json_array(), *sizes = json_array();
    int rc = names && encodings && sizes ? 0 : -1;

    for (size_t i = 0; i < shard->n_columns && rc == 0; i++) {
        const struct mds_column *column = &shard->columns[i];
        const char *encoding = encoding_of(final_kind(shard, column));
        if (json_array_append_new(names, json_string(column->name)) < 0 ||
            json_array_append_new(encodings, json_string(encoding)) < 0 ||
            json_array_append_new(sizes, json_null()) < 0)
            rc = -1;
    }
    json_t *config = json_pack("{sO sO sO sn ss s[s] sI si}", "column_encodings",
                               encodings, "column_names", names, "column_sizes", sizes,
                               "compression", "format", "mds", "hashes", "xxh128",
                               "size_limit", (json_int_t)size_limit, "version", 2);
    json_decref(names);
    json_decref(encodings);
    json_decref(sizes);
    *out = rc == 0 && config ? json_dumps(config, JSON_SORT_KEYS) : NULL;
    json_decref(config);
    return *out ? 0 : prx_err_nomem("the head of a shard");
}

/* Number, offsets, JSON. */
static int write_head(struct writer *to)
{
    const struct mds_shard *shard = to->shard;
    uint32_t n_samples = (uint32_t)shard->n_samples;
    struct value value;
    char *config = NULL;
    int rc = 0;

    PRX_GO(format_config(shard, to->size_limit, &config));
    uint64_t offset = 4 + 4 * ((uint64_t)shard->n_samples + 1) + strlen(config);
    PRX_GO(emit(to, &n_samples, 4));
    for (size_t i = 0; i <= shard->n_samples; i++) {
        PRX_BUG_IF(offset > PRX_MDS_SHARD_BYTES_MAX);
        PRX_GO(emit(to, &(uint32_t){(uint32_t)offset}, 4));
        for (size_t j = 0; j < shard->n_columns && i < shard->n_samples; j++) {
            PRX_GO(get_value(to, &shard->columns[j], &shard->samples[i], &value));
            offset += 4 + value.n_bytes;
        }
    }
    PRX_GO(emit(to, config, strlen(config)));
out:
    free(config);
    return rc;
}

static int write_sample(struct writer *to, const struct prx_sample *sample)
{
    const struct mds_shard *shard = to->shard;
    struct value value;

    for (size_t i = 0; i < shard->n_columns; i++) {
        PRX_TRY(get_value(to, &shard->columns[i], sample, &value));
        PRX_TRY(emit(to, &(uint32_t){(uint32_t)value.n_bytes}, 4));
    }
    for (size_t i = 0; i < shard->n_columns; i++) {
        PRX_TRY(get_value(to, &shard->columns[i], sample, &value));
        PRX_TRY(emit(to, value.bytes, value.n_bytes));
    }
    return 0;
}

int mds_shard_write(const struct mds_shard *shard, uint64_t size_limit,
                    struct prx_outfile *file, struct prx_hasher *hasher)
{
    struct writer to = {shard, size_limit, file, hasher, {0}, {0}};
    int rc = 0;

    PRX_GO(write_head(&to));
    for (size_t i = 0; i < shard->n_samples; i++)
        PRX_GO(write_sample(&to, &shard->samples[i]));
    PRX_GO(flush(&to));
out:
    prx_str_release(&to.block);
    prx_str_release(&to.value);
    return rc;
}
