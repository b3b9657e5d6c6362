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

    int64_t n_side = recipe->sample.size_px / (pixels_per_cell * config->patch_size);
    int64_t n = n_side * n_side;
    budget.n_image_tokens = n;
    if (n > 0) {
        int64_t n_visible = prx_route_n_visible(n, recipe->route.share);
        struct prx_denoiser_config ends = *config;
        ends.depth = 0;
        double forward = prx_denoiser_flops(config, n, n_visible, n_text_tokens);
        double blocks =
            forward - prx_denoiser_flops(&ends, n, n_visible, n_text_tokens);
        /* The backward pass has two products for each one of the forward pass. */
        budget.step_flops = 3 * (double)recipe->train.batch * forward;
        if (recipe->train.recompute == PRX_RECOMPUTE_BLOCKS)
            budget.recompute_flops = (double)recipe->train.batch * blocks;
    }
    *out = budget;
    return 0;
}
