/* Convolutions, also transposed. */
#include "spm_mac.h"

/* Neighbouring output pixels (x0 .. x0 + n) of one output row, at `slot` of the block. */
typedef struct {
    int32_t batch, depth, y, x0, n, slot;
} pixels;

typedef struct {
    const spm_conv_op *op;
    const spm_window *in;
    spm_window out;
    spm_span span;
    int32_t k0, k1, y0, y1;
    int32_t count, width, filled;
    pixels segment[SPM_BLOCK];
} conv_block;

/* Input index that tap f meets at output o of an axis, -1 for padding. */
static int32_t source(const spm_conv_op *op, int32_t axis, int32_t o, int32_t f) {
    int32_t at;
    if (op->transposed) {
        at = o + op->pad[axis] - f * op->dilation[axis];
        if (at < 0 || at % op->stride[axis]) return -1;
        at /= op->stride[axis];
    } else {
        at = o * op->stride[axis] - op->pad[axis] + f * op->dilation[axis];
    }
    return at >= 0 && at < op->in_size[axis] ? at : -1;
}

/* Outputs [*begin, *end) of a segment, *step apart, that meet inputs with tap f along the width. */
static int32_t reach(const spm_conv_op *op, const pixels *s, int32_t f, int32_t *begin,
                     int32_t *step) {
    int32_t stride = op->stride[2], size = op->in_size[2], shift, first, end;
    if (op->transposed) {
        shift = op->pad[2] - f * op->dilation[2]; /* input = (x + shift) / stride */
        first = spm_max(s->x0, -shift);
        first += (stride - (first + shift) % stride) % stride;
        end = spm_min(s->x0 + s->n, (size - 1) * stride - shift + 1);
        *step = stride;
    } else {
        shift = op->pad[2] - f * op->dilation[2]; /* input = x * stride - shift */
        first = spm_max(s->x0, spm_ceil_div(shift, stride));
        end = spm_min(s->x0 + s->n, spm_ceil_div(size + shift, stride));
        *step = 1;
    }
    *begin = first;
    return end > first ? (end - first + *step - 1) / *step : 0;
}

static void stage_segment(const conv_block *b, const pixels *s, int32_t channel, int32_t fz,
                          int32_t fy, int32_t fx, int64_t row) {
    const spm_conv_op *op = b->op;
    int32_t z = source(op, 0, s->depth, fz), y = source(op, 1, s->y, fy), x, step;
    if (z < 0 || y < 0) return;
    int32_t n = reach(op, s, fx, &x, &step);
    if (n <= 0) return;
    int64_t line = (((int64_t)s->batch * op->in_channels + channel) * op->in_size[0] + z)
                   * op->in_size[1] + y;
    int64_t first = line * op->in_size[2] + source(op, 2, x, fx);
    spm_stage(&op->in, b->in, op->integer, first, op->transposed ? 1 : op->stride[2], n,
          row + s->slot + x - s->x0, step);
}

static void stage_taps(const conv_block *b, int32_t group, int32_t begin, int32_t n) {
    const spm_conv_op *op = b->op;
    int32_t area = op->kernel[1] * op->kernel[2], volume = op->kernel[0] * area;
    int32_t inputs = op->in_channels / op->groups, whole = (n + 3) / 4 * 4;
    spm_clear_staged(op->integer, 0, whole * b->width);
    for (int32_t t = 0; t < n; t++) {
        int32_t tap = begin + t, c = group * inputs + tap / volume, f = tap % volume;
        for (int32_t i = 0; i < b->count; i++)
            stage_segment(b, &b->segment[i], c, f / area, f % area / op->kernel[2],
                          f % op->kernel[2], (int64_t)t * b->width);
    }
}

/* Number of the first output of a segment, among those of all channels. */
static uint32_t element(const spm_conv_op *op, const pixels *s, int32_t channel) {
    int64_t line = (((int64_t)s->batch * op->out_channels + channel) * op->out_size[0] + s->depth)
                   * op->out_size[1] + s->y;
    return (uint32_t)(line * op->out_size[2] + s->x0);
}

/* Take the partial sums of a channel out of the scratchpad, or put them back. */
static void move_sums(const conv_block *b, int32_t channel, int32_t row, int back) {
    int32_t run;
    for (int32_t i = 0; i < b->count; i++) {
        const pixels *s = &b->segment[i];
        unsigned char *kept =
            spm_at(&b->span.map, &b->span.sums, element(b->op, s, channel), &run);
        void *sums = b->op->integer ? (void *)(spm_sums_i[row] + s->slot)
                                    : (void *)(spm_sums_f[row] + s->slot);
        if (back)
            memcpy(kept, sums, (size_t)s->n * 4);
        else
            memcpy(sums, kept, (size_t)s->n * 4);
    }
}

