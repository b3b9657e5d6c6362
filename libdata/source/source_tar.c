/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards that are files: tars, compressed or not, zips; pipes and standard input.
 *
 * Fields of a plain tar are not read here but by whoever works on the sample.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/skip.h"
#include "libdata/source/source_internal.h"
#include "libdata/source/stream_internal.h"

static bool is_stdin(const char *path)
{
    return strcmp(path, "-") == 0;
}

static int look_at_files(struct prx_shard_place *places, size_t n_places)
{
    struct stat st;

    for (size_t i = 0; i < n_places; i++) {
        if (is_stdin(places[i].path))
            continue;
        if (stat(places[i].path, &st) < 0)
            return prx_err_sys("%s", places[i].path);
        places[i].n_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    return 0;
}

static int plan_file(const struct prx_shard_place *place, struct prx_str *plan)
{
    PRX_TRY(prx_str_printf(plan, "tar %s %llu\n", place->path,
                           (unsigned long long)place->n_bytes));
    return prx_skip_plan(place->path, plan);
}

static const char *show_file(const char *path, char *out, size_t n_out_bytes)
{
    return prx_escape(is_stdin(path) ? "standard input" : path, out, n_out_bytes);
}

static int open_file(const struct prx_shard_place *place, struct prx_stream **out)
{
    return prx_stream_file(place->path, out);
}

static const struct prx_shard_kind file_kind = {
    .look = look_at_files,
    .plan = plan_file,
    .show = show_file,
    .open = open_file,
    .is_local = true,
};

static int open_files(const char *const *paths, size_t n_paths,
                      const struct prx_source_opts *opts, struct prx_source **out)
{
    return prx_source_shards_open(&file_kind, paths, n_paths, opts, out);
}

bool prx_source_is_shard(const char *path)
{
    static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst",
                                       ".tzst", ".tar.xz", ".txz", ".tar.bz2",
                                       ".tbz2", ".tar.lz4", ".zip", NULL};
    return prx_path_ends_with(path, ends);
}

static bool takes_shard(const char *path, const struct stat *st)
{
    return S_ISREG(st->st_mode) && prx_source_is_shard(path);
}

const struct prx_source_kind prx_source_tar_kind = {
    .takes = takes_shard,
    .is_shard = true,
    .open = open_files,
};

const struct prx_source_kind prx_source_stream_kind = {
    .open = open_files,
};
