/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch folders and handmade tars. */
#include "tests/lib/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/outfile.h"

static void need(int ok)
{
    if (!ok) {
        perror("scratch");
        abort();
    }
}

void prx_scratch_open(struct prx_scratch *scratch)
{
    const char *above = getenv("TMPDIR");
    char root[512];

    *scratch = (struct prx_scratch){0};
    snprintf(root, sizeof(root), "%s/prx-test-XXXXXX", above ? above : "/tmp");
    need(mkdtemp(root) != NULL);
    need(prx_strdup(root, &scratch->root) == 0);
}

static int remove_one(const char *path, const struct stat *st, int kind,
                      struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void prx_scratch_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void prx_scratch_close(struct prx_scratch *scratch)
{
    prx_scratch_remove(scratch->root);
    free(scratch->root);
    for (size_t i = 0; i < PRX_SCRATCH_PATHS; i++)
        free(scratch->paths[i]);
    *scratch = (struct prx_scratch){0};
}

const char *prx_scratch_path(struct prx_scratch *scratch, const char *name)
{
    char **slot = &scratch->paths[scratch->i_path++ % PRX_SCRATCH_PATHS];
    struct prx_str path = {0};

    need(prx_str_printf(&path, "%s/%s", scratch->root, name) == 0);
    free(*slot);
    *slot = path.bytes;
    return *slot;
}

const char *prx_scratch_put(struct prx_scratch *scratch, const char *name,
                            const void *bytes, size_t n_bytes)
{
    const char *path = prx_scratch_path(scratch, name);
    struct prx_outfile file;

    need(prx_outfile_open(&file, path) == 0);
    need(prx_outfile_write(&file, bytes, n_bytes) == 0);
    need(prx_outfile_commit(&file, true) == 0);
    return path;
}

const char *prx_scratch_puts(struct prx_scratch *scratch, const char *name,
                             const char *text)
{
    return prx_scratch_put(scratch, name, text, strlen(text));
}

static int no_dots(const struct dirent *here)
{
    return strcmp(here->d_name, ".") != 0 && strcmp(here->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* With a hash a line a file, or without and a space. */
static void list(const char *root, const char *below, int is_hashed,
                 struct prx_str *out)
{
    struct prx_str path = {0}, deeper = {0};
    struct dirent **names;
    char hash[PRX_HASH_HEX_BYTES];
    struct stat st;

    need(prx_str_printf(&path, "%s/%s", root, below) == 0);
    int n_names = scandir(path.bytes, &names, no_dots, by_bytes);
    need(n_names >= 0);
    for (int i = 0; i < n_names; i++) {
        prx_str_reset(&path);
        prx_str_reset(&deeper);
        need(prx_str_printf(&deeper, "%s%s", below, names[i]->d_name) == 0);
        need(prx_str_printf(&path, "%s/%s", root, deeper.bytes) == 0);
        need(lstat(path.bytes, &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            need(prx_str_puts(&deeper, "/") == 0);
            list(root, deeper.bytes, is_hashed, out);
        } else if (is_hashed) {
            need(prx_hash_file(path.bytes, hash) == 0);
            need(prx_str_printf(out, "%s %s\n", deeper.bytes, hash) == 0);
        } else {
            need(prx_str_printf(out, "%s ", deeper.bytes) == 0);
        }
        free(names[i]);
    }
    free(names);
    prx_str_release(&path);
    prx_str_release(&deeper);
}

char *prx_scratch_list(const char *path)
{
    struct prx_str out = {0};

    need(prx_str_puts(&out, "") == 0);
    list(path, "", 1, &out);
    return out.bytes;
}

char *prx_scratch_names(const char *path)
{
    struct prx_str out = {0};

    need(prx_str_puts(&out, "") == 0);
    list(path, "", 0, &out);
    return out.bytes;
}

void prx_tar_add(struct prx_str *tar, const char *name, const void *bytes,
                 size_t n_bytes, const struct prx_tar_lie *lie)
{
    static const struct prx_tar_lie no_lie;
    static const char zeros[512];
    char header[512] = {0};
    size_t n_name = strlen(name);
    unsigned sum = 0;

    if (!lie)
        lie = &no_lie;
    memcpy(header, name, n_name < 100 ? n_name : 100);
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8);
    memcpy(header + 116, "0000000", 8);
    snprintf(header + 124, 12, "%011zo", n_bytes);
    if (lie->size_text)
        memcpy(header + 124, lie->size_text, (size_t)lie->size_bytes);
    memcpy(header + 136, "00000000000", 12);
    header[156] = lie->typeflag ? lie->typeflag : '0';
    if (lie->linkname)
        memcpy(header + 157, lie->linkname, strlen(lie->linkname));
    memcpy(header + 257, "ustar\00000", 8);
    if (lie->patch)
        memcpy(header + lie->patch_at, lie->patch, (size_t)lie->patch_bytes);
    memset(header + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(header); i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 7, "%06o", (sum + (lie->is_checksum_wrong != 0)) & 0777777);
    header[155] = ' ';
    need(prx_str_add(tar, header, sizeof(header)) == 0);
    need(prx_str_add(tar, bytes, n_bytes) == 0);
    need(prx_str_add(tar, zeros, -n_bytes % 512) == 0);
}

void prx_tar_end(struct prx_str *tar)
{
    static const char zeros[1024];
    need(prx_str_add(tar, zeros, sizeof(zeros)) == 0);
}
