/* Kernels of the operators: each computes rows [row0,row1) x channels [channel0,channel1) of one
 * layer's output out of windows into feature maps.
 *
 * A feature map lies row by row: the row axis (last but one) first, its other axes in their order
 * after it; of a batch image by image. A window holds some rows, row r in unit r % rows, and some
 * channels of each row.
 *
 * Every element of an output is accumulated in one order, which depends on the layer alone: how
 * rows and channels are cut never changes a bit. Compile with -ffp-contract=off. */
#ifndef SPM_KERNELS_H
#define SPM_KERNELS_H

#include <math.h>
#include <stdint.h>

#define SPM_RANK 8

enum {
    SPM_BOOL, SPM_I8, SPM_U8, SPM_I16, SPM_U16, SPM_I32, SPM_U32, SPM_I64, SPM_U64, SPM_F32, SPM_F64
};

/* A map as it lies in scratchpad or DRAM. `channels` counts the map's channels that it holds, of
 * which `first` is the first; both are 1 and 0 for maps that nothing cuts. */
typedef struct {
    unsigned char *base;
    int32_t rows;
    int64_t pitch; /* bytes from a row to the next */
    int32_t first, channels;
} spm_window;

/* Packed constants of output channels from `first` on. `table` is a look-up table that stays in
 * DRAM, of which rows are fetched into the constants' space as they are looked up. */
typedef struct {
    unsigned char *base;
    int32_t first;
    const unsigned char *table;
} spm_weights;

typedef struct {
    int32_t row0, row1, channel0, channel1;
} spm_part;

/* Input channels [input0, input1) of each group, which a convolution or product adds at a time. The
 * packed constants are those of these alone, what follows the sum behind the last. Until then the
 * sums lie in `sums`, as the output would, each as 32 bits; the first begin them. */
typedef struct {
    int32_t input0, input1;
    spm_window sums;
} spm_slice;

/* How a map's elements are numbered and laid: [images][lead][channels][mid][rows][last] in logical
 * order; in memory [images][rows] first, so that row r of image n is the map's row n * rows + r.
 * With channel_last, [images][lead][rows][channels] (mid and last are 1).
 * An integer q stands for scale * (q - zero), and for itself where scale is 0. */
typedef struct {
    uint8_t dtype, channel_last;
    int32_t images, lead, channels, mid, rows, last;
    double scale;
    int32_t zero;
} spm_map;

/* Loop over an output; extents multiply to the map's, in its logical order. */
typedef struct {
    spm_map map;
    int32_t rank;
    int32_t extent[SPM_RANK];
} spm_loop;

/* A map read in a loop: element base + sum(index * stride), in elements of its logical order. */
typedef struct {
    spm_map map;
    int64_t base;
    int64_t stride[SPM_RANK];
} spm_operand;

/* A constant read in a loop: byte offset + sum(index * stride) of `data`, or of the packed
 * constants where that is null; then `pitch` bytes of constants belong to each channel. */
typedef struct {
    const unsigned char *data;
    uint8_t dtype;
    int32_t offset, pitch, shared; /* shared: indices of axis 1 that share a value, 0 for one */
    int64_t stride[SPM_RANK];
    double scale;
    int32_t zero;
} spm_constant;

enum {
    SPM_IDENTITY, SPM_RELU, SPM_RELU6, SPM_CLIP, SPM_LEAKY_RELU, SPM_ELU, SPM_SELU, SPM_CELU,
    SPM_SIGMOID, SPM_TANH, SPM_GELU, SPM_GELU_TANH, SPM_QUICK_GELU, SPM_SILU, SPM_HARDSWISH,
    SPM_HARDSIGMOID,
    SPM_MISH, SPM_SOFTPLUS, SPM_SOFTSIGN, SPM_ERF, SPM_EXP, SPM_LOG, SPM_SQRT, SPM_RECIPROCAL,
    SPM_ABS, SPM_NEG, SPM_SIGN, SPM_FLOOR, SPM_CEIL, SPM_ROUND, SPM_SIN, SPM_COS, SPM_TAN, SPM_ASIN,
    SPM_ACOS, SPM_ATAN, SPM_SINH, SPM_COSH, SPM_SHRINK, SPM_NOT, SPM_IS_NAN, SPM_IS_INF,
    SPM_THRESHOLDED_RELU, SPM_PRELU
};

