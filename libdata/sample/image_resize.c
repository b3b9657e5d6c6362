/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pillow's convolution resize, bit for bit.
 *
 * Each axis has a table: for every output position the window of input positions
 * under its filter and their weights, as 22-bit fixed point.  The result is defined
 * by the order of roundings: weights to integers, then the horizontal pass to
 * 8 bits, then the vertical pass to 8 bits; a pass that would not change anything is
 * left out.  The sums themselves are exact, so the kernels (image_resize_simd.c)
 * may add in any order.
 *
 * Only the input rows that some output row needs go through the horizontal pass.
 * They wait in a ring just long enough for the vertical filter, so the work stays
 * in the cache and the memory does not grow with the picture.
 */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/sample/image_internal.h"
#include "libdata/sample/image_resize_internal.h"

PRX_SIMD_DECLARE(struct prx_resize_kernels, prx_resize_kernels);

/* Tables are kept for sizes that come again; the one unused for longest gives way. */
#define N_AXES 8

struct prx_resizer {
    struct prx_resize_axis axes[N_AXES];
    uint64_t used_at[N_AXES]; /* by n_uses */
    uint64_t n_uses;
    uint8_t *ring; /* rows between the passes, owned */
    size_t cap_ring_bytes;
    const uint8_t **window; /* one for each tap of a column, owned */
    size_t cap_window;
};

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {
    [PRX_LANCZOS] = {lanczos, 3.0},
    [PRX_BICUBIC] = {bicubic, 2.0},
    [PRX_BILINEAR] = {bilinear, 1.0},
};

static void axis_release(struct prx_resize_axis *axis)
{
    free(axis->first);
    free(axis->n_taps);
    free(axis->weights);
    free(axis->halves);
    *axis = (struct prx_resize_axis){0};
}

static int axis_reserve(struct prx_resize_axis *axis, size_t n_out, size_t stride)
{
    axis->n_out = 0;
    if (stride > SIZE_MAX / sizeof(*axis->weights) / n_out)
        return prx_err_nomem("a resize table");
    if (axis->cap_out < n_out) {
        axis_release(axis);
        axis->first = malloc(n_out * sizeof(*axis->first));
        axis->n_taps = malloc(n_out * sizeof(*axis->n_taps));
        if (!axis->first || !axis->n_taps)
            return prx_err_nomem("a resize table");
        axis->cap_out = n_out;
    }
    if (axis->cap_weights < n_out * stride) {
        free(axis->weights);
        free(axis->halves);
        axis->cap_weights = 0;
        axis->weights = malloc(n_out * stride * sizeof(*axis->weights));
        axis->halves = malloc(n_out * stride * 2 * sizeof(*axis->halves));
        if (!axis->weights || !axis->halves)
            return prx_err_nomem("a resize table");
        axis->cap_weights = n_out * stride;
    }
    axis->stride = stride;
    return 0;
}

/*
 * The window of output @o, with room for it in @weights.  Every operation, and the
 * order of them, is Pillow's: only so are the roundings the same.
 */
static void axis_fill(struct prx_resize_axis *axis, int o, double *weights)
{
    const double scale = (axis->to - axis->from) / axis->n_out;
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = filters[axis->filter].support * filter_scale;
    const double center = axis->from + (o + 0.5) * scale;
    const double per_scale = 1.0 / filter_scale;
    int32_t *fixed = axis->weights + (size_t)o * axis->stride;
    double sum = 0.0;

    int first = (int)(center - support + 0.5);
    if (first < 0)
        first = 0;
    int end = (int)(center + support + 0.5);
    if (end > axis->n_in)
        end = axis->n_in;
    const int n_taps = end - first;
    for (int j = 0; j < n_taps; j++) {
        weights[j] =
            filters[axis->filter].weight((j + first - center + 0.5) * per_scale);
        sum += weights[j];
    }
    memset(fixed, 0, axis->stride * sizeof(*fixed));
    for (int j = 0; j < n_taps; j++) {
        double weight = sum != 0.0 ? weights[j] / sum : weights[j];
        weight *= 1 << PRX_RESIZE_WEIGHT_BITS;
        fixed[j] = (int32_t)(weight < 0 ? -0.5 + weight : 0.5 + weight);
    }
    axis->first[o] = first;
    axis->n_taps[o] = n_taps;

    int16_t *halves = axis->halves + (size_t)o * axis->stride * 2;
    for (size_t j = 0; j < axis->stride; j++, halves += j % 2 ? 1 : 3) {
        halves[0] = (int16_t)(fixed[j] >> PRX_RESIZE_HALF_BITS);
        halves[2] = (int16_t)(fixed[j] & ((1 << PRX_RESIZE_HALF_BITS) - 1));
    }
}

