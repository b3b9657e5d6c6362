/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of a run as folders: whole or not, newest, too many. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/buf.h"
#include "libdata/log.h"
#include "libdata/outfile.h"
#include "train/checkpoint.h"
#include "train/run/checkpoint_internal.h"

#define PREFIX             "ckpt-"
#define MANIFEST           "manifest.json"
#define MANIFEST_KIND      "prx-checkpoint-1"
#define MANIFEST_BYTES_MAX (1u << 20)

/* Every folder and file a checkpoint may have; absent ones are just not summed. */
static const char *const folders[] = {"", "transformer", "ema", "scheduler", "trainer"};

/* --- the manifest ------------------------------------------------------------- */

static int add_sum(json_t *files, const char *dir, const char *name)
{
    char sum[PRX_HASH_HEX_BYTES];
    struct prx_str path = {0};
    struct stat status;
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s", dir, name));
    if (stat(path.bytes, &status) != 0) {
        rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    PRX_GO(prx_hash_file(path.bytes, sum));
    if (json_object_set_new(files, name,
                            json_pack("{s:I, s:s}", "bytes", (json_int_t)status.st_size,
                                      "xxh128", sum)) != 0)
        rc = prx_err_nomem(path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

/* Sum the files of folder @folder of @dir; a missing folder has none. */
static int add_folder(json_t *files, const char *dir, const char *folder)
{
    struct prx_str path = {0}, name = {0};
    DIR *list = NULL;
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s", dir, folder));
    list = opendir(path.bytes);
    if (!list && errno == ENOENT)
        goto out;
    if (!list) {
        rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    for (const struct dirent *at; (at = readdir(list)) != NULL;) {
        if (at->d_name[0] == '.' || !strchr(at->d_name, '.'))
            continue;
        prx_str_reset(&name);
        PRX_GO(prx_str_printf(&name, "%s%s%s", folder, folder[0] ? "/" : "",
                              at->d_name));
        PRX_GO(add_sum(files, dir, name.bytes));
    }
    /* The files themselves were synced when they were written. */
    PRX_GO(prx_str_puts(&path, "/."));
    rc = prx_sync_dir(path.bytes);
out:
    if (list)
        closedir(list);
    prx_str_release(&path);
    prx_str_release(&name);
    return rc;
}

int prx_checkpoint_manifest_write(const char *dir)
{
    json_t *files = json_object();
    json_t *manifest = json_pack("{s:s, s:o}", "kind", MANIFEST_KIND, "files", files);
    struct prx_str path = {0};
    char *text = NULL;
    int rc = 0;

    if (!manifest)
        return prx_err_nomem("a manifest");
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        PRX_GO(add_folder(files, dir, folders[i]));
    text = json_dumps(manifest, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!text) {
        rc = prx_err_nomem("a manifest");
        goto out;
    }
    PRX_GO(prx_str_printf(&path, "%s/" MANIFEST, dir));
    rc = prx_file_put(path.bytes, text, strlen(text));
out:
    free(text);
    prx_str_release(&path);
    json_decref(manifest);
    return rc;
}

static int check_sum(const char *dir, const char *name, const json_t *wanted)
{
    const char *sum = json_string_value(json_object_get(wanted, "xxh128"));
    json_int_t n_bytes = json_integer_value(json_object_get(wanted, "bytes"));
    char found[PRX_HASH_HEX_BYTES];
    struct prx_str path = {0};
    struct stat status;
    int rc = 0;

    if (!sum || strstr(name, "..") || name[0] == '/')
        return prx_err(PRX_ECORRUPT, "%s/" MANIFEST ": %s has no sum", dir, name);
    PRX_GO(prx_str_printf(&path, "%s/%s", dir, name));
    if (stat(path.bytes, &status) != 0)
        rc = prx_err(PRX_ECORRUPT, "%s: is missing", path.bytes);
    else if (status.st_size != n_bytes)
        rc = prx_err(PRX_ECORRUPT, "%s: is %lld bytes, not %lld", path.bytes,
                     (long long)status.st_size, (long long)n_bytes);
    if (rc < 0)
        goto out;
    PRX_GO(prx_hash_file(path.bytes, found));
    if (strcmp(found, sum) != 0)
        rc = prx_err(PRX_ECORRUPT, "%s: its bytes have changed", path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

int prx_checkpoint_check(const char *path)
{
    struct prx_str name = {0};
    struct prx_buf *bytes = NULL;
    json_t *manifest = NULL;
    const char *key;
    json_t *value;
    int rc = 0;

    PRX_GO(prx_str_printf(&name, "%s/" MANIFEST, path));
    PRX_GO(prx_file_get(name.bytes, MANIFEST_BYTES_MAX, &bytes));
    manifest = json_loadb((const char *)bytes->bytes, bytes->n_bytes, 0, NULL);
    json_t *files = json_object_get(manifest, "files");
    if (json_object_size(files) == 0) {
        rc = prx_err(PRX_ECORRUPT, "%s: not a manifest", name.bytes);
        goto out;
    }
    json_object_foreach(files, key, value) PRX_GO(check_sum(path, key, value));
out:
    json_decref(manifest);
    prx_buf_unref(bytes);
    prx_str_release(&name);
    return rc;
}

/* --- the checkpoints of a run --------------------------------------------------- */

struct steps {
    int64_t *values;
    size_t n;
    size_t cap;
};

/* The step of the folder name @name; < 0: it is no checkpoint's. */
static int64_t parse_step(const char *name)
{
    char *end;

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return -1;
    const char *digits = name + strlen(PREFIX);
    if (strlen(digits) < 7 || strspn(digits, "0123456789") != strlen(digits))
        return -1;
    errno = 0;
    long long step = strtoll(digits, &end, 10);
    return errno == 0 ? step : -1;
}

static int add_step(struct steps *steps, int64_t step)
{
    if (steps->n == steps->cap) {
        size_t cap = steps->cap ? steps->cap * 2 : 16;
        int64_t *grown = realloc(steps->values, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of checkpoints");
        steps->values = grown;
        steps->cap = cap;
    }
    steps->values[steps->n++] = step;
    return 0;
}

static int is_older(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? 1 : left > right ? -1
                                           : 0;
}

/* Steps of all checkpoints of @run_dir, newest first. */
static int list_steps(const char *run_dir, struct steps *out)
{
    DIR *list = opendir(run_dir);
    int rc = 0;

    if (!list)
        return prx_err_sys("%s", run_dir);
    for (const struct dirent *at; rc == 0 && (at = readdir(list)) != NULL;) {
        int64_t step = parse_step(at->d_name);
        if (step >= 0)
            rc = add_step(out, step);
    }
    closedir(list);
    if (out->n > 0)
        qsort(out->values, out->n, sizeof(*out->values), is_older);
    return rc;
}

int prx_checkpoint_path(const char *run_dir, int64_t step, char **out)
{
    struct prx_str path = {0};

    PRX_TRY(prx_str_printf(&path, "%s/" PREFIX "%07" PRId64, run_dir, step));
    *out = path.bytes;
    return 0;
}

int prx_checkpoint_newest(const char *run_dir, char **out)
{
    struct steps steps = {0};
    char *path = NULL;
    int rc = 0;

    *out = NULL;
    PRX_GO(list_steps(run_dir, &steps));
    for (size_t i = 0; i < steps.n; i++) {
        PRX_GO(prx_checkpoint_path(run_dir, steps.values[i], &path));
        rc = prx_checkpoint_check(path);
        if (rc == 0) {
            *out = path;
            path = NULL;
            goto out;
        }
        prx_log_warning("%s; this checkpoint is passed over", prx_err_message());
        free(path);
        path = NULL;
    }
    rc = prx_err(PRX_ENOENT, "%s: holds no %scheckpoint", run_dir,
                 steps.n > 0 ? "whole " : "");
out:
    free(path);
    free(steps.values);
    return rc;
}

/* Remove what a kill left: .ckpt-NNNNNNN.tmp.PID and .old.PID. */
static int remove_remains(const char *run_dir)
{
    struct prx_str path = {0};
    DIR *list = opendir(run_dir);
    int rc = 0;

    if (!list)
        return prx_err_sys("%s", run_dir);
    for (const struct dirent *at; (at = readdir(list)) != NULL;) {
        if (strncmp(at->d_name, "." PREFIX, strlen("." PREFIX)) != 0)
            continue;
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%s/%s", run_dir, at->d_name));
        PRX_GO(prx_remove_tree(path.bytes));
    }
out:
    closedir(list);
    prx_str_release(&path);
    return rc;
}

/* Remove all but the @n_keep newest, and remains. */
static int remove_older(const char *run_dir, size_t n_keep)
{
    struct steps steps = {0};
    char *path = NULL;
    int rc = 0;

    PRX_GO(remove_remains(run_dir));
    PRX_GO(list_steps(run_dir, &steps));
    for (size_t i = n_keep; i < steps.n; i++) {
        PRX_GO(prx_checkpoint_path(run_dir, steps.values[i], &path));
        PRX_GO(prx_checkpoint_remove(path));
        free(path);
        path = NULL;
    }
out:
    free(path);
    free(steps.values);
    return rc;
}

int prx_checkpoint_prune(const char *run_dir, int64_t n_keep)
{
    return remove_older(run_dir, n_keep > 0 ? (size_t)n_keep : SIZE_MAX);
}

int prx_checkpoint_remove_all(const char *run_dir)
{
    return remove_older(run_dir, 0);
}

static int remove_one(const char *path, const struct stat *status, int kind,
                      struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

int prx_remove_tree(const char *path)
{
    /* Deepest first; a link is removed, never followed. */
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return prx_err_sys("%s", path);
    return 0;
}
