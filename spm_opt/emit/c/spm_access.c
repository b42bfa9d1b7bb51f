/* Elements in and out of windows, and the loop over a part of an output. */
#include "spm_access.h"

#include <math.h>

#define LOAD_CASE(DTYPE, TYPE)                                                                \
    case DTYPE:                                                                               \
        for (int32_t i = 0; i < n; i++) {                                                     \
            TYPE value;                                                                       \
            memcpy(&value, from + i * step, sizeof value);                                    \
            to[i] = scale == 0.0 ? (double)value : scale * ((double)value - (double)zero);    \
        }                                                                                     \
        break

void spm_load(uint8_t dtype, double scale, int32_t zero, const unsigned char *from, int64_t step,
              int32_t n, double *to) {
    switch (dtype) {
        LOAD_CASE(SPM_BOOL, uint8_t);
        LOAD_CASE(SPM_I8, int8_t);
        LOAD_CASE(SPM_U8, uint8_t);
        LOAD_CASE(SPM_I16, int16_t);
        LOAD_CASE(SPM_U16, uint16_t);
        LOAD_CASE(SPM_I32, int32_t);
        LOAD_CASE(SPM_U32, uint32_t);
        LOAD_CASE(SPM_I64, int64_t);
        LOAD_CASE(SPM_U64, uint64_t);
        LOAD_CASE(SPM_F32, float);
        LOAD_CASE(SPM_F64, double);
    default:
        break;
    }
}

void spm_fetch(const spm_map *m, const spm_window *w, int64_t first, int64_t step, int32_t n,
               double *to) {
    int32_t bytes = spm_element_bytes(m->dtype), run;
    if (step == 0) {
        const unsigned char *from = spm_at(m, w, (uint32_t)first, &run);
        spm_load(m->dtype, m->scale, m->zero, from, 0, n, to);
        return;
    }
    int32_t inner = m->channel_last ? m->channels : m->last;
    while (n > 0) {
        const unsigned char *from = spm_at(m, w, (uint32_t)first, &run);
        int64_t fit = step > 0 ? (run - 1) / step + 1 : (inner - run) / -step + 1;
        int32_t count = fit < n ? (int32_t)fit : n;
        spm_load(m->dtype, m->scale, m->zero, from, step * bytes, count, to);
        first += step * count;
        to += count;
        n -= count;
    }
}

/* Integers truncate a real that is not quantised, as a cast does. */
static double to_integer(const spm_map *m, double value, double low, double high) {
    if (m->scale == 0.0) return trunc(spm_clamp(value, low, high));
    return spm_clamp(spm_round(spm_clamp(value / m->scale, -1e15, 1e15)) + m->zero, low, high);
}

#define STORE_CASE(DTYPE, TYPE, LOW, HIGH)                                                    \
    case DTYPE:                                                                               \
        for (int32_t i = 0; i < n; i++) {                                                     \
            TYPE value = (TYPE)to_integer(m, from[i], LOW, HIGH);                             \
            memcpy(to + i * (int64_t)sizeof value, &value, sizeof value);                     \
        }                                                                                     \
        break

void spm_store(const spm_map *m, unsigned char *to, int32_t n, const double *from) {
    switch (m->dtype) {
        STORE_CASE(SPM_I8, int8_t, -128.0, 127.0);
        STORE_CASE(SPM_U8, uint8_t, 0.0, 255.0);
        STORE_CASE(SPM_I16, int16_t, -32768.0, 32767.0);
        STORE_CASE(SPM_U16, uint16_t, 0.0, 65535.0);
        STORE_CASE(SPM_I32, int32_t, -2147483648.0, 2147483647.0);
        STORE_CASE(SPM_U32, uint32_t, 0.0, 4294967295.0);
        /* the largest doubles that these types hold */
        STORE_CASE(SPM_I64, int64_t, -9223372036854775808.0, 9223372036854774784.0);
        STORE_CASE(SPM_U64, uint64_t, 0.0, 18446744073709549568.0);
    case SPM_BOOL:
        for (int32_t i = 0; i < n; i++) to[i] = from[i] != 0.0;
        break;
    case SPM_F32:
        for (int32_t i = 0; i < n; i++) spm_set_f32(to + 4 * (int64_t)i, (float)from[i]);
        break;
    case SPM_F64:
        memcpy(to, from, (size_t)n * sizeof *from);
        break;
    default:
        break;
    }
}

