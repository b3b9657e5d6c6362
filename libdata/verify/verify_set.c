/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What words mean here: parts to read, and the indexes they belong to.
 *
 * A folder with shards, an index or a journal in it is a data set, or several:
 * "x.index.json" or its journal makes one of the shards it lists; what is left is one
 * with "index.json".  Any other folder is a source of pictures, with an index of its
 * own kind where prx wrote it.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/dali.h"
#include "libdata/journal.h"
#include "libdata/source.h"
#include "libdata/verify/verify_internal.h"

#define NO_SET SIZE_MAX

static const char index_end[] = "index.json";
static const char journal_end[] = "prx-journal";

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text), n_end = strlen(end);
    return n_text >= n_end && strcmp(text + n_text - n_end, end) == 0;
}

/* Bytes of the folder at the start of @path, with its slash. */
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static int join(const char *folder, size_t n_folder, const char *name,
                struct prx_str *out)
{
    prx_str_reset(out);
    PRX_TRY(prx_str_add(out, folder, n_folder));
    return prx_str_puts(out, name);
}

/* --- parts ------------------------------------------------------------------ */

static int add_part(struct verify_plan *plan, const char *path, size_t i_set,
                    const struct prx_shard *listed)
{
    struct stat st;

    if (plan->n_parts == plan->cap_parts) {
        size_t cap = plan->cap_parts ? plan->cap_parts * 2 : 16;
        struct verify_part *grown = realloc(plan->parts, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of shards");
        plan->parts = grown;
        plan->cap_parts = cap;
    }
    struct verify_part *part = &plan->parts[plan->n_parts];
    *part = (struct verify_part){.i_set = i_set, .listed = listed};
    PRX_TRY(prx_strdup(path, &part->path));
    plan->n_parts++;
    if (stat(path, &st) == 0) {
        part->is_shard = S_ISREG(st.st_mode) && prx_source_is_shard(path);
        part->is_folder = S_ISDIR(st.st_mode);
    }
    return 0;
}

static void part_release(struct verify_part *part)
{
    prx_verify_notes_release(&part->notes);
    free(part->path);
}

void prx_verify_plan_release(struct verify_plan *plan)
{
    for (size_t i = 0; i < plan->n_parts; i++)
        part_release(&plan->parts[i]);
    for (size_t i = 0; i < plan->n_sets; i++) {
        prx_index_release(&plan->sets[i].index);
        free(plan->sets[i].index_path);
    }
    prx_verify_notes_release(&plan->notes);
    free(plan->parts);
    free(plan->sets);
    *plan = (struct verify_plan){0};
}

/* --- sets ------------------------------------------------------------------- */

/* The .idx of @shard, if its name is one that has one. */
static int has_dali(const char *shard, bool *out)
{
    struct prx_str path = {0};
    int rc = 0;

    *out = false;
    if (!ends_with(shard, ".tar"))
        return 0;
    rc = prx_dali_path(shard, &path);
    *out = rc == 0 && access(path.bytes, F_OK) == 0;
    prx_str_release(&path);
    return rc;
}

static int index_note(struct verify_plan *plan, struct verify_set *set, const char *key,
                      const char *what)
{
    set->is_wrong = true;
    return prx_verify_note(&plan->notes, "index", set->index_path, key, "%s", what);
}

/* A note about what the failed reading of the index says. */
static int unreadable_index(struct verify_plan *plan, struct verify_set *set, int rc)
{
    if (rc == PRX_ENOMEM)
        return rc;
    if (rc == PRX_ENOENT)
        return set->is_unfinished ? 0 : index_note(plan, set, NULL, "is missing");
    return index_note(plan, set, NULL,
                      prx_verify_what(prx_err_message(), set->index_path));
}

static int look_for_journal(struct verify_plan *plan, struct verify_set *set)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_journal_path(set->index_path, &path));
    set->is_unfinished = access(path.bytes, F_OK) == 0;
    if (set->is_unfinished)
        rc = prx_verify_note(&plan->notes, "index", path.bytes, NULL,
                             "unfinished: the tool that wrote this completes it with"
                             " --resume");
out:
    prx_str_release(&path);
    return rc;
}

