/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a destination: journal while it is being written, index after.
 *
 * Lines of the journal, one JSON object each:
 *
 *     {"plan": HASH}                          first
 *     {"begin": NAME}                         about to be written, maybe in part
 *     {"key": K, "reason": R, "serial": N, "source": F, "stage": S}   a reject
 *     {"shard": NAME, "first": N, "next": N, "samples": N, "rejected": N,
 *      "bytes": N, "xxh128": HASH}            stands, and all before N is settled
 *
 * What follows the last line of a shard is work to be done again, and is cut off.
 * A reject that no shard has settled comes again, too, but may stand before that
 * line; so of those with one serial only the first is told.
 * A shard is believed as far as its file is there and of its size, or as the place's
 * holds() says; from the first that is not, everything is done again.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"

static int open_names(struct prx_ledger *ledger, const struct prx_ledger_place *place,
                      char **journal_path)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_strdup(place->folder, &ledger->folder));
    PRX_GO(prx_str_printf(&path, "%s%sindex.json", place->folder, place->prefix));
    PRX_GO(prx_strdup(path.bytes, &ledger->index_path));
    prx_str_reset(&path);
    PRX_GO(prx_journal_path(ledger->index_path, &path));
    PRX_GO(prx_strdup(path.bytes, journal_path));
out:
    prx_str_release(&path);
    return rc;
}

/* The hash of everything that decides the bytes. */
static int hash_plan(const struct prx_ledger_place *place,
                     const struct prx_sink_opts *opts, char out[PRX_HASH_HEX_BYTES])
{
    struct prx_str text = {0};
    int rc =
        prx_str_printf(&text, "%s\n%s\n", place->layout, opts->plan ? opts->plan : "");

    if (rc == 0)
        prx_hash_hex(text.bytes, text.n_bytes, out);
    prx_str_release(&text);
    return rc;
}

static bool stands(const struct prx_ledger *ledger, const char *name, uint64_t n_bytes)
{
    struct prx_str path = {0};
    struct stat st;
    bool is_there = prx_str_printf(&path, "%s%s", ledger->folder, name) == 0 &&
                    lstat(path.bytes, &st) == 0 && S_ISREG(st.st_mode) &&
                    (uint64_t)st.st_size == n_bytes;
    prx_str_release(&path);
    return is_there;
}

/* What the journal says, line by line. */
struct memory {
    struct prx_ledger *ledger;
    const struct prx_ledger_place *place;
    char plan[PRX_HASH_HEX_BYTES]; /* "": no journal to speak of */
};

static int recall_shard(struct memory *memory, json_t *line, const char *name,
                        uint64_t end_bytes)
{
    struct prx_ledger *ledger = memory->ledger;
    json_int_t first, next, n_samples, n_rejected, n_bytes;
    const char *hash;

    if (json_unpack(line, "{sI sI sI sI sI ss}", "first", &first, "next", &next,
                    "samples", &n_samples, "rejected", &n_rejected, "bytes", &n_bytes,
                    "xxh128", &hash) < 0 ||
        strlen(hash) >= PRX_HASH_HEX_BYTES)
        return 1;
    struct prx_shard shard = {
        .name = (char *)(uintptr_t)name,
        .first_serial = (uint64_t)first,
        .next_serial = (uint64_t)next,
        .n_samples = (uint64_t)n_samples,
        .n_rejected = (uint64_t)n_rejected,
        .n_bytes = (uint64_t)n_bytes,
    };
    memcpy(shard.xxh128, hash, strlen(hash) + 1);
    PRX_TRY(prx_paths_add(&ledger->begun, name));
    int holds = memory->place->holds
                    ? memory->place->holds(memory->place->ctx, &shard)
                    : !*name || stands(ledger, name, shard.n_bytes);
    if (holds <= 0)
        return holds < 0 ? holds : 1;
    PRX_TRY(prx_index_add(&ledger->index, &shard));
    ledger->n_done_serials = shard.next_serial;
    ledger->n_kept_bytes = end_bytes;
    return 0;
}

