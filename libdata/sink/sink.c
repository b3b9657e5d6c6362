/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks by name. */
#include "libdata/sink.h"

#include <string.h>
#include <sys/stat.h>

#include "libdata/lmdb_internal.h"
#include "libdata/sink/sink_internal.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text), n_end = strlen(end);
    return n_text >= n_end && strcmp(text + n_text - n_end, end) == 0;
}

/* Length of "lmdb:" and the like at the start of @word; 0: it is a path. */
static size_t scheme_bytes(const char *word)
{
    size_t n_scheme = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    return n_scheme > 1 && word[n_scheme] == ':' ? n_scheme + 1 : 0;
}

static bool is_null(const char *word)
{
    return strcmp(word, "null:") == 0;
}

static bool is_lmdb(const char *word)
{
    return strncmp(word, PRX_LMDB_SCHEME, strlen(PRX_LMDB_SCHEME)) == 0;
}

static bool is_mds(const char *word)
{
    return strncmp(word, "mds:", 4) == 0;
}

static bool is_folder(const char *word)
{
    return scheme_bytes(word) == 0 && ends_with(word, "/");
}

static bool is_tar(const char *word)
{
    return strcmp(word, "-") == 0 ||
           (scheme_bytes(word) == 0 && ends_with(word, ".tar"));
}

/* The first that takes a word opens it. */
static const struct {
    bool (*takes)(const char *word);
    int (*open)(const char *word, const struct prx_sink_opts *opts,
                uint64_t *n_done_serials, struct prx_sink **out);
} kinds[] = {
    {is_null, prx_sink_null_open},
    {is_lmdb, prx_sink_lmdb_open},
    {is_mds, prx_sink_mds_open},
    {is_folder, prx_sink_dir_open},
    {is_tar, prx_sink_tar_open},
};

static int refuse(const char *word)
{
    struct stat st;
    int n_scheme = (int)scheme_bytes(word);

    if (n_scheme > 0)
        return prx_err(PRX_EINVAL,
                       "%s: destinations of kind %.*s are not written by this build",
                       word, n_scheme, word);
    if (stat(word, &st) == 0 && S_ISDIR(st.st_mode))
        return prx_err(
            PRX_EINVAL,
            "%s: a folder: want %s/ for plain files, %s/%%06d.tar for shards", word,
            word, word);
    return prx_err(PRX_EINVAL,
                   "%s: not a destination: want DIR/%%06d.tar, FILE.tar, DIR/, "
                   "lmdb:PATH or -",
                   word);
}

int prx_sink_open(const char *word, const struct prx_sink_opts *opts,
                  uint64_t *n_done_serials, struct prx_sink **out)
{
    static const struct prx_sink_opts no_opts;

    *n_done_serials = 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (kinds[i].takes(word))
            return kinds[i].open(word, opts ? opts : &no_opts, n_done_serials, out);
    return refuse(word);
}

int prx_sink_put(struct prx_sink *sink, struct prx_sample *sample)
{
    if (!sample->reject_reason) {
        PRX_TRY(prx_key_check(sample->key ? sample->key : ""));
        for (size_t i = 0; i < sample->n_fields; i++) {
            PRX_TRY(prx_field_check(sample->fields[i].name));
            PRX_BUG_IF(!sample->fields[i].bytes);
        }
        if (sample->n_fields == 0)
            prx_sample_reject(sample, "write", "nothing is left of the sample");
    }
    return sink->ops->put(sink, sample);
}

int prx_sink_complete(struct prx_sink *sink, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct prx_sink_totals own_totals;

    return sink->ops->finish(sink, extra, totals ? totals : &own_totals);
}

int prx_sink_close(struct prx_sink *sink)
{
    int rc = sink->ops->ledger ? prx_ledger_close(sink->ops->ledger(sink)) : 0;

    sink->ops->release(sink);
    return rc;
}

bool prx_sink_is_numbered(const char *word)
{
    const char *slash = strrchr(word, '/');

    return is_tar(word) && strchr(slash ? slash : word, '%');
}

int prx_sink_adopt(struct prx_sink *sink, const char *path,
                   const struct prx_shard *shard)
{
    PRX_BUG_IF(!sink->ops->adopt);
    return sink->ops->adopt(sink, path, shard);
}

int prx_sink_finish(struct prx_sink *sink, json_t *extra,
                    struct prx_sink_totals *totals)
{
    int rc = prx_sink_complete(sink, extra, totals);

    if (rc == 0)
        return prx_sink_close(sink);
    prx_sink_abort(sink);
    return rc;
}

void prx_sink_abort(struct prx_sink *sink)
{
    if (!sink)
        return;
    sink->ops->abort(sink);
    sink->ops->release(sink);
}

int prx_sink_each_reject(const struct prx_sink *sink,
                         int (*fn)(void *ctx, const char *key, const char *stage,
                                   const char *reason, const char *origin),
                         void *ctx)
{
    if (!sink->ops->ledger)
        return 0;
    return prx_ledger_each_reject(sink->ops->ledger(sink), fn, ctx);
}
