/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product: a library's where one is built in, else the suite's own. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/gemm_internal.h"

#include <string.h>

#if defined(PRX_HAVE_ONEDNN)
# define LIBRARY_GEMM prx_cpu_gemm_onednn
#elif defined(PRX_HAVE_CBLAS)
# define LIBRARY_GEMM prx_cpu_gemm_cblas
#endif

/* c = bias in every row, or 0: what the sum over no k is, and what one is added to. */
static void fill_bias(const struct prx_gemm *g)
{
    for (int64_t i = 0; i < g->M; i++) {
        float *row = g->c + i * g->c_row;
        if (g->bias)
            memcpy(row, g->bias, (size_t)g->N * sizeof(float));
        else
            memset(row, 0, (size_t)g->N * sizeof(float));
    }
}

int prx_cpu_gemm(struct prx_backend *be, const struct prx_gemm *gemm)
{
    if (gemm->M == 0 || gemm->N == 0)
        return 0;
    if (gemm->K == 0) {
        if (!gemm->add)
            fill_bias(gemm);
        return 0;
    }
#ifdef LIBRARY_GEMM
    struct prx_gemm plain = *gemm;
    if (gemm->bias) {
        fill_bias(gemm);
        plain.bias = NULL;
        plain.add = true;
    }
    return LIBRARY_GEMM(be, &plain);
#else
    return prx_cpu_gemm_blocks(be, gemm);
#endif
}
