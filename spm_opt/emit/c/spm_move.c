/* Operators that move data: they copy elements, through a table where the scale changes. */
#include "spm_access.h"

/* n elements from one place to another, `step` bytes apart at the source. Where type or scale
 * change they go through a table of bytes, or as real numbers. */
static void copy(const spm_map *m, const unsigned char *from, int64_t step, int32_t n,
                 const uint8_t *table, const spm_map *out, unsigned char *to) {
    int32_t bytes = spm_element_bytes(out->dtype);
    double values[SPM_RUN];
    if (table != NULL) {
        for (int32_t i = 0; i < n; i++) to[i] = table[from[i * step]];
    } else if (m->dtype == out->dtype && m->scale == out->scale && m->zero == out->zero) {
        if (step == bytes)
            memmove(to, from, (size_t)n * (size_t)bytes);
        else
            for (int32_t i = 0; i < n; i++) memcpy(to + i * bytes, from + i * step, (size_t)bytes);
    } else {
        for (int32_t done = 0; done < n; done += SPM_RUN) {
            int32_t count = spm_min(SPM_RUN, n - done);
            spm_load(m->dtype, m->scale, m->zero, from + done * step, step, count, values);
            spm_store(out, to + (int64_t)done * bytes, count, values);
        }
    }
}

/* n elements first, first + step ... of a window. */
static void copy_elements(const spm_map *m, const spm_window *w, int64_t first, int64_t step,
                          int32_t n, const uint8_t *table, const spm_map *out, unsigned char *to) {
    int32_t bytes = spm_element_bytes(m->dtype), run;
    int32_t inner = m->channel_last ? m->channels : m->last;
    while (n > 0) {
        const unsigned char *from = spm_at(m, w, (uint32_t)first, &run);
        int64_t fit = step > 0 ? (run - 1) / step + 1 : step < 0 ? (inner - run) / -step + 1 : n;
        int32_t count = fit < n ? (int32_t)fit : n;
        copy(m, from, step * bytes, count, table, out, to);
        first += step * count;
        to += (int64_t)count * spm_element_bytes(out->dtype);
        n -= count;
    }
}

/* --- slice, pad, transpose, nearest resize ------------------------------------------------- */

/* Source index of output index i of an axis, -1 for none. */
static int32_t moved_from(const spm_axis *axis, int32_t i) {
    if (i < axis->low || i >= axis->high) return -1;
    return axis->table == NULL ? i : axis->table[i];
}

static void fill(const spm_move_op *op, int32_t n, unsigned char *to) {
    for (int32_t i = 0; i < n; i++) {
        spm_store(&op->loop.map, to, 1, &op->fill);
        to += spm_element_bytes(op->loop.map.dtype);
    }
}

/* A run along the last axis whose other indices give element `line`. */
static void move_line(const spm_context *context, const spm_run *run, int64_t line) {
    const spm_move_op *op = context->op;
    const spm_axis *axis = &op->axis[run->last];
    int32_t bytes = spm_element_bytes(op->loop.map.dtype);
    int32_t begin = run->index[run->last], end = begin + run->count;
    unsigned char *to = run->to;
    if (axis->table != NULL) {
        for (int32_t i = begin; i < end; i++, to += bytes) {
            int32_t from = moved_from(axis, i);
            if (from < 0)
                fill(op, 1, to);
            else
                copy_elements(&op->in.map, &context->in[0], line + from * axis->stride, 1, 1,
                              op->table, &op->loop.map, to);
        }
        return;
    }
    int32_t low = spm_min(spm_max(begin, axis->low), end);
    int32_t high = spm_max(spm_min(end, axis->high), low);
    fill(op, low - begin, to);
    to += (int64_t)(low - begin) * bytes;
    copy_elements(&op->in.map, &context->in[0], line + low * axis->stride, axis->stride, high - low,
                  op->table, &op->loop.map, to);
    fill(op, end - high, to + (int64_t)(high - low) * bytes);
}

static void move_run(const spm_context *context, const spm_run *run) {
    const spm_move_op *op = context->op;
    int64_t line = op->in.base;
    for (int32_t i = 0; i < run->last; i++) {
        int32_t from = moved_from(&op->axis[i], run->index[i]);
        if (from < 0) {
            fill(op, run->count, run->to);
            return;
        }
        line += from * op->axis[i].stride;
    }
    move_line(context, run, line);
}

SPM_KERNEL(move) {
    spm_context context = {.op = op, .in = in, .out = &out, .weights = weights, .part = part};
    spm_each_run(&op->loop, 0, &context, move_run);
}

/* --- interpolation ------------------------------------------------------------------------- */

