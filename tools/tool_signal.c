/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT, SIGTERM and SIGUSR1, taken by a thread of their own.
 *
 * The threads that compute must never take one: matrix kernels of oneDNN run with
 * their stack pointer in a buffer on the heap, where the kernel's signal frame
 * would overwrite what lies in front of it.  So the signals are blocked before the
 * first thread begins, all threads inherit that, and one waits for them.
 *
 * The first SIGINT or SIGTERM only sets a flag that the loops look at.  One more, a
 * second later or after, ends the program at once; timeout(1) and some shells send
 * each signal twice, and what comes with the first one is not a user's impatience.
 */
#include "tools/tool_signal.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "libdata/progress.h"

static atomic_int first_signal;
static atomic_bool save_wish;
static sigset_t awaited;

int tool_signal(void)
{
    return atomic_load_explicit(&first_signal, memory_order_relaxed);
}

void tool_signal_set(int number)
{
    atomic_store_explicit(&first_signal, number, memory_order_relaxed);
}

bool tool_save_wanted(void)
{
    return atomic_exchange_explicit(&save_wish, false, memory_order_relaxed);
}

static void die_of(int number)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
}

static void *wait_for_signals(void *ctx)
{
    int64_t first_ns = 0;
    int number;

    (void)ctx;
    while (sigwait(&awaited, &number) == 0) {
        int64_t now_ns = prx_now_ns();
        if (number == SIGUSR1) {
            atomic_store_explicit(&save_wish, true, memory_order_relaxed);
            continue;
        }
        if (first_ns == 0)
            first_ns = now_ns;
        else if (now_ns - first_ns > 1000000000)
            die_of(number);
        atomic_store_explicit(&first_signal, number, memory_order_relaxed);
    }
    return NULL;
}

/* What the parent wants ignored, as nohup(1) does, stays ignored. */
static bool is_ignored(int number)
{
    struct sigaction before;

    return sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
}

void tool_catch_signals(bool saves)
{
    pthread_attr_t detached;
    pthread_t thread;

    sigemptyset(&awaited);
    if (!is_ignored(SIGINT))
        sigaddset(&awaited, SIGINT);
    if (!is_ignored(SIGTERM))
        sigaddset(&awaited, SIGTERM);
    if (saves && !is_ignored(SIGUSR1))
        sigaddset(&awaited, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &awaited, NULL);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    /* Without the thread signals do what they do to any program: they end it. */
    if (pthread_create(&thread, &detached, wait_for_signals, NULL) != 0)
        pthread_sigmask(SIG_UNBLOCK, &awaited, NULL);
    pthread_attr_destroy(&detached);
}
