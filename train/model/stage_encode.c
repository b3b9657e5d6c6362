/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage that runs frozen encoders: picture to latent, captions to text states.
 *
 * What made a part, and from which bytes, is recorded in meta.encode.PART.  A part
 * whose record is the one it would get now is left alone, so encoding what is
 * encoded already costs a hash of its input.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/npy.h"
#include "train/encoder.h"

#define STAGE_NAME "encode"

/* Of a record in meta.encode; a part with another one is made anew. */
#define RECORD_VERSION 1

#define LATENT_PART       "latent.npy"
#define TEXT_PART_END     ".text.npy"
#define PLAIN_CAPTION     "txt"
#define CAPTION_FIELD_END ".txt"
#define N_NAME_BYTES_MAX  64
#define N_PART_BYTES      (N_NAME_BYTES_MAX + sizeof(TEXT_PART_END))

/* A thread gives memory for larger pictures than this back after each. */
#define KEPT_BYTES_MAX ((size_t)16 << 20)

struct encode_scratch {
    struct prx_color_cache *colors;
    struct prx_image image;
    float *values; /* of one part */
    size_t n_values;
    struct prx_str text; /* a caption with a NUL behind it */
};

/* What is to be made, and from what. */
struct part {
    char name[N_PART_BYTES];
    const char *kind;  /* "vae", "text" */
    const char *maker; /* the encoder's name */
    const char *fingerprint;
    bool has_input;
    char input[PRX_HASH_HEX_BYTES]; /* hash of the input's bytes */
};

/* --- parts and their records ----------------------------------------------- */

static bool has_text(const json_t *object, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text && strcmp(text, wanted) == 0;
}

static enum prx_npy_type value_type(const struct prx_encode_opts *opts)
{
    return opts->f32 ? PRX_NPY_F32 : PRX_NPY_F16;
}

/* Is the part there, made as it would be made now? */
static bool is_current(const struct prx_encode_opts *opts,
                       const struct prx_sample *sample, const struct part *part)
{
    const struct prx_field *field = prx_sample_find(sample, part->name);
    const json_t *encode = json_object_get(sample->meta, "encode");
    const json_t *record = json_object_get(encode, part->name);
    struct prx_npy npy;

    if (!field || !record || !has_text(record, "fingerprint", part->fingerprint) ||
        json_integer_value(json_object_get(record, "version")) != RECORD_VERSION)
        return false;
    if (part->has_input && !has_text(record, "input", part->input))
        return false;
    if (prx_npy_parse(field->bytes->bytes, field->bytes->n_bytes, &npy) < 0) {
        prx_err_clear();
        return false;
    }
    return npy.type == value_type(opts);
}

static int put_record(const struct prx_encode_opts *opts, struct prx_sample *sample,
                      const struct part *part, int n_dims, const int64_t *dims)
{
    json_t *encode = json_object_get(sample->meta, "encode");

    if (!json_is_object(encode)) {
        encode = json_object();
        if (json_object_set_new(sample->meta, "encode", encode) < 0)
            return prx_err_nomem("metadata");
    }
    json_t *shape = json_array();
    for (int i = 0; i < n_dims; i++) {
        if (json_array_append_new(shape, json_integer(dims[i])) < 0) {
            json_decref(shape);
            return prx_err_nomem("metadata");
        }
    }
    json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}",
                               "fingerprint", part->fingerprint,
                               part->kind, part->maker,
                               "input", part->input,
                               "dtype", opts->f32 ? "f32" : "f16",
                               "version", RECORD_VERSION,
                               "shape", shape);
    if (json_object_set_new(encode, part->name, record) < 0)
        return prx_err_nomem("metadata");
    sample->meta_changed = true;
    return 0;
}

static int put_part(const struct prx_encode_opts *opts, struct prx_sample *sample,
                    const struct part *part, int n_dims, const int64_t *dims,
                    const float *values)
{
    struct prx_buf *buf = NULL;

    int rc = prx_npy_put_f32(value_type(opts), n_dims, dims, values, &buf);
    if (rc < 0)
        return prx_err_frame(rc, "%s", part->name);
    PRX_TRY(prx_sample_put(sample, part->name, buf));
    return put_record(opts, sample, part, n_dims, dims);
}

static int reserve_values(struct encode_scratch *scratch, size_t n_values)
{
    if (n_values <= scratch->n_values)
        return 0;
    free(scratch->values);
    scratch->n_values = 0;
    scratch->values = malloc(n_values * sizeof(float));
    if (!scratch->values)
        return prx_err_nomem("encoded values");
    scratch->n_values = n_values;
    return 0;
}

/* --- pictures -------------------------------------------------------------- */

static void hash_input(struct part *part, const void *bytes, size_t n_bytes)
{
    prx_hash_hex(bytes, n_bytes, part->input);
    part->has_input = true;
}

