/* Staging and accumulation: what convolutions and matrix products share.
 *
 * A block of SPM_BLOCK output pixels (columns) is computed at a time: for each of up to SPM_TAPS
 * taps the inputs that meet them are staged side by side, padding as zero; then every output
 * channel runs over the taps in their order. An element is the sum over its taps in their order,
 * wherever that is interrupted; of a product with a matrix, over chunks of SPM_CHUNK inputs in their
 * order, of sums of SPM_LANES interleaved parts. */
#ifndef SPM_MAC_H
#define SPM_MAC_H

#include "spm_access.h"

enum {
    SPM_BLOCK = 32, SPM_NARROW = 8, SPM_TAPS = 256, SPM_CHANNELS = 64, SPM_LANES = 16,
    SPM_SPAN = 1024, SPM_CHUNK = 64
};

/* Operand registers of the compute engine; one layer runs at a time. */
extern int16_t spm_staged_i[SPM_TAPS * SPM_BLOCK], spm_weights_i[SPM_SPAN];
extern float spm_staged_f[SPM_TAPS * SPM_BLOCK], spm_weights_f[SPM_SPAN];
extern int32_t spm_sums_i[SPM_CHANNELS][SPM_BLOCK];
extern float spm_sums_f[SPM_CHANNELS][SPM_BLOCK];

void spm_widen(const unsigned char *from, int64_t step, int32_t n, int is_signed, int32_t zero,
                  int16_t *to, int32_t to_step);
void spm_as_floats(uint8_t dtype, double scale, int32_t zero, const unsigned char *from,
                      int64_t step, int32_t n, float *to, int32_t to_step);
void spm_stage(const spm_map *m, const spm_window *w, int integer, int64_t first, int32_t step,
                  int32_t n, int64_t at, int32_t to_step);
void spm_clear_staged(int integer, int64_t at, int32_t n);
/* Which input channels are added, as taps; where their constants lie, and the sums so far. */
typedef struct {
    spm_weights weights;
    int32_t tap0, tap1;
    int32_t pitch;     /* bytes of constants from an output channel to the next */
    int first, last;   /* whether the sums begin, and whether they are complete then */
    spm_finish finish; /* as if the constants of a channel began with tap0 */
    spm_map map;       /* of the sums */
    spm_window sums;
} spm_span;

spm_span spm_all_taps(spm_weights weights, int32_t taps, const spm_kernel_weights *k,
                      const spm_finish *finish);
/* `each` taps belong to an input channel, of which there are `inputs`. */
spm_span spm_some_taps(spm_slice slice, spm_weights weights, int32_t each, int32_t inputs,
                       const spm_kernel_weights *k, const spm_finish *finish, const spm_map *out,
                       int integer);
static inline const unsigned char *spm_constants(const spm_span *span, int32_t channel) {
    return span->weights.base + (int64_t)(channel - span->weights.first) * span->pitch;
}

void spm_stage_weights(const spm_kernel_weights *k, const spm_span *span, int integer,
                          int32_t channel, int32_t begin, int32_t n, int32_t whole);
void spm_clear_sums(int integer, int32_t channels);
void spm_accumulate(int integer, int32_t width, int32_t taps, int32_t row);
void spm_finish_i(const spm_finish *f, const spm_map *out, const unsigned char *constants,
                     int32_t channel, const int32_t *sum, int32_t n, unsigned char *to);
void spm_finish_f(const spm_finish *f, const spm_map *out, const unsigned char *constants,
                     int32_t channel, const float *sum, int32_t n, unsigned char *to);

#endif
