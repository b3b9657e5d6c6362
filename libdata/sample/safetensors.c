/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors: a JSON header that places tensors in the bytes behind it.
 *
 *     u64 n_header_bytes | {"name": {"dtype", "shape", "data_offsets"}, ...} | data
 *
 * A header is believed when (1) it fits the file, (2) each shape's product, in
 * checked arithmetic, is as long as its offsets say, and (3) the tensors tile the
 * data from its first byte to its last, without a hole or an overlap.  A file
 * that is cut or grown fails (3), so no read behind its end is possible.
 */
#include "libdata/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"

#define LENGTH_BYTES     ((size_t)8)
#define HEADER_BYTES_MAX ((uint64_t)100 << 20) /* the reference reader's limit */
#define METADATA_KEY     "__metadata__"

static const struct {
    const char *name;
    size_t n_bytes;
} types[] = {
    [PRX_ST_F64] = {"F64", 8},
    [PRX_ST_F32] = {"F32", 4},
    [PRX_ST_F16] = {"F16", 2},
    [PRX_ST_BF16] = {"BF16", 2},
    [PRX_ST_I64] = {"I64", 8},
    [PRX_ST_I32] = {"I32", 4},
    [PRX_ST_I16] = {"I16", 2},
    [PRX_ST_I8] = {"I8", 1},
    [PRX_ST_U64] = {"U64", 8},
    [PRX_ST_U32] = {"U32", 4},
    [PRX_ST_U16] = {"U16", 2},
    [PRX_ST_U8] = {"U8", 1},
    [PRX_ST_BOOL] = {"BOOL", 1},
};

#define N_TYPES (sizeof(types) / sizeof(types[0]))

size_t prx_st_type_bytes(enum prx_st_type type)
{
    return types[type].n_bytes;
}

const char *prx_st_type_name(enum prx_st_type type)
{
    return types[type].name;
}

/* --- reading ------------------------------------------------------------- */

static int parse_type(const char *name, const char *type, enum prx_st_type *out)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (strcmp(types[i].name, type) == 0) {
            *out = (enum prx_st_type)i;
            return 0;
        }
    }
    return prx_err(PRX_EFORMAT, "tensor %s has the unknown type %.16s", name, type);
}

/* Dims and bytes of @shape; the product of the sizes other than 0 fits as well. */
static int parse_shape(const char *name, const json_t *shape, struct prx_st_tensor *out)
{
    uint64_t n_bytes = prx_st_type_bytes(out->type);
    bool is_empty = false;

    if (!json_is_array(shape) || json_array_size(shape) > PRX_ST_DIMS_MAX)
        return prx_err(PRX_ECORRUPT, "tensor %s has no shape of at most %d sizes", name,
                       PRX_ST_DIMS_MAX);
    out->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < out->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        int64_t n = json_integer_value(size);
        if (!json_is_integer(size) || n < 0)
            return prx_err(PRX_ECORRUPT, "tensor %s has a size that is no count", name);
        out->dims[i] = n;
        is_empty |= n == 0;
        if (n > 0 && (__builtin_mul_overflow(n_bytes, (uint64_t)n, &n_bytes) ||
                      n_bytes > PTRDIFF_MAX))
            return prx_err(PRX_ECORRUPT, "tensor %s is larger than memory can be",
                           name);
    }
    out->n_bytes = is_empty ? 0 : (size_t)n_bytes;
    return 0;
}

