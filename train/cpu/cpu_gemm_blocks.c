/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The suite's own matrix product, shared out among threads: what runs where no
 * library is built in, and what the library's is compared with.
 *
 * For each block of k (and of columns, where b is very wide) all threads pack b
 * together, then take rectangles of c until none is left.  An element of c belongs
 * to one rectangle and its sum runs over k in order, so the result depends neither
 * on timing nor on the number of threads.
 */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/gemm_internal.h"

#ifdef _OPENMP
# include <omp.h>
#endif

/* Sizes that keep a panel of b near the first cache and a group in the second. */
#define BLOCK_K    384
#define BLOCK_COLS 3072
#define RECT_COLS  512
#define RECT_TILES 4 /* rows of a rectangle, in tiles */

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t n_blocks(int64_t n, int64_t block)
{
    return (n + block - 1) / block;
}

static int i_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

struct job {
    const struct prx_gemm *gemm;
    const struct prx_gemm_kernels *kernels;
    float *panels;
    float *a_scratch; /* of every thread, a_scratch_floats each */
    int64_t a_scratch_floats;
};

/* The part of c that one step over k and columns covers. */
struct step {
    int64_t k, n_k;
    int64_t col, n_cols;
};

static void pack_panel(const struct job *job, const struct step *step, int64_t i_panel)
{
    const struct prx_gemm *g = job->gemm;
    int64_t width = job->kernels->tile_cols;
    int64_t col = i_panel * width;
    job->kernels->pack(job->panels + col * step->n_k,
                       g->b + step->k * g->b_k + (step->col + col) * g->b_col, g->b_k,
                       g->b_col, step->n_k, min(width, step->n_cols - col));
}

static void multiply(const struct job *job, const struct step *step, int64_t row,
                     int64_t n_rows, int64_t col, int64_t n_cols)
{
    const struct prx_gemm *g = job->gemm;
    bool first = step->k == 0;
    struct prx_gemm_block block = {
        .n_rows = n_rows,
        .n_cols = n_cols,
        .n_k = step->n_k,
        .a = g->a + row * g->a_row + step->k * g->a_k,
        .a_row = g->a_row,
        .a_k = g->a_k,
        .panels = job->panels + col * step->n_k,
        .bias = first && g->bias ? g->bias + step->col + col : NULL,
        .c = g->c + row * g->c_row + step->col + col,
        .c_row = g->c_row,
        .add = g->add || !first,
        .a_scratch = job->a_scratch + i_thread() * job->a_scratch_floats,
    };
    job->kernels->block(&block);
}

/* Runs in every thread of a team. */
static void run_step(const struct job *job, const struct step *step)
{
    int64_t n_panels = n_blocks(step->n_cols, job->kernels->tile_cols);
    int64_t rect_rows = RECT_TILES * job->kernels->tile_rows;
    int64_t n_down = n_blocks(job->gemm->M, rect_rows);
    int64_t n_rects = n_down * n_blocks(step->n_cols, RECT_COLS);

#pragma omp for schedule(static)
    for (int64_t i = 0; i < n_panels; i++)
        pack_panel(job, step, i);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < n_rects; i++) {
        int64_t row = i % n_down * rect_rows, col = i / n_down * RECT_COLS;
        multiply(job, step, row, min(rect_rows, job->gemm->M - row), col,
                 min(RECT_COLS, step->n_cols - col));
    }
}

int prx_cpu_gemm_blocks(struct prx_backend *be, const struct prx_gemm *gemm)
{
    const struct prx_gemm_kernels *kernels = PRX_SIMD_PICK(prx_gemm_kernels);
    int64_t k_step = n_blocks(gemm->K, n_blocks(gemm->K, BLOCK_K));
    int64_t panel_cols =
        min(n_blocks(gemm->N, kernels->tile_cols) * kernels->tile_cols, BLOCK_COLS);
    struct job job = {
        .gemm = gemm,
        .kernels = kernels,
        .a_scratch_floats = (RECT_TILES * kernels->tile_rows) * k_step + 16,
    };
    float *scratch = NULL;

    PRX_TRY(prx_cpu_scratch(
        be, panel_cols * k_step + be->n_threads * job.a_scratch_floats, &scratch));
    job.panels = scratch;
    job.a_scratch = scratch + panel_cols * k_step;

#pragma omp parallel num_threads(be->n_threads)
    for (int64_t col = 0; col < gemm->N; col += BLOCK_COLS) {
        for (int64_t k = 0; k < gemm->K; k += k_step) {
            struct step step = {
                .k = k,
                .n_k = min(k_step, gemm->K - k),
                .col = col,
                .n_cols = min(BLOCK_COLS, gemm->N - col),
            };
            run_step(&job, &step);
        }
    }
    return 0;
}
