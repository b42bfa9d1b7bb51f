/* Reading and writing elements of windows: what all kernels share. Not for their callers. */
#ifndef SPM_ACCESS_H
#define SPM_ACCESS_H

#include "spm_kernels.h"

#include <float.h>
#include <string.h>

/* Rounding by adding a large number needs doubles that are doubles. */
_Static_assert(FLT_EVAL_METHOD == 0, "floating-point expressions must keep their own type");

enum { SPM_RUN = 256 }; /* elements of an output that are computed at a time */

static inline int32_t spm_min(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t spm_max(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t spm_ceil_div(int32_t a, int32_t b) {
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

/* Bytes of scratchpad have no alignment and no type: copies say so, and compilers see through. */
static inline float spm_get_f32(const unsigned char *p) {
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}
static inline void spm_set_f32(unsigned char *p, float value) { memcpy(p, &value, sizeof value); }
static inline int32_t spm_get_i32(const unsigned char *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Round half to even, for |value| < 2^51: the sum has no bits below one. */
static inline double spm_round(double value) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    return (value + magic) - magic;
}
static inline double spm_clamp(double value, double low, double high) {
    value = value < high ? value : high;
    return value > low ? value : low;
}

static inline int32_t spm_element_bytes(uint8_t dtype) {
    static const uint8_t bytes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};
    return bytes[dtype];
}

/* Address of a logical element, and how many elements follow it in memory, itself included. */
static inline unsigned char *spm_at(const spm_map *m, const spm_window *w, uint32_t element,
                                    int32_t *run) {
    uint32_t inner = (uint32_t)(m->channel_last ? m->channels : m->last);
    uint32_t x = element % inner, rest = element / inner;
    uint32_t r = 0, other = rest;
    if (m->rows > 1) {
        r = rest % (uint32_t)m->rows;
        other = rest / (uint32_t)m->rows;
    }
    if (m->images > 1) {
        uint32_t planes = (uint32_t)(m->channel_last ? m->lead : m->lead * m->channels * m->mid);
        r += other / planes * (uint32_t)m->rows;
        other %= planes;
    }
    unsigned char *row = w->base + (int64_t)(r % (uint32_t)w->rows) * w->pitch;
    int64_t place;
    if (m->channel_last) {
        place = (int64_t)other * w->channels + (int32_t)x - w->first;
    } else if (w->channels == m->channels) {
        place = (int64_t)other * inner + x;
    } else {
        uint32_t mid = other % (uint32_t)m->mid, t = other / (uint32_t)m->mid;
        uint32_t c = t % (uint32_t)m->channels, l = t / (uint32_t)m->channels;
        place = (((int64_t)l * w->channels + (int32_t)c - w->first) * m->mid + mid) * inner + x;
    }
    *run = (int32_t)(inner - x);
    return row + place * spm_element_bytes(m->dtype);
}

/* Take the rows of its first image off a part: they are returned as rows of that image. */
static inline spm_part spm_next_image(const spm_map *m, spm_part *part, int32_t *image) {
    spm_part own = *part;
    *image = part->row0 / m->rows;
    int32_t first = *image * m->rows;
    own.row0 = part->row0 - first;
    own.row1 = spm_min(part->row1 - first, m->rows);
    part->row0 = first + own.row1;
    return own;
}

/* n real numbers: elements first, first + step ... of a window (step 0 repeats the first). */
void spm_fetch(const spm_map *m, const spm_window *w, int64_t first, int64_t step, int32_t n,
               double *to);
/* The same in memory, `step` bytes apart. */
void spm_load(uint8_t dtype, double scale, int32_t zero, const unsigned char *from, int64_t step,
              int32_t n, double *to);
/* Store n real numbers to consecutive elements: rounded once, saturated. */
void spm_store(const spm_map *m, unsigned char *to, int32_t n, const double *from);
/* A run of a constant in a loop. */
void spm_fetch_constant(const spm_constant *c, spm_weights weights, const int32_t *index,
                        int32_t last, int32_t n, double *to);

/* What an activation reads: the numbers themselves, or rounded as it says. */
void spm_before(const spm_activation *act, int32_t n, double *values);
double spm_function(uint8_t mode, double x, double a, double b);

/* A run of an output: `count` elements from `element` on, at `to`; index of the first. */
typedef struct {
    int32_t index[SPM_RANK];
    int64_t element;
    int32_t count, last; /* last: the axis that the run follows */
    unsigned char *to;
} spm_run;

typedef struct {
    const void *op;
    const spm_window *in;
    const spm_window *out;
    spm_weights weights;
    spm_part part;
    void *state;
} spm_context;

typedef void (*spm_body)(const spm_context *context, const spm_run *run);

/* Call `body` for every run of the part, image by image, with the rows of that image as the
 * context's part. Of an image, rows are the outermost loop, or the innermost. */
void spm_each_run(const spm_loop *loop, int rows_inside, const spm_context *context, spm_body body);

/* Apply an activation to a run's values, and store them. */
void spm_end_run(const spm_context *context, const spm_loop *loop, const spm_activation *act,
                 const spm_run *run, double *values);

static inline int64_t spm_locate(const spm_operand *operand, const spm_run *run, int32_t rank) {
    int64_t element = operand->base;
    for (int32_t i = 0; i < rank; i++) element += run->index[i] * operand->stride[i];
    return element;
}

#endif
