/* SPDX-License-Identifier: Apache-2.0 */
/* Which optimiser takes a parameter, and by which factors: by its name and shape. */
#include <fnmatch.h>
#include <string.h>

#include "train/optim.h"

const char *prx_optim_kind_name(enum prx_optim_kind kind)
{
    return kind == PRX_OPTIM_MUON ? "muon" : "adamw";
}

bool prx_muon_takes(const char *name, int n_dims, const char *filter)
{
    return n_dims == 2 && strstr(name, filter);
}

/* The factor of the first pattern that matches; all that do are marked in @met. */
static double scale_of(const struct prx_conf_weights *scales, const char *name,
                       bool *met)
{
    double scale = 1.0;
    bool is_found = false;

    for (int i = 0; i < scales->n; i++) {
        if (fnmatch(scales->names[i], name, 0) != 0)
            continue;
        if (!is_found)
            scale = scales->weights[i];
        is_found = true;
        met[i] = true;
    }
    return scale;
}

struct prx_optim_rule prx_optim_rule(const struct prx_optim_config *config,
                                     const char *name, int n_dims,
                                     struct prx_optim_met *met)
{
    const char *filter = config->muon.filter ? config->muon.filter : PRX_MUON_FILTER;
    bool is_muon =
        config->kind == PRX_OPTIM_MUON && prx_muon_takes(name, n_dims, filter);

    return (struct prx_optim_rule){
        .kind = is_muon ? PRX_OPTIM_MUON : PRX_OPTIM_ADAMW,
        .lr_scale = scale_of(&config->lr_scale, name, met->lr_scale),
        .decay_scale = scale_of(&config->decay_scale, name, met->decay_scale),
    };
}

static int check(const char *key, const struct prx_conf_weights *scales,
                 const bool *met)
{
    for (int i = 0; i < scales->n; i++)
        if (!met[i])
            return prx_err(PRX_EINVAL, "%s: \"%s\" matches no parameter", key,
                           scales->names[i]);
    return 0;
}

int prx_optim_check_met(const struct prx_optim_config *config,
                        const struct prx_optim_met *met)
{
    PRX_TRY(check("optim.lr_scale", &config->lr_scale, met->lr_scale));
    return check("optim.decay_scale", &config->decay_scale, met->decay_scale);
}