static int parse_tensor(const char *name, const json_t *entry, const uint8_t *bytes,
                        size_t n_bytes, struct prx_st_tensor *out)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0);
    const json_t *end = json_array_get(offsets, 1);

    if (!type || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end))
        return prx_err(PRX_ECORRUPT, "tensor %s lacks dtype or data_offsets", name);
    PRX_TRY(parse_type(name, type, &out->type));
    PRX_TRY(parse_shape(name, json_object_get(entry, "shape"), out));
    int64_t i_begin = json_integer_value(begin);
    int64_t i_end = json_integer_value(end);
    if (i_begin < 0 || i_end < i_begin || (uint64_t)i_end > n_bytes)
        return prx_err(PRX_ECORRUPT, "tensor %s lies outside the %zu bytes of data",
                       name, n_bytes);
    if ((uint64_t)(i_end - i_begin) != out->n_bytes)
        return prx_err(PRX_ECORRUPT, "tensor %s needs %zu bytes but has %lld", name,
                       out->n_bytes, (long long)(i_end - i_begin));
    out->name = name;
    out->bytes = bytes + i_begin;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct prx_st_tensor *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static int by_name(const void *a, const void *b)
{
    const struct prx_st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int check_tiling(struct prx_st_file *file, const uint8_t *bytes, size_t n_bytes)
{
    const uint8_t *at = bytes;

    if (file->n_tensors > 0)
        qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), by_place);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct prx_st_tensor *tensor = &file->tensors[i];
        const uint8_t *begin = tensor->bytes;
        if (begin != at)
            return prx_err(PRX_ECORRUPT, "tensor %s %s", tensor->name,
                           begin < at ? "overlaps another" : "follows a hole");
        at += tensor->n_bytes;
    }
    if (at != bytes + n_bytes)
        return prx_err(PRX_ECORRUPT, "%zu bytes behind the last tensor",
                       (size_t)(bytes + n_bytes - at));
    return 0;
}

static int check_metadata(json_t *metadata, int code)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return prx_err(code, "the metadata is no object");
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return prx_err(code, "metadata %.100s is no string", key);
    }
    return 0;
}

/* @header's members become tensors, whose names stay @header's. */
static int parse_header(json_t *header, const uint8_t *bytes, size_t n_bytes,
                        struct prx_st_file *out)
{
    const char *name;
    json_t *entry;

    if (!json_is_object(header))
        return prx_err(PRX_ECORRUPT, "the header is no object");
    out->tensors = calloc(json_object_size(header) + 1, sizeof(*out->tensors));
    if (!out->tensors)
        return prx_err_nomem("a list of tensors");
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, METADATA_KEY) == 0) {
            PRX_TRY(check_metadata(entry, PRX_ECORRUPT));
            out->metadata = json_incref(entry);
            continue;
        }
        PRX_TRY(
            parse_tensor(name, entry, bytes, n_bytes, &out->tensors[out->n_tensors]));
        out->n_tensors++;
    }
    PRX_TRY(check_tiling(out, bytes, n_bytes));
    if (out->n_tensors > 0)
        qsort(out->tensors, out->n_tensors, sizeof(*out->tensors), by_name);
    return 0;
}

int prx_st_parse(const void *bytes, size_t n_bytes, struct prx_st_file *out)
{
    const uint8_t *at = bytes;
    uint64_t n_header_bytes = 0;
    json_error_t error;
    int rc = 0;

    *out = (struct prx_st_file){0};
    if (n_bytes < LENGTH_BYTES)
        return prx_err(PRX_ECORRUPT, "no safetensors header in %zu bytes", n_bytes);
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        n_header_bytes |= (uint64_t)at[i] << 8 * i;
    at += LENGTH_BYTES;
    n_bytes -= LENGTH_BYTES;
    if (n_header_bytes > n_bytes || n_header_bytes > HEADER_BYTES_MAX)
        return prx_err(PRX_ECORRUPT, "a header of %llu bytes before %zu bytes",
                       (unsigned long long)n_header_bytes, n_bytes);
    if (n_header_bytes == 0 || at[0] != '{')
        return prx_err(PRX_ECORRUPT, "the header does not begin with {");
    out->header = json_loadb((const char *)at, (size_t)n_header_bytes,
                             JSON_REJECT_DUPLICATES, &error);
    if (!out->header)
        PRX_GO(prx_err(PRX_ECORRUPT, "header byte %d: %s", error.position, error.text));
    PRX_GO(parse_header(out->header, at + n_header_bytes,
                        n_bytes - (size_t)n_header_bytes, out));
out:
    if (rc < 0)
        prx_st_close(out);
    return rc;
}

