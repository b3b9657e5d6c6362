/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.jsonl: one JSON object a line, written whole by one write.
 *
 * A run that goes on from step k drops the lines behind k, which describe steps
 * that are about to be taken again, and whatever a kill tore.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"
#include "train/run.h"

/* Bytes of @path up to the last whole line of a step <= @last_step. */
static int kept_bytes(const char *path, int64_t last_step, off_t *out)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t cap_bytes = 0;
    ssize_t n_bytes;

    *out = 0;
    if (!file)
        return prx_err_sys("%s", path);
    while ((n_bytes = getline(&line, &cap_bytes, file)) > 0) {
        json_t *object = json_loadb(line, (size_t)n_bytes, 0, NULL);
        json_t *step = json_object_get(object, "step");
        bool is_kept = line[n_bytes - 1] == '\n' && json_is_integer(step) &&
                       json_integer_value(step) <= last_step;
        json_decref(object);
        if (!is_kept)
            break;
        *out += n_bytes;
    }
    free(line);
    int rc = ferror(file) ? prx_err_sys("%s", path) : 0;
    fclose(file);
    return rc;
}

int prx_runlog_open(struct prx_runlog *log, const char *run_dir, int64_t last_step)
{
    struct prx_str path = {0};
    off_t n_bytes = 0;
    int rc = 0;

    *log = (struct prx_runlog){.fd = -1};
    PRX_GO(prx_str_printf(&path, "%s/log.jsonl", run_dir));
    log->fd = open(path.bytes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log->fd < 0) {
        rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    PRX_GO(kept_bytes(path.bytes, last_step, &n_bytes));
    if (ftruncate(log->fd, n_bytes) != 0) {
        rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    rc = prx_strdup(path.bytes, &log->path);
out:
    prx_str_release(&path);
    if (rc < 0)
        prx_runlog_close(log);
    return rc;
}

void prx_runlog_close(struct prx_runlog *log)
{
    if (log->fd >= 0)
        close(log->fd);
    free(log->path);
    *log = (struct prx_runlog){.fd = -1};
}

/* JSON has no NaN: what is not finite is null. */
static int put_number(struct prx_str *out, const char *name, double value)
{
    if (!isfinite(value))
        return prx_str_printf(out, ", \"%s\": null", name);
    return prx_str_printf(out, ", \"%s\": %.9g", name, value);
}

void prx_runlog_scalars(const struct prx_runlog_line *line,
                        struct prx_scalar out[PRX_RUNLOG_N_SCALARS])
{
    double step_s = line->step_s > 0 ? line->step_s : 1e-9;
    double peak = line->peak_flop_per_s > 0 ? line->peak_flop_per_s : (double)NAN;
    const struct prx_scalar scalars[PRX_RUNLOG_N_SCALARS] = {
        {"loss", line->report.loss},
        {"grad_norm", line->report.grad_norm},
        {"lr", line->report.lr},
        {"samples_per_s", (double)line->n_samples / step_s},
        {"tokens_per_s", (double)line->n_tokens / step_s},
        {"gflop_per_s", line->flops / step_s / 1e9},
        {"peak_share", line->flops / step_s / peak},
        {"step_s", line->step_s},
        {"data_wait_s", line->data_wait_s},
    };

    memcpy(out, scalars, sizeof(scalars));
}

void prx_runlog_format_note(const struct prx_runlog_line *line, char *out,
                            size_t n_out_bytes)
{
    double step_s = line->step_s > 0 ? line->step_s : 1e-9;
    double rate = line->flops / step_s;
    char share[32] = "";

    if (line->peak_flop_per_s > 0)
        snprintf(share, sizeof(share), " (%.0f%% of peak)",
                 100 * rate / line->peak_flop_per_s);
    snprintf(out, n_out_bytes,
             "loss %.4f  %.1f samples/s  %.0f tokens/s  %.0f GFLOP/s%s  wait %.0f%%",
             line->report.loss, (double)line->n_samples / step_s,
             (double)line->n_tokens / step_s, rate / 1e9, share,
             100 * line->data_wait_s / step_s);
}

/* How many samples got each caption. */
static int put_captions(struct prx_str *text, const struct prx_runlog_line *line)
{
    PRX_TRY(prx_str_puts(text, ", \"captions\": {"));
    for (int i = 0; line->captions && i < PRX_LOADER_CAPTIONS_MAX; i++)
        if (line->captions[i])
            PRX_TRY(prx_str_printf(text, "%s\"%s\": %" PRId64, i > 0 ? ", " : "",
                                   line->captions[i], line->n_by_caption[i]));
    return prx_str_puts(text, "}");
}

int prx_runlog_put(struct prx_runlog *log, const struct prx_runlog_line *line)
{
    struct prx_scalar scalars[PRX_RUNLOG_N_SCALARS];
    struct prx_str text = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&text, "{\"step\": %" PRId64 ", \"epoch\": %" PRId64,
                          line->step, line->epoch));
    prx_runlog_scalars(line, scalars);
    for (size_t i = 0; i < PRX_RUNLOG_N_SCALARS; i++)
        PRX_GO(put_number(&text, scalars[i].tag, scalars[i].value));
    PRX_GO(prx_str_printf(&text,
                          ", \"null_captions\": %" PRId64
                          ", \"fallback_captions\": %" PRId64
                          ", \"skipped_steps\": %" PRId64
                          ", \"replaced_samples\": %" PRId64,
                          line->n_null, line->n_fallback, line->n_skipped,
                          line->n_replaced));
    PRX_GO(put_captions(&text, line));
    PRX_GO(prx_str_puts(&text, "}\n"));
    rc = prx_write_all(log->fd, log->path, text.bytes, text.n_bytes);
out:
    prx_str_release(&text);
    return rc;
}
