/* SPDX-License-Identifier: Apache-2.0 */
/* MDS: what the index and the shards' own JSON say of columns and files. */
#include "libdata/mds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/outfile.h"
#include "libdata/sample.h"

#define N_INDEX_BYTES_MAX ((uint64_t)1 << 30)
#define N_SNIFF_BYTES     4096

void prx_mds_columns_release(struct prx_mds_columns *all)
{
    for (size_t i = 0; i < all->n_columns; i++) {
        free(all->columns[i].name);
        free(all->columns[i].encoding);
    }
    free(all->columns);
    *all = (struct prx_mds_columns){0};
}

bool prx_mds_columns_equal(const struct prx_mds_columns *a,
                           const struct prx_mds_columns *b)
{
    if (a->n_columns != b->n_columns)
        return false;
    for (size_t i = 0; i < a->n_columns; i++)
        if (strcmp(a->columns[i].name, b->columns[i].name) != 0 ||
            strcmp(a->columns[i].encoding, b->columns[i].encoding) != 0 ||
            a->columns[i].n_bytes != b->columns[i].n_bytes)
            return false;
    return true;
}

const struct prx_mds_column *prx_mds_columns_find(const struct prx_mds_columns *all,
                                                  const char *name)
{
    for (size_t i = 0; i < all->n_columns; i++)
        if (strcmp(all->columns[i].name, name) == 0)
            return &all->columns[i];
    return NULL;
}

/* A whole number up to @max; null and absence are 0. */
static int get_count(json_t *object, const char *name, uint64_t max, uint64_t *out)
{
    json_t *value = json_object_get(object, name);

    *out = 0;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max)
        return prx_err(PRX_ECORRUPT, "%s is not a count", name);
    *out = (uint64_t)json_integer_value(value);
    return 0;
}

static int parse_column(json_t *name, json_t *encoding, json_t *n_bytes,
                        struct prx_mds_column *out)
{
    json_int_t size = json_integer_value(n_bytes); /* 0 for null */

    if (!json_is_string(name) || !json_is_string(encoding) ||
        !(json_is_null(n_bytes) || json_is_integer(n_bytes)) || size < 0 ||
        size > UINT32_MAX)
        return prx_err(PRX_ECORRUPT, "a column without name, encoding or size");
    out->n_bytes = (uint32_t)size;
    PRX_TRY(prx_strdup(json_string_value(name), &out->name));
    return prx_strdup(json_string_value(encoding), &out->encoding);
}

int prx_mds_columns_parse(json_t *object, struct prx_mds_columns *out)
{
    const char *format = json_string_value(json_object_get(object, "format"));
    json_t *names = json_object_get(object, "column_names");
    json_t *encodings = json_object_get(object, "column_encodings");
    json_t *sizes = json_object_get(object, "column_sizes");
    size_t n_columns = json_array_size(names);
    int rc = 0;

    if (!format || strcmp(format, "mds") != 0)
        return prx_err(PRX_EFORMAT, "a shard of format %s, not mds",
                       format ? format : "unknown");
    if (json_integer_value(json_object_get(object, "version")) != 2)
        return prx_err(PRX_EFORMAT, "not version 2 of MDS");
    if (!json_is_array(names) || json_array_size(encodings) != n_columns ||
        json_array_size(sizes) != n_columns)
        return prx_err(PRX_ECORRUPT, "names, encodings and sizes of columns differ in "
                                     "number");
    if (n_columns > PRX_MDS_COLUMNS_MAX)
        return prx_err(PRX_ECORRUPT, "%zu columns", n_columns);
    out->columns = calloc(n_columns + 1, sizeof(*out->columns));
    if (!out->columns)
        return prx_err_nomem("columns");
    out->n_columns = n_columns;
    for (size_t i = 0; i < n_columns && rc == 0; i++)
        rc = parse_column(json_array_get(names, i), json_array_get(encodings, i),
                          json_array_get(sizes, i), &out->columns[i]);
    if (rc < 0)
        prx_mds_columns_release(out);
    return rc;
}

void prx_mds_shard_release(struct prx_mds_shard *shard)
{
    free(shard->raw_name);
    free(shard->zip_name);
    free(shard->compression);
    *shard = (struct prx_mds_shard){0};
}

