/* SPDX-License-Identifier: Apache-2.0 */
/* Muon: momentum, made nearly orthogonal by Newton-Schulz iterations. */
#include <math.h>
#include <stdlib.h>

#include "train/ref/ref_internal.h"

/* X [S, L] with S <= L, and what an iteration makes of it. */
struct iteration {
    const struct prx_muon_args *args;
    int64_t S, L;
    double *x;  // [S, L]
    double *bx; // [S, L]
    double *a;  // [S, S]
    double *b;  // [S, S]
};

/* Rounding of what every bf16 implementation stores. */
static double stored(const struct prx_muon_args *args, double value)
{
    return args->bf16 ? (double)prx_bf16_round((float)value) : value;
}

/* Rounding of what only the one that adds eps has as a tensor of its own. */
static double each(const struct prx_muon_args *args, double value)
{
    return args->eps_mode == PRX_MUON_EPS_ADD ? stored(args, value) : value;
}

static void iterate(const struct iteration *it)
{
    const struct prx_muon_args *args = it->args;
    int64_t S = it->S, L = it->L;

    for (int64_t i = 0; i < S; i++) {
        for (int64_t j = 0; j < S; j++) {
            double sum = 0;
            for (int64_t k = 0; k < L; k++)
                sum += it->x[i * L + k] * it->x[j * L + k];
            it->a[i * S + j] = stored(args, sum);
        }
    }
    for (int64_t i = 0; i < S; i++) {
        for (int64_t j = 0; j < S; j++) {
            double sum = 0;
            for (int64_t k = 0; k < S; k++)
                sum += each(args, args->c * it->a[i * S + k]) * it->a[k * S + j];
            it->b[i * S + j] = stored(args, each(args, args->b * it->a[i * S + j]) +
                                                each(args, sum));
        }
    }
    for (int64_t i = 0; i < S; i++) {
        for (int64_t j = 0; j < L; j++) {
            double sum = 0;
            for (int64_t k = 0; k < S; k++)
                sum += it->b[i * S + k] * it->x[k * L + j];
            it->bx[i * L + j] = each(args, sum);
        }
    }
    for (int64_t i = 0; i < S * L; i++)
        it->x[i] = stored(args, each(args, args->a * it->x[i]) + it->bx[i]);
}

static void orthogonalise(const struct iteration *it)
{
    const struct prx_muon_args *args = it->args;
    double sum = 0;

    for (int64_t i = 0; i < it->S * it->L; i++)
        sum += it->x[i] * it->x[i];
    double norm = stored(args, sqrt(sum)), eps = stored(args, args->eps);
    double divisor = args->eps_mode == PRX_MUON_EPS_ADD ? stored(args, norm + args->eps)
                                                        : fmax(norm, eps);
    for (int64_t i = 0; i < it->S * it->L; i++)
        it->x[i] = stored(args, it->x[i] / divisor);
    for (int i = 0; i < args->ns_steps; i++)
        iterate(it);
}

static double size_of_update(const struct prx_muon_args *args, double O, double I)
{
    return args->rms_scale ? 0.2 * sqrt(fmax(O, I)) : sqrt(fmax(1, O / I));
}

static void step(const struct iteration *it, const struct prx_muon_slot *slot)
{
    const struct prx_muon_args *args = it->args;
    int64_t O = slot->p.dims[0], I = slot->p.dims[1];
    double mu = args->momentum;
    double rate = args->lr * size_of_update(args, (double)O, (double)I);
    const float *g = slot->g.data;

    for (int64_t i = 0; i < O * I; i++) {
        double grad = args->grad_scale * g[i];
        double m = mu * prx_ref_get(&slot->m, i) + (1 - mu) * grad;
        double u = args->nesterov ? mu * m + (1 - mu) * grad : m;
        int64_t at = O > I ? i % I * O + i / I : i;
        prx_ref_set(&slot->m, i, m);
        it->x[at] = stored(args, u);
    }
    orthogonalise(it);
    for (int64_t i = 0; i < O * I; i++) {
        int64_t at = O > I ? i % I * O + i / I : i;
        double kept = prx_ref_get(&slot->p, i) * (1 - args->lr * args->weight_decay);
        prx_ref_set(&slot->p, i, kept - rate * it->x[at]);
    }
}

int prx_ref_muon(prx_be *be, const struct prx_muon_slot *slots, size_t n,
                 const struct prx_muon_args *args)
{
    (void)be;
    PRX_TRY(prx_match_muon("muon", n, slots));

    for (size_t i = 0; i < n; i++) {
        int64_t O = slots[i].p.dims[0], I = slots[i].p.dims[1];
        int64_t S = O < I ? O : I, L = O < I ? I : O;
        double *memory = calloc((size_t)(2 * S * (L + S)) + 1, sizeof(*memory));
        if (!memory)
            return prx_err_nomem("matrices of muon");
        const struct iteration it = {
            .args = args,
            .S = S,
            .L = L,
            .x = memory,
            .bx = memory + S * L,
            .a = memory + 2 * S * L,
            .b = memory + 2 * S * L + S * S,
        };
        step(&it, &slots[i]);
        free(memory);
    }
    return 0;
}
