/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packing and blocks of the matrix product (Goto & van de Geijn 2008,
 * doi:10.1145/1356052.1356053).
 *
 * b is packed into panels as wide as a register tile, so that the tile reads it in
 * order; a is read where it lies when the k of one row are side by side, and packed
 * into panels of tile rows when they are not.
 */
#include "train/cpu/gemm_internal.h"
#include "train/cpu/tile_internal.h"

/* Columns of b whose k lie side by side: transposed, four by four. */
static void pack_transposed(float *panel, const float *b, int64_t b_col, int64_t n_k,
                            int64_t n_cols)
{
    int64_t j = 0;
    for (; j + 4 <= n_cols; j += 4) {
        const float *in = b + j * b_col;
        int64_t k = 0;
        for (; k + 4 <= n_k; k += 4)
            transpose_4x4(panel + k * TILE_COLS + j, TILE_COLS, in + k, b_col);
        for (; k < n_k; k++)
            for (int64_t i = 0; i < 4; i++)
                panel[k * TILE_COLS + j + i] = in[i * b_col + k];
    }
    for (; j < n_cols; j++)
        for (int64_t k = 0; k < n_k; k++)
            panel[k * TILE_COLS + j] = b[j * b_col + k];
    for (; j < TILE_COLS; j++)
        for (int64_t k = 0; k < n_k; k++)
            panel[k * TILE_COLS + j] = 0.0F;
}

static void pack(float *panel, const float *b, int64_t b_k, int64_t b_col, int64_t n_k,
                 int64_t n_cols)
{
    if (b_col != 1) {
        pack_transposed(panel, b, b_col, n_k, n_cols);
        return;
    }
    for (int64_t k = 0; k < n_k; k++, panel += TILE_COLS, b += b_k) {
        if (n_cols == TILE_COLS) {
            v_store(panel, v_load(b));
            v_store(panel + LANES, v_load(b + LANES));
            continue;
        }
        for (int64_t j = 0; j < TILE_COLS; j++)
            panel[j] = j < n_cols ? b[j] : 0.0F;
    }
}

/* Rows of a whose i lie side by side to [tiles][n_k][TILE_ROWS]. */
static void pack_rows(const struct prx_gemm_block *block)
{
    float *out = block->a_scratch;
    for (int64_t i = 0; i < block->n_rows; i += TILE_ROWS) {
        int64_t n = block->n_rows - i < TILE_ROWS ? block->n_rows - i : TILE_ROWS;
        const float *in = block->a + i;
        for (int64_t k = 0; k < block->n_k; k++, in += block->a_k, out += TILE_ROWS)
            for (int64_t r = 0; r < TILE_ROWS; r++)
                out[r] = r < n ? in[r] : 0.0F;
    }
}

static void block(const struct prx_gemm_block *block)
{
    const bool across = block->a_k == 1;
    struct tile_args t = {
        .n_k = block->n_k,
        .a_stride = across ? block->a_row : TILE_ROWS,
        .b_stride = TILE_COLS,
        .c_stride = block->c_row,
        .mode = block->add ? TILE_ADD : TILE_SET,
    };
    const tile_fn *tiles = across ? tiles_across : tiles_down;

    if (!across)
        pack_rows(block);
    for (int64_t j = 0; j < block->n_cols; j += TILE_COLS) {
        int64_t n_left = block->n_cols - j;
        t.n_cols = n_left < TILE_COLS ? n_left : TILE_COLS;
        t.b = block->panels + j * block->n_k;
        if (block->bias) {
            float bias[TILE_COLS] = {0};
            memcpy(bias, block->bias + j, (size_t)t.n_cols * sizeof(float));
            t.first[0] = v_load(bias);
            t.first[1] = v_load(bias + LANES);
        }
        for (int64_t i = 0; i < block->n_rows; i += TILE_ROWS) {
            int64_t n = block->n_rows - i < TILE_ROWS ? block->n_rows - i : TILE_ROWS;
            t.a = across ? block->a + i * block->a_row
                         : block->a_scratch + i * block->n_k;
            t.c = block->c + i * block->c_row + j;
            tiles[n - 1](&t);
        }
    }
}

const struct prx_gemm_kernels PRX_SIMD_NAME(prx_gemm_kernels) = {
    .tile_rows = TILE_ROWS,
    .tile_cols = TILE_COLS,
    .pack = pack,
    .block = block,
};
