/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of one head, a block of queries at a time (Dao 2023, arXiv:2307.08691).
 *
 * Scores lie with the queries side by side, s[key][query]: the softmax over keys is
 * then plain vector arithmetic, and the same block serves as the left operand of
 * both kinds of product, "down" for sums over keys, "across" for sums over queries.
 * A block holds all keys of its queries, so the softmax is exact in one go and
 * memory grows with the number of keys, not with its square.
 */
#include <math.h>

#include "train/cpu/attention_internal.h"
#include "train/cpu/tile_internal.h"

#define QUERIES PRX_ATTENTION_QUERIES

/* One block's buffers, cut from head->work. */
struct block {
    int64_t i_query, n_queries;
    float *q, *do_;              /* [QUERIES][HDP], q scaled */
    float *q_turned, *do_turned; /* [HDP][QUERIES] */
    float *s, *ds;               /* [n_keys][QUERIES] */
};

static int64_t work_floats(int64_t n_keys, int64_t HDP)
{
    return 4 * QUERIES * HDP + 2 * n_keys * QUERIES;
}

static struct block block_at(const struct prx_attention_head *head, int64_t i_query)
{
    int64_t n_left = head->n_queries - i_query, n_packed = QUERIES * head->HDP;
    float *work = head->work;
    return (struct block){
        .i_query = i_query,
        .n_queries = n_left < QUERIES ? n_left : QUERIES,
        .q = work,
        .do_ = work + n_packed,
        .q_turned = work + 2 * n_packed,
        .do_turned = work + 3 * n_packed,
        .s = work + 4 * n_packed,
        .ds = work + 4 * n_packed + head->n_keys * QUERIES,
    };
}

/* The block's rows of @from, scaled: as they are, and turned; zeros all around. */
static void pack_rows(const struct prx_attention_head *head, const struct block *block,
                      const float *from, float scale, float *rows, float *turned)
{
    memset(rows, 0, (size_t)(QUERIES * head->HDP) * sizeof(float));
    for (int64_t i = 0; i < block->n_queries; i++) {
        const float *in = from + (block->i_query + i) * head->stride;
        float *row = rows + i * head->HDP;
        for (int64_t d = 0; d < head->HD; d += LANES)
            v_store(row + d,
                    scale * v_load_upto(in + d, head->HD - d)); /* HDP has room */
    }
    for (int64_t i = 0; i < QUERIES; i += 4)
        for (int64_t d = 0; d < head->HDP; d += 4)
            transpose_4x4(turned + d * QUERIES + i, QUERIES, rows + i * head->HDP + d,
                          head->HDP);
}

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* c[key][query] = sum_d keys[key][d] turned[d][query] */
static void score(const struct prx_attention_head *head, const float *keys,
                  const float *turned, float *c)
{
    struct tile_args t = {
        .n_k = head->HD,
        .a_stride = head->HDP,
        .b_stride = QUERIES,
        .c_stride = QUERIES,
        .n_cols = TILE_COLS,
        .mode = TILE_SET,
    };
    for (int64_t col = 0; col < QUERIES; col += TILE_COLS) {
        t.b = turned + col;
        for (int64_t j = 0; j < head->n_keys; j += TILE_ROWS) {
            t.a = keys + j * head->HDP;
            t.c = c + j * QUERIES + col;
            tiles_across[min(head->n_keys - j, TILE_ROWS) - 1](&t);
        }
    }
}

/* out[query][d] = sum_key c[key][query] rows[key][d] */
static void mix_keys(const struct prx_attention_head *head, const struct block *block,
                     const float *c, const float *rows, float *out)
{
    struct tile_args t = {
        .n_k = head->n_keys,
        .a_stride = QUERIES,
        .b_stride = head->HDP,
        .c_stride = head->stride,
        .mode = TILE_SET,
    };
    for (int64_t d = 0; d < head->HD; d += TILE_COLS) {
        t.b = rows + d;
        t.n_cols = min(head->HD - d, TILE_COLS);
        for (int64_t i = 0; i < block->n_queries; i += TILE_ROWS) {
            t.a = c + i;
            t.c = out + (block->i_query + i) * head->stride + d;
            tiles_down[min(block->n_queries - i, TILE_ROWS) - 1](&t);
        }
    }
}

