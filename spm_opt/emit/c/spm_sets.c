/* Operators over sets of elements: reductions, softmax, normalisation. They compute in double
 * precision, in one order, and round once. */
#include "spm_access.h"

#include <math.h>

#define CONTEXT(OP) \
    {.op = (OP), .in = in, .out = &out, .weights = weights, .part = part, .state = NULL}

/* --- sets of elements: reductions and moments ---------------------------------------------- */

/* Walk over a set: lines of `extent[rank - 1]` elements, each in runs that fit `values`. */
typedef struct {
    int32_t index[SPM_RANK];
    int32_t done, rank;
    const int32_t *extent;
    const int64_t *stride;
    int64_t line;
    int32_t finished;
} spm_walk;

static spm_walk walk_from(int64_t first, int32_t rank, const int32_t *extent,
                          const int64_t *stride) {
    spm_walk walk = {.rank = rank, .extent = extent, .stride = stride, .line = first};
    return walk;
}

/* Fetch the next elements of a set; 0 when there are none left. */
static int32_t walk_on(spm_walk *walk, const spm_map *map, const spm_window *in, double *values) {
    int32_t inner = walk->rank - 1, length = inner < 0 ? 1 : walk->extent[inner];
    if (walk->finished) return 0;
    int64_t step = inner < 0 ? 0 : walk->stride[inner];
    int32_t n = spm_min(SPM_RUN, length - walk->done);
    spm_fetch(map, in, walk->line + walk->done * step, step, n, values);
    walk->done += n;
    if (walk->done < length) return n;
    walk->done = 0;
    int32_t axis = inner - 1;
    for (; axis >= 0; axis--) {
        walk->line += walk->stride[axis];
        if (++walk->index[axis] < walk->extent[axis]) break;
        walk->line -= walk->stride[axis] * walk->extent[axis];
        walk->index[axis] = 0;
    }
    walk->finished = axis < 0;
    return n;
}

/* --- reductions ---------------------------------------------------------------------------- */

static double start_of(uint8_t mode) {
    switch (mode) {
    case SPM_MAX: case SPM_ARGMAX: return -INFINITY;
    case SPM_MIN: case SPM_ARGMIN: return INFINITY;
    case SPM_PROD: return 1.0;
    default: return 0.0;
    }
}

static double reduce_step(uint8_t mode, double total, double x, double largest) {
    switch (mode) {
    case SPM_MAX: return x > total || x != x ? x : total;
    case SPM_MIN: return x < total || x != x ? x : total;
    case SPM_PROD: return total * x;
    case SPM_L1: return total + fabs(x);
    case SPM_L2: case SPM_SUM_SQUARE: return total + x * x;
    case SPM_LOG_SUM_EXP: return total + exp(x - largest);
    default: return total + x;
    }
}

static double reduce_set(const spm_reduce_op *op, const spm_window *in, int64_t first,
                         uint8_t mode, double largest) {
    double values[SPM_RUN], total = start_of(mode);
    spm_walk walk = walk_from(first, op->rank, op->extent, op->stride);
    for (int32_t n; (n = walk_on(&walk, &op->in.map, in, values)) > 0;)
        for (int32_t i = 0; i < n; i++) total = reduce_step(mode, total, values[i], largest);
    return total;
}

static double extreme_index(const spm_reduce_op *op, const spm_window *in, int64_t first) {
    double values[SPM_RUN], best = start_of(op->mode), found = 0.0, at = 0.0;
    spm_walk walk = walk_from(first, op->rank, op->extent, op->stride);
    for (int32_t n; (n = walk_on(&walk, &op->in.map, in, values)) > 0;)
        for (int32_t i = 0; i < n; i++, at += 1.0) {
            int better = op->mode == SPM_ARGMAX ? values[i] > best : values[i] < best;
            if (!better && !(op->last && values[i] == best)) continue;
            best = values[i];
            found = at;
        }
    return found;
}

static double reduce_one(const spm_reduce_op *op, const spm_window *in, int64_t first) {
    double count = 1.0, largest = 0.0;
    for (int32_t i = 0; i < op->rank; i++) count *= op->extent[i];
    if (op->mode == SPM_ARGMAX || op->mode == SPM_ARGMIN) return extreme_index(op, in, first);
    if (op->mode == SPM_LOG_SUM_EXP) largest = reduce_set(op, in, first, SPM_MAX, 0.0);
    double total = reduce_set(op, in, first, op->mode, largest);
    switch (op->mode) {
    case SPM_MEAN: return total / count;
    case SPM_L2: return sqrt(total);
    case SPM_LOG_SUM: return log(total);
    case SPM_LOG_SUM_EXP: return largest + log(total);
    default: return total;
    }
}