void spm_fetch_constant(const spm_constant *c, spm_weights weights, const int32_t *index,
                        int32_t last, int32_t n, double *to) {
    const unsigned char *from = c->data;
    int64_t place = c->offset;
    if (from == NULL) {
        from = weights.base;
        place -= (int64_t)weights.first * c->pitch;
    }
    for (int32_t i = 0; i <= last; i++) {
        int32_t at = i == 1 && c->shared > 1 ? index[i] / c->shared : index[i];
        place += at * c->stride[i];
    }
    spm_load(c->dtype, c->scale, c->zero, from + place, c->stride[last], n, to);
}

static void emit_runs(const spm_loop *loop, const spm_context *context, spm_body body,
                      int64_t element, int32_t n) {
    int32_t last = loop->rank - 1, extent = loop->extent[last];
    while (n > 0) {
        spm_run run = {.element = element, .last = last};
        int32_t x = (int32_t)(element % extent), held;
        run.count = spm_min(spm_min(n, SPM_RUN), extent - x);
        uint32_t rest = (uint32_t)element;
        for (int32_t i = last; i >= 0; i--) {
            run.index[i] = (int32_t)(rest % (uint32_t)loop->extent[i]);
            rest /= (uint32_t)loop->extent[i];
        }
        run.to = spm_at(&loop->map, context->out, (uint32_t)element, &held);
        body(context, &run);
        element += run.count;
        n -= run.count;
    }
}

static void emit_row(const spm_loop *loop, const spm_context *context, spm_body body,
                     int32_t image, int32_t row) {
    const spm_map *m = &loop->map;
    spm_part part = context->part;
    for (int32_t l = image * m->lead; l < (image + 1) * m->lead; l++) {
        if (m->channel_last) {
            int64_t element = ((int64_t)l * m->rows + row) * m->channels + part.channel0;
            emit_runs(loop, context, body, element, part.channel1 - part.channel0);
            continue;
        }
        for (int32_t c = part.channel0; c < part.channel1; c++)
            for (int32_t i = 0; i < m->mid; i++) {
                int64_t outer = ((int64_t)l * m->channels + c) * m->mid + i;
                emit_runs(loop, context, body, (outer * m->rows + row) * m->last, m->last);
            }
    }
}

static void emit_columns(const spm_loop *loop, const spm_context *context, spm_body body,
                         int32_t image) {
    const spm_map *m = &loop->map;
    for (int32_t l = image * m->lead; l < (image + 1) * m->lead; l++)
        for (int32_t c = context->part.channel0; c < context->part.channel1; c++)
            for (int32_t i = 0; i < m->mid; i++) {
                int64_t outer = ((int64_t)l * m->channels + c) * m->mid + i;
                for (int32_t r = context->part.row0; r < context->part.row1; r++)
                    emit_runs(loop, context, body, (outer * m->rows + r) * m->last, m->last);
            }
}

void spm_each_run(const spm_loop *loop, int rows_inside, const spm_context *context,
                  spm_body body) {
    spm_part left = context->part;
    while (left.row0 < left.row1) {
        int32_t image;
        spm_context one = *context;
        one.part = spm_next_image(&loop->map, &left, &image);
        if (rows_inside && !loop->map.channel_last) {
            emit_columns(loop, &one, body, image);
            continue;
        }
        for (int32_t row = one.part.row0; row < one.part.row1; row++)
            emit_row(loop, &one, body, image, row);
    }
}

