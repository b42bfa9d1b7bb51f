/* Operators of vector lanes: element-wise functions, pooling, reductions, normalisation. They
 * compute in double precision and round once, as they store. */
#include "spm_access.h"

#include <math.h>

#define CONTEXT(OP) \
    {.op = (OP), .in = in, .out = &out, .weights = weights, .part = part, .state = NULL}

/* --- functions of one map ------------------------------------------------------------------ */

static void unary_run(const spm_context *context, const spm_run *run) {
    const spm_unary_op *op = context->op;
    double values[SPM_RUN];
    int32_t held;
    if (op->table == NULL) {
        spm_fetch(&op->in.map, &context->in[0], run->element, 1, run->count, values);
        spm_end_run(context, &op->loop, &op->act, run, values);
        return;
    }
    for (int32_t i = 0, count; i < run->count; i += count) {
        const unsigned char *from =
            spm_at(&op->in.map, &context->in[0], (uint32_t)(run->element + i), &held);
        count = spm_min(held, run->count - i);
        for (int32_t j = 0; j < count; j++) run->to[i + j] = op->table[from[j]];
    }
}

SPM_KERNEL(unary) {
    spm_context context = CONTEXT(op);
    spm_each_run(&op->loop, 0, &context, unary_run);
}

/* --- functions of several operands --------------------------------------------------------- */

