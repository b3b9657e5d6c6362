/* SPDX-License-Identifier: Apache-2.0 */
/* What a recipe costs, in comments before the recipe itself. */
#include "tools/dry_run.h"

#include <inttypes.h>
#include <stdio.h>

#include "libdata/log.h"
#include "train/encoder.h"
#include "train/run.h"

/* Sizes that the encoders know; the study's where this build lacks them. */
static void ask_encoders(const struct prx_recipe *recipe, int64_t *pixels_per_cell,
                         int64_t *n_text_tokens)
{
    const struct prx_text_opts opts = {
        .width = recipe->model.config.context_in_dim,
        .n_tokens_max = recipe->data.text_tokens,
    };
    struct prx_vae *vae = NULL;
    struct prx_text_tower *tower = NULL;

    *pixels_per_cell = 8;
    *n_text_tokens = recipe->data.text_tokens > 0 ? recipe->data.text_tokens : 256;
    if (prx_vae_open(recipe->data.vae, &vae) == 0)
        *pixels_per_cell = vae->downsample;
    else
        prx_log_warning("data.vae: %s; taking 8 pixels a latent cell",
                        prx_err_message());
    if (prx_text_tower_open(recipe->data.text, &opts, &tower) == 0)
        *n_text_tokens = tower->n_tokens_max;
    else
        prx_log_warning("data.text: %s; taking %" PRId64 " tokens a caption",
                        prx_err_message(), *n_text_tokens);
    prx_vae_close(vae);
    prx_text_tower_close(tower);
}

static void print_bytes(const char *what, uint64_t n_bytes)
{
    printf("#   %-16s %12.1f MiB\n", what, (double)n_bytes / 0x1p20);
}

static void print_memory(const struct prx_recipe *recipe,
                         const struct prx_train_plan *plan)
{
    bool is_sized = plan->activation_bytes > 0;

    printf("# memory:\n");
    print_bytes("parameters", plan->param_bytes);
    print_bytes("gradients", plan->grad_bytes);
    print_bytes("optimiser state", plan->optim_bytes);
    print_bytes("averages", plan->ema_bytes);
    if (is_sized) {
        print_bytes("activations", plan->activation_bytes);
        if (recipe->sample.every > 0)
            print_bytes("pictures", plan->picture_bytes);
        print_bytes("batches", plan->batch_bytes);
    } else {
        printf("#   activations, batches: not known, for sample.size_px is %" PRId64
               "\n",
               recipe->sample.size_px);
    }
    print_bytes(is_sized ? "total" : "total of these", plan->total_bytes);
}

static void print_work(const struct prx_recipe *recipe,
                       const struct prx_recipe_budget *budget, int64_t n_text_tokens)
{
    if (budget->step_flops == 0)
        return;
    printf("# work: %.4g FLOP a step of %" PRId64 " samples, with %" PRId64
           " image and %" PRId64 " text tokens each\n",
           budget->step_flops, recipe->train.batch, budget->n_image_tokens,
           n_text_tokens);
    if (budget->recompute_flops > 0)
        printf("# work of recomputing: %.4g FLOP more\n", budget->recompute_flops);
}

int dry_run_print(const struct prx_recipe *recipe)
{
    int64_t pixels_per_cell, n_text_tokens;
    struct prx_recipe_budget budget;
    struct prx_train_plan plan;
    struct prx_str text = {0};

    ask_encoders(recipe, &pixels_per_cell, &n_text_tokens);
    PRX_TRY(prx_recipe_budget(recipe, pixels_per_cell, n_text_tokens, &budget));
    PRX_TRY(prx_train_plan(recipe, pixels_per_cell, n_text_tokens, &plan));
    printf("# parameters: %" PRId64 "\n", budget.n_params);
    print_memory(recipe, &plan);
    print_work(recipe, &budget, n_text_tokens);
    int rc = prx_recipe_format(recipe, &text);
    if (rc == 0)
        fputs(text.bytes, stdout);
    prx_str_release(&text);
    return rc;
}
