/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sample of an MDS shard: where its values are, and what they become.
 *
 * Of a shard that lies there as it is, pictures and other bytes are not read: a field
 * says where they are.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/image.h"
#include "libdata/path.h"
#include "libdata/source/source_mds_internal.h"

#define N_SNIFF_BYTES 16

/* Of columns, and of endings. */
static const char *const picture_names[] = {PRX_MDS_PICTURE, "img", "jpg",
                                            "jpeg", "png", "webp"};

void mds_reader_release(struct mds_reader *reader)
{
    free(reader->values);
    free(reader->sizes);
    *reader = (struct mds_reader){0};
}

int mds_reader_begin(struct mds_reader *reader, const struct prx_mds_file *file,
                     const struct mds_layout *layout)
{
    size_t n_columns = layout->columns.n_columns;

    reader->file = file;
    reader->layout = layout;
    if (n_columns <= reader->cap_values)
        return 0;
    free(reader->values);
    free(reader->sizes);
    reader->values = calloc(n_columns, sizeof(*reader->values));
    reader->sizes = calloc(n_columns, sizeof(*reader->sizes));
    reader->cap_values = reader->values && reader->sizes ? n_columns : 0;
    return reader->cap_values ? 0 : prx_err_nomem("the values of a sample");
}

/* --- where the values are -------------------------------------------------- */

static int locate(struct mds_reader *reader, uint32_t i_sample)
{
    const struct prx_mds_file *file = reader->file;
    const struct prx_mds_columns *columns = &reader->layout->columns;
    uint64_t begin_bytes = file->offsets[i_sample];
    uint64_t end_bytes = file->offsets[i_sample + 1];
    size_t n_head_bytes = 4 * reader->layout->n_sized, n_sized = 0;

    if (begin_bytes < file->offsets[0] || end_bytes < begin_bytes ||
        end_bytes > file->n_bytes)
        return prx_err(PRX_ECORRUPT, "said to be bytes %llu to %llu of %llu",
                       (unsigned long long)begin_bytes, (unsigned long long)end_bytes,
                       (unsigned long long)file->n_bytes);
    if (n_head_bytes > end_bytes - begin_bytes)
        return prx_err(PRX_ECORRUPT, "too short for the sizes of its columns");
    PRX_TRY(prx_mds_file_read(file, begin_bytes, n_head_bytes, reader->sizes));
    uint64_t at_bytes = begin_bytes + n_head_bytes;
    for (size_t i = 0; i < columns->n_columns; i++) {
        uint32_t n_bytes = columns->columns[i].n_bytes ? columns->columns[i].n_bytes
                                                       : reader->sizes[n_sized++];
        if (n_bytes > end_bytes - at_bytes)
            return prx_err(PRX_ECORRUPT, "column %s: of %u bytes, %llu are left",
                           columns->columns[i].name, n_bytes,
                           (unsigned long long)(end_bytes - at_bytes));
        reader->values[i] = (struct mds_value){at_bytes, n_bytes};
        at_bytes += n_bytes;
    }
    if (at_bytes != end_bytes)
        return prx_err(PRX_ECORRUPT, "%llu bytes behind its last column",
                       (unsigned long long)(end_bytes - at_bytes));
    return 0;
}

static int check_size(const struct mds_reader *reader, size_t i)
{
    if (reader->values[i].n_bytes > reader->n_value_bytes_max)
        return prx_err(PRX_EINVAL, "larger than the limit");
    return 0;
}

static int read_value(const struct mds_reader *reader, size_t i, struct prx_buf **out)
{
    const struct mds_value *value = &reader->values[i];
    struct prx_buf *buf = NULL;
    int rc = 0;

    PRX_TRY(check_size(reader, i));
    PRX_TRY(prx_buf_new(value->n_bytes, &buf));
    PRX_GO(
        prx_mds_file_read(reader->file, value->at_bytes, value->n_bytes, buf->bytes));
    *out = buf;
    buf = NULL;
out:
    prx_buf_unref(buf);
    return rc;
}

/* --- fields ---------------------------------------------------------------- */

