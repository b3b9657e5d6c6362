/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where several processes of one run wait for the first: it lists the samples before
 * they do, and says which checkpoint they go on from.
 */
#include <stdlib.h>
#include <string.h>

#include "train/run/train_internal.h"

/* What the others are told of the first one's listing. */
struct listed {
    char fingerprint[PRX_HASH_HEX_BYTES];
    bool is_spooled;
};

static int list(struct prx_train_data *data, const struct prx_run_opts *opts,
                struct listed *out)
{
    struct prx_loader_summary summary;

    PRX_TRY(prx_train_data_open(data, opts));
    prx_loader_summary(data->loader, &summary);
    memcpy(out->fingerprint, summary.fingerprint, sizeof(out->fingerprint));
    out->is_spooled = summary.is_spooled;
    return 0;
}

int prx_train_data_open_all(struct prx_train_data *data,
                            const struct prx_run_opts *opts)
{
    struct prx_dist *dist = opts->dist;
    struct listed first = {0}, own = {0};
    int rc = 0;

    if (prx_dist_is_first(dist))
        rc = list(data, opts, &first);
    PRX_TRY(prx_dist_agree(dist, rc));
    PRX_TRY(prx_dist_share(dist, &first, sizeof(first)));
    if (!prx_dist_is_first(dist)) {
        data->is_spooled = first.is_spooled;
        rc = list(data, opts, &own);
        if (rc == 0 && strcmp(own.fingerprint, first.fingerprint) != 0)
            rc = prx_err(PRX_EINVAL, "these are other samples than rank 0 has found");
    }
    return prx_dist_agree(dist, rc);
}

int prx_checkpoint_newest_all(const char *run_dir, struct prx_dist *dist, char **out)
{
    size_t n_bytes = 0;
    int rc = 0;

    *out = NULL;
    if (prx_dist_is_first(dist))
        rc = prx_checkpoint_newest(run_dir, out);
    PRX_TRY(prx_dist_agree(dist, rc));
    if (*out)
        n_bytes = strlen(*out) + 1;
    PRX_TRY(prx_dist_share(dist, &n_bytes, sizeof(n_bytes)));
    if (!*out) {
        *out = malloc(n_bytes);
        rc = *out ? 0 : prx_err_nomem(run_dir);
    }
    PRX_TRY(prx_dist_agree(dist, rc));
    return prx_dist_share(dist, *out, n_bytes);
}
