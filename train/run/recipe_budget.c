/* SPDX-License-Identifier: Apache-2.0 */
/* What a recipe costs, known before it runs. */
#include "train/recipe.h"
#include "train/route.h"

int prx_recipe_budget(const struct prx_recipe *recipe, int64_t pixels_per_cell,
                      int64_t n_text_tokens, struct prx_recipe_budget *out)
{
    const struct prx_denoiser_config *config = &recipe->model.config;
    struct prx_recipe_budget budget = {0};

    PRX_TRY(prx_denoiser_count(config, &budget.n_params));
    uint64_t n_bytes = (uint64_t)budget.n_params * sizeof(float);
    budget.param_bytes = n_bytes;
    budget.grad_bytes = n_bytes;
    budget.optim_bytes = n_bytes * (recipe->optim.ema_smoothing > 0 ? 3 : 2);

    int64_t n_side = recipe->sample.size_px / (pixels_per_cell * config->patch_size);
    budget.n_image_tokens = n_side * n_side;
    /* The backward pass computes two products for each one of the forward pass. */
    if (n_side > 0)
        budget.step_flops = 3 * (double)recipe->train.batch *
                            prx_denoiser_flops(config, budget.n_image_tokens,
                                               prx_route_n_visible(
                                                   budget.n_image_tokens,
                                                   recipe->route.share),
                                               n_text_tokens);
    *out = budget;
    return 0;
}
