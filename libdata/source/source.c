/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources by name: words become a list of inputs, inputs one after another a
 * source, of which one rank takes its part.
 *
 * Ranks take whole shards where every input is a shard file and there are at
 * least as many as ranks (rank r: shards r, r + world, …): each then reads only
 * its own.  Otherwise every rank walks through all samples and takes each
 * world-th.  Either way every sample goes to one rank.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/index.h"
#include "libdata/path.h"
#include "libdata/source/source_internal.h"

#define N_FILES_MAX ((size_t)1 << 20) /* that braces may spell out */

enum input_kind { INPUT_FOLDER,
                  INPUT_SHARD,
                  INPUT_STREAM };

struct input {
    enum input_kind kind;
    char *path;
    uint64_t n_samples; /* 0 = unknown */
};

struct inputs {
    struct input *inputs;
    size_t n_inputs, cap_inputs;
};

static void inputs_release(struct inputs *all)
{
    for (size_t i = 0; i < all->n_inputs; i++)
        free(all->inputs[i].path);
    free(all->inputs);
    *all = (struct inputs){0};
}

static int add_input(struct inputs *all, enum input_kind kind, const char *path,
                     uint64_t n_samples)
{
    if (all->n_inputs == all->cap_inputs) {
        size_t cap = all->cap_inputs ? all->cap_inputs * 2 : 16;
        struct input *grown = realloc(all->inputs, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of inputs");
        all->inputs = grown;
        all->cap_inputs = cap;
    }
    struct input *input = &all->inputs[all->n_inputs];
    *input = (struct input){.kind = kind, .n_samples = n_samples};
    PRX_TRY(prx_strdup(path, &input->path));
    all->n_inputs++;
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text), n_end = strlen(end);
    return n_text >= n_end && strcmp(text + n_text - n_end, end) == 0;
}

static bool is_shard_name(const char *path)
{
    static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
        if (ends_with(path, ends[i]))
            return true;
    return false;
}

static int add_existing(struct inputs *all, const char *path);

static int add_index(struct inputs *all, const char *path)
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
        PRX_GO(add_input(all, INPUT_SHARD, shard.bytes, index.shards[i].n_samples));
    }
out:
    prx_str_release(&shard);
    prx_index_release(&index);
    return rc;
}

/* @path, as it stands, names something that is there. */
static int add_existing(struct inputs *all, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return prx_err_sys("%s", path);
    if (S_ISDIR(st.st_mode))
        return add_input(all, INPUT_FOLDER, path, 0);
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        return add_input(all, INPUT_STREAM, path, 0);
    if (S_ISREG(st.st_mode) && is_shard_name(path))
        return add_input(all, INPUT_SHARD, path, 0);
    if (S_ISREG(st.st_mode) && ends_with(path, ".json"))
        return add_index(all, path);
    return prx_err(PRX_EINVAL,
                   "%s: not a source: want a folder, a .tar, .tar.gz or .tar.zst file, "
                   "an index.json, or - for standard input",
                   path);
}

static bool has_scheme(const char *word)
{
    size_t n_scheme = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    return n_scheme > 1 && word[n_scheme] == ':';
}

static int add_word(struct inputs *all, const char *word)
{
    struct prx_paths spelled = {0}, found = {0};
    struct stat st;
    int rc = 0;

    if (strcmp(word, "-") == 0)
        return add_input(all, INPUT_STREAM, word, 0);
    if (*word == '\0')
        return prx_err(PRX_EINVAL, "an empty word is not a source");
    if (stat(word, &st) == 0)
        return add_existing(all, word);
    if (has_scheme(word))
        return prx_err(PRX_EINVAL,
                       "%s: sources of kind %.*s are not read by this build", word,
                       (int)strcspn(word, ":") + 1, word);
    PRX_GO(prx_brace_expand(word, N_FILES_MAX, &spelled));
    for (size_t i = 0; i < spelled.n_paths; i++) {
        const char *path = spelled.paths[i];
        if (prx_glob_is(path) && stat(path, &st) < 0)
            PRX_GO(prx_glob_expand(path, &found));
        else
            PRX_GO(prx_paths_add(&found, path));
    }
    for (size_t i = 0; i < found.n_paths; i++)
        PRX_GO(add_existing(all, found.paths[i]));
out:
    prx_paths_release(&spelled);
    prx_paths_release(&found);
    return rc;
}