/* Add field @name: @bytes, taken, or value @i as it stands where that is NULL. */
static int put_field(const struct mds_reader *reader, size_t i, const char *name,
                     struct prx_buf *bytes, struct prx_sample *sample)
{
    const struct prx_mds_file *file = reader->file;
    const struct mds_value *value = &reader->values[i];
    struct prx_str member = {0};
    int rc = 0;

    if (!bytes)
        PRX_TRY(check_size(reader, i));
    if (!bytes && file->fd < 0)
        PRX_TRY(read_value(reader, i, &bytes));
    PRX_GO(prx_str_printf(&member, "%s.%s", sample->key, name));
    rc = prx_sample_add_file(sample, member.bytes, strlen(sample->key), bytes,
                             file->path, value->at_bytes, value->n_bytes);
    bytes = NULL;
out:
    prx_buf_unref(bytes);
    prx_str_release(&member);
    return rc;
}

/* "NAME.EXT", or EXT alone where the column is called as pictures are. */
static int name_picture(const char *column, const char *ext, struct prx_str *out)
{
    const char *dot = strrchr(column, '.');

    for (size_t i = 0; i < sizeof(picture_names) / sizeof(picture_names[0]); i++)
        if (strcmp(column, picture_names[i]) == 0)
            return prx_str_puts(out, ext);
    if (dot && strcmp(dot + 1, ext) == 0)
        return prx_str_puts(out, column);
    return prx_str_printf(out, "%s.%s", column, ext);
}

static int put_picture(const struct mds_reader *reader, size_t i,
                       struct prx_sample *sample)
{
    const struct prx_mds_column *column = &reader->layout->columns.columns[i];
    const struct mds_value *value = &reader->values[i];
    size_t n_head = value->n_bytes < N_SNIFF_BYTES ? value->n_bytes : N_SNIFF_BYTES;
    uint8_t head[N_SNIFF_BYTES];
    struct prx_str name = {0};
    int rc = 0;

    PRX_TRY(prx_mds_file_read(reader->file, value->at_bytes, n_head, head));
    const char *ext = prx_image_format_name(prx_image_sniff(head, n_head));
    if (!ext && strcmp(column->encoding, "jpeg") == 0)
        ext = "jpg";
    if (!ext && strcmp(column->encoding, "png") == 0)
        ext = "png";
    if (ext)
        PRX_GO(name_picture(column->name, ext, &name));
    else
        PRX_GO(prx_str_puts(&name, column->name));
    PRX_GO(put_field(reader, i, name.bytes, NULL, sample));
out:
    prx_str_release(&name);
    return rc;
}

/* Values that are made into another file first: pixels, arrays. */
static int put_made(const struct mds_reader *reader, size_t i, const char *field,
                    struct prx_sample *sample)
{
    const char *encoding = reader->layout->columns.columns[i].encoding;
    struct prx_buf *value = NULL, *made = NULL;
    int rc = 0;

    PRX_GO(read_value(reader, i, &value));
    if (reader->layout->roles[i] == MDS_PIXELS)
        PRX_GO(prx_mds_picture_get(value->bytes, value->n_bytes, &made));
    else
        PRX_GO(prx_mds_array_get(encoding, value->bytes, value->n_bytes, &made));
    rc = put_field(reader, i, field, made, sample);
out:
    prx_buf_unref(value);
    return rc;
}

static int put_pixels(const struct mds_reader *reader, size_t i,
                      struct prx_sample *sample)
{
    struct prx_str name = {0};
    int rc = name_picture(reader->layout->columns.columns[i].name, "png", &name);

    if (rc == 0)
        rc = put_made(reader, i, name.bytes, sample);
    prx_str_release(&name);
    return rc;
}

static int put_array(const struct mds_reader *reader, size_t i,
                     struct prx_sample *sample)
{
    static const char *const ends[] = {".npy", NULL};
    const char *column = reader->layout->columns.columns[i].name;
    struct prx_str name = {0};
    int rc = prx_str_printf(&name, "%s%s", column,
                            prx_path_ends_with(column, ends) ? "" : ".npy");

    if (rc == 0)
        rc = put_made(reader, i, name.bytes, sample);
    prx_str_release(&name);
    return rc;
}