/* 1 ends the reading: nothing behind this line is believed. */
static int recall_line(void *ctx, const char *text, uint64_t end_bytes)
{
    struct memory *memory = ctx;
    json_t *line = json_loads(text, 0, NULL);
    const char *plan = json_string_value(json_object_get(line, "plan"));
    const char *begun = json_string_value(json_object_get(line, "begin"));
    const char *shard = json_string_value(json_object_get(line, "shard"));
    int rc = 0;

    if (!memory->plan[0]) {
        if (plan && strlen(plan) == PRX_HASH_HEX_BYTES - 1)
            memcpy(memory->plan, plan, PRX_HASH_HEX_BYTES);
        else
            rc = 1;
        memory->ledger->n_kept_bytes = end_bytes;
    } else if (shard) {
        rc = recall_shard(memory, line, shard, end_bytes);
    } else if (begun) {
        rc = prx_paths_add(&memory->ledger->begun, begun);
    }
    json_decref(line);
    return rc;
}

/* A name with behind it what outfile.c adds to a temporary one? */
static bool is_our_temp(const struct prx_ledger_place *place, const char *name)
{
    char base[NAME_MAX + 1], index_name[NAME_MAX + 1];
    const char *mark = NULL;

    if (*name != '.' || strlen(name) > NAME_MAX)
        return false;
    for (const char *p = name; (p = strstr(p, ".tmp.")); p++)
        mark = p;
    if (!mark || mark == name || mark[5] == '\0' ||
        mark[5 + strspn(mark + 5, "0123456789")] != '\0')
        return false;
    snprintf(base, sizeof(base), "%.*s", (int)(mark - name - 1), name + 1);
    snprintf(index_name, sizeof(index_name), "%sindex.json", place->prefix);
    return strcmp(base, index_name) == 0 ||
           (!place->is_shared && place->is_output(place->ctx, base));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Outputs and our own temporary files that are in the folder now, sorted. */
static int list_folder(const struct prx_ledger *ledger,
                       const struct prx_ledger_place *place, struct prx_paths *outputs,
                       struct prx_paths *temps)
{
    const char *folder = *ledger->folder ? ledger->folder : ".";
    int rc = 0;
    DIR *dir = opendir(folder);
    struct dirent *here;

    if (!dir)
        return prx_err_sys("%s", folder);
    while ((here = readdir(dir))) {
        if (place->is_output(place->ctx, here->d_name))
            PRX_GO(prx_paths_add(outputs, here->d_name));
        else if (is_our_temp(place, here->d_name))
            PRX_GO(prx_paths_add(temps, here->d_name));
    }
    if (outputs->n_paths > 0)
        qsort(outputs->paths, outputs->n_paths, sizeof(char *), compare_names);
out:
    closedir(dir);
    return rc;
}

static int remove_file(const struct prx_ledger *ledger, const char *name)
{
    struct prx_str path = {0};
    int rc = prx_str_printf(&path, "%s%s", ledger->folder, name);

    if (rc == 0 && unlink(path.bytes) < 0 && errno != ENOENT)
        rc = prx_err_sys("%s", path.bytes);
    prx_str_release(&path);
    return rc;
}

/* Add @name, and the .idx that stands beside a shard of that name. */
static int add_ours(struct prx_paths *ours, const char *name)
{
    size_t n_name = strlen(name);
    struct prx_str beside = {0};
    int rc = 0;

    /* A name from a file is a name below the folder, or nothing. */
    if (prx_key_check(name) < 0)
        return 0;
    PRX_GO(prx_paths_add(ours, name));
    if (n_name > 4 && strcmp(name + n_name - 4, ".tar") == 0) {
        PRX_GO(prx_str_printf(&beside, "%.*s.idx", (int)n_name - 4, name));
        PRX_GO(prx_paths_add(ours, beside.bytes));
    }
out:
    prx_str_release(&beside);
    return rc;
}

/* Every file that index or journal name, sorted. */
static int list_ours(const struct prx_ledger *ledger, const struct prx_index *index,
                     struct prx_paths *ours)
{
    for (size_t i = 0; i < index->n_shards; i++)
        PRX_TRY(add_ours(ours, index->shards[i].name));
    for (size_t i = 0; i < ledger->begun.n_paths; i++)
        PRX_TRY(add_ours(ours, ledger->begun.paths[i]));
    if (ours->n_paths > 0)
        qsort(ours->paths, ours->n_paths, sizeof(char *), compare_names);
    return 0;
}

/* PRX_EEXIST where one of @ours is an input of this very run. */
static int spare_inputs(const struct prx_ledger *ledger, const struct prx_paths *ours,
                        const struct prx_source *source)
{
    struct prx_str path = {0};
    int rc = 0;

    for (size_t i = 0; source && i < ours->n_paths && rc == 0; i++) {
        prx_str_reset(&path);
        rc = prx_str_printf(&path, "%s%s", ledger->folder, ours->paths[i]);
        if (rc == 0 && prx_source_has(source, path.bytes))
            rc = prx_err(PRX_EEXIST, "%s: is read here, so it is not overwritten",
                         path.bytes);
    }
    prx_str_release(&path);
    return rc;
}

/* Remove what is ours, unless somebody else's output is in the way. */
static int overwrite(struct prx_ledger *ledger, const struct prx_ledger_place *place,
                     const struct prx_sink_opts *opts, const struct prx_index *index,
                     bool has_index, const struct prx_paths *outputs)
{
    struct prx_paths ours = {0};
    int rc = 0;

    if (has_index && !index->is_ours)
        return prx_err(PRX_EEXIST, "%s: not written by this suite, so not overwritten",
                       ledger->index_path);
    PRX_GO(list_ours(ledger, index, &ours));
    PRX_GO(spare_inputs(ledger, &ours, opts->source));
    for (size_t i = 0; i < outputs->n_paths && !place->is_shared; i++) {
        if (ours.n_paths > 0 && bsearch(&outputs->paths[i], ours.paths, ours.n_paths,
                                        sizeof(char *), compare_names))
            continue;
        rc = prx_err(PRX_EEXIST, "%s%s: no index names it, so it is not overwritten",
                     ledger->folder, outputs->paths[i]);
        goto out;
    }
    /* The index first: without it the rest is an unfinished data set. */
    if (has_index && unlink(ledger->index_path) < 0) {
        rc = prx_err_sys("%s", ledger->index_path);
        goto out;
    }
    for (size_t i = 0; i < ours.n_paths; i++)
        PRX_GO(remove_file(ledger, ours.paths[i]));
out:
    prx_paths_release(&ours);
    return rc;
}

static int another_plan(const char *path)
{
    return prx_err(PRX_EEXIST, "%s: of another plan: input or options are not the same",
                   path);
}

/* An index stands: the work is done if it is this work. */
static int resume_finished(struct prx_ledger *ledger, struct prx_index *index,
                           const char *plan, const struct memory *memory)
{
    if (!index->is_ours || strcmp(index->plan, plan) != 0)
        return another_plan(ledger->index_path);
    for (size_t i = 0; i < index->n_shards; i++)
        if (!stands(ledger, index->shards[i].name, index->shards[i].n_bytes))
            return prx_err(PRX_ECORRUPT, "%s: %s is missing, or of another size",
                           ledger->index_path, index->shards[i].name);
    ledger->is_finished = true;
    /* The last run did not come to its end: its rejects may not be told yet. */
    ledger->is_recalled = strcmp(memory->plan, plan) == 0;
    ledger->n_kept_bytes = UINT64_MAX;
    ledger->n_done_serials = index->n_samples + index->n_rejected;
    prx_index_release(&ledger->index);
    ledger->index = *index;
    *index = (struct prx_index){0};
    return 0;
}

/* Forget the journal's shards: everything is to be done. */
static int start_afresh(struct prx_ledger *ledger, const char *plan)
{
    char line[64];

    prx_index_cut(&ledger->index, 0);
    ledger->n_done_serials = 0;
    ledger->n_kept_bytes = 0;
    PRX_TRY(prx_journal_cut(&ledger->journal, 0));
    snprintf(line, sizeof(line), "{\"plan\":\"%s\"}", plan);
    return prx_journal_put(&ledger->journal, line, !ledger->no_sync);
}

/* What is there, what was asked for: decide, under the lock. */
static int decide(struct prx_ledger *ledger, const struct prx_ledger_place *place,
                  const struct prx_sink_opts *opts, const char *plan,
                  const struct memory *memory, const struct prx_paths *outputs)
{
    struct prx_index index = {0};
    bool has_index = access(ledger->index_path, F_OK) == 0;
    bool is_empty = !has_index && ledger->index.n_shards == 0 && outputs->n_paths == 0;
    int rc = 0;

    if (has_index && opts->exists != PRX_SINK_REFUSE)
        PRX_GO(prx_index_read(ledger->index_path, &index));
    if (is_empty) {
        rc = start_afresh(ledger, plan);
    } else if (opts->exists == PRX_SINK_OVERWRITE) {
        PRX_GO(overwrite(ledger, place, opts, &index, has_index, outputs));
        rc = start_afresh(ledger, plan);
    } else if (opts->exists == PRX_SINK_REFUSE) {
        const char *name = !has_index && outputs->n_paths ? outputs->paths[0] : "";
        rc = prx_err(PRX_EEXIST, "%s%s: is there already",
                     has_index ? ledger->index_path : ledger->folder, name);
    } else if (has_index) {
        rc = resume_finished(ledger, &index, plan, memory);
    } else if (!memory->plan[0]) {
        rc = prx_err(PRX_EEXIST, "%s%s: is there, but no journal to resume from",
                     ledger->folder, outputs->paths[0]);
    } else if (strcmp(memory->plan, plan) != 0) {
        rc = another_plan(ledger->journal.path);
    } else {
        rc = prx_journal_cut(&ledger->journal, ledger->n_kept_bytes);
    }
out:
    prx_index_release(&index);
    return rc;
}

/* Several processes have begun to write here together: no other one may. */
static int refuse_job(const struct prx_ledger_place *place)
{
    struct prx_str path = {0};
    struct stat st;
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s" PRX_SINK_JOB_FOLDER, place->folder));
    if (*place->prefix == '\0' && lstat(path.bytes, &st) == 0)
        rc = prx_err(PRX_EEXIST,
                     "%s: a job of several processes, running or interrupted, which"
                     " --share joins",
                     path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

int prx_ledger_open(struct prx_ledger *ledger, const struct prx_ledger_place *place,
                    const struct prx_sink_opts *opts)
{
    struct memory memory = {.ledger = ledger, .place = place};
    struct prx_paths outputs = {0}, temps = {0};
    char plan[PRX_HASH_HEX_BYTES], *journal_path = NULL;
    int rc = 0;

    *ledger = (struct prx_ledger){
        .kind = place->kind,
        .write_index = place->write_index,
        .no_sync = opts->no_sync,
    };
    PRX_GO(hash_plan(place, opts, plan));
    PRX_GO(open_names(ledger, place, &journal_path));
    if (opts->exists != PRX_SINK_JOIN)
        PRX_GO(refuse_job(place));
    if (opts->tool)
        PRX_GO(prx_strdup(opts->tool, &ledger->tool));
    if (*place->folder)
        PRX_GO(prx_mkdirs(place->folder));
    PRX_GO(prx_journal_open(&ledger->journal, journal_path));
    rc = prx_journal_read(&ledger->journal, recall_line, &memory);
    if (rc < 0)
        goto out;
    PRX_GO(list_folder(ledger, place, &outputs, &temps));
    PRX_GO(decide(ledger, place, opts, plan, &memory, &outputs));
    ledger->has_leftovers =
        outputs.n_paths > 0 && opts->exists != PRX_SINK_OVERWRITE;
    for (size_t i = 0; i < temps.n_paths; i++)
        PRX_GO(remove_file(ledger, temps.paths[i]));
    memcpy(ledger->index.plan, plan, sizeof(plan));
    if (!ledger->no_sync)
        rc = prx_sync_dir(ledger->index_path);
out:
    prx_paths_release(&outputs);
    prx_paths_release(&temps);
    free(journal_path);
    if (rc < 0) {
        /* What an earlier run remembers is not ours to throw away. */
        prx_journal_close(&ledger->journal, memory.plan[0] == '\0');
        prx_ledger_release(ledger);
    }
    return rc;
}

/* Write @line, taking it; a line too odd to write is a lack of memory. */
static int put_line(struct prx_ledger *ledger, json_t *line, bool is_synced)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    int rc = text ? prx_journal_put(&ledger->journal, text, is_synced)
                  : prx_err_nomem("a line of the journal");
    free(text);
    json_decref(line);
    return rc;
}

int prx_ledger_begin(struct prx_ledger *ledger, const char *name)
{
    return put_line(ledger, json_pack("{ss}", "begin", name), false);
}

int prx_ledger_reject(struct prx_ledger *ledger, const struct prx_sample *sample)
{
    json_t *line =
        json_pack("{so sI so so so}", "key", prx_json_text(sample->key), "serial",
                  (json_int_t)sample->serial, "stage",
                  prx_json_text(sample->reject_stage), "reason",
                  prx_json_text(sample->reject_reason), "source",
                  sample->origin ? prx_json_text(sample->origin) : json_null());
    return put_line(ledger, line, false);
}

int prx_ledger_put(struct prx_ledger *ledger, const struct prx_shard *shard)
{
    json_t *line = json_pack("{ss sI sI sI sI sI ss}", "shard", shard->name, "first",
                             (json_int_t)shard->first_serial, "next",
                             (json_int_t)shard->next_serial, "samples",
                             (json_int_t)shard->n_samples, "rejected",
                             (json_int_t)shard->n_rejected, "bytes",
                             (json_int_t)shard->n_bytes, "xxh128", shard->xxh128);
    PRX_TRY(put_line(ledger, line, !ledger->no_sync));
    return prx_index_add(&ledger->index, shard);
}

/* Shards with a name: what the index lists.  The others only settle serials. */
static void drop_nameless(struct prx_index *index)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < index->n_shards; i++) {
        if (index->shards[i].name[0])
            index->shards[n_kept++] = index->shards[i];
        else
            free(index->shards[i].name);
    }
    index->n_shards = n_kept;
}