static bool is_inner(const struct prx_resize_axis *axis, int o)
{
    const int n_step = PRX_RESIZE_N_TAPS_STEP;
    int n_read =
        (axis->n_taps[o] + n_step - 1) / n_step * n_step + PRX_RESIZE_N_PX_BEHIND;
    return n_read <= axis->n_in - axis->first[o];
}

/* Make the table for @n_in positions, of which @from to @to become @n_out. */
static int axis_make(struct prx_resize_axis *axis, enum prx_resample filter, int n_in,
                     double from, double to, int n_out)
{
    double scale = (to - from) / n_out;
    double support = filters[filter].support * (scale < 1.0 ? 1.0 : scale);
    size_t n_taps_max = (size_t)fmin(ceil(support) * 2 + 1, n_in);
    size_t n_step = PRX_RESIZE_N_TAPS_STEP;
    size_t stride = (n_taps_max + n_step - 1) / n_step * n_step;

    double *weights = malloc(n_taps_max * sizeof(*weights));
    if (!weights)
        return prx_err_nomem("a resize table");
    int rc = axis_reserve(axis, (size_t)n_out, stride);
    if (rc == 0) {
        axis->filter = filter;
        axis->n_in = n_in;
        axis->n_out = n_out;
        axis->from = from;
        axis->to = to;
        axis->n_inner = 0;
        for (int o = 0; o < n_out; o++)
            axis_fill(axis, o, weights);
        while (axis->n_inner < n_out && is_inner(axis, axis->n_inner))
            axis->n_inner++;
    }
    free(weights);
    return rc;
}

/* The table for these; it stays while not N_AXES - 1 others are found after it. */
static int find_axis(struct prx_resizer *resizer, enum prx_resample filter, int n_in,
                     double from, double to, int n_out,
                     const struct prx_resize_axis **out)
{
    int i_found = 0;

    for (int i = 0; i < N_AXES; i++) {
        const struct prx_resize_axis *axis = &resizer->axes[i];
        if (axis->n_out == n_out && axis->n_in == n_in && axis->filter == filter &&
            axis->from == from && axis->to == to) {
            resizer->used_at[i] = ++resizer->n_uses;
            *out = axis;
            return 0;
        }
        if (resizer->used_at[i] < resizer->used_at[i_found])
            i_found = i;
    }
    PRX_TRY(axis_make(&resizer->axes[i_found], filter, n_in, from, to, n_out));
    resizer->used_at[i_found] = ++resizer->n_uses;
    *out = &resizer->axes[i_found];
    return 0;
}

int prx_resizer_new(struct prx_resizer **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : prx_err_nomem("a resizer");
}

static void resizer_release(struct prx_resizer *resizer)
{
    for (int i = 0; i < N_AXES; i++)
        axis_release(&resizer->axes[i]);
    free(resizer->ring);
    free(resizer->window);
}

void prx_resizer_free(struct prx_resizer *resizer)
{
    if (resizer)
        resizer_release(resizer);
    free(resizer);
}

/* One call of prx_resizer_apply. */
struct resize_job {
    const struct prx_resize_kernels *kernels;
    const struct prx_image *src;
    struct prx_image *dst;
    const struct prx_resize_axis *columns, *rows; /* NULL: nothing to do */
    uint8_t *ring;                                /* [n_ring_rows, dst->width_px, 3] */
    int n_ring_rows;
    int n_ready; /* input rows before this one have gone through the columns pass */
    const uint8_t **window;
};

static const uint8_t *src_row(const struct resize_job *job, int y)
{
    return job->src->pixels + (size_t)y * (size_t)job->src->width_px * 3;
}

static uint8_t *dst_row(const struct resize_job *job, int y)
{
    return job->dst->pixels + (size_t)y * (size_t)job->dst->width_px * 3;
}

static uint8_t *ring_row(const struct resize_job *job, int y)
{
    return job->ring + (size_t)(y % job->n_ring_rows) * (size_t)job->dst->width_px * 3;
}

