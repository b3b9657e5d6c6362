/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard or a folder from outside: its bytes, and what stands beside it.
 *
 * Its members are walked over without reading them, past the skip list, so that each
 * row of the list and each line of the .idx is held against what is really there.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/dali.h"
#include "libdata/outfile.h"
#include "libdata/source.h"
#include "libdata/verify/verify_internal.h"

#define N_DALI_BYTES_MAX ((uint64_t)1 << 30)

/* What is walked with. */
struct walk {
    struct verify_part *part;
    struct prx_skip skip;
    bool *is_there; /* for each row of skip */
    struct prx_str dali_path;
    bool has_dali; /* an .idx stands, right or wrong */
    struct prx_buf *dali;
    char *line; /* of it, that comes next; NULL: no more are looked at */
    uint64_t n_samples_told;
    struct prx_dali made; /* as the .idx should be */
    bool keeps_lines;     /* of it; else only whether it is fit */
    uint64_t *places;
    size_t cap_places;
    bool has_rejects;
};

static void walk_release(struct walk *walk)
{
    prx_skip_release(&walk->skip);
    prx_str_release(&walk->dali_path);
    prx_buf_unref(walk->dali);
    prx_dali_release(&walk->made);
    free(walk->is_there);
    free(walk->places);
}

/* --- .idx ------------------------------------------------------------------- */

static int dali_fault(struct walk *walk, const char *key, const char *what)
{
    walk->line = NULL;
    walk->part->is_dali_right = false;
    return prx_verify_note(&walk->part->notes, "dali", walk->dali_path.bytes, key, "%s",
                           what);
}

static int dali_open(struct walk *walk)
{
    struct verify_part *part = walk->part;
    const char *path = part->path;
    size_t n_path = strlen(path);
    char *end;

    if (!part->is_shard || n_path <= 4 || strcmp(path + n_path - 4, ".tar") != 0) {
        walk->made.is_unfit = true;
        return 0;
    }
    PRX_TRY(prx_dali_path(path, &walk->dali_path));
    walk->has_dali = part->is_dali_right = access(walk->dali_path.bytes, F_OK) == 0;
    if (!walk->has_dali)
        return 0;
    int rc = prx_file_get(walk->dali_path.bytes, N_DALI_BYTES_MAX, &walk->dali);
    if (rc == PRX_ENOMEM)
        return rc;
    if (rc < 0)
        return dali_fault(walk, NULL,
                          prx_verify_what(prx_err_message(), walk->dali_path.bytes));
    char *text = (char *)walk->dali->bytes;
    if (strlen(text) != walk->dali->n_bytes || strncmp(text, "v1.2 ", 5) != 0 ||
        (walk->n_samples_told = strtoull(text + 5, &end, 10), *end != '\n'))
        return dali_fault(walk, NULL, "not a DALI index of version 1.2");
    walk->line = end + 1;
    return 0;
}

/* Is @name, in whatever case its field was written, that of @field of @key? */
static bool is_name(const char *name, const char *key, const char *field)
{
    size_t n_key = strlen(key);

    while (strncmp(name, "./", 2) == 0)
        name += 2;
    return strncmp(name, key, n_key) == 0 && name[n_key] == '.' &&
           strcasecmp(name + n_key + 1, field) == 0;
}

/* NULL, or what is wrong with a member that the line tells of. */
static const char *find_member_fault(const struct prx_sample *sample, char **rest)
{
    const char *ext = strtok_r(NULL, " ", rest), *at = strtok_r(NULL, " ", rest);
    const char *size = strtok_r(NULL, " ", rest), *name = strtok_r(NULL, " ", rest);

    if (!ext || !at || !size || !name)
        return "the tar has more members";
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        if (strcasecmp(field->name, ext) != 0)
            continue;
        if (strtoull(at, NULL, 10) != field->offset_bytes)
            return "another offset than in the tar";
        if (strtoull(size, NULL, 10) != field->n_bytes)
            return "another size than in the tar";
        return is_name(name, sample->key, field->name) ? NULL
                                                       : "another name than in the tar";
    }
    return "the tar has no such member";
}

