/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage that holds a sample to what it says of itself.
 *
 * All that is wrong is told in one reason, so that a sample is one finding.
 *
 *   picture  is what its name says, has its end, and with deep can be decoded
 *   json     is an object; width, height and xxh128 are the picture's
 *   arrays   are NumPy files of the length they tell; with deep, of finite numbers
 *   encode   has a record for each array an encoder made, with its type and shape,
 *            and the hash of what it was made from, where that is there still
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/npy.h"
#include "libdata/verify/verify_internal.h"

#define STAGE_NAME "verify"

struct verify_scratch {
    struct prx_color_cache *colors;
    struct prx_image image;
    struct prx_str faults;
};

/* What a sample is held against. */
struct check {
    const struct prx_verify_opts *opts;
    struct verify_scratch *scratch;
    struct prx_sample *sample;
    const struct prx_field *picture; /* the one that metadata tell of, or NULL */
    struct prx_image_info info;      /* of it; format UNKNOWN where it is damaged */
    char picture_hash[PRX_HASH_HEX_BYTES];
};

static int fault(struct check *check, const char *fmt, ...) PRX_PRINTF(2, 3);

static int fault(struct check *check, const char *fmt, ...)
{
    char text[PRX_ERR_TEXT_BYTES];
    struct prx_str *faults = &check->scratch->faults;
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (faults->n_bytes > 0)
        PRX_TRY(prx_str_puts(faults, "; "));
    return prx_str_puts(faults, text);
}

/* A failure that is the data's is a fault of @what; any other stays one. */
static int fault_or_fail(struct check *check, int rc, const char *what)
{
    if (rc == PRX_ENOMEM)
        return rc;
    rc = fault(check, "%s%s%s", what, *what ? ": " : "", prx_err_message());
    prx_err_clear();
    return rc;
}

/* --- pictures --------------------------------------------------------------- */

static bool is_picture(const char *name)
{
    return strcmp(name, "jpg") == 0 || strcmp(name, "jpeg") == 0 ||
           strcmp(name, "png") == 0 || strcmp(name, "webp") == 0;
}

static int check_picture(struct check *check, const struct prx_field *field,
                         struct prx_image_info *info)
{
    const struct prx_buf *bytes = field->bytes;
    const struct prx_image_decode_opts opts = {
        .limits = check->opts->limits,
        .colors = check->scratch->colors,
    };
    int rc = check->opts->deep
                 ? prx_image_decode(&check->scratch->image, info, bytes->bytes,
                                    bytes->n_bytes, &opts)
                 : prx_image_probe(bytes->bytes, bytes->n_bytes, &opts.limits, info);

    if (rc < 0) {
        *info = (struct prx_image_info){0};
        return fault_or_fail(check, rc, field->name);
    }
    const char *name = strcmp(field->name, "jpeg") == 0 ? "jpg" : field->name;
    const char *actual = prx_image_format_name(info->format);
    if (strcmp(name, actual) != 0)
        return fault(check, "%s: holds a %s", field->name, actual);
    return 0;
}

static int check_pictures(struct check *check)
{
    const struct prx_sample *sample = check->sample;
    struct prx_image_info other;

    check->picture = prx_sample_find_image(sample);
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        if (is_picture(field->name))
            PRX_TRY(check_picture(check, field,
                                  field == check->picture ? &check->info : &other));
    }
    if (check->picture)
        prx_hash_hex(check->picture->bytes->bytes, check->picture->bytes->n_bytes,
                     check->picture_hash);
    return 0;
}

/* --- metadata --------------------------------------------------------------- */

/* Of a turned picture either way round is right: as stored, or upright. */
static int check_size(struct check *check, const json_t *meta)
{
    const json_t *width = json_object_get(meta, "width");
    const json_t *height = json_object_get(meta, "height");
    const struct prx_image_info *info = &check->info;
    json_int_t w = json_integer_value(width), h = json_integer_value(height);

    if (info->format == PRX_IMAGE_UNKNOWN || !width || !height)
        return 0;
    if (!json_is_integer(width) || !json_is_integer(height))
        return fault(check, "json: width and height are not numbers of pixels");
    bool is_right = w == info->width_px && h == info->height_px;
    bool is_upright = info->exif_orientation >= 5 && w == info->height_px &&
                      h == info->width_px;
    if (is_right || is_upright)
        return 0;
    return fault(check, "json: says %lld x %lld pixels of a picture of %d x %d",
                 (long long)w, (long long)h, info->width_px, info->height_px);
}

