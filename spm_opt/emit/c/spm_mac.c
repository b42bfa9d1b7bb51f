/* Staging and multiply-accumulate cores, and what follows an accumulation. */
#include "spm_mac.h"

int16_t spm_staged_i[SPM_TAPS * SPM_BLOCK], spm_weights_i[SPM_SPAN];
float spm_staged_f[SPM_TAPS * SPM_BLOCK], spm_weights_f[SPM_SPAN];
int32_t spm_sums_i[SPM_CHANNELS][SPM_BLOCK];
float spm_sums_f[SPM_CHANNELS][SPM_BLOCK];

/* --- multiply-accumulate cores ------------------------------------------------------------- */

#define CORE(NAME, TYPE, SUM, WIDTH)                                                          \
    static void NAME(const TYPE *w, const TYPE *x, int32_t taps, SUM *total) {                \
        SUM sum[WIDTH];                                                                       \
        for (int32_t p = 0; p < WIDTH; p++) sum[p] = total[p];                                \
        for (int32_t t = 0; t < taps; t += 4, x += 4 * WIDTH) {                               \
            const TYPE a = w[t], b = w[t + 1], c = w[t + 2], d = w[t + 3];                    \
            for (int32_t p = 0; p < WIDTH; p++)                                               \
                sum[p] = (((sum[p] + (SUM)x[p] * a) + (SUM)x[WIDTH + p] * b) +                \
                          (SUM)x[2 * WIDTH + p] * c) + (SUM)x[3 * WIDTH + p] * d;             \
        }                                                                                     \
        for (int32_t p = 0; p < WIDTH; p++) total[p] = sum[p];                                \
    }

CORE(core_i_block, int16_t, int32_t, SPM_BLOCK)
CORE(core_i_narrow, int16_t, int32_t, SPM_NARROW)
CORE(core_f_block, float, float, SPM_BLOCK)
CORE(core_f_narrow, float, float, SPM_NARROW)

/* --- staging ------------------------------------------------------------------------------- */

void spm_widen(const unsigned char *from, int64_t step, int32_t n, int is_signed, int32_t zero,
                  int16_t *to, int32_t to_step) {
    if (is_signed)
        for (int32_t i = 0; i < n; i++)
            to[i * to_step] = (int16_t)((int8_t)from[i * step] - zero);
    else
        for (int32_t i = 0; i < n; i++) to[i * to_step] = (int16_t)(from[i * step] - zero);
}

/* A full block of neighbours, which compilers make vector code of. */
static void widen_block(const unsigned char *from, int is_signed, int32_t zero, int16_t *to) {
    const int16_t offset = (int16_t)zero;
    if (is_signed)
        for (int32_t i = 0; i < SPM_BLOCK; i++) to[i] = (int16_t)((int8_t)from[i] - offset);
    else
        for (int32_t i = 0; i < SPM_BLOCK; i++) to[i] = (int16_t)(from[i] - offset);
}

void spm_as_floats(uint8_t dtype, double scale, int32_t zero, const unsigned char *from,
                      int64_t step, int32_t n, float *to, int32_t to_step) {
    double values[SPM_BLOCK];
    if (dtype == SPM_F32) {
        for (int32_t i = 0; i < n; i++) to[i * to_step] = spm_get_f32(from + i * step);
        return;
    }
    for (int32_t done = 0; done < n; done += SPM_BLOCK) {
        int32_t count = spm_min(SPM_BLOCK, n - done);
        spm_load(dtype, scale, zero, from + done * step, step, count, values);
        for (int32_t i = 0; i < count; i++) to[(done + i) * to_step] = (float)values[i];
    }
}

/* Elements first, first + step ... (step > 0) as integers less the zero point, or as floats. */
void spm_stage(const spm_map *m, const spm_window *w, int integer, int64_t first, int32_t step,
                  int32_t n, int64_t at, int32_t to_step) {
    int32_t bytes = spm_element_bytes(m->dtype), run;
    while (n > 0) {
        const unsigned char *from = spm_at(m, w, (uint32_t)first, &run);
        int32_t count = spm_min(n, (run - 1) / step + 1);
        if (!integer)
            spm_as_floats(m->dtype, m->scale, m->zero, from, (int64_t)step * bytes, count,
                      spm_staged_f + at, to_step);
        else if (count == SPM_BLOCK && step == 1 && to_step == 1)
            widen_block(from, m->dtype == SPM_I8, m->zero, spm_staged_i + at);
        else
            spm_widen(from, step, count, m->dtype == SPM_I8, m->zero, spm_staged_i + at, to_step);
        first += (int64_t)step * count;
        at += (int64_t)to_step * count;
        n -= count;
    }
}

void spm_clear_staged(int integer, int64_t at, int32_t n) {
    if (integer)
        memset(spm_staged_i + at, 0, (size_t)n * sizeof *spm_staged_i);
    else
        memset(spm_staged_f + at, 0, (size_t)n * sizeof *spm_staged_f);
}

spm_span spm_all_taps(spm_weights weights, int32_t taps, const spm_kernel_weights *k,
                      const spm_finish *finish) {
    return (spm_span){.weights = weights, .tap1 = taps, .pitch = k->pitch, .first = 1, .last = 1,
                      .finish = *finish};
}

