/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prx-golden - run every golden case below the given folders.
 *
 *     prx-golden DIR... [--allow-todo] [--backend cpu|ref|auto]
 *
 * A line a case: "ok OP CASE error/tolerance", "FAIL OP CASE reason", or "todo OP
 * CASE" for an operation (or an option of one) that is not built.  The status is
 * 0 where all are ok, or todo and allowed, and there was at least one; 2 for usage.
 */
#include "tests/golden/golden.h"

#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct golden_op *const tables[] = {
    golden_denoiser_ops,
    golden_train_ops,
    golden_schedule_ops,
    golden_image_ops,
};

struct tally {
    struct prx_backend *be;
    size_t n_ok;
    size_t n_failed;
    size_t n_todo;
};

static golden_fn find_op(const char *name)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct golden_op *op = tables[i]; op->name; op++)
            if (strcmp(op->name, name) == 0)
                return op->run;
    return NULL;
}

/* Names come from files: one line stays one line. */
static void print_clean(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < 0x20 ? '?' : *text);
}

static void print_line(const char *verdict, const struct golden_case *golden,
                       const char *rest)
{
    printf("%s ", verdict);
    print_clean(golden->op);
    putchar(' ');
    print_clean(golden->name);
    printf("%s", *rest ? " " : "");
    print_clean(rest);
    putchar('\n');
    fflush(stdout);
}

static int run_op(struct golden_case *golden, const char *dir, struct prx_backend *be,
                  struct golden_verdict *verdict)
{
    PRX_TRY(golden_case_open(golden, dir, be));
    golden_fn run = find_op(golden->op);
    if (!run)
        return GOLDEN_TODO;
    int rc = run(golden);
    if (rc != 0)
        return rc;
    return golden_compare(golden, verdict);
}

static void run_case(struct tally *tally, const char *dir)
{
    struct golden_case golden;
    struct golden_verdict verdict = {0};
    char rest[512];

    int rc = run_op(&golden, dir, tally->be, &verdict);
    if (rc == GOLDEN_TODO) {
        tally->n_todo++;
        print_line("todo", &golden, "");
    } else if (rc < 0) {
        tally->n_failed++;
        print_line("FAIL", &golden, prx_err_message());
    } else if (!verdict.is_ok) {
        tally->n_failed++;
        snprintf(rest, sizeof(rest), "%.300s %.2e/%.2e", verdict.tensor, verdict.error,
                 verdict.tolerance);
        print_line("FAIL", &golden, rest);
    } else {
        tally->n_ok++;
        snprintf(rest, sizeof(rest), "%.2e/%.2e", verdict.error, verdict.tolerance);
        print_line("ok", &golden, rest);
    }
    golden_case_close(&golden);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Cases in byte order of their paths; a link to a folder is not followed. */
static int walk(struct tally *tally, const char *dir)
{
    struct dirent **entries = NULL;
    struct stat status;
    char path[4096];
    int rc = 0;

    int n_entries = scandir(dir, &entries, is_visible, by_name);
    if (n_entries < 0)
        return prx_err_sys("%s", dir);
    for (int i = 0; i < n_entries; i++) {
        int n_chars = snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
        if (rc < 0 || n_chars >= (int)sizeof(path) || lstat(path, &status) != 0)
            continue;
        if (S_ISDIR(status.st_mode))
            rc = walk(tally, path);
        else if (strcmp(entries[i]->d_name, "case.json") == 0)
            run_case(tally, dir);
    }
    for (int i = 0; i < n_entries; i++)
        free(entries[i]);
    free(entries);
    return rc;
}

static int walk_root(struct tally *tally, const char *dir)
{
    char *path = realpath(dir, NULL);
    if (!path)
        return prx_err_sys("%s", dir);
    int rc = walk(tally, path);
    free(path);
    return rc;
}

static int usage(void)
{
    fputs("usage: prx-golden DIR... [--allow-todo] [--backend cpu|ref|auto]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"allow-todo", no_argument, NULL, 't'},
        {"backend", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    struct tally tally = {0};
    const char *backend = "auto";
    bool allow_todo = false;
    int rc = 0;
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (letter == 't')
            allow_todo = true;
        else if (letter == 'b')
            backend = optarg;
        else
            return usage();
    }
    if (optind == argc)
        return usage();
    PRX_GO(prx_backend_open(backend, 0, &tally.be));
    for (int i = optind; i < argc; i++)
        PRX_GO(walk_root(&tally, argv[i]));
out:
    if (rc < 0)
        fprintf(stderr, "prx-golden: error: %s\n", prx_err_message());
    fprintf(stderr, "prx-golden: %zu ok, %zu failed, %zu todo (backend %s)\n",
            tally.n_ok, tally.n_failed, tally.n_todo,
            tally.be ? tally.be->name : backend);
    prx_backend_close(tally.be);
    bool is_empty = tally.n_ok + tally.n_failed + tally.n_todo == 0;
    bool is_done = tally.n_failed == 0 && (tally.n_todo == 0 || allow_todo);
    return rc < 0 || is_empty || !is_done;
}