static int compare_totals(struct verify_plan *plan, struct verify_set *set)
{
    const struct prx_index *index = &set->index;
    uint64_t n_samples = 0, n_bytes = 0;

    for (size_t i = 0; i < index->n_shards; i++) {
        n_samples += index->shards[i].n_samples;
        n_bytes += index->shards[i].n_bytes;
    }
    if (index->n_shards > 0 && n_samples != index->n_samples)
        PRX_TRY(index_note(plan, set, NULL, "samples is not the sum of its shards'"));
    if (index->n_shards > 0 && n_bytes != index->n_bytes)
        PRX_TRY(index_note(plan, set, NULL, "bytes is not the sum of its shards'"));
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_names(struct prx_paths *names)
{
    if (names->n_paths > 0)
        qsort(names->paths, names->n_paths, sizeof(char *), compare_names);
}

static bool has_name(const struct prx_paths *sorted, const char *name)
{
    return sorted->n_paths > 0 && bsearch(&name, sorted->paths, sorted->n_paths,
                                          sizeof(char *), compare_names);
}

/* Names that the index lists, sorted; those that come again to @twice. */
static int list_names(struct verify_plan *plan, struct verify_set *set,
                      struct prx_paths *listed, struct prx_paths *twice)
{
    for (size_t i = 0; i < set->index.n_shards; i++)
        PRX_TRY(prx_paths_add(listed, set->index.shards[i].name));
    sort_names(listed);
    for (size_t i = 1; i < listed->n_paths; i++) {
        if (strcmp(listed->paths[i - 1], listed->paths[i]) != 0)
            continue;
        PRX_TRY(prx_paths_add(twice, listed->paths[i]));
        PRX_TRY(index_note(plan, set, listed->paths[i], "is listed twice"));
    }
    return 0;
}

static bool was_before(const struct prx_index *index, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(index->shards[k].name, index->shards[i].name) == 0)
            return true;
    return false;
}

/* Parts for the shards that the index of set @i_set lists; their names to @listed. */
static int add_listed(struct verify_plan *plan, size_t i_set, struct prx_paths *listed)
{
    struct verify_set *set = &plan->sets[i_set];
    struct prx_paths twice = {0};
    struct prx_str path = {0};
    struct stat st;
    int rc = 0;

    PRX_GO(list_names(plan, set, listed, &twice));
    for (size_t i = 0; i < set->index.n_shards; i++) {
        const struct prx_shard *shard = &set->index.shards[i];
        if (has_name(&twice, shard->name) && was_before(&set->index, i))
            continue;
        PRX_GO(join(set->index_path, folder_bytes(set->index_path), shard->name,
                    &path));
        if (stat(path.bytes, &st) == 0 && S_ISREG(st.st_mode)) {
            PRX_GO(add_part(plan, path.bytes, i_set, shard));
        } else {
            set->is_wrong = true;
            PRX_GO(prx_verify_note(&plan->notes, "shard", path.bytes, NULL,
                                   "is missing, and in the index"));
        }
    }
out:
    prx_paths_release(&twice);
    prx_str_release(&path);
    return rc;
}

/* Parts for shards of the folder, @names, that are not @listed. */
static int add_strays(struct verify_plan *plan, size_t i_set,
                      const struct prx_paths *names, const struct prx_paths *listed)
{
    struct verify_set *set = &plan->sets[i_set];
    struct prx_str path = {0};
    int rc = 0;

    for (size_t i = 0; i < names->n_paths; i++) {
        if (has_name(listed, names->paths[i]))
            continue;
        PRX_GO(join(set->index_path, folder_bytes(set->index_path), names->paths[i],
                    &path));
        if (set->has_index) {
            set->is_wrong = true;
            PRX_GO(prx_verify_note(&plan->notes, "shard", path.bytes, NULL,
                                   "is not in the index"));
        }
        PRX_GO(add_part(plan, path.bytes, i_set, NULL));
    }
out:
    prx_str_release(&path);
    return rc;
}

/*
 * Add the set of @index_path: the shards it lists, then those of @names, which are
 * its own by their place.
 */
