/* SPDX-License-Identifier: Apache-2.0 */
/* The meter: "shard  1.2k samples  8.4k/s  312 MB/s  eta 4m10s". */
#include "libdata/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "libdata/log.h"

#define N_SECOND_NS INT64_C(1000000000)

int64_t prx_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * N_SECOND_NS + now.tv_nsec;
}

void prx_meter_init(struct prx_meter *meter, enum prx_meter_when when, const char *verb,
                    const char *unit, uint64_t n_total)
{
    *meter = (struct prx_meter){
        .when = when,
        .verb = verb,
        .unit = unit,
        .n_total = n_total,
        .start_ns = prx_now_ns(),
    };
}

double prx_meter_elapsed_s(const struct prx_meter *meter)
{
    return (double)(prx_now_ns() - meter->start_ns) / (double)N_SECOND_NS;
}

/* "0.25", "3.5", "950", "8.4k", "312M": at most four characters. */
static void format_count(double count, char *out, size_t n_out_bytes)
{
    static const char units[] = {' ', 'k', 'M', 'G', 'T', 'P'};
    size_t i = 0;

    while (count >= 999.5 && i + 1 < sizeof(units)) {
        count /= 1000;
        i++;
    }
    if (i == 0 && count != (double)(uint64_t)count)
        snprintf(out, n_out_bytes,
                 count < 0.95   ? "%.2f"
                 : count < 9.95 ? "%.1f"
                                : "%.0f",
                 count);
    else if (i == 0)
        snprintf(out, n_out_bytes, "%.0f", count);
    else
        snprintf(out, n_out_bytes, count < 9.95 ? "%.1f%c" : "%.0f%c", count, units[i]);
}

static void format_time(double time_s, char *out, size_t n_out_bytes)
{
    long long s = time_s < 3.6e6 ? (long long)(time_s + 0.5) : 3600000;

    if (s >= 3600)
        snprintf(out, n_out_bytes, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, n_out_bytes, "%lldm%02llds", s / 60, s % 60);
    else
        snprintf(out, n_out_bytes, "%llds", s);
}

static void show(const struct prx_meter *meter, uint64_t n_done, uint64_t n_bytes,
                 const char *note)
{
    double elapsed_s = prx_meter_elapsed_s(meter);
    double rate = (double)(n_done - meter->n_before) / elapsed_s;
    char line[320], count[16], rate_text[16], bytes_rate[16], bytes_text[24] = "";
    char eta[48] = "", left[32];

    format_count((double)n_done, count, sizeof(count));
    format_count(rate, rate_text, sizeof(rate_text));
    format_count((double)n_bytes / elapsed_s, bytes_rate, sizeof(bytes_rate));
    if (n_bytes > 0)
        snprintf(bytes_text, sizeof(bytes_text), "  %sB/s", bytes_rate);
    if (meter->n_total > n_done && rate > 0) {
        format_time((double)(meter->n_total - n_done) / rate, left, sizeof(left));
        snprintf(eta, sizeof(eta), "  eta %s", left);
    }
    snprintf(line, sizeof(line), "%s  %s %s  %s/s%s%s%s%s", meter->verb, count,
             meter->unit, rate_text, bytes_text, note ? "  " : "", note ? note : "",
             eta);
    prx_log_line(line);
}

void prx_meter_tick(struct prx_meter *meter, uint64_t n_done, uint64_t n_bytes,
                    const char *note)
{
    if (meter->when == PRX_METER_NEVER)
        return;
    int64_t now_ns = prx_now_ns();
    if (now_ns - meter->start_ns < N_SECOND_NS)
        return;
    int64_t last_ns = meter->shown_ns ? meter->shown_ns : meter->start_ns;
    int64_t wait_ns = N_SECOND_NS / 4;
    if (!isatty(STDERR_FILENO))
        wait_ns = meter->when == PRX_METER_ALWAYS ? N_SECOND_NS : 60 * N_SECOND_NS;
    if (now_ns - last_ns < wait_ns)
        return;
    meter->shown_ns = now_ns;
    show(meter, n_done, n_bytes, note);
}

void prx_meter_finish(struct prx_meter *meter)
{
    if (meter->shown_ns)
        prx_log_line(NULL);
}