static int check_meta(struct check *check)
{
    json_t *meta;
    int rc = prx_sample_meta(check->sample, &meta);

    if (rc < 0)
        return fault_or_fail(check, rc, "");
    PRX_TRY(check_size(check, meta));
    const char *hash = json_string_value(json_object_get(meta, "xxh128"));
    if (hash && check->picture && strcmp(hash, check->picture_hash) != 0)
        return fault(check, "json: xxh128 is %.40s and the picture's is %s", hash,
                     check->picture_hash);
    return 0;
}

/* --- arrays ----------------------------------------------------------------- */

static bool is_array(const char *name)
{
    size_t n_name = strlen(name);
    return strcmp(name, "npy") == 0 ||
           (n_name > 4 && strcmp(name + n_name - 4, ".npy") == 0);
}

/* The first number that is none, or n_elements. */
static size_t find_nonfinite(const struct prx_npy *npy)
{
    size_t n_bytes = prx_npy_type_bytes(npy->type), i = 0;

    if (npy->type != PRX_NPY_F32 && npy->type != PRX_NPY_F16)
        return npy->n_elements;
    for (const uint8_t *at = npy->bytes; i < npy->n_elements; i++, at += n_bytes) {
        float value;
        uint16_t half;
        memcpy(&half, at, sizeof(half));
        if (npy->type == PRX_NPY_F16)
            value = prx_f32_from_f16(half);
        else
            memcpy(&value, at, sizeof(value));
        if (!isfinite(value))
            break;
    }
    return i;
}

static int check_array(struct check *check, const struct prx_field *field)
{
    struct prx_npy npy;
    int rc = prx_npy_parse(field->bytes->bytes, field->bytes->n_bytes, &npy);

    /* An array that is not ours may be of a kind that we do not read. */
    if (rc == PRX_EFORMAT) {
        prx_err_clear();
        return 0;
    }
    if (rc < 0)
        return fault_or_fail(check, rc, field->name);
    size_t i = check->opts->deep ? find_nonfinite(&npy) : npy.n_elements;
    if (i < npy.n_elements)
        return fault(check, "%s: number %zu is not finite", field->name, i);
    return 0;
}

static int check_arrays(struct check *check)
{
    const struct prx_sample *sample = check->sample;
    bool has_array = false;

    for (size_t i = 0; i < sample->n_fields; i++) {
        if (!is_array(sample->fields[i].name))
            continue;
        has_array = true;
        PRX_TRY(check_array(check, &sample->fields[i]));
    }
    return has_array || check->picture ? 0 : fault(check, "no picture and no array");
}

/* --- records of what made them ---------------------------------------------- */

static bool has_shape(const json_t *shape, const struct prx_npy *npy)
{
    if (json_array_size(shape) != (size_t)npy->n_dims)
        return false;
    for (int i = 0; i < npy->n_dims; i++)
        if (json_integer_value(json_array_get(shape, (size_t)i)) != npy->dims[i])
            return false;
    return true;
}

/* An array of an encoder is one that we read, and as its record has it. */
static int check_made_array(struct check *check, const char *part, const json_t *record)
{
    const struct prx_field *field = prx_sample_find(check->sample, part);
    const char *type = json_string_value(json_object_get(record, "dtype"));
    const json_t *shape = json_object_get(record, "shape");
    struct prx_npy npy;
    int rc = prx_npy_parse(field->bytes->bytes, field->bytes->n_bytes, &npy);

    if (rc == PRX_EFORMAT)
        return fault_or_fail(check, rc, part);
    if (rc < 0) {
        prx_err_clear(); /* told already */
        return 0;
    }
    if (npy.type != PRX_NPY_F16 && npy.type != PRX_NPY_F32)
        return fault(check, "%s: neither float16 nor float32", part);
    const char *actual = npy.type == PRX_NPY_F16 ? "f16" : "f32";
    if (type && strcmp(type, actual) != 0)
        return fault(check, "%s: holds %s, and its record says %.20s", part, actual,
                     type);
    if (shape && !has_shape(shape, &npy))
        return fault(check, "%s: has not the shape that its record says", part);
    return 0;
}