/* --- metadata -------------------------------------------------------------- */

static int parse_member(enum mds_role role, const char *encoding,
                        const struct prx_buf *value, json_t **out)
{
    const char *text = (const char *)value->bytes;
    json_error_t fault = {0};

    if (role == MDS_NUMBER)
        return prx_mds_scalar_get(encoding, value->bytes, value->n_bytes, out);
    if (role == MDS_JSON)
        *out = json_loadb(text ? text : "", value->n_bytes,
                          JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    else
        *out = json_stringn(text ? text : "", value->n_bytes);
    if (*out)
        return 0;
    return role == MDS_JSON ? prx_err(PRX_ECORRUPT, "%s", fault.text)
                            : prx_err(PRX_ECORRUPT, "not UTF-8");
}

static int put_member(const struct mds_reader *reader, size_t i,
                      struct prx_sample *sample)
{
    const struct prx_mds_column *column = &reader->layout->columns.columns[i];
    enum mds_role role = reader->layout->roles[i];
    struct prx_buf *value = NULL;
    json_t *meta, *parsed = NULL;
    const char *name = column->name;
    int rc = 0;

    PRX_GO(read_value(reader, i, &value));
    PRX_GO(parse_member(role, column->encoding, value, &parsed));
    PRX_GO(prx_sample_meta(sample, &meta));
    if (role == MDS_CAPTION) {
        json_t *captions = json_object_get(meta, "captions");
        if (!json_is_object(captions)) {
            captions = json_object();
            if (json_object_set_new(meta, "captions", captions) < 0) {
                rc = prx_err_nomem("metadata");
                goto out;
            }
        }
        meta = captions;
        name += strlen("caption_");
    }
    if (json_object_set(meta, name, parsed) < 0)
        rc = prx_err_nomem("metadata");
    sample->meta_changed = true;
out:
    json_decref(parsed);
    prx_buf_unref(value);
    return rc;
}

/* --- samples --------------------------------------------------------------- */

static int put_column(const struct mds_reader *reader, size_t i,
                      struct prx_sample *sample)
{
    switch (reader->layout->roles[i]) {
    case MDS_PICTURE:
        return put_picture(reader, i, sample);
    case MDS_PIXELS:
        return put_pixels(reader, i, sample);
    case MDS_ARRAY:
        return put_array(reader, i, sample);
    case MDS_TXT:
        return put_field(reader, i, "txt", NULL, sample);
    case MDS_CAPTION:
    case MDS_TEXT:
    case MDS_NUMBER:
    case MDS_JSON:
        return put_member(reader, i, sample);
    case MDS_KEY:
    case MDS_META: /* put before all others, which are set in it */
        return 0;
    case MDS_RAW:
    case MDS_REFUSED:
        break;
    }
    prx_bug(__FILE__, __LINE__, "a column without a role");
}

static int put_columns(const struct mds_reader *reader, struct prx_sample *sample)
{
    const struct mds_layout *layout = reader->layout;

    for (size_t i = 0; i < layout->columns.n_columns; i++)
        if (layout->roles[i] == MDS_META)
            PRX_TRY(put_field(reader, i, "json", NULL, sample));
    for (size_t i = 0; i < layout->columns.n_columns; i++) {
        int rc = put_column(reader, i, sample);
        if (rc < 0)
            return prx_err_frame(rc, "column %s", layout->columns.columns[i].name);
    }
    return prx_sample_finish(sample);
}

static int split_names(const struct prx_buf *text, struct prx_paths *out)
{
    struct prx_str name = {0};
    const char *at = (const char *)text->bytes, *end = at + text->n_bytes;
    int rc = 0;

    for (;;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        prx_str_reset(&name);
        PRX_GO(prx_str_add(&name, at, (size_t)(stop - at)));
        PRX_GO(prx_paths_add(out, name.bytes));
        if (!newline)
            break;
        at = newline + 1;
    }
out:
    prx_str_release(&name);
    return rc;
}

static const struct prx_mds_column *find_column(const struct mds_reader *reader,
                                                const char *name)
{
    return prx_mds_columns_find(&reader->layout->columns, name);
}

/* The fields that the sample had when this suite wrote it. */
static int put_fields(const struct mds_reader *reader, struct prx_sample *sample)
{
    const struct mds_layout *layout = reader->layout;
    struct prx_buf *text = NULL;
    struct prx_paths names = {0};
    int rc = 0;

    size_t i_list =
        (size_t)(find_column(reader, PRX_MDS_FIELDS) - layout->columns.columns);
    PRX_GO(read_value(reader, i_list, &text));
    PRX_GO(split_names(text, &names));
    const char *picture =
        prx_mds_picture_field((const char *const *)names.paths, names.n_paths);
    for (size_t i = 0; i < names.n_paths && !sample->reject_reason; i++) {
        const char *field = names.paths[i];
        const struct prx_mds_column *column =
            find_column(reader, prx_mds_column_name(field, picture));
        if (!column) {
            rc = prx_err(PRX_ECORRUPT, "field %s has no column", field);
            goto out;
        }
        size_t i_column = (size_t)(column - layout->columns.columns);
        if (layout->roles[i_column] == MDS_ARRAY)
            rc = put_made(reader, i_column, field, sample);
        else
            rc = put_field(reader, i_column, field, NULL, sample);
        if (rc < 0) {
            rc = prx_err_frame(rc, "column %s", column->name);
            goto out;
        }
    }
out:
    prx_buf_unref(text);
    prx_paths_release(&names);
    return rc;
}

/* The last dot of a picture's name, or NULL. */
static char *find_picture_end(char *name)
{
    char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof(picture_names) / sizeof(picture_names[0]); i++)
        if (strcmp(dot + 1, picture_names[i]) == 0)
            return dot;
    return NULL;
}

