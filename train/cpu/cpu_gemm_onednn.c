/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product by oneDNN. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/gemm_internal.h"

#ifdef PRX_HAVE_ONEDNN
# include <dnnl.h>
# ifdef _OPENMP
#  include <omp.h>
# endif

/* The library runs on as many threads as the calling one has set for its teams. */
static int set_threads(int n_threads)
{
# ifdef _OPENMP
    int n_before = omp_get_max_threads();
    omp_set_num_threads(n_threads);
    return n_before;
# else
    return n_threads;
# endif
}

int prx_cpu_gemm_onednn(struct prx_backend *be, const struct prx_gemm *g)
{
    struct prx_gemm_operand a = prx_gemm_operand(g->a_row, g->a_k, g->K);
    struct prx_gemm_operand b = prx_gemm_operand(g->b_k, g->b_col, g->N);
    int n_before = set_threads(be->n_threads);
    dnnl_status_t status = dnnl_sgemm(a.plain ? 'N' : 'T', b.plain ? 'N' : 'T', g->M,
                                      g->N, g->K, 1.0F, g->a, a.stride, g->b, b.stride,
                                      g->add ? 1.0F : 0.0F, g->c, g->c_row);
    (void)set_threads(n_before);
    if (status != dnnl_success)
        return prx_err(PRX_EDEVICE, "matrix product: oneDNN status %d", (int)status);
    return 0;
}
#endif