static int map_file(const char *path, void **map, size_t *n_map_bytes)
{
    struct stat status;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return prx_err_sys("%s", path);
    if (fstat(fd, &status) != 0)
        PRX_GO(prx_err_sys("%s", path));
    if (!S_ISREG(status.st_mode))
        PRX_GO(prx_err(PRX_EINVAL, "%s: not a plain file", path));
    if (status.st_size < (off_t)LENGTH_BYTES)
        PRX_GO(prx_err(PRX_ECORRUPT, "%s: no safetensors header in %lld bytes", path,
                       (long long)status.st_size));
    *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (*map == MAP_FAILED)
        PRX_GO(prx_err_sys("%s", path));
    *n_map_bytes = (size_t)status.st_size;
out:
    close(fd);
    return rc;
}

int prx_st_open(const char *path, struct prx_st_file *out)
{
    void *map = NULL;
    size_t n_map_bytes = 0;

    *out = (struct prx_st_file){0};
    PRX_TRY(map_file(path, &map, &n_map_bytes));
    int rc = prx_st_parse(map, n_map_bytes, out);
    if (rc < 0) {
        munmap(map, n_map_bytes);
        return prx_err_frame(rc, "%s", path);
    }
    out->map = map;
    out->n_map_bytes = n_map_bytes;
    return 0;
}

void prx_st_close(struct prx_st_file *file)
{
    if (!file)
        return;
    free(file->tensors);
    json_decref(file->metadata);
    json_decref(file->header);
    if (file->map)
        munmap(file->map, file->n_map_bytes);
    *file = (struct prx_st_file){0};
}

const struct prx_st_tensor *prx_st_find(const struct prx_st_file *file,
                                        const char *name)
{
    const struct prx_st_tensor key = {.name = name};
    if (file->n_tensors == 0)
        return NULL;
    return bsearch(&key, file->tensors, file->n_tensors, sizeof(key), by_name);
}

static float f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 31;
    uint32_t fraction = bits & 0x3ff;
    float value;

    if (exponent == 0) {
        value = (float)fraction * 0x1p-24f; /* zero and subnormals */
        return sign ? -value : value;
    }
    uint32_t wide =
        sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &wide, sizeof(value));
    return value;
}

int prx_st_get_f32(const struct prx_st_tensor *tensor, float *out)
{
    const uint8_t *bytes = tensor->bytes;
    size_t n_values = tensor->n_bytes / prx_st_type_bytes(tensor->type);

    for (size_t i = 0; i < n_values; i++) {
        uint16_t half;
        double wide;
        switch (tensor->type) {
        case PRX_ST_F32:
            memcpy(&out[i], bytes + 4 * i, 4);
            break;
        case PRX_ST_F64:
            memcpy(&wide, bytes + 8 * i, 8);
            out[i] = (float)wide;
            break;
        case PRX_ST_F16:
            memcpy(&half, bytes + 2 * i, 2);
            out[i] = f16_to_f32(half);
            break;
        case PRX_ST_BF16:
            memcpy(&half, bytes + 2 * i, 2);
            memcpy(&out[i], &(uint32_t){(uint32_t)half << 16}, 4);
            break;
        default:
            return prx_err(PRX_EFORMAT, "tensor %s is of type %s, not of real numbers",
                           tensor->name, prx_st_type_name(tensor->type));
        }
    }
    return 0;
}

/* --- writing ------------------------------------------------------------- */

static int check_tensor(const struct prx_st_tensor *tensor)
{
    uint64_t n_bytes = prx_st_type_bytes(tensor->type);

    if (tensor->n_dims < 0 || tensor->n_dims > PRX_ST_DIMS_MAX ||
        strcmp(tensor->name, METADATA_KEY) == 0)
        return prx_err(PRX_EINVAL, "no tensor %s of %d sizes can be written",
                       tensor->name, tensor->n_dims);
    for (int i = 0; i < tensor->n_dims; i++)
        if (tensor->dims[i] < 0 ||
            __builtin_mul_overflow(n_bytes, (uint64_t)tensor->dims[i], &n_bytes))
            return prx_err(PRX_EINVAL, "tensor %s has an impossible size",
                           tensor->name);
    if (n_bytes != tensor->n_bytes)
        return prx_err(PRX_EINVAL, "tensor %s needs %llu bytes but has %zu",
                       tensor->name, (unsigned long long)n_bytes, tensor->n_bytes);
    return 0;
}

