/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/backends.h"

#include "train/backend.h"

int prx_open_ref(void **state)
{
    return prx_backend_open("ref", 0, (struct prx_backend **)state);
}

int prx_open_cpu(void **state)
{
    return prx_backend_open("cpu", 2, (struct prx_backend **)state);
}

int prx_close_backend(void **state)
{
    prx_backend_close(*state);
    return 0;
}
