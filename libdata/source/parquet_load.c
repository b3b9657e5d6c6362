/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared object that reads Parquet, found from where the program is.
 *
 * It takes its errors and buffers from the program, which therefore exports the names
 * that begin with prx_.
 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "libdata/source/parquet_internal.h"

static const char *const places[] = {
    "libprx-parquet.so",            /* beside the programs */
    "../lib/prx/libprx-parquet.so", /* installed */
    "../../bin/libprx-parquet.so",  /* seen from the tests */
    "../../../bin/libprx-parquet.so",
};

static const struct prx_parquet_ops *loaded;
static struct prx_error failure;

static int find_folder(struct prx_str *folder)
{
    char path[PATH_MAX];
    ssize_t n_bytes = readlink("/proc/self/exe", path, sizeof(path));

    if (n_bytes < 0)
        return prx_err_sys("/proc/self/exe");
    while (n_bytes > 0 && path[n_bytes - 1] != '/')
        n_bytes--;
    return prx_str_add(folder, path, (size_t)n_bytes);
}

static int load_from(const char *path)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    loaded = object ? dlsym(object, PRX_PARQUET_OPS) : NULL;
    return loaded ? 0 : prx_err(PRX_EINVAL, "no Parquet is read: %s", dlerror());
}

static int load(void)
{
    struct prx_str path = {0};
    int rc = 0;

    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        prx_str_reset(&path);
        PRX_GO(find_folder(&path));
        PRX_GO(prx_str_puts(&path, places[i]));
        if (access(path.bytes, F_OK) < 0)
            continue;
        rc = load_from(path.bytes);
        goto out;
    }
    rc = prx_err(PRX_EINVAL, "no Parquet is read: %s is not there", places[0]);
out:
    prx_str_release(&path);
    return rc;
}

static void load_once(void)
{
    if (load() < 0)
        prx_err_save(&failure);
}

int prx_parquet_load(const struct prx_parquet_ops **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, load_once);
    *out = loaded;
    return loaded ? 0 : prx_err_restore(&failure);
}
