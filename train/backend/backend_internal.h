/* SPDX-License-Identifier: Apache-2.0 */
/* What backends share: their constructors, and memory that is the host's own. */
#ifndef PRX_TRAIN_BACKEND_INTERNAL_H
#define PRX_TRAIN_BACKEND_INTERNAL_H

#include "train/backend.h"

/* Constructors; @n_threads >= 1.  *out has name, ops, n_threads and slots filled. */
PRX_MUST_USE int prx_backend_ref_open(int n_threads, struct prx_backend **out);
PRX_MUST_USE int prx_backend_cpu_open(int n_threads, struct prx_backend **out);
PRX_MUST_USE int prx_backend_fence_open(int n_threads, struct prx_backend **out);
PRX_MUST_USE int prx_backend_plan_open(int n_threads, struct prx_backend **out);

/* The memory slots of backends that compute in host memory. */
PRX_MUST_USE int prx_host_alloc(struct prx_backend *be, size_t n_bytes, void **out);
void prx_host_free(struct prx_backend *be, void *memory);
PRX_MUST_USE int prx_host_copy_in(struct prx_backend *be, void *device,
                                  const void *host, size_t n_bytes);
PRX_MUST_USE int prx_host_copy_out(struct prx_backend *be, void *host,
                                   const void *device, size_t n_bytes);
PRX_MUST_USE int prx_host_zero(struct prx_backend *be, void *device, size_t n_bytes);
PRX_MUST_USE int prx_host_sync(struct prx_backend *be);

#endif