struct source_all {
    struct prx_source base;
    struct prx_source **parts;
    size_t n_parts;
    size_t i_part;
    uint64_t rank, world;
    bool is_split_by_sample;
    uint64_t n_seen; /* samples of all parts, of all ranks */
};

static int all_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_all *all = (struct source_all *)source;

    while (all->i_part < all->n_parts) {
        struct prx_source *part = all->parts[all->i_part];
        int got = part->ops->next(part, sample);
        if (got < 0)
            return got;
        if (got == 0)
            all->i_part++;
        else if (!all->is_split_by_sample || all->n_seen++ % all->world == all->rank)
            return 1;
        prx_sample_reset(sample);
    }
    return 0;
}

static int all_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_all *all = (const struct source_all *)source;

    if (all->world > 1)
        PRX_TRY(prx_str_printf(plan, "part %llu of %llu by %s\n",
                               (unsigned long long)all->rank,
                               (unsigned long long)all->world,
                               all->is_split_by_sample ? "sample" : "shard"));
    for (size_t i = 0; i < all->n_parts; i++)
        PRX_TRY(all->parts[i]->ops->plan(all->parts[i], plan));
    return 0;
}

static void all_cancel(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        if (all->parts[i]->ops->cancel)
            all->parts[i]->ops->cancel(all->parts[i]);
}

static void all_close(struct prx_source *source)
{
    struct source_all *all = (struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        prx_source_close(all->parts[i]);
    free(all->parts);
    free(all);
}

static bool all_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct source_all *all = (const struct source_all *)source;

    for (size_t i = 0; i < all->n_parts; i++)
        if (all->parts[i]->ops->has(all->parts[i], path, is_folder))
            return true;
    return false;
}

static const struct prx_source_ops all_ops = {all_next, all_plan, all_cancel, all_close,
                                              all_has};

/* Keep the inputs of this rank; false where they cannot be shared out whole. */
static bool split_by_shard(struct inputs *inputs, uint64_t rank, uint64_t world)
{
    size_t n_mine = 0;

    if (inputs->n_inputs < world)
        return false;
    for (size_t i = 0; i < inputs->n_inputs; i++)
        if (inputs->inputs[i].kind != INPUT_SHARD)
            return false;
    for (size_t i = 0; i < inputs->n_inputs; i++) {
        if (i % world == rank)
            inputs->inputs[n_mine++] = inputs->inputs[i];
        else
            free(inputs->inputs[i].path);
    }
    inputs->n_inputs = n_mine;
    return true;
}

/* Inputs from i on that one source reads: a folder, or tars next to each other. */
static int open_part(const struct inputs *inputs, size_t *i,
                     const struct prx_source_opts *opts, struct prx_source **out)
{
    const struct input *first = &inputs->inputs[*i];
    const char **paths;
    bool is_known = true;
    uint64_t n_samples = 0;
    size_t n_paths = 0;

    if (first->kind == INPUT_FOLDER) {
        ++*i;
        return prx_source_dir_open(first->path, opts, out);
    }
    paths = malloc((inputs->n_inputs - *i) * sizeof(*paths));
    if (!paths)
        return prx_err_nomem("a list of shards");
    for (; *i < inputs->n_inputs && inputs->inputs[*i].kind != INPUT_FOLDER; ++*i) {
        paths[n_paths++] = inputs->inputs[*i].path;
        n_samples += inputs->inputs[*i].n_samples;
        is_known &= inputs->inputs[*i].n_samples > 0;
    }
    int rc = prx_source_tar_open(paths, n_paths, opts, out);
    if (rc == 0 && is_known)
        (*out)->n_total = n_samples;
    free(paths);
    return rc;
}

