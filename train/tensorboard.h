/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorboard.h - a run's numbers and pictures, as TensorBoard reads them.
 *
 *     RUN/tensorboard/events.out.tfevents.TIME.HOST.PID
 *
 * One file for each time the run was begun or resumed, append-only; the names sort
 * in that order.  A file begins with the version and a session's start at the step
 * behind the last that counts: TensorBoard then drops what earlier files hold from
 * that step on, which is about to be taken again.  Every event is written whole by
 * one write; what a kill tears is the last event, which readers leave out.
 *
 * A struct prx_tensorboard is one thread's at a time.
 */
#ifndef PRX_TRAIN_TENSORBOARD_H
#define PRX_TRAIN_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One that is not open, fd < 0, takes everything and writes nothing. */
struct prx_tensorboard {
    int fd;
    char *path;
};

struct prx_scalar {
    const char *tag;
    double value; /* written as float; need not be finite */
};

/**
 * prx_tensorboard_open - begin a file below @run_dir, for the steps behind @last_step.
 *
 * Errors of all below: PRX_EIO (the message names the file), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_tensorboard_open(struct prx_tensorboard *board,
                                      const char *run_dir, int64_t last_step);

/** prx_tensorboard_scalars - one event with @n_scalars numbers of @step. */
PRX_MUST_USE int prx_tensorboard_scalars(struct prx_tensorboard *board, int64_t step,
                                         const struct prx_scalar *scalars,
                                         size_t n_scalars);

/** prx_tensorboard_image - one event with a picture: @png, the bytes of an RGB PNG. */
PRX_MUST_USE int prx_tensorboard_image(struct prx_tensorboard *board, const char *tag,
                                       int64_t step, const void *png, size_t n_bytes,
                                       int width_px, int height_px);

void prx_tensorboard_close(struct prx_tensorboard *board);

/** prx_crc32c - the CRC of Castagnoli, as iSCSI, ext4 and TFRecord use it. */
uint32_t prx_crc32c(const void *bytes, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
