/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The optimiser of a parameter store: its rules once, then a few ops a step.
 *
 * A step takes the parameters group by group: those of one optimiser and the same
 * factors of rate and decay go into one op.
 */
#include <stdlib.h>

#include "train/optim/optim_internal.h"

/* Of Jordan et al. 2024, and so of both implementations in use. */
#define NS_A     3.4445
#define NS_B     (-4.7750)
#define NS_C     2.0315
#define MUON_EPS 1e-7

/* --- life ------------------------------------------------------------------------- */

static int make_rules(struct prx_optim *optim, const struct prx_optim_config *config)
{
    struct prx_param_store *store = optim->store;
    struct prx_optim_met met = {0};

    for (size_t i = 0; i < store->n_params; i++) {
        const struct prx_param *param = store->params[i];
        optim->rules[i] =
            prx_optim_rule(config, param->name, param->value.n_dims, &met);
    }
    PRX_TRY(prx_optim_check_met(config, &met));
    for (size_t i = 0; i < store->n_params; i++)
        if (optim->rules[i].lr_scale == 0.0)
            prx_param_freeze(store, store->params[i]);
    return 0;
}

static int make_state(struct prx_optim *optim)
{
    struct prx_param_store *store = optim->store;
    bool *is_wanted = calloc(store->n_params + 1, sizeof(*is_wanted));
    int rc = 0;

    if (!is_wanted)
        return prx_err_nomem("an optimiser");
    for (size_t i = 0; i < store->n_params; i++)
        is_wanted[i] = optim->rules[i].lr_scale != 0.0;
    PRX_GO(prx_optim_state_new(store, store->dtype, is_wanted, &optim->m));
    for (size_t i = 0; i < store->n_params; i++)
        is_wanted[i] &= optim->rules[i].kind == PRX_OPTIM_ADAMW;
    rc = prx_optim_state_new(store, store->dtype, is_wanted, &optim->v);
out:
    free(is_wanted);
    return rc;
}

int prx_optim_new(struct prx_param_store *store, const struct prx_optim_config *config,
                  struct prx_optim **out)
{
    struct prx_optim *optim = calloc(1, sizeof(*optim));
    size_t n = store->n_params + 1;
    int rc = 0;

    if (!optim)
        return prx_err_nomem("an optimiser");
    *optim = (struct prx_optim){
        .store = store,
        .kind = (enum prx_optim_kind)config->kind,
        .adamw = config->adamw,
        .muon = config->muon,
        .rules = calloc(n, sizeof(*optim->rules)),
        .slots = calloc(n, sizeof(*optim->slots)),
        .muon_slots = calloc(n, sizeof(*optim->muon_slots)),
    };
    if (!optim->rules || !optim->slots || !optim->muon_slots)
        PRX_GO(prx_err_nomem("an optimiser"));
    if (optim->kind == PRX_OPTIM_MUON)
        optim->adamw.eps = config->muon.adam_eps;
    PRX_GO(make_rules(optim, config));
    PRX_GO(make_state(optim));
    *out = optim;
    optim = NULL;
out:
    prx_optim_free(optim);
    return rc;
}

void prx_optim_free(struct prx_optim *optim)
{
    if (!optim)
        return;
    prx_optim_state_free(optim->store, optim->m);
    prx_optim_state_free(optim->store, optim->v);
    free(optim->rules);
    free(optim->slots);
    free(optim->muon_slots);
    free(optim);
}

/* --- steps ------------------------------------------------------------------------ */

/* One optimiser, one pair of factors. */
static bool is_same_group(const struct prx_optim_rule *a,
                          const struct prx_optim_rule *b)
{
    return a->kind == b->kind && a->lr_scale == b->lr_scale &&
           a->decay_scale == b->decay_scale;
}

static bool is_trained(const struct prx_optim *optim, size_t i)
{
    return optim->store->params[i]->grad.data != NULL;
}

/* Whether parameter @i is the first of its group that is trained. */
static bool is_first(const struct prx_optim *optim, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (is_trained(optim, j) && is_same_group(&optim->rules[j], &optim->rules[i]))
            return false;
    return is_trained(optim, i);
}

static int adamw_group(struct prx_optim *optim, const struct prx_optim_rule *rule,
                       double lr, double grad_scale)
{
    const struct prx_param_store *store = optim->store;
    const struct prx_adamw_config *config = &optim->adamw;
    const struct prx_adamw_args args = {
        .lr = lr * rule->lr_scale,
        .beta1 = config->beta1,
        .beta2 = config->beta2,
        .eps = config->eps,
        .weight_decay = config->weight_decay * rule->decay_scale,
        .step = optim->n_steps + 1,
        .grad_scale = grad_scale,
    };
    size_t n_slots = 0;

    /* Gathered anew: an exchange of averages and weights moves the values. */
    for (size_t i = 0; i < store->n_params; i++)
        if (is_trained(optim, i) && is_same_group(&optim->rules[i], rule))
            optim->slots[n_slots++] = (struct prx_adamw_slot){
                .p = store->params[i]->value,
                .g = store->params[i]->grad,
                .m = optim->m[i],
                .v = optim->v[i],
            };
    return store->be->ops->adamw(store->be, optim->slots, n_slots, &args);
}

static int muon_group(struct prx_optim *optim, const struct prx_optim_rule *rule,
                      double lr, double grad_scale)
{
    const struct prx_param_store *store = optim->store;
    const struct prx_muon_config *config = &optim->muon;
    const struct prx_muon_args args = {
        .lr = lr * rule->lr_scale,
        .momentum = config->momentum,
        .nesterov = config->nesterov,
        .weight_decay = config->weight_decay * rule->decay_scale,
        .ns_steps = (int)config->ns_steps,
        .a = NS_A,
        .b = NS_B,
        .c = NS_C,
        .eps = MUON_EPS,
        .eps_mode = (enum prx_muon_eps)config->eps_mode,
        .rms_scale = config->rms_scale,
        .bf16 = config->dtype == PRX_BF16,
        .grad_scale = grad_scale,
    };
    size_t n_slots = 0;

    for (size_t i = 0; i < store->n_params; i++)
        if (is_trained(optim, i) && is_same_group(&optim->rules[i], rule))
            optim->muon_slots[n_slots++] = (struct prx_muon_slot){
                .p = store->params[i]->value,
                .g = store->params[i]->grad,
                .m = optim->m[i],
            };
    return store->be->ops->muon(store->be, optim->muon_slots, n_slots, &args);
}

int prx_optim_step(struct prx_optim *optim, double lr, double grad_scale)
{
    for (size_t i = 0; i < optim->store->n_params; i++) {
        const struct prx_optim_rule *rule = &optim->rules[i];
        if (!is_first(optim, i))
            continue;
        if (rule->kind == PRX_OPTIM_MUON)
            PRX_TRY(muon_group(optim, rule, lr, grad_scale));
        else
            PRX_TRY(adamw_group(optim, rule, lr, grad_scale));
    }
    optim->n_steps++;
    return 0;
}
