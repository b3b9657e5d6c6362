/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loss curve, drawn by gnuplot from a script that carries its own data.
 *
 * RUN/loss.gnuplot stays, so that the plot can be drawn again or otherwise:
 * `gnuplot loss.gnuplot > loss.svg`.  No shell runs, and nothing but this
 * program's own numbers is in the script.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"
#include "train/run.h"

#define N_POINTS_MAX 2000

extern char **environ;

struct points {
    double *steps;
    double *losses;
    size_t n;
    size_t cap;
};

static int add_point(struct points *points, double step, double loss)
{
    if (points->n == points->cap) {
        size_t cap = points->cap ? points->cap * 2 : 1024;
        double *steps = realloc(points->steps, cap * sizeof(*steps));
        if (!steps)
            return prx_err_nomem("a plot");
        points->steps = steps;
        double *losses = realloc(points->losses, cap * sizeof(*losses));
        if (!losses)
            return prx_err_nomem("a plot");
        points->losses = losses;
        points->cap = cap;
    }
    points->steps[points->n] = step;
    points->losses[points->n++] = loss;
    return 0;
}

/* Steps that were skipped have no loss and are left out. */
static int read_points(const char *path, struct points *points)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t cap_bytes = 0;
    ssize_t n_bytes;
    int rc = 0;

    if (!file)
        return prx_err_sys("%s", path);
    while (rc == 0 && (n_bytes = getline(&line, &cap_bytes, file)) > 0) {
        json_t *object = json_loadb(line, (size_t)n_bytes, 0, NULL);
        json_t *loss = json_object_get(object, "loss");
        if (json_is_number(loss))
            rc = add_point(points, json_number_value(json_object_get(object, "step")),
                           json_number_value(loss));
        json_decref(object);
    }
    free(line);
    fclose(file);
    return rc;
}

/* Few enough points: means over equal runs of steps. */
static void thin_points(struct points *points)
{
    size_t n_each = (points->n + N_POINTS_MAX - 1) / N_POINTS_MAX, n = 0;

    for (size_t i = 0; n_each > 1 && i < points->n; i += n_each) {
        double sum = 0;
        size_t i_end = i + n_each < points->n ? i + n_each : points->n;
        for (size_t j = i; j < i_end; j++)
            sum += points->losses[j];
        points->steps[n] = points->steps[(i + i_end) / 2];
        points->losses[n++] = sum / (double)(i_end - i);
    }
    if (n_each > 1)
        points->n = n;
}

static int format_script(const struct points *points, struct prx_str *out)
{
    double smooth = points->n > 0 ? points->losses[0] : 0;

    PRX_TRY(prx_str_puts(out, "# draws the loss of a training run to standard output\n"
                              "set terminal svg size 900,540 dynamic background rgb"
                              " 'white' font 'sans,13'\n"
                              "set xlabel 'step'\nset ylabel 'loss'\n"
                              "set grid lc rgb '#dddddd'\nset key top right\n"
                              "$loss << end_of_loss\n"));
    for (size_t i = 0; i < points->n; i++) {
        smooth += (points->losses[i] - smooth) * 0.05;
        PRX_TRY(prx_str_printf(out, "%.0f %.9g %.9g\n", points->steps[i],
                               points->losses[i], smooth));
    }
    return prx_str_puts(out, "end_of_loss\n"
                             "plot $loss using 1:2 with lines lc rgb '#b7cde2' title"
                             " 'loss', $loss using 1:3 with lines lw 2 lc rgb '#1f4e79'"
                             " title 'smoothed'\n");
}

/* Run gnuplot on @script, its standard output into the file @svg. */
static int draw(const char *script, const char *svg)
{
    char name[] = "gnuplot";
    char *const argv[] = {name, (char *)script, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int status = 0, failed;
    pid_t pid;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return prx_err_nomem("a process");
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return prx_err_nomem("a process");
    }
    /* Signals that our threads block are no less gnuplot's. */
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(&actions, 1, svg,
                                                  O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY,
                                                  0);
    if (failed == 0)
        failed = posix_spawnp(&pid, "gnuplot", &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
        errno = failed;
        return prx_err_sys("gnuplot");
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return prx_err_sys("gnuplot");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return prx_err(PRX_EIO, "gnuplot could not draw %s", script);
    return 0;
}

int prx_plot_loss(const char *run_dir)
{
    struct prx_str log = {0}, script = {0}, svg = {0}, temp = {0}, text = {0};
    struct points points = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&log, "%s/log.jsonl", run_dir));
    PRX_GO(prx_str_printf(&script, "%s/loss.gnuplot", run_dir));
    PRX_GO(prx_str_printf(&svg, "%s/loss.svg", run_dir));
    PRX_GO(prx_str_printf(&temp, "%s/.loss.svg.tmp.%ld", run_dir, (long)getpid()));
    PRX_GO(read_points(log.bytes, &points));
    if (points.n < 2)
        goto out;
    thin_points(&points);
    PRX_GO(format_script(&points, &text));
    PRX_GO(prx_file_put(script.bytes, text.bytes, text.n_bytes));
    rc = draw(script.bytes, temp.bytes);
    if (rc == 0 && rename(temp.bytes, svg.bytes) != 0)
        rc = prx_err_sys("%s", svg.bytes);
    if (rc < 0)
        unlink(temp.bytes);
out:
    free(points.steps);
    free(points.losses);
    prx_str_release(&log);
    prx_str_release(&script);
    prx_str_release(&svg);
    prx_str_release(&temp);
    prx_str_release(&text);
    return rc;
}
