/* SPDX-License-Identifier: Apache-2.0 */
/* Where a recipe named by one word lies. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/recipe.h"

#ifndef PRX_DATADIR
# define PRX_DATADIR "/usr/local/share/prx"
#endif

/* The folder of the running program, with its slash; empty where nobody knows. */
static int program_dir(struct prx_str *out)
{
    char path[4096];
    ssize_t n_bytes = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n_bytes <= 0)
        return 0;
    path[n_bytes] = '\0';
    char *slash = strrchr(path, '/');
    return slash ? prx_str_add(out, path, (size_t)(slash - path) + 1) : 0;
}

int prx_recipe_find(const char *word, char **out)
{
    /* The second and third are relative to the program: its build tree, a prefix. */
    static const struct {
        bool by_program;
        const char *dir;
    } places[] = {
        {false, "manifests/recipes"},
        {true, "../../manifests/recipes"},
        {true, "../../../manifests/recipes"},
        {true, "../share/prx/recipes"},
        {false, PRX_DATADIR "/recipes"},
    };
    struct prx_str program = {0}, path = {0};
    int rc = 0;

    *out = NULL;
    if (strpbrk(word, "/."))
        return prx_strdup(word, out);
    PRX_GO(program_dir(&program));
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (places[i].by_program && program.n_bytes == 0)
            continue;
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%s%s/%s.yaml",
                              places[i].by_program ? program.bytes : "", places[i].dir,
                              word));
        if (access(path.bytes, R_OK) == 0) {
            rc = prx_strdup(path.bytes, out);
            goto out;
        }
    }
    rc = prx_err(PRX_ENOENT, "no recipe %s.yaml in manifests/recipes or in %s/recipes",
                 word, PRX_DATADIR);
out:
    prx_str_release(&program);
    prx_str_release(&path);
    return rc;
}