/* What follows a vector operator: function `mode` of parameters a and b (SPM_PRELU: of `slope`).
 * With a `scale`, the number is first rounded to an integer in [low, high]. */
typedef struct {
    uint8_t mode;
    double a, b;
    const spm_constant *slope;
    double scale;
    int32_t zero, low, high;
} spm_activation;

/* What follows an accumulation. The accumulator, with the bias (`bias` bytes into a channel's
 * constants, -1 for none), times the channel's multiplier becomes, by `kind`:
 *   SPM_PLAIN    float: clamped to [low, high];
 *   SPM_REQUANT  an integer: rounded, plus zero, clamped to [low, high];
 *   SPM_LOOKUP   the same, then mapped by `table`;
 *   SPM_REAL     a real number: activation, then stored as the output's type.
 * `slope` bytes into the constants lies a channel's slope of SPM_PRELU, -1 for one in `act.a`. */
enum { SPM_PLAIN, SPM_REQUANT, SPM_LOOKUP, SPM_REAL };
typedef struct {
    uint8_t kind;
    int32_t multipliers;
    const double *multiplier;
    double low, high;
    int32_t zero;
    const uint8_t *table;
    spm_activation act;
    int32_t bias, slope;
    uint8_t bias_dtype, slope_dtype;
    double bias_scale, slope_scale;
    int32_t slope_zero;
} spm_finish;

/* The constants of one output channel: `pitch` bytes, of which the first are its weights. */
typedef struct {
    uint8_t dtype;
    int32_t pitch, zeros;
    const int32_t *zero; /* zero points: one, or one a channel */
    const double *scale; /* the same of scales; null where accumulation is in integers */
} spm_kernel_weights;

/* Convolution, also transposed; axes are depth, height, width. `channels_are_rows` where the
 * output has one spatial axis, and so its channels are the rows. */
typedef struct {
    spm_map in, out;
    uint8_t transposed, channels_are_rows, integer;
    int32_t groups, in_channels, out_channels;
    int32_t in_size[3], out_size[3], kernel[3], stride[3], pad[3], dilation[3];
    spm_kernel_weights weights;
    spm_finish finish;
} spm_conv_op;

typedef struct {
    spm_map in, out;
    uint8_t integer;
    int32_t inner;
    spm_kernel_weights weights;
    spm_finish finish;
} spm_linear_op;

/* Batched product; `batch_rank` leading axes of the output with the matrices' strides. */
typedef struct {
    spm_map a, b, out;
    uint8_t integer, transpose_b;
    int32_t rows, inner, columns, batch_rank;
    int32_t batch[SPM_RANK], a_stride[SPM_RANK], b_stride[SPM_RANK];
    spm_finish finish;
} spm_matmul_op;

enum { SPM_POOL_MAX, SPM_POOL_AVG, SPM_POOL_LP };
typedef struct {
    spm_loop loop;
    spm_map in;
    uint8_t mode, include_pad;
    double power;
    int32_t in_size[3], kernel[3], stride[3], pad[3], pad_end[3], dilation[3];
    int32_t planes; /* batch x channels */
    spm_activation act;
} spm_pool_op;

enum {
    SPM_MEAN, SPM_SUM, SPM_MAX, SPM_MIN, SPM_PROD, SPM_L1, SPM_L2, SPM_LOG_SUM, SPM_LOG_SUM_EXP,
    SPM_SUM_SQUARE, SPM_ARGMAX, SPM_ARGMIN
};
typedef struct {
    spm_loop loop;
    spm_operand in; /* strides over the output's axes */
    uint8_t mode, last; /* last: of equal extremes the last one counts */
    int32_t rank, extent[SPM_RANK];
    int64_t stride[SPM_RANK]; /* of the reduced axes */
    spm_activation act;
} spm_reduce_op;

/* Element-wise function of one map of the output's shape; 8-bit maps go through `table`. */
typedef struct {
    spm_loop loop;
    spm_operand in;
    const uint8_t *table;
    spm_activation act;
} spm_unary_op;