static int encode_picture(const struct prx_encode_opts *opts,
                          struct encode_scratch *scratch, struct prx_sample *sample)
{
    const struct prx_vae *vae = opts->vae;
    const int f = (int)vae->downsample;
    const struct prx_field *field = prx_sample_find_image(sample);
    const struct prx_image *image = sample->image;
    struct part part = {LATENT_PART, "vae", vae->name, vae->fingerprint, false, ""};

    if (image)
        hash_input(&part, image->pixels,
                   (size_t)image->width_px * (size_t)image->height_px * 3);
    else if (field)
        hash_input(&part, field->bytes->bytes, field->bytes->n_bytes);
    if (is_current(opts, sample, &part))
        return 0;
    if (!part.has_input)
        return prx_err(PRX_ENOENT, "no image (jpg, jpeg, png or webp)");

    if (!image) {
        const struct prx_image_decode_opts decode_opts = {.limits = opts->limits,
                                                          .colors = scratch->colors};
        PRX_TRY(prx_image_decode(&scratch->image, NULL, field->bytes->bytes,
                                 field->bytes->n_bytes, &decode_opts));
        image = &scratch->image;
    }
    if (image->width_px % f != 0 || image->height_px % f != 0)
        return prx_err(PRX_ESHAPE,
                       "%d x %d pixels, sides that %d does not divide; give prx-shard"
                       " --size and --crop",
                       image->width_px, image->height_px, f);
    const int64_t dims[3] = {vae->channels, image->height_px / f, image->width_px / f};
    PRX_TRY(reserve_values(scratch, (size_t)(dims[0] * dims[1] * dims[2])));
    PRX_TRY(vae->encode(vae, image, scratch->values));
    return put_part(opts, sample, &part, 3, dims, scratch->values);
}

static void drop_images(struct prx_sample *sample)
{
    const struct prx_field *field;
    while ((field = prx_sample_find_image(sample)))
        prx_sample_drop(sample, field->name);
}

/* --- captions -------------------------------------------------------------- */

/* Can @name stand in the name of a part? */
static bool is_part_name(const char *name)
{
    size_t n_bytes = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return n_bytes > 0 && n_bytes <= N_NAME_BYTES_MAX && !name[n_bytes];
}

static const struct prx_field *find_caption_field(const struct prx_sample *sample,
                                                  const char *name)
{
    char field_name[N_NAME_BYTES_MAX + sizeof(CAPTION_FIELD_END)];
    if (strcmp(name, PLAIN_CAPTION) == 0)
        return prx_sample_find(sample, name);
    size_t n_bytes = strlen(name);
    memcpy(field_name, name, n_bytes);
    memcpy(field_name + n_bytes, CAPTION_FIELD_END, sizeof(CAPTION_FIELD_END));
    return prx_sample_find(sample, field_name);
}

/* Caption @name into @text; *@out tells whether there is one. */
static int get_caption(const struct prx_sample *sample, const char *name,
                       struct prx_str *text, bool *out)
{
    const json_t *captions = json_object_get(sample->meta, "captions");
    const json_t *caption = json_object_get(captions, name);

    prx_str_reset(text);
    *out = true;
    if (json_is_string(caption))
        return prx_str_add(text, json_string_value(caption),
                           json_string_length(caption));
    if (caption && !json_is_null(caption))
        return prx_err(PRX_ECORRUPT, "captions.%s in the metadata is not a text", name);
    const struct prx_field *field = find_caption_field(sample, name);
    if (field)
        return prx_str_add(text, field->bytes->bytes, field->bytes->n_bytes);
    *out = false;
    return 0;
}

static int encode_caption(const struct prx_encode_opts *opts,
                          struct encode_scratch *scratch, struct prx_sample *sample,
                          const char *name)
{
    const struct prx_text_tower *tower = opts->tower;
    struct prx_str *text = &scratch->text;
    struct part part = {"", "text", tower->name, tower->fingerprint, false, ""};
    bool has_caption;

    size_t n_bytes = strlen(name);
    memcpy(part.name, name, n_bytes);
    memcpy(part.name + n_bytes, TEXT_PART_END, sizeof(TEXT_PART_END));
    PRX_TRY(get_caption(sample, name, text, &has_caption));
    if (has_caption)
        hash_input(&part, text->bytes, text->n_bytes);
    if (is_current(opts, sample, &part))
        return 0;
    if (!has_caption)
        return prx_err(PRX_ENOENT, "no caption '%s'", name);

    for (char *nul; (nul = memchr(text->bytes, '\0', text->n_bytes));)
        *nul = ' ';
    PRX_TRY(reserve_values(scratch, (size_t)(tower->n_tokens_max * tower->width)));
    int n_tokens = tower->encode(tower, text->bytes, scratch->values);
    PRX_TRY(n_tokens);
    const int64_t dims[2] = {n_tokens, tower->width};
    return put_part(opts, sample, &part, 2, dims, scratch->values);
}

