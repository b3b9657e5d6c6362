/* SPDX-License-Identifier: Apache-2.0 */
/* Mean squared error. */
#include "train/ref/ref_internal.h"

int prx_ref_mse_fwd(prx_be *be, prx_t *loss, prx_t *per_sample, prx_ct *p,
                    prx_ct *target)
{
    struct prx_sample_dims d;
    bool wants_samples = !prx_tensor_is_absent(per_sample);
    double total = 0.0;
    (void)be;
    PRX_TRY(prx_match_samples(&d, "mse_fwd", p, target, NULL, per_sample));
    PRX_TRY(prx_match_scalar("mse_fwd", loss));
    if (d.n_each == 0)
        return 0;

    for (int64_t b = 0; b < d.B; b++) {
        double sum = 0.0;
        for (int64_t i = b * d.n_each; i < (b + 1) * d.n_each; i++) {
            double gap =
                (double)((const float *)p->data)[i] - ((const float *)target->data)[i];
            sum += gap * gap;
        }
        if (wants_samples)
            ((float *)per_sample->data)[b] = (float)(sum / (double)d.n_each);
        total += sum;
    }
    *(float *)loss->data = (float)(total / (double)(d.B * d.n_each));
    return 0;
}

int prx_ref_mse_bwd(prx_be *be, prx_t *dp, bool add, prx_ct *p, prx_ct *target,
                    float weight)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "mse_bwd", dp, p, target));

    for (int64_t i = 0; i < n; i++) {
        double gap =
            (double)((const float *)p->data)[i] - ((const float *)target->data)[i];
        float *out = (float *)dp->data + i;
        double before = add ? *out : 0.0;
        *out = (float)(before + 2.0 * weight * gap / (double)n);
    }
    return 0;
}