static int open_parts(struct source_all *all, const struct inputs *inputs,
                      const struct prx_source_opts *opts)
{
    bool is_known = true;
    uint64_t n_total = 0;

    all->parts = calloc(inputs->n_inputs + 1, sizeof(*all->parts));
    if (!all->parts)
        return prx_err_nomem("a source");
    for (size_t i = 0; i < inputs->n_inputs;) {
        bool is_folder = inputs->inputs[i].kind == INPUT_FOLDER;
        PRX_TRY(open_part(inputs, &i, opts, &all->parts[all->n_parts]));
        uint64_t n_part = all->parts[all->n_parts++]->n_total;
        is_known &= is_folder || n_part > 0;
        n_total += n_part;
    }
    if (all->is_split_by_sample)
        n_total = n_total / all->world + (all->rank < n_total % all->world);
    all->base.n_total = is_known ? n_total : 0;
    return 0;
}

static int read_words(struct inputs *inputs, const char *const *words, size_t n_words)
{
    size_t n_stdin = 0;

    if (n_words == 0)
        return prx_err(PRX_EINVAL, "no source given");
    for (size_t i = 0; i < n_words; i++) {
        PRX_TRY(add_word(inputs, words[i]));
        n_stdin += strcmp(words[i], "-") == 0;
    }
    if (n_stdin > 1)
        return prx_err(PRX_EINVAL, "standard input can be read only once");
    return 0;
}

int prx_source_open(const char *const *words, size_t n_words,
                    const struct prx_source_opts *opts, struct prx_source **out)
{
    static const struct prx_source_opts no_opts;
    struct inputs inputs = {0};
    struct source_all *all = NULL;
    int rc = 0;

    if (!opts)
        opts = &no_opts;
    if (opts->world < 0 || opts->rank < 0 ||
        opts->rank >= (opts->world ? opts->world : 1))
        return prx_err(PRX_EINVAL, "rank %d of %d processes", opts->rank, opts->world);
    PRX_GO(read_words(&inputs, words, n_words));
    all = calloc(1, sizeof(*all));
    if (!all) {
        rc = prx_err_nomem("a source");
        goto out;
    }
    all->base.ops = &all_ops;
    all->rank = (uint64_t)opts->rank;
    all->world = opts->world ? (uint64_t)opts->world : 1;
    if (all->world > 1)
        all->is_split_by_sample = !split_by_shard(&inputs, all->rank, all->world);
    PRX_GO(open_parts(all, &inputs, opts));
    *out = &all->base;
    all = NULL;
out:
    if (all)
        all_close(&all->base);
    inputs_release(&inputs);
    return rc;
}

int prx_source_next(struct prx_source *source, struct prx_sample *sample)
{
    prx_sample_reset(sample);
    int got = source->ops->next(source, sample);
    if (got == 1)
        sample->serial = source->n_given++;
    return got;
}

int prx_source_plan(const struct prx_source *source, struct prx_str *plan)
{
    return source->ops->plan(source, plan);
}

uint64_t prx_source_total(const struct prx_source *source)
{
    return source->n_total;
}

bool prx_path_is_below(const char *path, const char *root)
{
    size_t n_root = strlen(root);

    return strcmp(root, "/") == 0 ||
           (strncmp(path, root, n_root) == 0 &&
            (path[n_root] == '/' || path[n_root] == '\0'));
}

bool prx_source_has(const struct prx_source *source, const char *path)
{
    struct stat st;
    char *resolved = realpath(path, NULL);
    bool has = resolved && stat(resolved, &st) == 0 &&
               source->ops->has(source, resolved, S_ISDIR(st.st_mode));

    free(resolved);
    return has;
}

void prx_source_cancel(struct prx_source *source)
{
    if (source->ops->cancel)
        source->ops->cancel(source);
}

void prx_source_close(struct prx_source *source)
{
    if (source)
        source->ops->close(source);
}