static int add_name(json_t *names, const char *name, size_t n_bytes)
{
    char copy[N_NAME_BYTES_MAX + 1] = "";

    if (n_bytes <= N_NAME_BYTES_MAX)
        memcpy(copy, name, n_bytes);
    if (!is_part_name(copy))
        return prx_err(PRX_EINVAL, "a caption named '%.*s', not of a-z 0-9 _ -",
                       (int)(n_bytes < 80 ? n_bytes : 80), name);
    return json_object_set_new(names, copy, json_true()) == 0
               ? 0
               : prx_err_nomem("caption names");
}

/* The names of all captions of a sample, as the keys of @names. */
static int find_captions(const struct prx_sample *sample, json_t *names)
{
    static const size_t n_end_bytes = sizeof(CAPTION_FIELD_END) - 1;
    const char *name;
    json_t *caption;

    json_object_foreach(json_object_get(sample->meta, "captions"), name, caption)
    {
        if (!json_is_null(caption))
            PRX_TRY(add_name(names, name, strlen(name)));
    }
    for (size_t i = 0; i < sample->n_fields; i++) {
        name = sample->fields[i].name;
        size_t n_bytes = strlen(name);
        if (n_bytes > n_end_bytes &&
            strcmp(name + n_bytes - n_end_bytes, CAPTION_FIELD_END) == 0)
            PRX_TRY(add_name(names, name, n_bytes - n_end_bytes));
    }
    if (json_object_size(names) == 0)
        PRX_TRY(add_name(names, PLAIN_CAPTION, strlen(PLAIN_CAPTION)));
    return 0;
}

static int encode_all_captions(const struct prx_encode_opts *opts,
                               struct encode_scratch *scratch,
                               struct prx_sample *sample)
{
    json_t *names = json_object();
    const char *name;
    json_t *unused;
    int rc;

    if (!names)
        return prx_err_nomem("caption names");
    PRX_GO(find_captions(sample, names));
    json_object_foreach(names, name, unused)
        PRX_GO(encode_caption(opts, scratch, sample, name));
out:
    json_decref(names);
    return rc;
}

/* --- the stage ------------------------------------------------------------- */

static int encode_sample(const struct prx_encode_opts *opts,
                         struct encode_scratch *scratch, struct prx_sample *sample)
{
    json_t *meta;

    PRX_TRY(prx_sample_load(sample));
    PRX_TRY(prx_sample_meta(sample, &meta));
    if (opts->tower && opts->n_captions == 0)
        PRX_TRY(encode_all_captions(opts, scratch, sample));
    for (size_t i = 0; opts->tower && i < opts->n_captions; i++)
        PRX_TRY(encode_caption(opts, scratch, sample, opts->captions[i]));
    if (opts->vae)
        PRX_TRY(encode_picture(opts, scratch, sample));
    if (opts->drop_image)
        drop_images(sample);
    return 0;
}

static int apply(void *ctx, void *scratch, struct prx_sample *sample)
{
    struct encode_scratch *mine = scratch;

    int rc = encode_sample(ctx, mine, sample);
    if (mine->image.cap_bytes > KEPT_BYTES_MAX)
        prx_image_release(&mine->image);
    if (rc == 0 || rc == PRX_ENOMEM || rc == PRX_EDEVICE)
        return rc;
    prx_sample_reject(sample, STAGE_NAME, "%s", prx_err_message());
    prx_err_clear();
    return 0;
}

static void free_scratch(void *scratch)
{
    struct encode_scratch *mine = scratch;

    if (!mine)
        return;
    prx_color_cache_free(mine->colors);
    prx_image_release(&mine->image);
    prx_str_release(&mine->text);
    free(mine->values);
    free(mine);
}

static int new_scratch(void *ctx, void **out)
{
    struct encode_scratch *scratch = calloc(1, sizeof(*scratch));
    int rc;

    (void)ctx;
    if (!scratch)
        return prx_err_nomem("encode scratch");
    PRX_GO(prx_color_cache_new(&scratch->colors));
    *out = scratch;
    return 0;
out:
    free_scratch(scratch);
    return rc;
}

int prx_stage_encode(const struct prx_encode_opts *opts, struct prx_stage *out)
{
    *out = (struct prx_stage){0};
    for (size_t i = 0; i < opts->n_captions; i++) {
        if (!is_part_name(opts->captions[i]))
            return prx_err(PRX_EINVAL, "a caption named '%s', not of a-z 0-9 _ -",
                           opts->captions[i]);
    }
    struct prx_encode_opts *ctx = malloc(sizeof(*ctx));
    if (!ctx)
        return prx_err_nomem("a stage");
    *ctx = *opts;
    *out = (struct prx_stage){STAGE_NAME, ctx, new_scratch, free_scratch, apply, free};
    return 0;
}
