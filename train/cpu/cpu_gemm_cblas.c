/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product by a CBLAS, such as OpenBLAS. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/gemm_internal.h"

#ifdef PRX_HAVE_CBLAS
# include <cblas.h>
# include <limits.h>

/* The interface counts in int. */
static bool is_countable(const struct prx_gemm *g)
{
    int64_t sizes[] = {g->M, g->N, g->K, g->a_row, g->a_k, g->b_k, g->b_col, g->c_row};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (sizes[i] > INT_MAX)
            return false;
    return true;
}

int prx_cpu_gemm_cblas(struct prx_backend *be, const struct prx_gemm *g)
{
    struct prx_gemm_operand a = prx_gemm_operand(g->a_row, g->a_k, g->K);
    struct prx_gemm_operand b = prx_gemm_operand(g->b_k, g->b_col, g->N);
    if (!is_countable(g))
        return prx_cpu_gemm_blocks(be, g);
# ifdef OPENBLAS_VERSION
    openblas_set_num_threads(be->n_threads);
# endif
    cblas_sgemm(CblasRowMajor, a.plain ? CblasNoTrans : CblasTrans,
                b.plain ? CblasNoTrans : CblasTrans, (int)g->M, (int)g->N, (int)g->K,
                1.0F, g->a, (int)a.stride, g->b, (int)b.stride, g->add ? 1.0F : 0.0F,
                g->c, (int)g->c_row);
    return 0;
}
#endif