/* Columns pass of the @n_rows <= PRX_RESIZE_N_ROWS rows from @y on. */
static void shrink_columns(const struct resize_job *job, int y, int n_rows,
                           uint8_t *(*to_row)(const struct resize_job *, int))
{
    const uint8_t *from[PRX_RESIZE_N_ROWS];
    uint8_t *to[PRX_RESIZE_N_ROWS];

    for (int i = 0; i < PRX_RESIZE_N_ROWS; i++) {
        int y_i = y + (i < n_rows ? i : n_rows - 1);
        from[i] = src_row(job, y_i);
        to[i] = to_row(job, y_i);
    }
    job->kernels->columns(to, from, job->columns);
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* The rows of the window of output @y, through the columns pass where there is one. */
static void fill_row_window(struct resize_job *job, int y)
{
    int first = job->rows->first[y], end = first + job->rows->n_taps[y];

    if (job->columns && job->n_ready < first)
        job->n_ready = first;
    while (job->columns && job->n_ready < end) {
        int n_rows = min_int(PRX_RESIZE_N_ROWS, job->src->height_px - job->n_ready);
        shrink_columns(job, job->n_ready, n_rows, ring_row);
        job->n_ready += n_rows;
    }
    for (int i = first; i < end; i++)
        job->window[i - first] = job->columns ? ring_row(job, i) : src_row(job, i);
}

static void run(struct resize_job *job)
{
    const size_t row_bytes = (size_t)job->dst->width_px * 3;

    if (!job->rows && !job->columns) {
        memcpy(job->dst->pixels, job->src->pixels,
               row_bytes * (size_t)job->dst->height_px);
        return;
    }
    if (!job->rows) {
        for (int y = 0; y < job->dst->height_px; y += PRX_RESIZE_N_ROWS)
            shrink_columns(job, y, min_int(PRX_RESIZE_N_ROWS, job->dst->height_px - y),
                           dst_row);
        return;
    }
    for (int y = 0; y < job->dst->height_px; y++) {
        fill_row_window(job, y);
        job->kernels->rows(dst_row(job, y), job->window,
                           job->rows->weights + (size_t)y * job->rows->stride,
                           job->rows->n_taps[y], row_bytes);
    }
}

/* Memory for the rows between the passes. */
static int reserve_window(struct prx_resizer *resizer, struct resize_job *job)
{
    size_t n_window = job->rows->stride;
    if (resizer->cap_window < n_window) {
        free(resizer->window);
        resizer->cap_window = 0;
        resizer->window = malloc(n_window * sizeof(*resizer->window));
        if (!resizer->window)
            return prx_err_nomem("a resize window");
        resizer->cap_window = n_window;
    }
    job->window = resizer->window;
    if (!job->columns)
        return 0;

    /* The window, and the rows that came with its last one. */
    job->n_ring_rows = min_int((int)n_window, job->src->height_px) + PRX_RESIZE_N_ROWS;
    size_t row_bytes = (size_t)job->dst->width_px * 3;
    if ((size_t)job->n_ring_rows > SIZE_MAX / row_bytes)
        return prx_err_nomem("a resize window");
    size_t n_ring_bytes = (size_t)job->n_ring_rows * row_bytes;
    if (resizer->cap_ring_bytes < n_ring_bytes) {
        free(resizer->ring);
        resizer->cap_ring_bytes = 0;
        resizer->ring = malloc(n_ring_bytes);
        if (!resizer->ring)
            return prx_err_nomem("a resize window");
        resizer->cap_ring_bytes = n_ring_bytes;
    }
    job->ring = resizer->ring;
    return 0;
}

int prx_resizer_apply(struct prx_resizer *resizer, const struct prx_image *src,
                      const double box[4], enum prx_resample filter, int width_px,
                      int height_px, struct prx_image *dst)
{
    const double whole[4] = {0, 0, src->width_px, src->height_px};
    struct resize_job job = {.src = src, .dst = dst};

    PRX_BUG_IF(src == dst || (size_t)filter >= sizeof(filters) / sizeof(filters[0]));
    if (!box)
        box = whole;
    if (width_px <= 0 || height_px <= 0)
        return prx_err(PRX_EINVAL, "resize to %d x %d pixels", width_px, height_px);
    if (!(box[0] >= 0 && box[1] >= 0 && box[2] > box[0] && box[3] > box[1] &&
          box[2] <= src->width_px && box[3] <= src->height_px))
        return prx_err(PRX_EINVAL, "resize of [%g, %g, %g, %g] of %d x %d pixels",
                       box[0], box[1], box[2], box[3], src->width_px, src->height_px);

    if (width_px != src->width_px || box[0] != 0 || box[2] != src->width_px)
        PRX_TRY(find_axis(resizer, filter, src->width_px, box[0], box[2], width_px,
                          &job.columns));
    if (height_px != src->height_px || box[1] != 0 || box[3] != src->height_px)
        PRX_TRY(find_axis(resizer, filter, src->height_px, box[1], box[3], height_px,
                          &job.rows));
    PRX_TRY(prx_image_reserve(dst, width_px, height_px));
    if (job.rows)
        PRX_TRY(reserve_window(resizer, &job));
    job.kernels = PRX_SIMD_PICK(prx_resize_kernels);
    run(&job);
    return 0;
}

int prx_image_resize(const struct prx_image *src, const int crop[4],
                     enum prx_resample filter, int width_px, int height_px,
                     struct prx_image *dst)
{
    struct prx_resizer resizer = {0};
    double box[4];

    if (crop) {
        box[0] = crop[0];
        box[1] = crop[1];
        box[2] = (double)crop[0] + crop[2];
        box[3] = (double)crop[1] + crop[3];
    }
    int rc = prx_resizer_apply(&resizer, src, crop ? box : NULL, filter, width_px,
                               height_px, dst);
    resizer_release(&resizer);
    return rc;
}