static double remainder_of(double x, double y) {
    double rest = fmod(x, y);
    return rest != 0.0 && (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}

static double combine(uint8_t mode, double x, double y) {
    switch (mode) {
    case SPM_SUB: return x - y;
    case SPM_MUL: return x * y;
    case SPM_DIV: return x / y;
    case SPM_POW: return pow(x, y);
    case SPM_MAXIMUM: return x > y || x != x ? x : y;
    case SPM_MINIMUM: return x < y || x != x ? x : y;
    case SPM_MOD: return remainder_of(x, y);
    case SPM_FMOD: return fmod(x, y);
    case SPM_EQUAL: return x == y;
    case SPM_GREATER: return x > y;
    case SPM_LESS: return x < y;
    case SPM_GREATER_OR_EQUAL: return x >= y;
    case SPM_LESS_OR_EQUAL: return x <= y;
    case SPM_AND: return (double)((int64_t)x & (int64_t)y);
    case SPM_OR: return (double)((int64_t)x | (int64_t)y);
    case SPM_XOR: return (double)((int64_t)x ^ (int64_t)y);
    case SPM_SLOPE: return x < 0.0 ? x * y : x;
    default: return x + y;
    }
}

static void fetch_operand(const spm_context *context, const spm_run *run, int32_t i, double *to) {
    const spm_binary_op *op = context->op;
    int32_t input = op->input[i];
    if (input < 0) {
        spm_fetch_constant(&op->constants[-1 - input], context->weights, run->index, run->last,
                           run->count, to);
        return;
    }
    const spm_operand *map = &op->maps[input];
    spm_fetch(&map->map, &context->in[input], spm_locate(map, run, op->loop.rank),
              map->stride[run->last], run->count, to);
}

/* The two combinations that networks are full of, in loops that compilers make vector code of. */
static void combine_runs(uint8_t mode, int32_t n, double *values, const double *other) {
    if (mode == SPM_ADD || mode == SPM_AVERAGE)
        for (int32_t i = 0; i < n; i++) values[i] += other[i];
    else if (mode == SPM_MUL)
        for (int32_t i = 0; i < n; i++) values[i] *= other[i];
    else
        for (int32_t i = 0; i < n; i++) values[i] = combine(mode, values[i], other[i]);
}

static void binary_run(const spm_context *context, const spm_run *run) {
    const spm_binary_op *op = context->op;
    double values[SPM_RUN], other[SPM_RUN], third[SPM_RUN];
    fetch_operand(context, run, 0, values);
    if (op->mode == SPM_WHERE) {
        fetch_operand(context, run, 1, other);
        fetch_operand(context, run, 2, third);
        for (int32_t i = 0; i < run->count; i++) values[i] = values[i] != 0.0 ? other[i] : third[i];
    } else {
        for (int32_t i = 1; i < op->count; i++) {
            fetch_operand(context, run, i, other);
            combine_runs(op->mode, run->count, values, other);
        }
    }
    if (op->mode == SPM_AVERAGE)
        for (int32_t i = 0; i < run->count; i++) values[i] /= op->count;
    spm_end_run(context, &op->loop, &op->act, run, values);
}

SPM_KERNEL(binary) {
    spm_context context = CONTEXT(op);
    spm_each_run(&op->loop, 0, &context, binary_run);
}

/* --- pooling ------------------------------------------------------------------------------- */

/* Taps of a window that count at output o of an axis: those inside the input, or its padding. */
static int32_t counted(const spm_pool_op *op, int32_t axis, int32_t o) {
    int32_t count = 0, at = o * op->stride[axis] - op->pad[axis];
    int32_t low = op->include_pad ? -op->pad[axis] : 0;
    int32_t high = op->in_size[axis] + (op->include_pad ? op->pad_end[axis] : 0);
    for (int32_t f = 0; f < op->kernel[axis]; f++, at += op->dilation[axis])
        count += at >= low && at < high;
    return count;
}

static void pool_values(const spm_pool_op *op, double *values, const double *taken, int32_t n) {
    if (op->mode == SPM_POOL_MAX)
        for (int32_t i = 0; i < n; i++) values[i] = values[i] >= taken[i] ? values[i] : taken[i];
    else if (op->mode == SPM_POOL_AVG)
        for (int32_t i = 0; i < n; i++) values[i] += taken[i];
    else
        for (int32_t i = 0; i < n; i++) values[i] += pow(fabs(taken[i]), op->power);
}

/* Add one line of taps (plane, depth z, row y of the input) to a run of outputs. */
static void pool_line(const spm_context *context, const spm_run *run, int64_t line,
                      double *values) {
    const spm_pool_op *op = context->op;
    double taken[SPM_RUN];
    int32_t x0 = run->index[run->last], stride = op->stride[2];
    for (int32_t f = 0; f < op->kernel[2]; f++) {
        int32_t shift = op->pad[2] - f * op->dilation[2];
        int32_t begin = spm_max(x0, spm_ceil_div(shift, stride));
        int32_t end = spm_min(x0 + run->count, spm_ceil_div(op->in_size[2] + shift, stride));
        if (end <= begin) continue;
        spm_fetch(&op->in, &context->in[0], line * op->in_size[2] + begin * stride - shift, stride,
                  end - begin, taken);
        pool_values(op, values + begin - x0, taken, end - begin);
    }
}

static void pool_run(const spm_context *context, const spm_run *run) {
    const spm_pool_op *op = context->op;
    double values[SPM_RUN];
    int32_t spatial = op->loop.rank - 2;
    int32_t at[2] = {spatial > 2 ? run->index[2] : 0, spatial > 1 ? run->index[run->last - 1] : 0};
    int64_t plane = (int64_t)run->index[0] * op->loop.extent[1] + run->index[1];
    for (int32_t i = 0; i < run->count; i++) values[i] = op->mode == SPM_POOL_MAX ? -INFINITY : 0.0;
    for (int32_t fz = 0; fz < op->kernel[0]; fz++)
        for (int32_t fy = 0; fy < op->kernel[1]; fy++) {
            int32_t z = at[0] * op->stride[0] - op->pad[0] + fz * op->dilation[0];
            int32_t y = at[1] * op->stride[1] - op->pad[1] + fy * op->dilation[1];
            if (z < 0 || z >= op->in_size[0] || y < 0 || y >= op->in_size[1]) continue;
            pool_line(context, run, (plane * op->in_size[0] + z) * op->in_size[1] + y, values);
        }
    int32_t area = counted(op, 0, at[0]) * counted(op, 1, at[1]);
    for (int32_t i = 0; i < run->count; i++) {
        if (op->mode == SPM_POOL_AVG)
            values[i] /= area * counted(op, 2, run->index[run->last] + i);
        else if (op->mode == SPM_POOL_LP)
            values[i] = pow(values[i], 1.0 / op->power);
    }
    spm_end_run(context, &op->loop, &op->act, run, values);
}

SPM_KERNEL(pool) {
    spm_context context = CONTEXT(op);
    spm_each_run(&op->loop, 0, &context, pool_run);
}
