/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - how every fallible function of the suite reports failure.
 *
 * A fallible function returns int: 0 is done, a negative PRX_E... code is a
 * failure; an iterator returns 1 for an element, 0 at the end, < 0 on failure.
 * Who detects a failure speaks, by prx_err(); who passes it on is silent
 * (PRX_TRY, PRX_GO).  Only the boundaries shard, sample and step add one frame
 * each, by prx_err_frame(), so that a message reads "where: where: what".
 *
 * The message lives in a fixed thread-local record: no allocation, so even
 * PRX_ENOMEM can speak.  A thread that carries a failure to another one saves
 * the record and restores it there (prx_err_save, prx_err_restore).
 */
#ifndef PRX_LIBDATA_ERR_H
#define PRX_LIBDATA_ERR_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_MUST_USE          __attribute__((warn_unused_result))
#define PRX_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Few, because code branches on them; the sentence is for people. */
enum prx_err_code {
    PRX_OK = 0,
    PRX_ENOMEM = -1,      /* memory refused */
    PRX_EIO = -2,         /* the system failed to read or write */
    PRX_ECORRUPT = -3,    /* bytes contradict their own format */
    PRX_EFORMAT = -4,     /* bytes of a kind this build does not read */
    PRX_EINVAL = -5,      /* the caller or the user asked for the impossible */
    PRX_ENOENT = -6,      /* something named is not there */
    PRX_EEXIST = -7,      /* something is there already, or in use */
    PRX_ESHAPE = -8,      /* tensor shapes or dtypes disagree */
    PRX_EDEVICE = -9,     /* the compute device failed */
    PRX_ENONFINITE = -10, /* NaN or infinity where a number is needed */
    PRX_ECANCELED = -11,  /* another part failed first, or a signal came */
    PRX_EPIPE = -12,      /* the reader of our output has gone */
};

#define PRX_ERR_TEXT_BYTES 1024

struct prx_error {
    int code;                      /* PRX_E..., 0 when none */
    int sys_errno;                 /* errno where the system failed, else 0 */
    char text[PRX_ERR_TEXT_BYTES]; /* one line, lower case, no full stop */
};

/** prx_err - record a failure of this thread; returns @code. */
int prx_err(int code, const char *fmt, ...) PRX_PRINTF(2, 3);

/**
 * prx_err_sys - record a failure of the system, from errno.
 *
 * The text becomes "FORMATTED: strerror(errno)".  Returns PRX_ENOENT for
 * ENOENT, PRX_EEXIST for EEXIST, PRX_ENOMEM for ENOMEM, PRX_EPIPE for EPIPE,
 * else PRX_EIO.
 */
int prx_err_sys(const char *fmt, ...) PRX_PRINTF(1, 2);

/** prx_err_nomem - record that memory for @what was refused; PRX_ENOMEM. */
int prx_err_nomem(const char *what);

/** prx_err_frame - put "FORMATTED: " before the recorded text; returns @code. */
int prx_err_frame(int code, const char *fmt, ...) PRX_PRINTF(2, 3);

/** prx_err_message - the recorded text; valid until this thread's next failure. */
const char *prx_err_message(void);

void prx_err_clear(void);
void prx_err_save(struct prx_error *out);

/** prx_err_restore - make @err this thread's failure; returns its code. */
int prx_err_restore(const struct prx_error *err);

/** prx_bug - print what is wrong with the program itself, and abort. */
void prx_bug(const char *file, int line, const char *what)
    __attribute__((noreturn));

#define PRX_BUG_IF(cond)               \
 do {                                  \
  if (__builtin_expect(!!(cond), 0))   \
   prx_bug(__FILE__, __LINE__, #cond); \
 } while (0)

/* Return a failure of @expr, or go on. */
#define PRX_TRY(expr)   \
 do {                   \
  int prx_rc_ = (expr); \
  if (prx_rc_ < 0)      \
   return prx_rc_;      \
 } while (0)

/* Jump to out: with the failure in rc, or go on.  The function declares rc. */
#define PRX_GO(expr) \
 do {                \
  rc = (expr);       \
  if (rc < 0)        \
   goto out;         \
 } while (0)

#ifdef __cplusplus
}
#endif
#endif
