/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user's words mean: which inputs, each of which kind.
 *
 * A word that names something that is there is taken literally; otherwise its
 * scheme decides; otherwise braces are spelled out, then globs are matched.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/index.h"
#include "libdata/path.h"
#include "libdata/skip.h"
#include "libdata/source/source_internal.h"

#define N_FILES_MAX ((size_t)1 << 20) /* that braces may spell out */

/* The first that takes a path reads it. */
static const struct prx_source_kind *const kinds[] = {
    &prx_source_tar_kind,
    &prx_source_list_kind,
    &prx_source_lmdb_kind, /* a folder with data.mdb */
    &prx_source_mds_kind,  /* a folder with its index */
    &prx_source_dir_kind,  /* any folder */
    &prx_source_http_kind,
    &prx_source_https_kind,
    &prx_source_pipe_kind,
};

#define N_KINDS (sizeof(kinds) / sizeof(*kinds))

void prx_inputs_release(struct prx_inputs *all)
{
    for (size_t i = 0; i < all->n_inputs; i++)
        free(all->inputs[i].path);
    free(all->inputs);
    *all = (struct prx_inputs){0};
}

int prx_inputs_add(struct prx_inputs *all, const struct prx_source_kind *kind,
                   const char *path, uint64_t n_samples)
{
    if (all->n_inputs == all->cap_inputs) {
        size_t cap = all->cap_inputs ? all->cap_inputs * 2 : 16;
        struct prx_input *grown = realloc(all->inputs, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of inputs");
        all->inputs = grown;
        all->cap_inputs = cap;
    }
    struct prx_input *input = &all->inputs[all->n_inputs];
    *input = (struct prx_input){.kind = kind, .n_samples = n_samples};
    PRX_TRY(prx_strdup(path, &input->path));
    all->n_inputs++;
    return 0;
}

bool prx_path_ends_with(const char *path, const char *const *ends)
{
    size_t n_path = strlen(path);

    for (size_t i = 0; ends[i]; i++) {
        size_t n_end = strlen(ends[i]);
        if (n_path > n_end && strcmp(path + n_path - n_end, ends[i]) == 0)
            return true;
    }
    return false;
}

/* Who reads what is at @path, or NULL. */
static const struct prx_source_kind *kind_of(const char *path, const struct stat *st)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (kinds[i]->takes && kinds[i]->takes(path, st))
            return kinds[i];
    return NULL;
}

/* How many of a shard's @n_samples its skip list leaves, if all it names are there. */
static int count_seen(const char *path, const struct prx_source_opts *opts,
                      uint64_t n_samples, uint64_t *out)
{
    struct prx_skip skip = {0};

    if (!opts->with_hidden)
        PRX_TRY(prx_skip_read(&skip, path));
    *out = n_samples > skip.n_rows ? n_samples - skip.n_rows : 0;
    prx_skip_release(&skip);
    return 0;
}

/* The shards that the index at @path lists: tars, whatever their names, or an LMDB. */
static int add_index(struct prx_inputs *all, const char *path,
                     const struct prx_source_opts *opts)
{
    struct prx_index index = {0};
    struct prx_str shard = {0};
    const char *slash = strrchr(path, '/');
    size_t n_folder = slash ? (size_t)(slash - path) + 1 : 0;
    int rc = 0;

    PRX_GO(prx_index_read(path, &index));
    for (size_t i = 0; i < index.n_shards; i++) {
        struct stat st;
        prx_str_reset(&shard);
        PRX_GO(prx_str_add(&shard, path, n_folder));
        PRX_GO(prx_str_puts(&shard, index.shards[i].name));
        if (stat(shard.bytes, &st) < 0) {
            rc = prx_err_frame(prx_err_sys("%s", shard.bytes), "%s", path);
            goto out;
        }
        if (!S_ISREG(st.st_mode)) {
            rc = prx_err(PRX_EINVAL, "%s: %s: not a file", path, shard.bytes);
            goto out;
        }
        uint64_t n_seen;
        PRX_GO(count_seen(shard.bytes, opts, index.shards[i].n_samples, &n_seen));
        const struct prx_source_kind *kind = kind_of(shard.bytes, &st);
        PRX_GO(prx_inputs_add(all, kind ? kind : &prx_source_tar_kind, shard.bytes,
                              n_seen));
    }
out:
    prx_str_release(&shard);
    prx_index_release(&index);
    return rc;
}