/* Weighted sum over the taps of axes [axis, rank) from element `first` on, the last axis inside. */
static double interpolate(const spm_resize_op *op, const spm_window *in, const int32_t *index,
                          int32_t axis, int64_t first) {
    const spm_taps *taps = &op->axis[axis];
    double total = 0.0;
    for (int32_t t = 0; t < taps->taps; t++) {
        int32_t at = index[axis] * taps->taps + t;
        int64_t element = first + taps->source[at] * taps->stride;
        double value;
        if (taps->weight[at] == 0.0) continue;
        if (axis + 1 < op->loop.rank)
            value = interpolate(op, in, index, axis + 1, element);
        else
            spm_fetch(&op->in, in, element, 1, 1, &value);
        total += taps->weight[at] * value;
    }
    return total;
}

static void resize_run(const spm_context *context, const spm_run *run) {
    const spm_resize_op *op = context->op;
    double values[SPM_RUN];
    spm_run at = *run;
    for (int32_t i = 0; i < run->count; i++, at.index[run->last]++)
        values[i] = interpolate(op, &context->in[0], at.index, 0, 0);
    spm_store(&op->loop.map, run->to, run->count, values);
}

SPM_KERNEL(resize) {
    spm_context context = {.op = op, .in = in, .out = &out, .weights = weights, .part = part};
    spm_each_run(&op->loop, 0, &context, resize_run);
}

/* --- concatenation ------------------------------------------------------------------------- */

static int32_t piece_bytes(const spm_piece *p) { return spm_element_bytes(p->map.dtype); }

static void concat_run(const spm_context *context, const spm_run *run) {
    const spm_concat_op *op = context->op;
    int32_t extent = op->loop.extent[op->axis], piece = 0;
    int32_t bytes = spm_element_bytes(op->loop.map.dtype);
    int64_t inner = 1, element = run->element, end = element + run->count;
    unsigned char *to = run->to;
    for (int32_t i = op->axis + 1; i <= run->last; i++) inner *= op->loop.extent[i];
    while (element < end) {
        int64_t outer = element / (inner * extent), place = element % (inner * extent);
        while (op->piece[piece].end * inner <= place) piece++;
        const spm_piece *p = &op->piece[piece];
        int64_t size = (p->end - p->begin) * inner, within = place - p->begin * inner;
        int32_t n = (int32_t)(size - within < end - element ? size - within : end - element);
        int64_t first = outer * size + within;
        if (p->input >= 0)
            copy_elements(&p->map, &context->in[p->input], first, 1, n, p->table,
                          &op->loop.map, to);
        else
            copy(&p->map, context->weights.base + p->offset + first * piece_bytes(p),
                 piece_bytes(p), n, p->table, &op->loop.map, to);
        element += n;
        to += (int64_t)n * bytes;
    }
}

SPM_KERNEL(concat) {
    spm_context context = {.op = op, .in = in, .out = &out, .weights = weights, .part = part};
    spm_each_run(&op->loop, 0, &context, concat_run);
}

/* --- look-up ------------------------------------------------------------------------------- */

static int64_t index_at(const spm_context *context, int64_t place) {
    const spm_gather_op *op = context->op;
    double value;
    if (op->indices_input >= 0) {
        spm_fetch(&op->indices, &context->in[op->indices_input], place, 1, 1, &value);
    } else {
        int32_t bytes = spm_element_bytes(op->index_dtype);
        spm_load(op->index_dtype, 0.0, 0,
                 context->weights.base + op->indices_offset + place * bytes, 0, 1, &value);
    }
    int64_t index = (int64_t)value;
    return index < 0 ? index + op->extent : index;
}

/* Elements of the table: from a map, or from constants; rows that lie in DRAM are brought to the
 * place of the output's elements among the constants first. */
static void gather_elements(const spm_context *context, int64_t from, int64_t element, int32_t n,
                            unsigned char *to) {
    const spm_gather_op *op = context->op;
    if (op->table_input >= 0) {
        copy_elements(&op->source, &context->in[op->table_input], from, 1, n, op->table,
                      &op->loop.map, to);
        return;
    }
    int32_t bytes = spm_element_bytes(op->source.dtype);
    unsigned char *held = context->weights.base + op->table_offset;
    if (op->fetched) {
        held += element * bytes;
        memcpy(held, context->weights.table + from * bytes, (size_t)n * (size_t)bytes);
    } else {
        held += from * bytes;
    }
    copy(&op->source, held, bytes, n, op->table, &op->loop.map, to);
}

static void gather_run(const spm_context *context, const spm_run *run) {
    const spm_gather_op *op = context->op;
    int32_t bytes = spm_element_bytes(op->loop.map.dtype);
    int64_t element = run->element, end = element + run->count;
    unsigned char *to = run->to;
    while (element < end) {
        int64_t x = element % op->after, rest = element / op->after;
        int64_t before = rest / op->count, index = index_at(context, rest % op->count);
        int32_t n = (int32_t)(op->after - x < end - element ? op->after - x : end - element);
        gather_elements(context, (before * op->extent + index) * op->after + x, element, n, to);
        element += n;
        to += (int64_t)n * bytes;
    }
}

SPM_KERNEL(gather) {
    spm_context context = {.op = op, .in = in, .out = &out, .weights = weights, .part = part};
    spm_each_run(&op->loop, 0, &context, gather_run);
}