static json_t *shape_of(const struct prx_st_tensor *tensor)
{
    json_t *shape = json_array();
    for (int i = 0; shape && i < tensor->n_dims; i++)
        if (json_array_append_new(shape, json_integer(tensor->dims[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return shape;
}

static int build_header(const struct prx_st_tensor *tensors, size_t n_tensors,
                        json_t *metadata, json_t **out)
{
    json_t *header = json_object();
    size_t i_begin = 0;
    int rc = 0;

    if (!header)
        return prx_err_nomem("a safetensors header");
    if (metadata && json_object_set(header, METADATA_KEY, metadata) != 0)
        PRX_GO(prx_err_nomem("a safetensors header"));
    for (size_t i = 0; i < n_tensors; i++) {
        const struct prx_st_tensor *tensor = &tensors[i];
        PRX_GO(check_tensor(tensor));
        if (json_object_get(header, tensor->name))
            PRX_GO(prx_err(PRX_EINVAL, "two tensors named %s", tensor->name));
        json_t *entry =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", prx_st_type_name(tensor->type),
                      "shape", shape_of(tensor), "data_offsets", (json_int_t)i_begin,
                      (json_int_t)(i_begin + tensor->n_bytes));
        if (!entry || json_object_set_new(header, tensor->name, entry) != 0)
            PRX_GO(prx_err(PRX_EINVAL, "tensor name %.100s is no UTF-8 text",
                           tensor->name));
        i_begin += tensor->n_bytes;
    }
    *out = json_incref(header);
out:
    json_decref(header);
    return rc;
}

/* The length and the header, padded with spaces to a multiple of 8. */
static int format_header(json_t *header, struct prx_str *out)
{
    char *text = json_dumps(header, JSON_COMPACT);
    uint8_t length[LENGTH_BYTES];
    int rc = 0;

    if (!text)
        return prx_err_nomem("a safetensors header");
    size_t n_text_bytes = strlen(text);
    size_t n_bytes = (n_text_bytes + 7) / 8 * 8;
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        length[i] = (uint8_t)((uint64_t)n_bytes >> 8 * i);
    PRX_GO(prx_str_add(out, length, sizeof(length)));
    PRX_GO(prx_str_add(out, text, n_text_bytes));
    rc = prx_str_add(out, "       ", n_bytes - n_text_bytes);
out:
    free(text);
    return rc;
}

int prx_st_write(const char *path, const struct prx_st_tensor *tensors,
                 size_t n_tensors, json_t *metadata)
{
    return prx_st_write_from(path, tensors, n_tensors, metadata, NULL, NULL);
}

static size_t largest_bytes(const struct prx_st_tensor *tensors, size_t n_tensors)
{
    size_t n_bytes = 1;
    for (size_t i = 0; i < n_tensors; i++)
        n_bytes = tensors[i].n_bytes > n_bytes ? tensors[i].n_bytes : n_bytes;
    return n_bytes;
}

int prx_st_write_from(const char *path, const struct prx_st_tensor *tensors,
                      size_t n_tensors, json_t *metadata, prx_st_read_fn read,
                      void *ctx)
{
    struct prx_outfile file = {.fd = -1};
    struct prx_str text = {0};
    json_t *header = NULL;
    void *values = NULL;
    int rc = 0;

    if (metadata)
        PRX_TRY(check_metadata(metadata, PRX_EINVAL));
    PRX_GO(build_header(tensors, n_tensors, metadata, &header));
    PRX_GO(format_header(header, &text));
    if (read) {
        values = malloc(largest_bytes(tensors, n_tensors));
        if (!values)
            PRX_GO(prx_err_nomem(path));
    }
    PRX_GO(prx_outfile_open(&file, path));
    PRX_GO(prx_outfile_write(&file, text.bytes, text.n_bytes));
    for (size_t i = 0; i < n_tensors; i++) {
        if (tensors[i].n_bytes == 0)
            continue;
        if (read)
            PRX_GO(read(ctx, i, values));
        PRX_GO(prx_outfile_write(&file, read ? values : tensors[i].bytes,
                                 tensors[i].n_bytes));
    }
    rc = prx_outfile_commit(&file, false);
out:
    if (rc < 0)
        prx_outfile_abort(&file);
    free(values);
    prx_str_release(&text);
    json_decref(header);
    return rc;
}
