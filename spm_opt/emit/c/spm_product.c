/* Matrix products: with a weight matrix (linear), and of two maps. */
#include "spm_mac.h"

enum { ROWS = 4 };

static int16_t vectors_i[ROWS][SPM_SPAN];
static float vectors_f[ROWS][SPM_SPAN];
static int32_t sums_i[ROWS][SPM_CHANNELS];
static float sums_f[ROWS][SPM_CHANNELS];

/* A product of vectors, in SPM_LANES interleaved parts. */
static int32_t dot_i(const int16_t *w, const int16_t *x, int32_t n) {
    int32_t lanes[SPM_LANES] = {0}, sum = 0;
    for (int32_t t = 0; t < n; t += SPM_LANES)
        for (int32_t i = 0; i < SPM_LANES; i++) lanes[i] += (int32_t)w[t + i] * x[t + i];
    for (int32_t i = 0; i < SPM_LANES; i++) sum += lanes[i];
    return sum;
}

/* `sum`, with the product of vectors added chunk by chunk. */
static float dot_f(const float *w, const float *x, int32_t n, float sum) {
    for (int32_t begin = 0; begin < n; begin += SPM_CHUNK) {
        float lanes[SPM_LANES] = {0};
        int32_t end = spm_min(n, begin + SPM_CHUNK);
        for (int32_t t = begin; t < end; t += SPM_LANES)
            for (int32_t i = 0; i < SPM_LANES; i++) lanes[i] += w[t + i] * x[t + i];
        for (int32_t half = SPM_LANES / 2; half > 0; half /= 2)
            for (int32_t i = 0; i < half; i++) lanes[i] += lanes[i + half];
        sum += lanes[0];
    }
    return sum;
}

static void stage_vectors(const spm_linear_op *op, const spm_window *in, const int64_t *line,
                          int32_t rows, int32_t begin, int32_t n) {
    int32_t end = (n + SPM_LANES - 1) / SPM_LANES * SPM_LANES, run, count;
    for (int32_t r = 0; r < rows; r++) {
        int64_t first = line[r] * op->inner + begin;
        for (int32_t i = 0; i < n; i += count) {
            const unsigned char *from = spm_at(&op->in, in, (uint32_t)(first + i), &run);
            count = spm_min(run, n - i);
            if (op->integer)
                spm_widen(from, 1, count, op->in.dtype == SPM_I8, op->in.zero, vectors_i[r] + i, 1);
            else
                spm_as_floats(op->in.dtype, op->in.scale, op->in.zero, from,
                          spm_element_bytes(op->in.dtype), count, vectors_f[r] + i, 1);
        }
        for (int32_t i = n; i < end; i++) {
            vectors_i[r][i] = 0;
            vectors_f[r][i] = 0.0f;
        }
    }
}

/* Take a partial sum out of the scratchpad, or put it back. */
static void move_sum(const spm_linear_op *op, const spm_span *span, int64_t element, void *sum_i,
                     void *sum_f, int back) {
    int32_t run;
    unsigned char *kept = spm_at(&span->map, &span->sums, (uint32_t)element, &run);
    void *sum = op->integer ? sum_i : sum_f;
    if (back)
        memcpy(kept, sum, 4);
    else
        memcpy(sum, kept, 4);
}

static void linear_channels(const spm_linear_op *op, spm_window out, const spm_window *in,
                            const spm_span *span, const int64_t *line, int32_t rows, int32_t k0,
                            int32_t k1) {
    int32_t run;
    memset(sums_i, 0, sizeof sums_i);
    memset(sums_f, 0, sizeof sums_f);
    for (int32_t r = 0; r < rows && !span->first; r++)
        for (int32_t k = k0; k < k1; k++)
            move_sum(op, span, line[r] * op->out.channels + k, &sums_i[r][k - k0],
                     &sums_f[r][k - k0], 0);
    for (int32_t begin = span->tap0; begin < span->tap1; begin += SPM_SPAN) {
        int32_t n = spm_min(SPM_SPAN, span->tap1 - begin);
        int32_t whole = (n + SPM_LANES - 1) / SPM_LANES * SPM_LANES;
        stage_vectors(op, in, line, rows, begin, n);
        for (int32_t k = k0; k < k1; k++) {
            spm_stage_weights(&op->weights, span, op->integer, k, begin, n, SPM_LANES);
            for (int32_t r = 0; r < rows; r++) {
                if (op->integer)
                    sums_i[r][k - k0] += dot_i(spm_weights_i, vectors_i[r], whole);
                else
                    sums_f[r][k - k0] =
                        dot_f(spm_weights_f, vectors_f[r], whole, sums_f[r][k - k0]);
            }
        }
    }
    for (int32_t r = 0; r < rows; r++)
        for (int32_t k = k0; k < k1; k++) {
            const unsigned char *constants = spm_constants(span, k);
            int64_t element = line[r] * op->out.channels + k;
            int32_t *sum_i = &sums_i[r][k - k0];
            float *sum_f = &sums_f[r][k - k0];
            if (!span->last) {
                move_sum(op, span, element, sum_i, sum_f, 1);
                continue;
            }
            unsigned char *to = spm_at(&op->out, &out, (uint32_t)element, &run);
            if (op->integer)
                spm_finish_i(&span->finish, &op->out, constants, k, sum_i, 1, to);
            else
                spm_finish_f(&span->finish, &op->out, constants, k, sum_f, 1, to);
        }
}

