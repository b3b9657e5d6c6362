/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run's folder: whose it is, and what an earlier run left in it.
 *
 * The lock is one of the kernel's, so a killed run leaves none behind.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"
#include "train/run.h"

/* What a run writes beside its checkpoints; the first ones do not make it begun. */
static const char *const names[] = {".lock", "recipe.yaml", "spool",
                                    "log.jsonl", "tensorboard",
                                    "samples", "loss.gnuplot", "loss.svg"};
#define N_NAMES        (sizeof(names) / sizeof(names[0]))
#define N_NAMES_BEFORE 3

static bool is_one_of(const char *name, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Refuse a folder that holds anything but what a run writes before its first step. */
static int check_fresh(const char *run_dir)
{
    DIR *list = opendir(run_dir);
    int rc = 0;

    if (!list)
        return prx_err_sys("%s", run_dir);
    for (const struct dirent *at; rc == 0 && (at = readdir(list)) != NULL;) {
        const char *name = at->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            is_one_of(name, N_NAMES_BEFORE))
            continue;
        rc = prx_err(PRX_EEXIST,
                     "%s: is not empty; --resume goes on, --overwrite begins anew",
                     run_dir);
    }
    closedir(list);
    return rc;
}

/* Remove what a run has written here, and nothing else. */
static int clear(const char *run_dir)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_checkpoint_remove_all(run_dir));
    for (size_t i = 1; i < N_NAMES; i++) {
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%s/%s", run_dir, names[i]));
        PRX_GO(prx_remove_tree(path.bytes));
    }
out:
    prx_str_release(&path);
    return rc;
}

static int take_lock(const char *run_dir, int *lock_fd)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/.lock", run_dir));
    *lock_fd = open(path.bytes, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock_fd < 0) {
        rc = prx_err_sys("%s", path.bytes);
    } else if (flock(*lock_fd, LOCK_EX | LOCK_NB) != 0) {
        rc = errno == EWOULDBLOCK
                 ? prx_err(PRX_EEXIST, "%s: another process trains here", run_dir)
                 : prx_err_sys("%s", path.bytes);
        close(*lock_fd);
        *lock_fd = -1;
    }
out:
    prx_str_release(&path);
    return rc;
}

int prx_run_dir_open(const char *run_dir, bool resume, bool overwrite, int *lock_fd)
{
    int rc = 0;

    *lock_fd = -1;
    PRX_GO(prx_mkdirs(run_dir));
    PRX_GO(take_lock(run_dir, lock_fd));
    if (overwrite)
        rc = clear(run_dir);
    else if (!resume)
        rc = check_fresh(run_dir);
out:
    if (rc < 0 && *lock_fd >= 0) {
        close(*lock_fd);
        *lock_fd = -1;
    }
    return rc;
}
