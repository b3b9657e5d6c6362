/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of a checkpoint, by tables of members. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"
#include "train/checkpoint.h"

#define JSON_BYTES_MAX (1u << 20)

enum member_type { MEMBER_INT,
                   MEMBER_FLOAT,
                   MEMBER_BOOL,
                   MEMBER_TEXT };

struct member {
    const char *name;
    enum member_type type;
    size_t offset;
    size_t n_text_bytes; /* room of a MEMBER_TEXT */
    bool is_optional;    /* absent or null: what the struct holds stays */
};

#define N_MEMBERS(members) (sizeof(members) / sizeof((members)[0]))

static int read_object(const char *path, json_t **out)
{
    struct prx_buf *bytes = NULL;
    json_error_t error;

    PRX_TRY(prx_file_get(path, JSON_BYTES_MAX, &bytes));
    *out = json_loadb((const char *)bytes->bytes, bytes->n_bytes, 0, &error);
    prx_buf_unref(bytes);
    if (!*out)
        return prx_err(PRX_ECORRUPT, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        return prx_err(PRX_ECORRUPT, "%s: not a JSON object", path);
    }
    return 0;
}

/* Write @object, taking the reference. */
static int write_object(json_t *object, const char *path)
{
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    struct prx_str file = {0};
    int rc = 0;

    json_decref(object);
    if (!text)
        return prx_err_nomem(path);
    PRX_GO(prx_str_printf(&file, "%s\n", text));
    rc = prx_file_put(path, file.bytes, file.n_bytes);
out:
    prx_str_release(&file);
    free(text);
    return rc;
}

static int wrong_member(const char *path, const struct member *member)
{
    return prx_err(PRX_ECORRUPT, "%s: %s is missing or not what it should be", path,
                   member->name);
}

static int read_member(const char *path, const json_t *object,
                       const struct member *member, void *out)
{
    const json_t *value = json_object_get(object, member->name);
    void *at = (char *)out + member->offset;

    if (member->is_optional && (!value || json_is_null(value)))
        return 0;
    switch (member->type) {
    case MEMBER_INT:
        if (!json_is_integer(value))
            return wrong_member(path, member);
        *(int64_t *)at = json_integer_value(value);
        return 0;
    case MEMBER_FLOAT:
        if (!json_is_number(value))
            return wrong_member(path, member);
        *(double *)at = json_number_value(value);
        return 0;
    case MEMBER_BOOL:
        if (!json_is_boolean(value))
            return wrong_member(path, member);
        *(bool *)at = json_is_true(value);
        return 0;
    case MEMBER_TEXT:
        if (!json_is_string(value) || json_string_length(value) >= member->n_text_bytes)
            return wrong_member(path, member);
        snprintf(at, member->n_text_bytes, "%s", json_string_value(value));
        return 0;
    }
    return wrong_member(path, member);
}

static int read_members(const char *path, const json_t *object,
                        const struct member *members, size_t n_members, void *out)
{
    for (size_t i = 0; i < n_members; i++)
        PRX_TRY(read_member(path, object, &members[i], out));
    return 0;
}

static json_t *new_member(const struct member *member, const void *from)
{
    const void *at = (const char *)from + member->offset;

    switch (member->type) {
    case MEMBER_INT:
        return json_integer(*(const int64_t *)at);
    case MEMBER_FLOAT: {
        double value = *(const double *)at;
        /* Whole numbers as diffusers writes them: 10000, not 10000.0. */
        if (value == rint(value) && fabs(value) < 1e15)
            return json_integer((json_int_t)value);
        return json_real(value);
    }
    case MEMBER_BOOL:
        return json_boolean(*(const bool *)at);
    case MEMBER_TEXT:
        return json_string(at);
    }
    return NULL;
}