int prx_ledger_finish(struct prx_ledger *ledger, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct prx_index *index = &ledger->index;

    drop_nameless(index);
    if (!ledger->is_finished && ledger->write_index)
        PRX_TRY(ledger->write_index(ledger, extra));
    else if (!ledger->is_finished)
        PRX_TRY(prx_index_write(ledger->index_path, index, ledger->kind, ledger->tool,
                                extra, ledger->no_sync));
    ledger->has_outputs = true;
    *totals = (struct prx_sink_totals){
        .n_samples = index->n_samples,
        .n_bytes = index->n_bytes,
        .n_shards = index->n_shards,
        .n_rejected = index->n_rejected,
    };
    return 0;
}

int prx_ledger_close(struct prx_ledger *ledger)
{
    return prx_journal_remove(&ledger->journal);
}

void prx_ledger_release(struct prx_ledger *ledger)
{
    bool is_useless = ledger->is_finished
                          ? !ledger->is_recalled
                          : !ledger->has_outputs && !ledger->has_leftovers &&
                                ledger->index.n_shards == 0 &&
                                ledger->begun.n_paths == 0;

    prx_journal_close(&ledger->journal, is_useless);
    prx_index_release(&ledger->index);
    prx_paths_release(&ledger->begun);
    free(ledger->folder);
    free(ledger->index_path);
    free(ledger->tool);
    *ledger = (struct prx_ledger){0};
}

