/* SPDX-License-Identifier: Apache-2.0 */
/* prx-export - the weights of a checkpoint, to be given away. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "tools/tool.h"
#include "train/checkpoint.h"

static struct {
    int dtype; /* enum prx_weight_type */
    int names;
    bool trained;
} cfg;

enum names { NAMES_DIFFUSERS,
             NAMES_PRX };

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Output", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'o', "output", OPT_STRING, &tool_common.output, "DEST",
     "a folder in the layout of diffusers, or FILE.safetensors for the weights alone",
     0, 0},
    {0, "overwrite", OPT_FLAG, &tool_common.overwrite, NULL,
     "replace an existing DEST", 0, 0},

    {0, "Weights", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "dtype", OPT_CHOICE, &cfg.dtype, "kept|f32|bf16|f16",
     "numbers they are written as; kept: as the checkpoint has them", 0, 0},
    {0, "names", OPT_CHOICE, &cfg.names, "diffusers|prx",
     "names they have: diffusers', or in FILE.safetensors the reference's", 0, 0},
    {0, "trained", OPT_FLAG, &cfg.trained, NULL,
     "take the trained weights, though there are averaged ones", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-export",
    .usage = {
        .synopsis = "[options] -o DEST CKPT",
        .summary = "Write the weights of a checkpoint, to be given away.",
        .examples = "  prx-export runs/first -o first --dtype bf16\n"
                    "  prx-export runs/first -o first.safetensors --names prx\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = 0,
    .run = run,
};

static bool is_file(const char *dest)
{
    static const char suffix[] = ".safetensors";
    size_t n = strlen(dest), n_suffix = sizeof(suffix) - 1;

    return n > n_suffix && strcmp(dest + n - n_suffix, suffix) == 0;
}

static bool has(const char *folder, const char *name)
{
    struct prx_str path = {0};
    bool is_there = prx_str_printf(&path, "%s/%s", folder, name) == 0 &&
                    access(path.bytes, F_OK) == 0;

    prx_str_release(&path);
    return is_there;
}

/* A folder is removed as a whole: only one that was exported, and can be again. */
static int check_dest(const char *dest)
{
    struct stat stat_of;

    if (stat(dest, &stat_of) != 0)
        return 0;
    if (!tool_common.overwrite)
        return prx_err(PRX_EEXIST, "%s: is there already; --overwrite replaces it",
                       dest);
    if (S_ISDIR(stat_of.st_mode) &&
        (!has(dest, "model_index.json") || has(dest, "trainer")))
        return prx_err(PRX_EEXIST, "%s: not an exported model; it is not replaced",
                       dest);
    return 0;
}

static int check_words(size_t n_operands)
{
    const char *dest = tool_common.output;

    if (n_operands != 1)
        return tool_usage("name one checkpoint");
    if (!dest)
        return tool_usage("-o: name what to write");
    if (cfg.names == NAMES_PRX && !is_file(dest))
        return tool_usage("--names prx: only in a file, NAME.safetensors");
    return check_dest(dest);
}

static int run(const char **operands, size_t n_operands)
{
    const struct prx_weight_format format = {
        .type = (enum prx_weight_type)cfg.dtype,
        .prx_names = cfg.names == NAMES_PRX,
    };
    const char *dest = tool_common.output;
    struct prx_denoiser *denoiser = NULL;
    struct prx_backend *be = NULL;
    struct prx_model_info info;
    int rc = 0;

    PRX_TRY(check_words(n_operands));
    PRX_GO(prx_backend_open("ref", 1, &be));
    PRX_GO(prx_checkpoint_open(operands[0], be, !cfg.trained, &denoiser, &info));
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    if (is_file(dest))
        PRX_GO(prx_params_export(store, &format, dest));
    else
        PRX_GO(prx_checkpoint_export(dest, denoiser, &info, &format));
    if (!tool_common.quiet)
        fprintf(stderr, "%s: tensors=%zu parameters=%" PRId64 "\n", tool.name,
                store->n_params, prx_param_store_count(store));
out:
    prx_denoiser_free(denoiser);
    prx_backend_close(be);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