/* Add all members to @object; NULL in, or no memory: NULL out, @object given back. */
static json_t *add_members(json_t *object, const struct member *members,
                           size_t n_members, const void *from)
{
    bool ok = object;

    for (size_t i = 0; ok && i < n_members; i++)
        ok = json_object_set_new(object, members[i].name,
                                 new_member(&members[i], from)) == 0;
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

/* --- transformer/config.json ---------------------------------------------------- */

#define AT(member) offsetof(struct prx_denoiser_config, member)
static const struct member config_members[] = {
    {"in_channels", MEMBER_INT, AT(in_channels), 0, true},
    {"patch_size", MEMBER_INT, AT(patch_size), 0, true},
    {"context_in_dim", MEMBER_INT, AT(context_in_dim), 0, true},
    {"hidden_size", MEMBER_INT, AT(hidden_size), 0, true},
    {"mlp_ratio", MEMBER_FLOAT, AT(mlp_ratio), 0, true},
    {"num_heads", MEMBER_INT, AT(num_heads), 0, true},
    {"depth", MEMBER_INT, AT(depth), 0, true},
    {"theta", MEMBER_FLOAT, AT(theta), 0, true},
    {"time_factor", MEMBER_FLOAT, AT(time_factor), 0, true},
    {"time_max_period", MEMBER_FLOAT, AT(time_max_period), 0, true},
};
#undef AT

static const struct prx_denoiser_config diffusers_defaults = {
    .in_channels = 16,
    .patch_size = 2,
    .context_in_dim = 2304,
    .hidden_size = 1792,
    .mlp_ratio = 3.5,
    .num_heads = 28,
    .depth = 16,
    .axes_dim = {32, 32},
    .theta = 10000,
    .time_factor = 1000,
    .time_max_period = 10000,
};

static const char *const route_names[] = {
    [PRX_ROUTE_NONE] = "none",
    [PRX_ROUTE_TREAD] = "tread",
    [PRX_ROUTE_SPRINT] = "sprint",
};

#define AT(member) offsetof(struct prx_route, member)
static const struct member route_members[] = {
    {"start", MEMBER_INT, AT(start), 0, false},
    {"end", MEMBER_INT, AT(end), 0, false},
    {"detach", MEMBER_BOOL, AT(detach), 0, false},
};
#undef AT

static int read_route(const char *path, const json_t *object, struct prx_route *out)
{
    const char *kind = json_string_value(json_object_get(object, "kind"));

    for (size_t i = 0; kind && i < sizeof(route_names) / sizeof(*route_names); i++) {
        if (strcmp(kind, route_names[i]) != 0)
            continue;
        out->kind = (enum prx_route_kind)i;
        return read_members(path, object, route_members, N_MEMBERS(route_members), out);
    }
    return prx_err(PRX_ECORRUPT, "%s: no such route", path);
}

static json_t *new_route(const struct prx_route *route)
{
    return add_members(json_pack("{s:s}", "kind", route_names[route->kind]),
                       route_members, N_MEMBERS(route_members), route);
}

/* Members that are not plain numbers. */
static int read_config_rest(const char *path, const json_t *object,
                            struct prx_denoiser_config *config)
{
    const json_t *axes = json_object_get(object, "axes_dim");
    const json_t *bottleneck = json_object_get(object, "bottleneck_size");
    const char *mode = json_string_value(json_object_get(object, "resolution_mode"));
    const json_t *route = json_object_get(object, "route");

    if (axes &&
        (json_array_size(axes) != 2 || !json_is_integer(json_array_get(axes, 0)) ||
         !json_is_integer(json_array_get(axes, 1))))
        return prx_err(PRX_ECORRUPT, "%s: axes_dim is not two integers", path);
    for (size_t i = 0; axes && i < 2; i++)
        config->axes_dim[i] = json_integer_value(json_array_get(axes, i));
    if (bottleneck && !json_is_null(bottleneck) && !json_is_integer(bottleneck))
        return prx_err(PRX_ECORRUPT, "%s: bottleneck_size is not an integer", path);
    config->bottleneck_size = json_integer_value(bottleneck);
    if (mode && strcmp(mode, "token") == 0)
        config->resolution_mode = PRX_RESOLUTION_TOKEN;
    else if (json_is_true(json_object_get(object, "resolution_embeds")))
        config->resolution_mode = PRX_RESOLUTION_VEC;
    return route ? read_route(path, route, &config->route) : 0;
}

int prx_denoiser_config_from_json(const char *path, struct prx_denoiser_config *out)
{
    struct prx_denoiser_config config = diffusers_defaults;
    json_t *object = NULL;
    int rc = 0;

    PRX_TRY(read_object(path, &object));
    const char *class = json_string_value(json_object_get(object, "_class_name"));
    if (class && strcmp(class, "PRXTransformer2DModel") != 0) {
        rc = prx_err(PRX_EFORMAT, "%s: a %s, not a PRXTransformer2DModel", path, class);
        goto out;
    }
    PRX_GO(read_members(path, object, config_members, N_MEMBERS(config_members),
                        &config));
    PRX_GO(read_config_rest(path, object, &config));
    rc = prx_denoiser_config_check(&config);
    if (rc < 0) {
        rc = prx_err(PRX_ECORRUPT, "%s: %s", path, prx_err_message());
        goto out;
    }
    *out = config;
out:
    json_decref(object);
    return rc;
}

int prx_denoiser_config_to_json(const struct prx_denoiser_config *config,
                                const char *path)
{
    json_t *object = json_pack("{s:s, s:s}", "_class_name", "PRXTransformer2DModel",
                               "_diffusers_version", "0.36.0");
    bool has_vec = config->resolution_mode == PRX_RESOLUTION_VEC;

    object = add_members(object, config_members, N_MEMBERS(config_members), config);
    if (!object)
        return prx_err_nomem(path);
    json_t *bottleneck = config->bottleneck_size > 0
                             ? json_integer(config->bottleneck_size)
                             : json_null();
    int bad = json_object_set_new(object, "axes_dim",
                                  json_pack("[I, I]", (json_int_t)config->axes_dim[0],
                                            (json_int_t)config->axes_dim[1]));
    bad |= json_object_set_new(object, "bottleneck_size", bottleneck);
    bad |= json_object_set_new(object, "resolution_embeds", json_boolean(has_vec));
    /* diffusers has no such networks; it says so, and we read it back. */
    if (config->resolution_mode == PRX_RESOLUTION_TOKEN)
        bad |= json_object_set_new(object, "resolution_mode", json_string("token"));
    if (config->route.kind != PRX_ROUTE_NONE)
        bad |= json_object_set_new(object, "route", new_route(&config->route));
    if (bad) {
        json_decref(object);
        return prx_err_nomem(path);
    }
    return write_object(object, path);
}

/* --- prx.json and trainer/state.json -------------------------------------------- */

#define AT(member)   offsetof(struct prx_model_info, member)
#define ROOM(member) sizeof(((struct prx_model_info *)0)->member)
static const struct member info_members[] = {
    {"step", MEMBER_INT, AT(step), 0, false},
    {"prediction", MEMBER_TEXT, AT(prediction), ROOM(prediction), false},
    {"shift", MEMBER_FLOAT, AT(shift), 0, false},
    {"latent_height", MEMBER_INT, AT(latent_height), 0, false},
    {"latent_width", MEMBER_INT, AT(latent_width), 0, false},
    {"sample_steps", MEMBER_INT, AT(sample_steps), 0, false},
    {"sample_guidance", MEMBER_FLOAT, AT(sample_guidance), 0, false},
    {"self_guidance", MEMBER_BOOL, AT(self_guidance), 0, true},
    {"route_share", MEMBER_FLOAT, AT(route_share), 0, true},
    {"vae", MEMBER_TEXT, AT(vae), ROOM(vae), false},
    {"vae_fingerprint", MEMBER_TEXT, AT(vae_fingerprint), ROOM(vae_fingerprint), false},
    {"text", MEMBER_TEXT, AT(text), ROOM(text), false},
    {"text_fingerprint", MEMBER_TEXT, AT(text_fingerprint), ROOM(text_fingerprint),
     false},
    {"text_width", MEMBER_INT, AT(text_width), 0, false},
    {"text_tokens_max", MEMBER_INT, AT(text_tokens_max), 0, false},
};
#undef AT
#undef ROOM

#define AT(member)   offsetof(struct prx_train_position, member)
#define ROOM(member) sizeof(((struct prx_train_position *)0)->member)
static const struct member position_members[] = {
    {"step", MEMBER_INT, AT(step), 0, false},
    {"optim_steps", MEMBER_INT, AT(optim_steps), 0, false},
    {"n_nonfinite", MEMBER_INT, AT(n_nonfinite), 0, false},
    {"ema_active", MEMBER_BOOL, AT(ema_active), 0, false},
    {"batch", MEMBER_INT, AT(batch), 0, false},
    {"seed", MEMBER_INT, AT(seed), 0, false},
    {"samples", MEMBER_TEXT, AT(samples), ROOM(samples), false},
    {"optim", MEMBER_TEXT, AT(optim), ROOM(optim), true},
    {"params", MEMBER_TEXT, AT(params), ROOM(params), true},
};
#undef AT
#undef ROOM

static int read_struct(const char *path, const struct member *members, size_t n_members,
                       void *out)
{
    json_t *object = NULL;

    PRX_TRY(read_object(path, &object));
    int rc = read_members(path, object, members, n_members, out);
    json_decref(object);
    return rc;
}

int prx_model_info_read(const char *path, struct prx_model_info *out)
{
    struct prx_model_info info = {0};

    PRX_TRY(read_struct(path, info_members, N_MEMBERS(info_members), &info));
    if (info.latent_height <= 0 || info.latent_width <= 0 || info.text_width <= 0 ||
        info.text_tokens_max <= 0 || info.sample_steps <= 0 || !(info.shift > 0))
        return prx_err(PRX_ECORRUPT, "%s: a size or step count is not above 0", path);
    *out = info;
    return 0;
}

int prx_model_info_write(const struct prx_model_info *info, const char *path)
{
    return write_object(
        add_members(json_object(), info_members, N_MEMBERS(info_members), info), path);
}

int prx_train_position_read(const char *path, struct prx_train_position *out)
{
    struct prx_train_position position = {0};

    PRX_TRY(read_struct(path, position_members, N_MEMBERS(position_members),
                        &position));
    if (position.step < 0 || position.optim_steps < 0 || position.batch <= 0)
        return prx_err(PRX_ECORRUPT, "%s: a count is below 0", path);
    *out = position;
    return 0;
}

int prx_train_position_write(const struct prx_train_position *position,
                             const char *path)
{
    return write_object(add_members(json_object(), position_members,
                                    N_MEMBERS(position_members), position),
                        path);
}