/* @path, as it stands, names something that is there. */
static int add_existing(struct prx_inputs *all, const char *path,
                        const struct prx_source_opts *opts)
{
    static const char *const index_ends[] = {".json", NULL};
    struct stat st;

    if (stat(path, &st) < 0)
        return prx_err_sys("%s", path);
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        return prx_inputs_add(all, &prx_source_stream_kind, path, 0);
    const struct prx_source_kind *kind = kind_of(path, &st);
    if (kind)
        return kind->expand ? kind->expand(all, path)
                            : prx_inputs_add(all, kind, path, 0);
    if (S_ISREG(st.st_mode) && prx_path_ends_with(path, index_ends))
        return add_index(all, path, opts);
    return prx_err(PRX_EINVAL,
                   "%s: not a source: want a folder, a tar (also compressed), a .zip, "
                   "a .jsonl, .csv, .tsv or .parquet list, lmdb:PATH, an index.json, "
                   "a URL, or - for standard input",
                   path);
}

/* Bytes of "lmdb:" and the like at the start of @word; 0: it is a path. */
static size_t scheme_bytes(const char *word)
{
    size_t n_scheme = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    return n_scheme > 1 && word[n_scheme] == ':' ? n_scheme + 1 : 0;
}

static int add_with_scheme(struct prx_inputs *all, const char *word, size_t n_scheme,
                           const struct prx_source_opts *opts)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (kinds[i]->scheme && strlen(kinds[i]->scheme) == n_scheme &&
            strncmp(word, kinds[i]->scheme, n_scheme) == 0)
            return kinds[i]->add(all, word, opts);
    return prx_err(PRX_EINVAL, "%s: sources of kind %.*s are not read by this build",
                   word, (int)n_scheme, word);
}

static int spell_out(const char *word, struct prx_paths *out)
{
    struct prx_paths spelled = {0};
    struct stat st;
    int rc = 0;

    PRX_GO(prx_brace_expand(word, N_FILES_MAX, &spelled));
    for (size_t i = 0; i < spelled.n_paths; i++) {
        const char *path = spelled.paths[i];
        if (prx_glob_is(path) && stat(path, &st) < 0)
            PRX_GO(prx_glob_expand(path, out));
        else
            PRX_GO(prx_paths_add(out, path));
    }
out:
    prx_paths_release(&spelled);
    return rc;
}

int prx_source_spell(const char *word, struct prx_paths *out)
{
    struct stat st;

    if (*word == '\0')
        return prx_err(PRX_EINVAL, "an empty word is not a source");
    if (strcmp(word, "-") == 0 || stat(word, &st) == 0 || scheme_bytes(word) > 0)
        return prx_paths_add(out, word);
    return spell_out(word, out);
}

static int add_word(struct prx_inputs *all, const char *word,
                    const struct prx_source_opts *opts)
{
    struct prx_paths found = {0};
    struct stat st;
    int rc = 0;

    if (strcmp(word, "-") == 0)
        return prx_inputs_add(all, &prx_source_stream_kind, word, 0);
    if (scheme_bytes(word) > 0 && stat(word, &st) < 0)
        return add_with_scheme(all, word, scheme_bytes(word), opts);
    PRX_GO(prx_source_spell(word, &found));
    for (size_t i = 0; i < found.n_paths; i++)
        PRX_GO(add_existing(all, found.paths[i], opts));
out:
    prx_paths_release(&found);
    return rc;
}

int prx_inputs_read(struct prx_inputs *all, const char *const *words, size_t n_words,
                    const struct prx_source_opts *opts)
{
    size_t n_stdin = 0;

    if (n_words == 0)
        return prx_err(PRX_EINVAL, "no source given");
    for (size_t i = 0; i < n_words; i++) {
        PRX_TRY(add_word(all, words[i], opts));
        n_stdin += strcmp(words[i], "-") == 0;
    }
    if (n_stdin > 1)
        return prx_err(PRX_EINVAL, "standard input can be read only once");
    return 0;
}
