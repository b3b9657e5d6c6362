/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards that commands write: "pipe:CMD", only where the user has typed it.
 *
 * Of a command nothing is known but its words, and it is not run before its turn.
 */
#include "libdata/source/source_internal.h"
#include "libdata/source/stream_internal.h"

static int plan_command(const struct prx_shard_place *place, struct prx_str *plan)
{
    return prx_str_printf(plan, "%s\n", place->path);
}

static int open_command(const struct prx_shard_place *place, struct prx_stream **out)
{
    return prx_stream_command(place->path, out);
}

static const struct prx_shard_kind command_kind = {
    .plan = plan_command,
    .show = prx_escape,
    .open = open_command,
};

static int open_commands(const char *const *words, size_t n_words,
                         const struct prx_source_opts *opts, struct prx_source **out)
{
    return prx_source_shards_open(&command_kind, words, n_words, opts, out);
}

static int add_command(struct prx_inputs *inputs, const char *word,
                       const struct prx_source_opts *opts)
{
    if (!opts->may_run)
        return prx_err(PRX_EINVAL, "%s: a command is run only if it stands on the"
                                   " command line",
                       word);
    return prx_inputs_add(inputs, &prx_source_pipe_kind, word, 0);
}

const struct prx_source_kind prx_source_pipe_kind = {
    .scheme = "pipe:",
    .add = add_command,
    .is_shard = true,
    .open = open_commands,
};