/* Hold the next line of the .idx against @sample. */
static int dali_compare(struct walk *walk, const struct prx_sample *sample)
{
    const char *fault = NULL;
    char *line = walk->line, *rest = line;

    if (!line)
        return 0;
    if (*line == '\0')
        return dali_fault(walk, sample->key, "not in the .idx, nor what follows it");
    char *end = strchr(line, '\n');
    if (!end)
        return dali_fault(walk, sample->key, "the .idx is cut off here");
    *end = '\0';
    for (size_t i = 0; i < sample->n_fields && !fault; i++)
        fault = find_member_fault(sample, &rest);
    if (!fault && *rest)
        fault = "the tar has fewer members";
    walk->line = end + 1;
    return fault ? dali_fault(walk, sample->key, fault) : 0;
}

static int dali_close(struct walk *walk)
{
    if (walk->line && *walk->line)
        return dali_fault(walk, NULL, "tells of more samples than the tar has");
    if (walk->line && walk->n_samples_told != walk->part->found.n_samples)
        return dali_fault(walk, NULL, "its first line has another number of samples");
    return 0;
}

/* --- the walk --------------------------------------------------------------- */

static int put_dali(struct walk *walk, const struct prx_sample *sample)
{
    struct prx_dali *made = &walk->made;

    if (sample->n_fields > walk->cap_places) {
        free(walk->places);
        walk->places = calloc(sample->n_fields, sizeof(*walk->places));
        walk->cap_places = walk->places ? sample->n_fields : 0;
        if (!walk->places)
            return prx_err_nomem("a DALI index");
    }
    for (size_t i = 0; i < sample->n_fields; i++) {
        made->is_unfit |= sample->fields[i].bytes != NULL; /* compressed */
        walk->places[i] = sample->fields[i].offset_bytes;
    }
    PRX_TRY(prx_dali_put(made, sample, walk->places));
    if (!walk->keeps_lines)
        prx_str_reset(&made->lines);
    return 0;
}

static int walk_sample(struct walk *walk, const struct prx_sample *sample)
{
    struct verify_part *part = walk->part;
    size_t i = prx_skip_find_row(&walk->skip, sample->key);

    if (i < walk->skip.n_rows)
        walk->is_there[i] = true;
    part->found.n_samples += sample->n_fields > 0;
    if (!part->is_shard)
        return 0;
    if (sample->reject_reason) {
        /* It is told of when samples are read; the .idx cannot be judged then. */
        walk->made.is_unfit = walk->has_rejects = true;
        return 0;
    }
    if (!walk->has_rejects)
        PRX_TRY(dali_compare(walk, sample));
    return put_dali(walk, sample);
}

static int walk_all(struct walk *walk)
{
    const struct prx_source_opts opts = {.with_hidden = true};
    const char *path = walk->part->path;
    struct prx_source *source = NULL;
    struct prx_sample sample = {0};
    int rc;

    PRX_GO(prx_source_open(&path, 1, &opts, &source));
    while ((rc = prx_source_next(source, &sample)) == 1)
        PRX_GO(walk_sample(walk, &sample));
    if (rc == 0 && !walk->has_rejects)
        rc = dali_close(walk);
out:
    prx_sample_release(&sample);
    prx_source_close(source);
    return rc;
}

/* --- the skip list ---------------------------------------------------------- */

static int read_skip(struct walk *walk)
{
    struct verify_part *part = walk->part;
    struct prx_str path = {0};
    int rc = prx_skip_read(&walk->skip, part->path);

    if (rc < 0 && rc != PRX_ENOMEM) {
        part->is_unreadable = true;
        PRX_GO(prx_skip_path(part->path, &path));
        rc = prx_verify_note(&part->notes, "skip", path.bytes, NULL,
                             "%s; no sample is looked at",
                             prx_verify_what(prx_err_message(), path.bytes));
        goto out;
    }
    walk->is_there = calloc(walk->skip.n_rows + 1, sizeof(*walk->is_there));
    if (!walk->is_there)
        rc = prx_err_nomem("a skip list");
out:
    prx_str_release(&path);
    return rc;
}

/* Tell of rows whose sample is not there; take them out if asked to. */
static int judge_rows(struct walk *walk, bool is_repaired)
{
    struct verify_part *part = walk->part;
    struct prx_skip kept = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_skip_path(part->path, &path));
    for (size_t i = 0; i < walk->skip.n_rows; i++) {
        const char *key = prx_skip_key(&walk->skip, i);
        if (walk->is_there[i])
            PRX_GO(prx_skip_add(&kept, key, prx_skip_reason(&walk->skip, i)));
        else
            PRX_GO(prx_verify_note(&part->notes, "skip", path.bytes, key,
                                   "hides a sample that is not there"));
    }
    if (is_repaired && kept.n_rows < walk->skip.n_rows)
        rc = prx_skip_write(&kept, part->path);