/* out[key][d] (+)= sum_query c[key][query] rows[query][d]; = in the first block. */
static void mix_queries(const struct prx_attention_head *head,
                        const struct block *block, const float *c, const float *rows,
                        float *out)
{
    struct tile_args t = {
        .n_k = block->n_queries,
        .a_stride = QUERIES,
        .b_stride = head->HDP,
        .c_stride = head->HDP,
        .n_cols = TILE_COLS,
        .mode = block->i_query == 0 ? TILE_SET : TILE_ADD,
    };
    for (int64_t d = 0; d < head->HDP; d += TILE_COLS) {
        t.b = rows + d;
        for (int64_t j = 0; j < head->n_keys; j += TILE_ROWS) {
            t.a = c + j * QUERIES;
            t.c = out + j * head->HDP + d;
            tiles_across[min(head->n_keys - j, TILE_ROWS) - 1](&t);
        }
    }
}

static void scale_rows(const struct prx_attention_head *head, const struct block *block,
                       float *out, const float *factors)
{
    for (int64_t i = 0; i < block->n_queries; i++) {
        float *row = out + (block->i_query + i) * head->stride;
        for (int64_t d = 0; d < head->HD; d += LANES)
            v_store_upto(row + d, v_load_upto(row + d, head->HD - d) * factors[i],
                         head->HD - d);
    }
}

/* The vectors of one key's scores; sums and maxima run over keys in all at once. */
#define VECTORS (QUERIES / LANES)

/* s = exp(s - max over keys); log sum exp and 1/sum of each query. */
static void softmax(const struct prx_attention_head *head, float *s, float *lse,
                    float *inverse)
{
    vf top[VECTORS], sum[VECTORS];

    for (int64_t c = 0; c < VECTORS; c++) {
        top[c] = v_set(-INFINITY);
        sum[c] = v_set(0.0F);
    }
    for (int64_t j = 0; j < head->n_keys; j++)
        for (int64_t c = 0; c < VECTORS; c++)
            top[c] = v_max(v_load(s + j * QUERIES + c * LANES), top[c]);
    for (int64_t j = 0; j < head->n_keys; j++) {
        for (int64_t c = 0; c < VECTORS; c++) {
            float *at = s + j * QUERIES + c * LANES;
            vf e = v_exp(v_load(at) - top[c]);
            v_store(at, e);
            sum[c] += e;
        }
    }
    for (int64_t c = 0; c < VECTORS; c++) {
        v_store(inverse + c * LANES, 1.0F / sum[c]);
        for (int64_t i = 0; i < LANES; i++)
            lse[c * LANES + i] = top[c][i] + logf(sum[c][i]);
    }
}

static void fwd(const struct prx_attention_head *head)
{
    for (int64_t i = 0; i < head->n_queries; i += QUERIES) {
        struct block block = block_at(head, i);
        float lse[QUERIES], inverse[QUERIES];
        pack_rows(head, &block, head->q, head->scale, block.q, block.q_turned);
        score(head, head->k, block.q_turned, block.s);
        softmax(head, block.s, lse, inverse);
        mix_keys(head, &block, block.s, head->v, head->o);
        scale_rows(head, &block, head->o, inverse);
        memcpy(head->lse + i, lse, (size_t)block.n_queries * sizeof(float));
    }
}

