/* SPDX-License-Identifier: Apache-2.0 */
/* What a recipe costs, known before it runs. */
#include "train/recipe.h"
#include "train/route.h"

struct sum {
    const struct prx_recipe *recipe;
    struct prx_optim_met met;
    struct prx_recipe_budget budget;
};

static int add_param(void *ctx, const char *name, const struct prx_tensor *shape)
{
    struct sum *sum = ctx;
    struct prx_recipe_budget *budget = &sum->budget;
    const struct prx_recipe *recipe = sum->recipe;
    const struct prx_optim_rule rule =
        prx_optim_rule(&recipe->optim.config, name, shape->n_dims, &sum->met);
    enum prx_dtype dtype = (enum prx_dtype)recipe->precision.params;
    uint64_t count = (uint64_t)prx_tensor_count(shape);
    uint64_t n_bytes = count * prx_dtype_bytes(dtype);

    budget->n_params += (int64_t)count;
    budget->param_bytes += n_bytes;
    if (recipe->optim.ema_smoothing > 0)
        budget->optim_bytes += count * sizeof(float);
    if (rule.lr_scale == 0)
        return 0;
    budget->grad_bytes += count * sizeof(float);
    budget->optim_bytes += n_bytes * (rule.kind == PRX_OPTIM_MUON ? 1 : 2);
    return 0;
}

int prx_recipe_budget(const struct prx_recipe *recipe, int64_t pixels_per_cell,
                      int64_t n_text_tokens, struct prx_recipe_budget *out)
{
    const struct prx_denoiser_config *config = &recipe->model.config;
    struct sum sum = {.recipe = recipe};
    struct prx_recipe_budget *budget = &sum.budget;

    PRX_TRY(prx_denoiser_list(config, add_param, &sum));
    PRX_TRY(prx_optim_check_met(&recipe->optim.config, &sum.met));

    int64_t n_side = recipe->sample.size_px / (pixels_per_cell * config->patch_size);
    budget->n_image_tokens = n_side * n_side;
    /* The backward pass computes two products for each one of the forward pass. */
    if (n_side > 0)
        budget->step_flops = 3 * (double)recipe->train.batch *
                             prx_denoiser_flops(config, budget->n_image_tokens,
                                                prx_route_n_visible(
                                                    budget->n_image_tokens,
                                                    recipe->route.share),
                                                n_text_tokens);
    *out = *budget;
    return 0;
}
