/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_repack SRC DEST [THREADS [nosync]] - move samples untouched, and say how fast.
 *
 * The library alone: no stage looks at a byte.  Prints samples a second, MB a
 * second and the peak of resident memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "libdata/pipeline.h"
#include "libdata/progress.h"

static int repack(const char *src, const char *dest, int n_threads, bool no_sync)
{
    struct prx_source *source = NULL;
    struct prx_sink *sink = NULL;
    struct prx_sink_opts sink_opts = {.exists = PRX_SINK_OVERWRITE, .no_sync = no_sync};
    struct prx_pipeline_opts opts = {.n_threads = n_threads};
    struct prx_sink_totals totals;
    struct rusage usage;
    int rc = 0;

    int64_t start_ns = prx_now_ns();
    PRX_GO(prx_source_open(&src, 1, NULL, &source));
    PRX_GO(prx_sink_open(dest, &sink_opts, &opts.n_skip, &sink));
    PRX_GO(prx_pipeline_run(source, NULL, 0, sink, &opts, NULL));
    rc = prx_sink_finish(sink, NULL, &totals);
    sink = NULL;
    if (rc < 0)
        goto out;
    double elapsed_s = (double)(prx_now_ns() - start_ns) / 1e9;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(
        stderr,
        "samples=%llu rejected=%llu samples_per_s=%.0f mb_per_s=%.0f "
        "peak_rss_mib=%.1f\n",
        (unsigned long long)totals.n_samples, (unsigned long long)totals.n_rejected,
        (double)totals.n_samples / elapsed_s, (double)totals.n_bytes / elapsed_s / 1e6,
        (double)usage.ru_maxrss / 1024);
out:
    prx_sink_abort(sink);
    prx_source_close(source);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_repack SRC DEST [THREADS [nosync]]\n");
        return 2;
    }
    int n_threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    if (repack(argv[1], argv[2], n_threads,
               argc > 4 && strcmp(argv[4], "nosync") == 0) < 0) {
        fprintf(stderr, "bench_repack: %s\n", prx_err_message());
        return 1;
    }
    return 0;
}