static void finish_channel(const conv_block *b, int32_t channel, int32_t row) {
    const spm_conv_op *op = b->op;
    const spm_finish *finish = &b->span.finish;
    const unsigned char *constants = spm_constants(&b->span, channel);
    int32_t run;
    for (int32_t i = 0; i < b->count; i++) {
        const pixels *s = &b->segment[i];
        unsigned char *to = spm_at(&op->out, &b->out, element(op, s, channel), &run);
        const int32_t *sum_i = spm_sums_i[row] + s->slot;
        const float *sum_f = spm_sums_f[row] + s->slot;
        if (op->integer)
            spm_finish_i(finish, &op->out, constants, channel, sum_i, s->n, to);
        else
            spm_finish_f(finish, &op->out, constants, channel, sum_f, s->n, to);
    }
}

static void conv_channels(const conv_block *b, int32_t group, int32_t k0, int32_t k1, int staged) {
    const spm_conv_op *op = b->op;
    const spm_span *span = &b->span;
    int once = span->tap1 - span->tap0 <= SPM_TAPS;
    spm_clear_sums(op->integer, k1 - k0);
    if (!span->first)
        for (int32_t k = k0; k < k1; k++) move_sums(b, k, k - k0, 0);
    for (int32_t begin = span->tap0; begin < span->tap1; begin += SPM_TAPS) {
        int32_t n = spm_min(SPM_TAPS, span->tap1 - begin);
        if (!staged || !once) stage_taps(b, group, begin, n);
        for (int32_t k = k0; k < k1; k++) {
            spm_stage_weights(&op->weights, span, op->integer, k, begin, n, 4);
            spm_accumulate(op->integer, b->width, n, k - k0);
        }
    }
    for (int32_t k = k0; k < k1; k++)
        if (span->last)
            finish_channel(b, k, k - k0);
        else
            move_sums(b, k, k - k0, 1);
}

static void run_block(conv_block *b) {
    int32_t each = b->op->out_channels / b->op->groups;
    if (b->filled == 0) return;
    b->width = b->filled <= SPM_NARROW ? SPM_NARROW : SPM_BLOCK;
    for (int32_t k = b->k0; k < b->k1;) {
        int32_t group = k / each, group_end = spm_min(b->k1, (group + 1) * each);
        for (int staged = 0; k < group_end; staged = 1) {
            int32_t end = spm_min(group_end, k + SPM_CHANNELS);
            conv_channels(b, group, k, end, staged);
            k = end;
        }
    }
    b->count = b->filled = 0;
}

static void add_pixels(conv_block *b, int32_t batch, int32_t depth, int32_t y) {
    int32_t width = b->op->out_size[2];
    for (int32_t x = 0; x < width;) {
        int32_t n = spm_min(width - x, SPM_BLOCK - b->filled);
        b->segment[b->count++] = (pixels){batch, depth, y, x, n, b->filled};
        b->filled += n;
        x += n;
        if (b->filled == SPM_BLOCK) run_block(b);
    }
}

static int32_t volume(const spm_conv_op *op) {
    return op->kernel[0] * op->kernel[1] * op->kernel[2];
}

static void conv(const spm_conv_op *op, spm_window out, const spm_window *in, spm_span span,
                 spm_part part) {
    conv_block b = {.op = op, .in = in, .out = out, .span = span};
    int32_t planes = (int32_t)((int64_t)op->out.lead * op->out.channels * op->out.mid
                               * (op->out.channel_last ? 1 : op->out.last) * op->out.rows
                               / ((int64_t)op->out_channels * op->out_size[0] * op->out_size[1]
                                  * op->out_size[2]));
    while (part.row0 < part.row1) {
        int32_t image;
        spm_part own = spm_next_image(&op->out, &part, &image);
        int rows = op->channels_are_rows;
        b.k0 = rows ? own.row0 : own.channel0;
        b.k1 = rows ? own.row1 : own.channel1;
        b.y0 = rows ? 0 : own.row0;
        b.y1 = rows ? 1 : own.row1;
        for (int32_t plane = 0; plane < planes; plane++)
            for (int32_t z = 0; z < op->out_size[0]; z++)
                for (int32_t y = b.y0; y < b.y1; y++) add_pixels(&b, image * planes + plane, z, y);
        if (rows) run_block(&b); /* the next image has other channels in this part */
    }
    run_block(&b);
}

SPM_KERNEL(conv) {
    int32_t taps = op->in_channels / op->groups * volume(op);
    conv(op, out, in, spm_all_taps(weights, taps, &op->weights, &op->finish), part);
}

SPM_SLICE_KERNEL(conv) {
    conv(op, out, in,
         spm_some_taps(slice, weights, volume(op), op->in_channels / op->groups, &op->weights,
                       &op->finish, &op->out, op->integer),
         part);
}