struct reject_walk {
    const struct prx_ledger *ledger;
    prx_reject_fn fn;
    void *ctx;
    uint64_t next_serial; /* rejects before it were told */
};

static int walk_reject(void *ctx, const char *text, uint64_t end_bytes)
{
    struct reject_walk *walk = ctx;
    const char *key, *stage, *reason, *origin = NULL;
    json_int_t serial;
    int rc = 0;

    if (end_bytes > walk->ledger->n_kept_bytes)
        return 0;
    json_t *line = json_loads(text, 0, NULL);
    if (line &&
        json_unpack(line, "{ss sI ss ss s?s}", "key", &key, "serial", &serial, "stage",
                    &stage, "reason", &reason, "source", &origin) == 0 &&
        (uint64_t)serial >= walk->next_serial &&
        (uint64_t)serial < walk->ledger->n_done_serials) {
        walk->next_serial = (uint64_t)serial + 1;
        rc = walk->fn(walk->ctx, key, stage, reason, origin);
    }
    json_decref(line);
    return rc;
}

int prx_ledger_each_reject(struct prx_ledger *ledger, prx_reject_fn fn, void *ctx)
{
    struct reject_walk walk = {ledger, fn, ctx, 0};

    if (!ledger->journal.path || (ledger->is_finished && !ledger->is_recalled))
        return 0;
    return prx_journal_read(&ledger->journal, walk_reject, &walk);
}
