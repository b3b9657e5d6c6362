/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time of a whole training step, forward to AdamW, at the sizes of bench_ops, and
 * of prx_small in as little memory as it can be trained in.
 *
 * bench_step SIZE STEPS [THREADS]: prints of a step the median in milliseconds, the
 * work rate in GFLOP/s, and that as a share of what a matrix product reaches here; the
 * process's peak memory in MiB; and the median of a forward pass in milliseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "libdata/progress.h"
#include "libdata/rng.h"
#include "train/run.h"

struct size {
    const char *name;
    const char *sets[7]; /* of the recipe; the defaults are prx_small's */
    int64_t n_side, n_tokens;
};

static const struct size sizes[] = {
    {"nano",
     {"model.hidden_size=192", "model.depth=6", "model.num_heads=6",
      "model.context_in_dim=256", "model.axes_dim=null", "train.batch=16"},
     16,
     64},
    {"mid",
     {"model.hidden_size=384", "model.depth=8", "model.num_heads=12",
      "model.context_in_dim=256", "model.axes_dim=null", "train.batch=8"},
     32,
     128},
    {"small2",
     {"model.hidden_size=1792", "model.depth=2", "model.num_heads=28",
      "model.context_in_dim=2304", "model.axes_dim=null", "train.batch=4"},
     32,
     256},
    {"small",
     {"train.batch=1", "train.micro_batch=1", "train.recompute=blocks"},
     32,
     256},
};

static void must(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_step: error: %s\n", prx_err_message());
    exit(1);
}

static float *noise(int64_t n)
{
    struct prx_rng rng;
    float *values = malloc((size_t)n * sizeof(*values));
    if (!values)
        must(prx_err_nomem("a batch"));
    prx_rng_init(&rng, 1, PRX_RNG_NOISE, 0, (uint64_t)n);
    prx_rng_normal(&rng, values, (size_t)n);
    return values;
}

/* A batch as the loader gives it: every caption as long as the longest. */
static struct prx_loader_batch make_batch(const struct size *size,
                                          const struct prx_recipe *recipe)
{
    int64_t B = recipe->train.batch, C = recipe->model.config.in_channels;
    int64_t X = recipe->model.config.context_in_dim;
    int32_t *mask = malloc((size_t)(B * size->n_tokens) * sizeof(*mask));
    struct prx_loader_draw *draws = calloc((size_t)B, sizeof(*draws));

    if (!mask || !draws)
        must(prx_err_nomem("a batch"));
    for (int64_t i = 0; i < B * size->n_tokens; i++)
        mask[i] = 1;
    for (int64_t i = 0; i < B; i++)
        draws[i].sample = (uint32_t)i;
    return (struct prx_loader_batch){
        .n_samples = B,
        .channels = C,
        .height = size->n_side,
        .width = size->n_side,
        .n_tokens = size->n_tokens,
        .text_width = X,
        .latent = noise(B * C * size->n_side * size->n_side),
        .text = noise(B * size->n_tokens * X),
        .mask = mask,
        .draws = draws,
    };
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The network on @batch as it lies, timesteps of 0: what it costs does not differ. */
static void forward(struct prx_trainer *trainer, const struct prx_loader_batch *batch)
{
    const int64_t x_dims[] = {batch->n_samples, batch->channels, batch->height,
                              batch->width};
    const int64_t text_dims[] = {batch->n_samples, batch->n_tokens, batch->text_width};
    struct prx_backend *be = trainer->be;
    struct prx_tensor x = {0}, t = {0}, text = {0};

    must(prx_tape_reset(trainer->tape));
    prx_tape_train(trainer->tape, false);
    must(prx_tensor_alloc(be, PRX_F32, 4, x_dims, &x));
    must(prx_tensor_alloc(be, PRX_F32, 1, x_dims, &t));
    must(prx_tensor_alloc(be, PRX_F32, 3, text_dims, &text));
    must(prx_tensor_set(be, &x, batch->latent));
    must(prx_tensor_zero(be, &t));
    must(prx_tensor_set(be, &text, batch->text));
    prx_denoiser_forward(trainer->denoiser, trainer->tape,
                         prx_tape_input(trainer->tape, &x, false), &t, &text, NULL,
                         NULL);
    must(prx_tape_error(trainer->tape));
    must(prx_backend_sync(be));
    prx_tensor_free(be, &x);
    prx_tensor_free(be, &t);
    prx_tensor_free(be, &text);
    prx_tape_train(trainer->tape, true);
}

/* The median of @n runs, behind two to warm up. */
static double time_s(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                     bool is_step, int n)
{
    struct prx_step_report report;
    double *times_s = calloc((size_t)n, sizeof(*times_s));

    if (!times_s)
        must(prx_err_nomem("the times"));
    for (int i = -2; i < n; i++) {
        int64_t start_ns = prx_now_ns();
        if (is_step)
            must(prx_train_step(trainer, batch, i + 3, &report));
        else
            forward(trainer, batch);
        if (i >= 0)
            times_s[i] = (double)(prx_now_ns() - start_ns) / 1e9;
    }
    qsort(times_s, (size_t)n, sizeof(*times_s), by_value);
    double median_s = times_s[n / 2];
    free(times_s);
    return median_s;
}

static void bench(const struct size *size, int n_steps, int n_threads)
{
    struct prx_recipe recipe;
    struct prx_backend *be = NULL;
    struct prx_trainer trainer = {0};
    struct rusage usage;
    double peak_flop_per_s = 0;

    must(prx_recipe_init(&recipe));
    for (size_t i = 0; size->sets[i]; i++)
        must(prx_recipe_set(&recipe, size->sets[i]));
    must(prx_recipe_resolve(&recipe));
    must(prx_backend_open("cpu", n_threads, &be));
    must(prx_trainer_init(&trainer, &recipe, be));
    struct prx_loader_batch batch = make_batch(size, &recipe);

    double step_s = time_s(&trainer, &batch, true, n_steps);
    getrusage(RUSAGE_SELF, &usage);
    must(prx_backend_peak(be, 0.5, &peak_flop_per_s));
    double forward_s = time_s(&trainer, &batch, false, n_steps);
    int64_t n = (size->n_side / 2) * (size->n_side / 2);
    double flop_per_s =
        3 * (double)batch.n_samples *
        prx_denoiser_flops(&recipe.model.config, n, n, size->n_tokens) / step_s;
    printf("%.1f %.1f %.2f %.0f %.1f\n", step_s * 1e3, flop_per_s / 1e9,
           flop_per_s / peak_flop_per_s, (double)usage.ru_maxrss / 1024,
           forward_s * 1e3);

    free((void *)batch.latent);
    free((void *)batch.text);
    free((void *)batch.mask);
    free((void *)batch.draws);
    prx_trainer_release(&trainer);
    prx_backend_close(be);
    prx_recipe_release(&recipe);
}

int main(int argc, char **argv)
{
    int n_steps = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;

    for (size_t i = 0; n_steps > 0 && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (strcmp(argv[1], sizes[i].name) != 0)
            continue;
        bench(&sizes[i], n_steps, argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0);
        return 0;
    }
    fprintf(stderr, "usage: bench_step nano|mid|small2|small STEPS [THREADS]\n");
    return 2;
}
