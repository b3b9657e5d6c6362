/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.h - source -> stages -> sink, in many threads, in order, in bounded memory.
 *
 * One thread reads, n_threads work, the caller's thread writes.  Samples leave
 * in the order they came, so any n_threads writes the same bytes.  At most
 * n_bytes_max bytes of samples are in flight, or one sample a thread and one more
 * where those are larger.
 * The failure of the lowest serial wins and cancels the rest.
 *
 * A worker loads the sample (what cannot be read is rejected by stage "load"),
 * applies the stages and writes changed metadata back.
 */
#ifndef PRX_LIBDATA_PIPELINE_H
#define PRX_LIBDATA_PIPELINE_H

#include "libdata/err.h"
#include "libdata/sink.h"
#include "libdata/source.h"
#include "libdata/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_counts {
    uint64_t n_read; /* samples that left the source, rejected ones too */
    uint64_t n_written;
    uint64_t n_rejected;
    uint64_t n_bytes_in; /* of the fields of read samples */
};

struct prx_pipeline_opts {
    int n_threads;        /* 0 = processors online */
    uint64_t n_bytes_max; /* 0 = 2 MiB + 1 MiB a thread */
    uint64_t n_skip;      /* first samples to pass over: settled by an earlier run */
    /* Called in the writing thread for every reject, the sink's own ones too. */
    int (*on_reject)(void *ctx, const struct prx_sample *sample);
    /* Called in the writing thread after each sample, and while none comes each
     * 250 ms, for progress; may be NULL.  A non-zero return of this or the other
     * stops the run with PRX_ECANCELED. */
    int (*on_sample)(void *ctx, const struct prx_counts *counts);
    void *ctx;
};

/**
 * prx_pipeline_run - move every sample of @source through @stages into @sink.
 *
 * @sink stays open: the caller finishes it, or aborts it after an error.
 * @counts: of this run; filled in also after an error.
 * Errors: the first of source, stage, sink; PRX_ECANCELED.
 */
PRX_MUST_USE int prx_pipeline_run(struct prx_source *source,
                                  const struct prx_stage *stages, size_t n_stages,
                                  struct prx_sink *sink,
                                  const struct prx_pipeline_opts *opts,
                                  struct prx_counts *counts);

#ifdef __cplusplus
}
#endif
#endif