out:
    prx_skip_release(&kept);
    prx_str_release(&path);
    return rc;
}

/* --- the whole -------------------------------------------------------------- */

static int compare_listed(struct verify_part *part)
{
    const struct prx_shard *listed = part->listed, *found = &part->found;
    size_t n_before = part->notes.n_notes;

    if (listed->n_bytes != found->n_bytes)
        PRX_TRY(prx_verify_note(&part->notes, "shard", part->path, NULL,
                                "%llu bytes, and the index says %llu",
                                (unsigned long long)found->n_bytes,
                                (unsigned long long)listed->n_bytes));
    else if (listed->xxh128[0] && found->xxh128[0] &&
             strcmp(listed->xxh128, found->xxh128) != 0)
        PRX_TRY(prx_verify_note(&part->notes, "shard", part->path, NULL,
                                "xxh128 is %s, and the index says %s: its bytes are"
                                " others than were written",
                                found->xxh128, listed->xxh128));
    if (listed->n_samples != found->n_samples)
        PRX_TRY(prx_verify_note(&part->notes, "shard", part->path, NULL,
                                "%llu samples, and the index says %llu",
                                (unsigned long long)found->n_samples,
                                (unsigned long long)listed->n_samples));
    part->is_wrong |= part->notes.n_notes > n_before;
    return 0;
}

/* The index of plain files has no shards, only their number. */
static int compare_folder(struct verify_part *part, const struct prx_index *index)
{
    if (!index->is_ours || index->n_samples == part->found.n_samples)
        return 0;
    return prx_verify_note(&part->notes, "shard", part->path, NULL,
                           "%llu samples, and the index says %llu",
                           (unsigned long long)part->found.n_samples,
                           (unsigned long long)index->n_samples);
}

/* A shard that the system does not let us read is a finding, and passed by. */
static int unreadable(struct verify_part *part, int rc)
{
    if (rc == PRX_ENOMEM)
        return rc;
    part->is_unreadable = true;
    part->is_wrong = true;
    return prx_verify_note(&part->notes, "shard", part->path, NULL, "%s",
                           prx_verify_what(prx_err_message(), part->path));
}

static int look(struct verify_part *part, const struct verify_set *set,
                const struct prx_verify_opts *opts)
{
    const bool repairs_index = set && (opts->repairs & PRX_REPAIR_INDEX);
    struct walk walk = {.part = part};
    struct stat st;
    int rc = 0;

    PRX_GO(read_skip(&walk));
    if (part->is_unreadable)
        goto out;
    if (stat(part->path, &st) < 0) {
        rc = unreadable(part, prx_err_sys("%s", part->path));
        goto out;
    }
    part->found.n_bytes = (uint64_t)st.st_size;
    if (part->is_shard &&
        (repairs_index || (part->listed && part->listed->xxh128[0] && !opts->no_hash)))
        rc = prx_hash_file(part->path, part->found.xxh128);
    if (rc == 0)
        rc = dali_open(&walk);
    if (rc == 0 && (set || walk.skip.n_rows > 0 || walk.has_dali))
        rc = walk_all(&walk);
    if (rc < 0) {
        rc = unreadable(part, rc);
        goto out;
    }
    part->is_dali_unfit = walk.made.is_unfit;
    PRX_GO(judge_rows(&walk, opts->repairs & PRX_REPAIR_SKIP));
    if (set && set->wants_dali && !walk.has_dali && !part->is_dali_unfit)
        PRX_GO(prx_verify_note(&part->notes, "dali", part->path, NULL,
                               "has no .idx, and others of its set have"));
    if (part->listed)
        rc = compare_listed(part);
    else if (set && part->is_folder)
        rc = compare_folder(part, &set->index);
out:
    walk_release(&walk);
    return rc;
}

int prx_verify_part(const struct verify_plan *plan, struct verify_part *part,
                    const struct prx_verify_opts *opts)
{
    const struct verify_set *set =
        part->i_set < plan->n_sets ? &plan->sets[part->i_set] : NULL;

    if (!part->is_shard && !part->is_folder)
        return 0;
    return look(part, set, opts);
}

int prx_verify_part_dali(const struct verify_part *part)
{
    struct verify_part again = {.path = part->path, .is_shard = true};
    struct walk walk = {.part = &again, .keeps_lines = true};
    int rc = walk_all(&walk);

    if (rc == 0 && !walk.made.is_unfit)
        rc = prx_dali_write(&walk.made, part->path, false);
    walk_release(&walk);
    return rc;
}