/* The hash of caption @name, where the sample has it. */
static bool hash_caption(const struct check *check, const char *name, size_t n_name,
                         char out[PRX_HASH_HEX_BYTES])
{
    const struct prx_sample *sample = check->sample;
    const json_t *captions = json_object_get(sample->meta, "captions");
    char field_name[PRX_FIELD_NAME_BYTES_MAX + 8];

    snprintf(field_name, sizeof(field_name), "%.*s", (int)n_name, name);
    const json_t *caption = json_object_get(captions, field_name);
    if (json_is_string(caption)) {
        prx_hash_hex(json_string_value(caption), json_string_length(caption), out);
        return true;
    }
    if (strcmp(field_name, "txt") != 0)
        snprintf(field_name, sizeof(field_name), "%.*s.txt", (int)n_name, name);
    const struct prx_field *field = prx_sample_find(sample, field_name);
    if (field)
        prx_hash_hex(field->bytes->bytes, field->bytes->n_bytes, out);
    return field != NULL;
}

static int check_input(struct check *check, const char *part, const char *input)
{
    const char *of = strstr(part, ".text.npy");
    char hash[PRX_HASH_HEX_BYTES];

    if (of) {
        if (hash_caption(check, part, (size_t)(of - part), hash) &&
            strcmp(input, hash) != 0)
            return fault(check, "%s: stale: the caption is another since", part);
    } else if (strcmp(part, "latent.npy") == 0 && check->picture &&
               strcmp(input, check->picture_hash) != 0) {
        return fault(check, "%s: stale: the picture is another since", part);
    }
    return 0;
}

static int check_wanted_print(struct check *check, const char *part,
                              const char *fingerprint)
{
    const struct prx_verify_opts *opts = check->opts;
    size_t n_part = strlen(part);

    for (size_t i = 0; i < opts->n_fingerprints; i++) {
        const char *wanted = opts->fingerprints[i];
        if (strncmp(wanted, part, n_part) != 0 || wanted[n_part] != '=' ||
            strcmp(wanted + n_part + 1, fingerprint) == 0)
            continue;
        return fault(check, "%s: fingerprint %.80s, and %.80s is wanted", part,
                     fingerprint, wanted + n_part + 1);
    }
    return 0;
}

static int check_record(void *ctx, const char *part, const json_t *record,
                        const char *fingerprint)
{
    struct check *check = ctx;
    const char *input = json_string_value(json_object_get(record, "input"));

    PRX_TRY(check_made_array(check, part, record));
    if (!fingerprint)
        return fault(check, "%s: json has no record of what made it", part);
    if (input)
        PRX_TRY(check_input(check, part, input));
    return check_wanted_print(check, part, fingerprint);
}

/* --- the stage -------------------------------------------------------------- */

static int apply(void *ctx, void *scratch, struct prx_sample *sample)
{
    struct check check = {.opts = ctx, .scratch = scratch, .sample = sample};
    struct prx_str *faults = &check.scratch->faults;

    prx_str_reset(faults);
    PRX_TRY(check_pictures(&check));
    PRX_TRY(check_meta(&check));
    PRX_TRY(check_arrays(&check));
    PRX_TRY(prx_verify_each_print(sample, check_record, &check));
    if (faults->n_bytes > 0)
        prx_sample_reject(sample, STAGE_NAME, "%s", faults->bytes);
    return 0;
}

static void free_scratch(void *scratch)
{
    struct verify_scratch *mine = scratch;

    if (!mine)
        return;
    prx_color_cache_free(mine->colors);
    prx_image_release(&mine->image);
    prx_str_release(&mine->faults);
    free(mine);
}

static int new_scratch(void *ctx, void **out)
{
    struct verify_scratch *scratch = calloc(1, sizeof(*scratch));

    (void)ctx;
    *out = scratch;
    if (!scratch)
        return prx_err_nomem("a worker");
    return prx_color_cache_new(&scratch->colors);
}

int prx_verify_stage(const struct prx_verify_opts *opts, struct prx_stage *out)
{
    *out = (struct prx_stage){0};
    for (size_t i = 0; i < opts->n_fingerprints; i++) {
        const char *wanted = opts->fingerprints[i];
        const char *is = strchr(wanted, '=');
        if (!is || is == wanted || !is[1])
            return prx_err(PRX_EINVAL, "%s: not PART=FINGERPRINT", wanted);
    }
    *out = (struct prx_stage){
        .name = STAGE_NAME,
        .ctx = (void *)(uintptr_t)opts,
        .new_scratch = new_scratch,
        .free_scratch = free_scratch,
        .apply = apply,
    };
    return 0;
}