/* Of each query of the block: lse, and delta = do . o; no weight behind the last. */
static void query_stats(const struct prx_attention_head *head,
                        const struct block *block, float *lse, float *delta)
{
    for (int64_t i = 0; i < QUERIES; i++) {
        vf sum = {0};
        lse[i] = INFINITY;
        delta[i] = 0.0F;
        if (i >= block->n_queries)
            continue;
        const float *o = head->o + (block->i_query + i) * head->stride;
        for (int64_t d = 0; d < head->HD; d += LANES)
            sum += v_load_upto(o + d, head->HD - d) *
                   v_load_upto(block->do_ + i * head->HDP + d, head->HD - d);
        lse[i] = head->lse[block->i_query + i];
        delta[i] = v_sum(sum);
    }
}

/* s = P = exp(s - lse);  ds = P (ds - delta), ds having been dP */
static void softmax_bwd(const struct prx_attention_head *head, float *s, float *ds,
                        const float *lse, const float *delta)
{
    for (int64_t col = 0; col < QUERIES; col += LANES) {
        vf top = v_load(lse + col), shift = v_load(delta + col);
        for (int64_t at = col; at < head->n_keys * QUERIES; at += QUERIES) {
            vf weight = v_exp(v_load(s + at) - top);
            v_store(s + at, weight);
            v_store(ds + at, weight * (v_load(ds + at) - shift));
        }
    }
}

/*
 * With q scaled: P from lse, dP = do v^T, dS = P (dP - do.o),
 *     dv = P^T do,  dk = dS^T q,  dq = scale dS k
 */
static void bwd(const struct prx_attention_head *head)
{
    float scales[QUERIES];
    for (int64_t i = 0; i < QUERIES; i++)
        scales[i] = head->scale;
    if (head->n_queries == 0) {
        memset(head->dk, 0, (size_t)(head->n_keys * head->HDP) * sizeof(float));
        memset(head->dv, 0, (size_t)(head->n_keys * head->HDP) * sizeof(float));
    }
    for (int64_t i = 0; i < head->n_queries; i += QUERIES) {
        struct block block = block_at(head, i);
        float lse[QUERIES], delta[QUERIES];
        pack_rows(head, &block, head->q, head->scale, block.q, block.q_turned);
        pack_rows(head, &block, head->do_, 1.0F, block.do_, block.do_turned);
        query_stats(head, &block, lse, delta);
        score(head, head->k, block.q_turned, block.s);
        score(head, head->v, block.do_turned, block.ds);
        softmax_bwd(head, block.s, block.ds, lse, delta);
        mix_queries(head, &block, block.s, block.do_, head->dv);
        mix_queries(head, &block, block.ds, block.q, head->dk);
        mix_keys(head, &block, block.ds, head->k, head->dq);
        scale_rows(head, &block, head->dq, scales);
    }
}

/*
 * Rows of one head lie a whole token apart, too far for the processor to foresee:
 * it is told, this many rows ahead.
 */
#define ROWS_AHEAD 8

static void gather(float *rows, const float *from, int64_t stride, int64_t n,
                   int64_t HD, int64_t HDP)
{
    for (int64_t j = 0; j < n; j++, rows += HDP, from += stride) {
        for (int64_t d = 0; d < HDP; d += LANES) {
            if (j + ROWS_AHEAD < n)
                __builtin_prefetch(from + ROWS_AHEAD * stride + d);
            v_store(rows + d, d < HD ? v_load_upto(from + d, HD - d) : (vf){0});
        }
    }
}

static void scatter(float *to, int64_t stride, const float *rows, int64_t n, int64_t HD,
                    int64_t HDP)
{
    for (int64_t j = 0; j < n; j++, rows += HDP, to += stride) {
        for (int64_t d = 0; d < HD; d += LANES) {
            if (j + ROWS_AHEAD < n)
                __builtin_prefetch(to + ROWS_AHEAD * stride + d, 1);
            v_store_upto(to + d, v_load(rows + d), HD - d);
        }
    }
}

const struct prx_attention_kernels PRX_SIMD_NAME(prx_attention_kernels) = {
    .tile_cols = TILE_COLS,
    .work_floats = work_floats,
    .gather = gather,
    .scatter = scatter,
    .fwd = fwd,
    .bwd = bwd,
};