static int parse_file(json_t *object, char **name, uint64_t *n_bytes,
                      char xxh128[PRX_HASH_HEX_BYTES])
{
    const char *basename = json_string_value(json_object_get(object, "basename"));
    const char *hash =
        json_string_value(json_object_get(json_object_get(object, "hashes"), "xxh128"));

    if (!basename)
        return prx_err(PRX_ECORRUPT, "a shard without basename");
    if (prx_key_check(basename) < 0)
        return prx_err_frame(PRX_EINVAL, "basename");
    PRX_TRY(get_count(object, "bytes", INT64_MAX, n_bytes));
    if (hash && strlen(hash) == PRX_HASH_HEX_BYTES - 1)
        memcpy(xxh128, hash, PRX_HASH_HEX_BYTES);
    return prx_strdup(basename, name);
}

int prx_mds_shard_parse(json_t *object, struct prx_mds_shard *out)
{
    json_t *raw = json_object_get(object, "raw_data");
    json_t *zip = json_object_get(object, "zip_data");
    const char *compression = json_string_value(json_object_get(object, "compression"));
    int rc = 0;

    PRX_GO(get_count(object, "samples", UINT32_MAX, &out->n_samples));
    PRX_GO(parse_file(raw, &out->raw_name, &out->n_raw_bytes, out->raw_xxh128));
    if (out->n_raw_bytes > PRX_MDS_SHARD_BYTES_MAX) {
        rc = prx_err(PRX_ECORRUPT, "%s: more bytes than offsets can tell",
                     out->raw_name);
        goto out;
    }
    if (zip && !json_is_null(zip)) {
        PRX_GO(parse_file(zip, &out->zip_name, &out->n_zip_bytes, out->zip_xxh128));
        PRX_GO(prx_strdup(compression ? compression : "", &out->compression));
    }
out:
    if (rc < 0)
        prx_mds_shard_release(out);
    return rc;
}

/*
 * Looked at are the first bytes only: a list of shards stands first, or behind the
 * version.  An index that is cut off is still one, and an error to whoever reads it.
 */
bool prx_mds_index_is(const char *path)
{
    char head[N_SNIFF_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n_got = fd < 0 ? -1 : read(fd, head, N_SNIFF_BYTES);

    if (fd >= 0)
        close(fd);
    if (n_got <= 0)
        return false;
    head[n_got] = '\0';
    const char *at = head + strspn(head, " \t\r\n");
    if (*at++ != '{')
        return false;
    at += strspn(at, " \t\r\n");
    return strncmp(at, "\"shards\"", 8) == 0 ||
           (strncmp(at, "\"version\"", 9) == 0 && strstr(at, "\"shards\""));
}

int prx_mds_index_read(const char *path, json_t **root, json_t **shards)
{
    struct prx_buf *bytes = NULL;
    json_error_t fault;
    int rc = 0;

    PRX_TRY(prx_file_get(path, N_INDEX_BYTES_MAX, &bytes));
    *root = json_loadb((const char *)bytes->bytes, bytes->n_bytes, 0, &fault);
    prx_buf_unref(bytes);
    if (!*root)
        return prx_err(PRX_ECORRUPT, "%s:%d: %s", path, fault.line, fault.text);
    *shards = json_object_get(*root, "shards");
    if (!json_is_array(*shards))
        rc = prx_err(PRX_EFORMAT, "%s: not an index of MDS shards", path);
    else if (json_integer_value(json_object_get(*root, "version")) != 2)
        rc = prx_err(PRX_EFORMAT, "%s: not version 2 of MDS", path);
    if (rc < 0) {
        json_decref(*root);
        *root = *shards = NULL;
    }
    return rc;
}

const char *prx_mds_picture_field(const char *const *names, size_t n_names)
{
    static const char *const pictures[] = {"jpg", "jpeg", "png", "webp"};

    for (size_t i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++)
        for (size_t j = 0; j < n_names; j++)
            if (strcmp(names[j], pictures[i]) == 0)
                return pictures[i];
    return NULL;
}

const char *prx_mds_column_name(const char *field, const char *picture)
{
    if (picture && strcmp(field, picture) == 0)
        return PRX_MDS_PICTURE;
    return strcmp(field, "txt") == 0 ? PRX_MDS_CAPTION : field;
}