static void linear(const spm_linear_op *op, spm_window out, const spm_window *in, spm_span span,
                   spm_part part) {
    int64_t line[ROWS];
    int32_t count = 0;
    for (int32_t row = part.row0; row < part.row1; row++)
        for (int32_t l = 0; l < op->out.lead; l++) {
            int64_t plane = (int64_t)(row / op->out.rows) * op->out.lead + l;
            line[count++] = plane * op->out.rows + row % op->out.rows;
            int last = row + 1 == part.row1 && l + 1 == op->out.lead;
            if (count < ROWS && !last) continue;
            for (int32_t k = part.channel0; k < part.channel1; k += SPM_CHANNELS)
                linear_channels(op, out, in, &span, line, count, k,
                                spm_min(part.channel1, k + SPM_CHANNELS));
            count = 0;
        }
}

SPM_KERNEL(linear) {
    linear(op, out, in, spm_all_taps(weights, op->inner, &op->weights, &op->finish), part);
}

SPM_SLICE_KERNEL(linear) {
    linear(op, out, in,
           spm_some_taps(slice, weights, 1, op->inner, &op->weights, &op->finish, &op->out,
                         op->integer),
           part);
}

/* --- product of two maps ------------------------------------------------------------------- */

/* Columns [n0, n0 + n) of the right matrix at inner indices [begin, begin + taps). */
static void stage_columns(const spm_matmul_op *op, const spm_window *b, int64_t base, int32_t n0,
                          int32_t n, int32_t width, int32_t begin, int32_t taps) {
    spm_clear_staged(op->integer, 0, (taps + 3) / 4 * 4 * width);
    if (op->transpose_b)
        for (int32_t p = 0; p < n; p++)
            spm_stage(&op->b, b, op->integer, base + (int64_t)(n0 + p) * op->inner + begin, 1,
                      taps, p, width);
    else
        for (int32_t t = 0; t < taps; t++)
            spm_stage(&op->b, b, op->integer, base + (int64_t)(begin + t) * op->columns + n0, 1, n,
                  (int64_t)t * width, 1);
}

static void stage_left(const spm_matmul_op *op, const spm_window *a, int64_t first, int32_t n) {
    int32_t end = (n + 3) / 4 * 4, run, count;
    for (int32_t i = 0; i < n; i += count) {
        const unsigned char *from = spm_at(&op->a, a, (uint32_t)(first + i), &run);
        count = spm_min(run, n - i);
        if (op->integer)
            spm_widen(from, 1, count, op->a.dtype == SPM_I8, op->a.zero, spm_weights_i + i, 1);
        else
            spm_as_floats(op->a.dtype, op->a.scale, op->a.zero, from,
                          spm_element_bytes(op->a.dtype), count, spm_weights_f + i, 1);
    }
    for (int32_t i = n; i < end; i++) {
        spm_weights_i[i] = 0;
        spm_weights_f[i] = 0.0f;
    }
}

/* Rows [r0, r1), at most SPM_CHANNELS, and at most SPM_BLOCK columns of one product. */
static void matmul_block(const spm_matmul_op *op, spm_window out, const spm_window *in,
                         int64_t batch, int64_t a, int64_t b, int32_t r0, int32_t r1, int32_t n0) {
    int32_t n = spm_min(SPM_BLOCK, op->columns - n0), run;
    int32_t width = n <= SPM_NARROW ? SPM_NARROW : SPM_BLOCK;
    spm_clear_sums(op->integer, r1 - r0);
    for (int32_t begin = 0; begin < op->inner; begin += SPM_TAPS) {
        int32_t taps = spm_min(SPM_TAPS, op->inner - begin);
        stage_columns(op, &in[1], b, n0, n, width, begin, taps);
        for (int32_t r = r0; r < r1; r++) {
            stage_left(op, &in[0], a + (int64_t)r * op->inner + begin, taps);
            spm_accumulate(op->integer, width, taps, r - r0);
        }
    }
    for (int32_t r = r0; r < r1; r++) {
        int64_t first = (batch * op->rows + r) * op->columns + n0;
        for (int32_t p = 0; p < n; p += run) {
            unsigned char *to = spm_at(&op->out, &out, (uint32_t)(first + p), &run);
            run = spm_min(run, n - p);
            if (op->integer)
                spm_finish_i(&op->finish, &op->out, NULL, 0, spm_sums_i[r - r0] + p, run, to);
            else
                spm_finish_f(&op->finish, &op->out, NULL, 0, spm_sums_f[r - r0] + p, run, to);
        }
    }
}

static void matmul_batch(const spm_matmul_op *op, spm_window out, const spm_window *in,
                         spm_part part, int64_t batch) {
    int64_t a = 0, b = 0, rest = batch;
    for (int32_t i = op->batch_rank - 1; i >= 0; i--) {
        int64_t index = rest % op->batch[i];
        rest /= op->batch[i];
        a += index * op->a_stride[i];
        b += index * op->b_stride[i];
    }
    a *= (int64_t)op->rows * op->inner;
    b *= (int64_t)op->inner * op->columns;
    for (int32_t r = part.row0; r < part.row1; r += SPM_CHANNELS)
        for (int32_t n0 = 0; n0 < op->columns; n0 += SPM_BLOCK)
            matmul_block(op, out, in, batch, a, b, r, spm_min(part.row1, r + SPM_CHANNELS), n0);
}

SPM_KERNEL(matmul) {
    (void)weights;
    while (part.row0 < part.row1) {
        int32_t image;
        spm_part own = spm_next_image(&op->out, &part, &image);
        for (int32_t l = image * op->out.lead; l < (image + 1) * op->out.lead; l++) {
            if (op->out.channel_last) {
                matmul_batch(op, out, in, own, l);
                continue;
            }
            for (int32_t c = own.channel0; c < own.channel1; c++)
                for (int32_t m = 0; m < op->out.mid; m++)
                    matmul_batch(op, out, in, own,
                                 ((int64_t)l * op->out.channels + c) * op->out.mid + m);
        }
    }
}
