/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one head of one sample, its visible keys gathered. */
#ifndef PRX_TRAIN_CPU_ATTENTION_INTERNAL_H
#define PRX_TRAIN_CPU_ATTENTION_INTERNAL_H

#include <stdint.h>

#include "libdata/simd.h"

/* Queries that are treated together; their scores are [n_keys][QUERIES]. */
#define PRX_ATTENTION_QUERIES 64

struct prx_attention_head {
    int64_t n_queries, n_keys;
    int64_t HD, HDP;    /* HDP: HD up to whole tile_cols, the width of rows */
    float scale;        /* 1/sqrt(HD) */
    const float *k, *v; /* [n_keys][HDP], zero behind HD */
    const float *q;
    float *o;
    int64_t stride; /* between tokens of q, o, and their gradients */
    float *lse;     /* [n_queries] */
    /* backward only */
    const float *do_;
    float *dq;
    float *dk, *dv; /* [n_keys][HDP], overwritten */
    float *work;    /* prx_attention_kernels.work_floats(n_keys, HDP) */
};

struct prx_attention_kernels {
    int64_t tile_cols;
    int64_t (*work_floats)(int64_t n_keys, int64_t HDP);
    /* n rows of HD floats, @stride apart, to [n][HDP] with zeros behind, and back. */
    void (*gather)(float *rows, const float *from, int64_t stride, int64_t n,
                   int64_t HD, int64_t HDP);
    void (*scatter)(float *to, int64_t stride, const float *rows, int64_t n, int64_t HD,
                    int64_t HDP);
    void (*fwd)(const struct prx_attention_head *head);
    void (*bwd)(const struct prx_attention_head *head);
};

PRX_SIMD_DECLARE(struct prx_attention_kernels, prx_attention_kernels);

#endif
