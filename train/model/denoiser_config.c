/* SPDX-License-Identifier: Apache-2.0 */
/* A denoiser's config: what is possible, and what it costs. */
#include "train/model/denoiser_internal.h"

#include <inttypes.h>
#include <math.h>

/* Generous; they keep every product of sizes within 63 bits. */
#define WIDTH_MAX        ((int64_t)1 << 17)
#define PATCH_SIDE_MAX   ((int64_t)1 << 11)
#define PATCH_VALUES_MAX ((int64_t)1 << 22)
#define DEPTH_MAX        4096
#define MLP_RATIO_MAX    64.0

static int check_range(const char *what, int64_t n, int64_t n_min, int64_t n_max)
{
    if (n >= n_min && n <= n_max)
        return 0;
    return prx_err(PRX_EINVAL, "%s is %" PRId64 ", not %" PRId64 " to %" PRId64, what,
                   n, n_min, n_max);
}

static int check_positive(const char *what, double x)
{
    if (isfinite(x) && x > 0.0)
        return 0;
    return prx_err(PRX_EINVAL, "%s is %g, not a positive number", what, x);
}

static int check_heads(const struct prx_denoiser_config *config)
{
    const int64_t *axes = config->axes_dim;
    if (config->hidden_size % config->num_heads != 0)
        return prx_err(PRX_EINVAL,
                       "num_heads %" PRId64 " does not divide hidden_size %" PRId64,
                       config->num_heads, config->hidden_size);
    int64_t head_size = config->hidden_size / config->num_heads;
    PRX_TRY(check_range("axes_dim[0]", axes[0], 0, head_size));
    PRX_TRY(check_range("axes_dim[1]", axes[1], 0, head_size));
    if (axes[0] % 2 != 0 || axes[1] % 2 != 0 || axes[0] + axes[1] != head_size)
        return prx_err(PRX_EINVAL,
                       "axes_dim [%" PRId64 ", %" PRId64
                       "] are not two even numbers that "
                       "make a head of %" PRId64,
                       axes[0], axes[1], head_size);
    return 0;
}

static int check_route(const struct prx_denoiser_config *config)
{
    const struct prx_route *route = &config->route;

    if (route->kind == PRX_ROUTE_NONE)
        return 0;
    if (route->start < 0 || route->end < route->start || route->end >= config->depth)
        return prx_err(PRX_EINVAL,
                       "a route over blocks %" PRId64 " to %" PRId64 " of %" PRId64,
                       route->start, route->end, config->depth);
    return 0;
}

int prx_denoiser_config_check(const struct prx_denoiser_config *config)
{
    PRX_TRY(check_range("in_channels", config->in_channels, 1, WIDTH_MAX));
    PRX_TRY(check_range("patch_size", config->patch_size, 1, PATCH_SIDE_MAX));
    PRX_TRY(check_range("values of a patch",
                        config->in_channels * config->patch_size * config->patch_size,
                        1, PATCH_VALUES_MAX));
    PRX_TRY(check_range("context_in_dim", config->context_in_dim, 1, WIDTH_MAX));
    PRX_TRY(check_range("hidden_size", config->hidden_size, 2, WIDTH_MAX));
    PRX_TRY(check_range("num_heads", config->num_heads, 1, WIDTH_MAX));
    PRX_TRY(check_range("depth", config->depth, 1, DEPTH_MAX));
    PRX_TRY(check_range("bottleneck_size", config->bottleneck_size, 0, WIDTH_MAX));
    PRX_TRY(check_heads(config));
    PRX_TRY(check_route(config));
    PRX_TRY(check_positive("mlp_ratio", config->mlp_ratio));
    if (config->mlp_ratio > MLP_RATIO_MAX || prx_denoiser_mlp_size(config) < 1)
        return prx_err(PRX_EINVAL,
                       "mlp_ratio %g of hidden_size %" PRId64 " is no width",
                       config->mlp_ratio, config->hidden_size);
    PRX_TRY(check_positive("theta", config->theta));
    PRX_TRY(check_positive("time_factor", config->time_factor));
    return check_positive("time_max_period", config->time_max_period);
}

static double block_flops(const struct prx_denoiser_config *config, double n, double l)
{
    double d = (double)config->hidden_size;
    double f = (double)prx_denoiser_mlp_size(config);

    return n * (4 * d * d + 3 * d * f) /* qkv, out, mlp */
           + l * 2 * d * d             /* text keys and values */
           + 2 * n * (n + l) * d       /* scores, weighted sum */
           + 6 * d * d;                /* modulation */
}

double prx_denoiser_flops(const struct prx_denoiser_config *config,
                          int64_t n_image_tokens, int64_t n_visible_tokens,
                          int64_t n_text_tokens)
{
    const struct prx_route *route = &config->route;
    int64_t n_routed_blocks =
        route->kind == PRX_ROUTE_NONE ? 0 : route->end - route->start + 1;
    double n = (double)n_image_tokens;
    double l = (double)n_text_tokens;
    double d = (double)config->hidden_size;
    double b = (double)config->bottleneck_size;
    double cpp =
        (double)(config->in_channels * config->patch_size * config->patch_size);

    double blocks = (double)(config->depth - n_routed_blocks) *
                        block_flops(config, n, l) +
                    (double)n_routed_blocks *
                        block_flops(config, (double)n_visible_tokens, l);
    double ends = n * (b > 0 ? cpp * b + b * d : cpp * d) /* img_in */
                  + n * d * cpp                           /* final linear */
                  + l * (double)config->context_in_dim * d + 256 * d + d * d +
                  2 * d * d;
    if (route->kind == PRX_ROUTE_SPRINT)
        ends += n * 2 * d * d;
    return 2.0 * (blocks + ends);
}