spm_span spm_some_taps(spm_slice slice, spm_weights weights, int32_t each, int32_t inputs,
                       const spm_kernel_weights *k, const spm_finish *finish, const spm_map *out,
                       int integer) {
    int32_t bytes = spm_element_bytes(k->dtype);
    spm_span span = {.weights = weights, .tap0 = slice.input0 * each, .tap1 = slice.input1 * each,
                     .first = slice.input0 == 0, .last = slice.input1 == inputs,
                     .finish = *finish, .map = *out, .sums = slice.sums};
    int32_t before = span.tap0 * bytes;
    span.pitch = span.last ? k->pitch - before : span.tap1 * bytes - before;
    if (finish->bias >= 0) span.finish.bias -= before;
    if (finish->slope >= 0) span.finish.slope -= before;
    span.map.dtype = integer ? SPM_I32 : SPM_F32;
    return span;
}

/* Weights [begin, begin + n) of a channel, zeros after them up to a multiple of `whole`. */
void spm_stage_weights(const spm_kernel_weights *k, const spm_span *span, int integer,
                          int32_t channel, int32_t begin, int32_t n, int32_t whole) {
    const unsigned char *from = spm_constants(span, channel);
    begin -= span->tap0;
    int32_t zero = k->zero[k->zeros > 1 ? channel : 0];
    int32_t end = (n + whole - 1) / whole * whole;
    if (integer) {
        spm_widen(from + begin, 1, n, k->dtype == SPM_I8, zero, spm_weights_i, 1);
        for (int32_t i = n; i < end; i++) spm_weights_i[i] = 0;
        return;
    }
    int32_t bytes = spm_element_bytes(k->dtype);
    double scale = k->scale == NULL ? 0.0 : k->scale[k->zeros > 1 ? channel : 0];
    spm_as_floats(k->dtype, scale, zero, from + (int64_t)begin * bytes, bytes, n, spm_weights_f, 1);
    for (int32_t i = n; i < end; i++) spm_weights_f[i] = 0.0f;
}

void spm_clear_sums(int integer, int32_t channels) {
    if (integer)
        memset(spm_sums_i, 0, (size_t)channels * sizeof *spm_sums_i);
    else
        memset(spm_sums_f, 0, (size_t)channels * sizeof *spm_sums_f);
}

void spm_accumulate(int integer, int32_t width, int32_t taps, int32_t row) {
    int32_t whole = (taps + 3) / 4 * 4;
    if (integer && width == SPM_BLOCK)
        core_i_block(spm_weights_i, spm_staged_i, whole, spm_sums_i[row]);
    else if (integer)
        core_i_narrow(spm_weights_i, spm_staged_i, whole, spm_sums_i[row]);
    else if (width == SPM_BLOCK)
        core_f_block(spm_weights_f, spm_staged_f, whole, spm_sums_f[row]);
    else
        core_f_narrow(spm_weights_f, spm_staged_f, whole, spm_sums_f[row]);
}

/* --- what follows an accumulation ---------------------------------------------------------- */

static void requantise(const spm_finish *f, double multiplier, int32_t bias, const int32_t *sum,
                       int32_t n, uint8_t *to) {
    const double zero = f->zero, low = f->low - zero, high = f->high - zero;
    for (int32_t p = 0; p < n; p++) {
        double value = spm_round(spm_clamp((double)(sum[p] + bias) * multiplier, low, high));
        to[p] = (uint8_t)(int32_t)(value + zero);
    }
}

static void finish_real(const spm_finish *f, const spm_map *out, const unsigned char *constants,
                        double *values, int32_t n, unsigned char *to) {
    double slope = f->act.a;
    if (f->slope >= 0)
        spm_load(f->slope_dtype, f->slope_scale, f->slope_zero, constants + f->slope, 0, 1, &slope);
    spm_before(&f->act, n, values);
    for (int32_t p = 0; p < n; p++) {
        if (f->act.mode == SPM_PRELU)
            values[p] = values[p] < 0.0 ? values[p] * slope : values[p];
        else
            values[p] = spm_function(f->act.mode, values[p], f->act.a, f->act.b);
    }
    spm_store(out, to, n, values);
}

/* Integer sums of n outputs of a channel, at most SPM_BLOCK. */
void spm_finish_i(const spm_finish *f, const spm_map *out, const unsigned char *constants,
                     int32_t channel, const int32_t *sum, int32_t n, unsigned char *to) {
    double multiplier = f->multiplier[f->multipliers > 1 ? channel : 0], values[SPM_BLOCK];
    int32_t bias = f->bias < 0 ? 0 : spm_get_i32(constants + f->bias);
    if (f->kind == SPM_REAL) {
        for (int32_t p = 0; p < n; p++) values[p] = (double)(sum[p] + bias) * multiplier;
        finish_real(f, out, constants, values, n, to);
        return;
    }
    requantise(f, multiplier, bias, sum, n, to);
    if (f->kind == SPM_LOOKUP)
        for (int32_t p = 0; p < n; p++) to[p] = f->table[to[p]];
}

void spm_finish_f(const spm_finish *f, const spm_map *out, const unsigned char *constants,
                     int32_t channel, const float *sum, int32_t n, unsigned char *to) {
    (void)channel;
    double bias = 0.0, values[SPM_BLOCK];
    if (f->bias >= 0)
        spm_load(f->bias_dtype, f->bias_scale, 0, constants + f->bias, 0, 1, &bias);
    if (f->kind == SPM_PLAIN) {
        const float add = (float)bias, low = (float)f->low, high = (float)f->high;
        for (int32_t p = 0; p < n; p++) {
            float value = sum[p] + add;
            value = value < low ? low : value;
            spm_set_f32(to + 4 * (int64_t)p, value > high ? high : value);
        }
        return;
    }
    for (int32_t p = 0; p < n; p++) values[p] = (double)(sum[p] + (float)bias);
    finish_real(f, out, constants, values, n, to);
}