enum {
    SPM_ADD, SPM_SUB, SPM_MUL, SPM_DIV, SPM_POW, SPM_MAXIMUM, SPM_MINIMUM, SPM_AVERAGE, SPM_MOD,
    SPM_WHERE, SPM_EQUAL, SPM_GREATER, SPM_LESS, SPM_GREATER_OR_EQUAL, SPM_LESS_OR_EQUAL, SPM_AND,
    SPM_OR, SPM_XOR, SPM_SLOPE, SPM_FMOD
};
/* Operands in the operator's order: `input` is a map's number, or -1 - a constant's. */
typedef struct {
    spm_loop loop;
    uint8_t mode;
    int32_t count;
    const int32_t *input;
    const spm_operand *maps;
    const spm_constant *constants;
    spm_activation act;
} spm_binary_op;

typedef struct {
    spm_loop loop;
    spm_map in;
    int32_t axis;
    uint8_t log;
} spm_softmax_op;

/* SPM_NORM_SCALE: scale and shift only (batch normalisation). Otherwise each element belongs to a
 * set over axes [extent, stride] of the input, whose first element `origin` locates; with `group`
 * channels in a set, axis 1's index counts in whole groups. LRN: the set is a window of `group`
 * indices of axis 1, and x / (offset + alpha / group * sum of squares) ^ beta. */
enum {
    SPM_NORM_SCALE, SPM_NORM_LAYER, SPM_NORM_RMS, SPM_NORM_L1, SPM_NORM_L2, SPM_NORM_LRN
};
typedef struct {
    spm_loop loop;
    spm_operand in, origin;
    uint8_t mode;
    int32_t group, rank, extent[SPM_RANK];
    int64_t stride[SPM_RANK];
    double epsilon, alpha, beta, offset;
    const spm_constant *scale, *shift;
    spm_activation act;
} spm_normalize_op;

/* A piece of a concatenation: operand `input`, or a constant where that is -1. */
typedef struct {
    spm_map map;
    int32_t input;
    int32_t begin, end; /* along the joined axis */
    int32_t offset; /* of a constant: bytes into the packed constants, rows as they are */
    const uint8_t *table;
} spm_piece;
typedef struct {
    spm_loop loop;
    int32_t axis, pieces;
    const spm_piece *piece;
} spm_concat_op;

/* Data movement, axis by axis: output index i reads index table[i], or i itself where there is no
 * table, times `stride`; indices outside [low, high), and negative ones of a table, give `fill`. */
typedef struct {
    int32_t low, high;
    int64_t stride;
    const int32_t *table;
} spm_axis;
typedef struct {
    spm_loop loop;
    spm_operand in;
    spm_axis axis[SPM_RANK];
    double fill;
    const uint8_t *table;
} spm_move_op;

/* Interpolation: `taps` source indices and weights of every output index of an axis. */
typedef struct {
    int32_t taps;
    const int32_t *source;
    const double *weight;
    int64_t stride;
} spm_taps;
typedef struct {
    spm_loop loop;
    spm_map in;
    spm_taps axis[SPM_RANK];
} spm_resize_op;

/* out = before x indices x after. The indices are map `indices`, or a constant; the table is map
 * `source`, or the constants, whole or as rows that are fetched from DRAM. */
typedef struct {
    spm_loop loop;
    spm_map source, indices;
    int32_t table_input, indices_input; /* operands; -1 for constants */
    int32_t before, count, after, extent;
    int32_t table_offset, indices_offset;
    uint8_t fetched, index_dtype;
    const uint8_t *table;
} spm_gather_op;

#define SPM_KERNEL(name)                                                                      \
    void spm_##name(const spm_##name##_op *op, spm_window out, const spm_window *in,          \
                    spm_weights weights, spm_part part)

#define SPM_SLICE_KERNEL(name)                                                                \
    void spm_##name##_slice(const spm_##name##_op *op, spm_window out, const spm_window *in,  \
                            spm_weights weights, spm_part part, spm_slice slice)

SPM_KERNEL(conv);
SPM_SLICE_KERNEL(conv);
SPM_KERNEL(linear);
SPM_SLICE_KERNEL(linear);
SPM_KERNEL(matmul);
SPM_KERNEL(pool);
SPM_KERNEL(reduce);
SPM_KERNEL(unary);
SPM_KERNEL(binary);
SPM_KERNEL(softmax);
SPM_KERNEL(normalize);
SPM_KERNEL(concat);
SPM_KERNEL(move);
SPM_KERNEL(resize);
SPM_KERNEL(gather);

#endif