/*
 * The key a sample brings.  A dot in its base name would end it: the ending of a
 * picture goes, and other dots become underscores.
 */
static int read_key(const struct mds_reader *reader, struct prx_str *out)
{
    const struct mds_layout *layout = reader->layout;
    struct prx_buf *value = NULL;
    size_t i = 0;

    while (i < layout->columns.n_columns && layout->roles[i] != MDS_KEY)
        i++;
    if (i == layout->columns.n_columns)
        return 0;
    PRX_TRY(read_value(reader, i, &value));
    int rc = prx_str_add(out, value->bytes, value->n_bytes);
    prx_buf_unref(value);
    PRX_TRY(rc);
    if (memchr(out->bytes, '\0', out->n_bytes))
        return prx_err(PRX_ECORRUPT, "column %s: a key with a NUL in it",
                       layout->columns.columns[i].name);
    char *end = find_picture_end(out->bytes);
    if (end)
        *end = '\0';
    out->n_bytes = strlen(out->bytes);
    char *base = strrchr(out->bytes, '/');
    for (char *p = base ? base : out->bytes; *p; p++)
        if (*p == '.')
            *p = '_';
    return 0;
}

static bool is_fault_of_data(int rc)
{
    return rc == PRX_ECORRUPT || rc == PRX_EFORMAT || rc == PRX_EINVAL;
}

int mds_reader_get(struct mds_reader *reader, uint32_t i_sample, const char *key,
                   struct prx_sample *sample)
{
    struct prx_str own_key = {0};
    struct prx_error fault = {0};
    int rc = locate(reader, i_sample);

    if (rc == 0)
        rc = read_key(reader, &own_key);
    if (rc == 0 && own_key.n_bytes > 0)
        key = own_key.bytes;
    if (rc < 0)
        prx_err_save(&fault);
    if (rc == 0 || is_fault_of_data(rc)) {
        int begun = prx_sample_begin(sample, key, strlen(key), reader->file->path);
        rc = begun < 0 ? begun : rc;
    }
    if (rc == 0 && !sample->reject_reason) {
        rc = reader->layout->is_exact ? put_fields(reader, sample)
                                      : put_columns(reader, sample);
        prx_err_save(&fault);
    }
    if (is_fault_of_data(rc)) {
        prx_sample_reject(sample, "read", "%s: sample %u: %s", reader->file->path,
                          i_sample, fault.text);
        rc = 0;
    }
    prx_str_release(&own_key);
    return rc;
}
