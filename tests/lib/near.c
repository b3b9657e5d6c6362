/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/near.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static double root_mean_square(const float *want, int64_t n)
{
    double sum = 0.0;
    int64_t n_finite = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(want[i]))
            continue;
        sum += (double)want[i] * want[i];
        n_finite++;
    }
    return n_finite > 0 ? sqrt(sum / (double)n_finite) : 0.0;
}

static bool agrees(float got, float want, double tolerance)
{
    if (isnan(want))
        return isnan(got);
    if (isinf(want))
        return got == want;
    return fabs((double)got - want) <= tolerance;
}

bool near_check(const char *what, const float *got, const float *want, int64_t n,
                struct near_terms terms)
{
    double factor =
        NEAR_MULTIPLE * FLT_EPSILON * sqrt(terms.n > 1 ? (double)terms.n : 1.0);
    double usual = fmax(root_mean_square(want, n), terms.size);
    double worst = 0.0;
    int64_t i_worst = -1, n_bad = 0;

    for (int64_t i = 0; i < n; i++) {
        double allowed = factor * (usual + fabs(want[i])) + FLT_MIN;
        if (agrees(got[i], want[i], allowed))
            continue;
        double excess = fabs((double)got[i] - want[i]) / allowed;
        n_bad++;
        if (i_worst < 0 || !(excess <= worst)) {
            worst = excess;
            i_worst = i;
        }
    }
    if (n_bad > 0)
        fprintf(stderr,
                "%s: %" PRId64 " of %" PRId64 " differ; [%" PRId64
                "] is %.9g, not %.9g: %.3g times the tolerance\n",
                what, n_bad, n, i_worst, (double)got[i_worst], (double)want[i_worst],
                worst);
    return n_bad == 0;
}