static int add_set(struct verify_plan *plan, const char *index_path,
                   const struct prx_paths *names)
{
    struct prx_paths listed = {0};
    bool has_one;
    int rc = 0;

    if (plan->n_sets == plan->cap_sets) {
        size_t cap = plan->cap_sets ? plan->cap_sets * 2 : 4;
        struct verify_set *grown = realloc(plan->sets, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of indexes");
        plan->sets = grown;
        plan->cap_sets = cap;
    }
    size_t i_set = plan->n_sets;
    struct verify_set *set = &plan->sets[i_set];
    *set = (struct verify_set){.i_first_part = plan->n_parts};
    PRX_TRY(prx_strdup(index_path, &set->index_path));
    plan->n_sets++;
    set->is_whole = strcmp(index_path + folder_bytes(index_path), index_end) == 0;

    PRX_GO(look_for_journal(plan, set));
    rc = prx_index_read(index_path, &set->index);
    set->has_index = rc == 0;
    PRX_GO(rc == 0 ? compare_totals(plan, set) : unreadable_index(plan, set, rc));
    PRX_GO(add_listed(plan, i_set, &listed));
    PRX_GO(add_strays(plan, i_set, names, &listed));
    set->n_parts = plan->n_parts - set->i_first_part;
    for (size_t i = set->i_first_part; i < plan->n_parts && !set->wants_dali; i++) {
        PRX_GO(has_dali(plan->parts[i].path, &has_one));
        set->wants_dali = has_one;
    }
out:
    prx_paths_release(&listed);
    return rc;
}

/* --- folders ---------------------------------------------------------------- */

/* What a folder holds, by name, sorted. */
struct contents {
    struct prx_paths shards;
    struct prx_paths indexes; /* "x.index.json", there or with a journal */
    bool is_whole;            /* "index.json" is there, or has a journal */
};

static void contents_release(struct contents *contents)
{
    prx_paths_release(&contents->shards);
    prx_paths_release(&contents->indexes);
}

static int add_name(struct contents *contents, const char *name)
{
    struct prx_str index = {0};
    int rc = 0;

    if (ends_with(name, journal_end) && *name == '.')
        PRX_GO(prx_str_printf(&index, "%.*s%s",
                              (int)(strlen(name) - strlen(journal_end)) - 1, name + 1,
                              index_end));
    else if (*name == '.')
        return 0;
    else if (prx_source_is_shard(name))
        return prx_paths_add(&contents->shards, name);
    else if (ends_with(name, index_end))
        PRX_GO(prx_str_puts(&index, name));
    else
        return 0;
    if (strcmp(index.bytes, index_end) == 0)
        contents->is_whole = true;
    else if (ends_with(index.bytes, ".index.json"))
        rc = prx_paths_add(&contents->indexes, index.bytes);
out:
    prx_str_release(&index);
    return rc;
}

/* @folder: with a slash behind, or "". */
static int read_contents(const char *folder, struct contents *contents)
{
    DIR *dir = opendir(*folder ? folder : ".");
    struct dirent *here;
    int rc = 0;

    if (!dir)
        return prx_err_sys("%s", folder);
    while ((here = readdir(dir)))
        PRX_GO(add_name(contents, here->d_name));
    sort_names(&contents->shards);
    sort_names(&contents->indexes);
out:
    closedir(dir);
    return rc;
}

/* Shards that other indexes list, or stand beside: "x.tar" beside "x.index.json". */
static int list_claimed(const char *folder, const struct contents *contents,
                        struct prx_paths *claimed)
{
    struct prx_str path = {0};
    int rc = 0;

    for (size_t i = 0; i < contents->indexes.n_paths; i++) {
        const char *name = contents->indexes.paths[i];
        struct prx_index index = {0};
        int n_stem = (int)(strlen(name) - strlen(index_end));
        PRX_GO(join("", 0, name, &path));
        path.n_bytes = (size_t)n_stem;
        PRX_GO(prx_str_puts(&path, "tar"));
        PRX_GO(prx_paths_add(claimed, path.bytes));
        PRX_GO(join(folder, strlen(folder), name, &path));
        if (prx_index_read(path.bytes, &index) < 0)
            prx_err_clear(); /* told when its turn comes */
        for (size_t k = 0; k < index.n_shards && rc == 0; k++)
            rc = prx_paths_add(claimed, index.shards[k].name);
        prx_index_release(&index);
        if (rc < 0)
            goto out;
    }
    sort_names(claimed);
out:
    prx_str_release(&path);
    return rc;
}

/* The set of "index.json" in @folder: every shard that no other index has. */
static int add_whole(struct verify_plan *plan, const char *folder,
                     const struct contents *contents, bool is_wanted)
{
    struct prx_paths claimed = {0}, own = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(list_claimed(folder, contents, &claimed));
    for (size_t i = 0; i < contents->shards.n_paths; i++)
        if (!has_name(&claimed, contents->shards.paths[i]))
            PRX_GO(prx_paths_add(&own, contents->shards.paths[i]));
    PRX_GO(join(folder, strlen(folder), index_end, &path));
    if (is_wanted || own.n_paths > 0)
        rc = add_set(plan, path.bytes, &own);
out:
    prx_paths_release(&claimed);
    prx_paths_release(&own);
    prx_str_release(&path);
    return rc;
}

/* The set of "x.index.json": what that lists, or "x.tar" where it cannot be read. */
static int add_named(struct verify_plan *plan, const char *index_path)
{
    struct prx_paths own = {0};
    struct prx_index index = {0};
    struct prx_str name = {0}, shard = {0};
    const char *base = index_path + folder_bytes(index_path);
    int rc = 0;

    if (prx_index_read(index_path, &index) < 0)
        prx_err_clear(); /* add_set() tells of it */
    PRX_GO(prx_str_printf(&name, "%.*star", (int)(strlen(base) - strlen(index_end)),
                          base));
    PRX_GO(join(index_path, folder_bytes(index_path), name.bytes, &shard));
    if (index.n_shards == 0 && access(shard.bytes, F_OK) == 0)
        PRX_GO(prx_paths_add(&own, name.bytes));
    rc = add_set(plan, index_path, &own);
out:
    prx_index_release(&index);
    prx_paths_release(&own);
    prx_str_release(&name);
    prx_str_release(&shard);
    return rc;
}

static int add_folder(struct verify_plan *plan, const char *word)
{
    struct contents contents = {0};
    struct prx_str folder = {0}, path = {0};
    int rc = 0;

    PRX_GO(prx_str_puts(&folder, word));
    while (folder.n_bytes > 1 && folder.bytes[folder.n_bytes - 1] == '/')
        folder.bytes[--folder.n_bytes] = '\0';
    if (folder.bytes[folder.n_bytes - 1] != '/')
        PRX_GO(prx_str_puts(&folder, "/"));
    PRX_GO(read_contents(folder.bytes, &contents));
    for (size_t i = 0; i < contents.indexes.n_paths; i++) {
        PRX_GO(join(folder.bytes, folder.n_bytes, contents.indexes.paths[i], &path));
        PRX_GO(add_named(plan, path.bytes));
    }
    bool is_set = contents.shards.n_paths > 0 || contents.indexes.n_paths > 0;
    if (is_set || contents.is_whole)
        PRX_GO(add_whole(plan, folder.bytes, &contents, contents.is_whole));
    /* Plain files, with or without an index of theirs. */
    if (!is_set)
        rc = add_part(plan, word, contents.is_whole ? plan->n_sets - 1 : NO_SET, NULL);
out:
    contents_release(&contents);
    prx_str_release(&folder);
    prx_str_release(&path);
    return rc;
}

/* --- words ------------------------------------------------------------------ */

/* "index.json" alone, without what other indexes of its folder list. */
static int add_index_word(struct verify_plan *plan, const char *path)
{
    struct contents contents = {0};
    char *folder = strndup(path, folder_bytes(path));
    int rc = 0;

    if (!folder)
        return prx_err_nomem("a word");
    if (strcmp(path + folder_bytes(path), index_end) != 0) {
        rc = add_named(plan, path);
        goto out;
    }
    PRX_GO(read_contents(folder, &contents));
    if (contents.shards.n_paths > 0)
        rc = add_whole(plan, folder, &contents, true);
    else
        rc = add_folder(plan, *folder ? folder : ".");
out:
    contents_release(&contents);
    free(folder);
    return rc;
}

/* "x.tar" has its index in "x.index.json", if it has one of its own. */
static int add_shard_word(struct verify_plan *plan, const char *path)
{
    struct prx_str index = {0};
    int rc = 0;

    if (ends_with(path, ".tar")) {
        PRX_GO(prx_str_printf(&index, "%.*s%s", (int)strlen(path) - 3, path,
                              index_end));
        if (access(index.bytes, F_OK) == 0) {
            rc = add_named(plan, index.bytes);
            goto out;
        }
    }
    rc = add_part(plan, path, NO_SET, NULL);
out:
    prx_str_release(&index);
    return rc;
}

int prx_verify_plan_add(struct verify_plan *plan, const char *word)
{
    struct stat st;

    if (stat(word, &st) == 0 && S_ISDIR(st.st_mode))
        return add_folder(plan, word);
    if (stat(word, &st) == 0 && S_ISREG(st.st_mode) && ends_with(word, index_end))
        return add_index_word(plan, word);
    if (stat(word, &st) == 0 && S_ISREG(st.st_mode) && prx_source_is_shard(word))
        return add_shard_word(plan, word);
    return add_part(plan, word, NO_SET, NULL);
}