void spm_before(const spm_activation *act, int32_t n, double *values) {
    if (act->scale == 0.0) return;
    for (int32_t i = 0; i < n; i++) {
        double q = spm_round(spm_clamp(values[i] / act->scale, -1e15, 1e15)) + act->zero;
        values[i] = act->scale * (spm_clamp(q, act->low, act->high) - act->zero);
    }
}

void spm_end_run(const spm_context *context, const spm_loop *loop, const spm_activation *act,
                 const spm_run *run, double *values) {
    spm_before(act, run->count, values);
    if (act->mode == SPM_PRELU) {
        double slope[SPM_RUN];
        spm_fetch_constant(act->slope, context->weights, run->index, run->last, run->count, slope);
        for (int32_t i = 0; i < run->count; i++)
            if (values[i] < 0.0) values[i] *= slope[i];
    } else if (act->mode != SPM_IDENTITY) {
        for (int32_t i = 0; i < run->count; i++)
            values[i] = spm_function(act->mode, values[i], act->a, act->b);
    }
    spm_store(&loop->map, run->to, run->count, values);
}

static double hard_sigmoid(double x, double a, double b) { return spm_clamp(a * x + b, 0.0, 1.0); }
static double softplus(double x) { return x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double sigmoid(double x) {
    return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}
static double elu(double x, double a) { return x > 0.0 ? x : a * expm1(x); }

double spm_function(uint8_t mode, double x, double a, double b) {
    switch (mode) {
    case SPM_RELU: return x < 0.0 ? 0.0 : x;
    case SPM_THRESHOLDED_RELU: return x > a ? x : 0.0;
    case SPM_RELU6: return x < 0.0 ? 0.0 : (x > 6.0 ? 6.0 : x);
    case SPM_CLIP: return x < a ? a : (x > b ? b : x);
    case SPM_LEAKY_RELU: return x >= 0.0 ? x : a * x;
    case SPM_ELU: return elu(x, a);
    case SPM_SELU: return b * elu(x, a);
    case SPM_CELU: return x > 0.0 ? x : a * expm1(x / a);
    case SPM_SIGMOID: return sigmoid(x);
    case SPM_TANH: return tanh(x);
    case SPM_GELU: return 0.5 * x * (1.0 + erf(x * 0.70710678118654752440));
    case SPM_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case SPM_QUICK_GELU: return x * sigmoid(a * x);
    case SPM_SILU: return x * sigmoid(x);
    case SPM_HARDSWISH: return x * hard_sigmoid(x, a, b);
    case SPM_HARDSIGMOID: return hard_sigmoid(x, a, b);
    case SPM_MISH: return x * tanh(softplus(x));
    case SPM_SOFTPLUS: return softplus(x);
    case SPM_SOFTSIGN: return x / (1.0 + fabs(x));
    case SPM_ERF: return erf(x);
    case SPM_EXP: return exp(x);
    case SPM_LOG: return log(x);
    case SPM_SQRT: return sqrt(x);
    case SPM_RECIPROCAL: return 1.0 / x;
    case SPM_ABS: return fabs(x);
    case SPM_NEG: return -x;
    case SPM_SIGN: return (double)((x > 0.0) - (x < 0.0));
    case SPM_FLOOR: return floor(x);
    case SPM_CEIL: return ceil(x);
    case SPM_ROUND: return fabs(x) < 2251799813685248.0 ? spm_round(x) : x;
    case SPM_SIN: return sin(x);
    case SPM_COS: return cos(x);
    case SPM_TAN: return tan(x);
    case SPM_ASIN: return asin(x);
    case SPM_ACOS: return acos(x);
    case SPM_ATAN: return atan(x);
    case SPM_SINH: return sinh(x);
    case SPM_COSH: return cosh(x);
    case SPM_SHRINK: return x < -a ? x + b : (x > a ? x - b : 0.0);
    case SPM_NOT: return x == 0.0;
    case SPM_IS_NAN: return x != x;
    case SPM_IS_INF: return (x > DBL_MAX && b != 0.0) || (x < -DBL_MAX && a != 0.0);
    default: return x;
    }
}