static void reduce_run(const spm_context *context, const spm_run *run) {
    const spm_reduce_op *op = context->op;
    double values[SPM_RUN];
    int64_t first = spm_locate(&op->in, run, op->loop.rank);
    for (int32_t i = 0; i < run->count; i++)
        values[i] = reduce_one(op, &context->in[0], first + i * op->in.stride[run->last]);
    spm_end_run(context, &op->loop, &op->act, run, values);
}

SPM_KERNEL(reduce) {
    spm_context context = CONTEXT(op);
    spm_each_run(&op->loop, 0, &context, reduce_run);
}

/* --- softmax ------------------------------------------------------------------------------- */

static void softmax_line(const spm_softmax_op *op, const spm_window *in, int64_t first,
                         int64_t stride, int32_t n, double *largest, double *total) {
    double values[SPM_RUN];
    *largest = -INFINITY;
    *total = 0.0;
    spm_walk walk = walk_from(first, 1, &n, &stride);
    for (int32_t k; (k = walk_on(&walk, &op->in, in, values)) > 0;)
        for (int32_t i = 0; i < k; i++)
            if (values[i] > *largest) *largest = values[i];
    walk = walk_from(first, 1, &n, &stride);
    for (int32_t k; (k = walk_on(&walk, &op->in, in, values)) > 0;)
        for (int32_t i = 0; i < k; i++) *total += exp(values[i] - *largest);
}

static double softmax_value(const spm_softmax_op *op, double x, double largest, double total) {
    return op->log ? x - largest - log(total) : exp(x - largest) / total;
}

/* Moments of the line of a run along its own axis, kept for the line's other runs. */
typedef struct {
    int64_t line;
    double largest, total;
} softmax_state;

static void softmax_along(const spm_context *context, const spm_run *run) {
    const spm_softmax_op *op = context->op;
    softmax_state *state = context->state;
    double values[SPM_RUN];
    int64_t line = run->element - run->index[run->last];
    if (state->line != line)
        softmax_line(op, &context->in[0], line, 1, op->loop.extent[run->last], &state->largest,
                     &state->total);
    state->line = line;
    spm_fetch(&op->in, &context->in[0], run->element, 1, run->count, values);
    for (int32_t i = 0; i < run->count; i++)
        values[i] = softmax_value(op, values[i], state->largest, state->total);
    spm_store(&op->loop.map, run->to, run->count, values);
}

/* Runs across the axis: all positions of the axis at once, so that writing spoils no reading. */
static void softmax_across(const spm_context *context, const spm_run *run) {
    const spm_softmax_op *op = context->op;
    double largest[SPM_RUN], total[SPM_RUN], values[SPM_RUN];
    int32_t extent = op->loop.extent[op->axis], begin = 0, end = extent, held;
    int64_t stride = 1;
    for (int32_t i = op->axis + 1; i <= run->last; i++) stride *= op->loop.extent[i];
    if (op->axis == run->last - 1) {
        begin = context->part.row0;
        end = context->part.row1;
    } else if (op->axis == 0 && op->loop.map.images > 1) {
        begin = run->index[0]; /* the part has rows of this image */
        end = begin + 1;
    }
    if (run->index[op->axis] != begin) return;
    int64_t line = run->element - begin * stride;
    for (int32_t i = 0; i < run->count; i++)
        softmax_line(op, &context->in[0], line + i, stride, extent, &largest[i], &total[i]);
    for (int32_t k = begin; k < end; k++) {
        int64_t element = line + k * stride;
        spm_fetch(&op->in, &context->in[0], element, 1, run->count, values);
        for (int32_t i = 0; i < run->count; i++)
            values[i] = softmax_value(op, values[i], largest[i], total[i]);
        unsigned char *to = spm_at(&op->loop.map, context->out, (uint32_t)element, &held);
        spm_store(&op->loop.map, to, run->count, values);
    }
}

SPM_KERNEL(softmax) {
    softmax_state state = {.line = -1};
    spm_context context = CONTEXT(op);
    context.state = &state;
    int along = op->axis == op->loop.rank - 1;
    spm_each_run(&op->loop, !along, &context, along ? softmax_along : softmax_across);
}

