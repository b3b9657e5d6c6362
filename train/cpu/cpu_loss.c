/* SPDX-License-Identifier: Apache-2.0 */
/* Mean squared error; every sample's sum is one thread's, in order. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/elementwise_internal.h"

int prx_cpu_mse_fwd(prx_be *be, prx_t *loss, prx_t *per_sample, prx_ct *p,
                    prx_ct *target)
{
    const struct prx_elementwise_kernels *kernels =
        PRX_SIMD_PICK(prx_elementwise_kernels);
    struct prx_sample_dims d;
    const float *got = p->data, *want = target->data;
    double total = 0.0;
    PRX_TRY(prx_match_samples(&d, "mse_fwd", p, target, NULL, per_sample));
    PRX_TRY(prx_match_scalar("mse_fwd", loss));
    (void)be; /* a loss is small: waking threads would cost more */
    if (d.n_each == 0)
        return 0;

    for (int64_t b = 0; b < d.B; b++) {
        double sum =
            kernels->sumsq_gap(got + b * d.n_each, want + b * d.n_each, d.n_each);
        if (!prx_tensor_is_absent(per_sample))
            ((float *)per_sample->data)[b] = (float)(sum / (double)d.n_each);
        total += sum;
    }
    *(float *)loss->data = (float)(total / (double)(d.B * d.n_each));
    return 0;
}

int prx_cpu_mse_bwd(prx_be *be, prx_t *dp, bool add, prx_ct *p, prx_ct *target,
                    float weight)
{
    const struct prx_elementwise_kernels *kernels =
        PRX_SIMD_PICK(prx_elementwise_kernels);
    int64_t n;
    PRX_TRY(prx_match_elements(&n, "mse_bwd", dp, p, target));
    (void)be;
    kernels->mse_bwd(dp->data, add, p->data, target->data,
                     (float)(2.0 * weight / (double)(n > 0 ? n : 1)), n);
    return 0;
}