/* --- normalisation ------------------------------------------------------------------------- */

typedef struct {
    int64_t origin;
    double mean, factor;
} moments;

static double set_sum(const spm_normalize_op *op, const spm_window *in, int64_t origin,
                      double mean, int squares) {
    double values[SPM_RUN], total = 0.0;
    spm_walk walk = walk_from(origin, op->rank, op->extent, op->stride);
    for (int32_t n; (n = walk_on(&walk, &op->in.map, in, values)) > 0;)
        for (int32_t i = 0; i < n; i++) {
            double x = values[i] - mean;
            total += squares ? x * x : (op->mode == SPM_NORM_L1 ? fabs(x) : x);
        }
    return total;
}

static void measure(const spm_normalize_op *op, const spm_window *in, int64_t origin, moments *m) {
    double count = 1.0;
    for (int32_t i = 0; i < op->rank; i++) count *= op->extent[i];
    m->origin = origin;
    m->mean = 0.0;
    if (op->mode == SPM_NORM_LAYER) m->mean = set_sum(op, in, origin, 0.0, 0) / count;
    double total = set_sum(op, in, origin, m->mean, op->mode != SPM_NORM_L1);
    if (op->mode == SPM_NORM_L1 || op->mode == SPM_NORM_L2) {
        double norm = op->mode == SPM_NORM_L2 ? sqrt(total) : total;
        m->factor = norm == 0.0 ? 1.0 : norm;
    } else {
        m->factor = sqrt(total / count + op->epsilon);
    }
}

static void normalize_lrn(const spm_context *context, const spm_run *run, double *values) {
    const spm_normalize_op *op = context->op;
    double other[SPM_RUN], total[SPM_RUN] = {0.0};
    int32_t c = run->index[1], first = spm_max(0, c - (op->group - 1) / 2);
    int32_t end = spm_min(op->loop.extent[1], c + op->group / 2 + 1);
    int64_t stride = 1;
    for (int32_t i = 2; i <= run->last; i++) stride *= op->loop.extent[i];
    for (int32_t k = first; k < end; k++) {
        spm_fetch(&op->in.map, &context->in[0], run->element + (k - c) * stride, 1, run->count,
                  other);
        for (int32_t i = 0; i < run->count; i++) total[i] += other[i] * other[i];
    }
    for (int32_t i = 0; i < run->count; i++)
        values[i] /= pow(op->offset + op->alpha / op->group * total[i], op->beta);
}

/* First element of the set that element i of a run belongs to. */
static int64_t set_of(const spm_normalize_op *op, const spm_run *run, int32_t i) {
    int64_t origin = spm_locate(&op->origin, run, op->loop.rank);
    if (op->group > 0)
        origin -= run->index[1] % op->group * op->origin.stride[1];
    return origin + i * op->origin.stride[run->last];
}

static void normalize_run(const spm_context *context, const spm_run *run) {
    const spm_normalize_op *op = context->op;
    moments *m = context->state;
    double values[SPM_RUN], factor[SPM_RUN];
    spm_fetch(&op->in.map, &context->in[0], run->element, 1, run->count, values);
    if (op->mode == SPM_NORM_LRN) {
        normalize_lrn(context, run, values);
    } else if (op->mode != SPM_NORM_SCALE) {
        for (int32_t i = 0; i < run->count; i++) {
            int64_t origin = set_of(op, run, i);
            if (m->origin != origin) measure(op, &context->in[0], origin, m);
            values[i] = (values[i] - m->mean) / m->factor;
        }
    }
    if (op->scale != NULL) {
        spm_fetch_constant(op->scale, context->weights, run->index, run->last, run->count, factor);
        for (int32_t i = 0; i < run->count; i++) values[i] *= factor[i];
    }
    if (op->shift != NULL) {
        spm_fetch_constant(op->shift, context->weights, run->index, run->last, run->count, factor);
        for (int32_t i = 0; i < run->count; i++) values[i] += factor[i];
    }
    spm_end_run(context, &op->loop, &op->act, run, values);
}

SPM_KERNEL(normalize) {
    moments state = {.origin = -1};
    spm_context context = CONTEXT(op);
    context.state = &state;
    /* with rows inside, a set of a channel's pixels is measured once */
    spm_each_run(&op->loop, op->mode != SPM_NORM_SCALE, &context, normalize_run);
}
