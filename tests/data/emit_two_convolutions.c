/* two_convolutions on mobile_npu: 2 layers in 1 steps.
 * Strategy fuse, objective latency: feasible.
 * Promised: 2672 cycles, 1664 bytes of DRAM traffic.
 *
 * A step is a group of layers that run tile by tile. Transfers are started as early as
 * their data and the queue allow; a wait names the last transfer that must have ended. */

#include "dma.h"
#include "layers.h"
#include "program.h"
#include "spm_kernels.h"

/* Buffers in the scratchpad, each for the steps [first, end). */
enum {
    SPM_BYTES = 1328,
    SPM_weights_first_s0 = 384, /* [0, 1): first, 1 x 320 bytes */
    SPM_weights_second_s0 = 704, /* [0, 1): second, 1 x 304 bytes */
    SPM_input_image_s0 = 1008, /* [0, 1): image, 6 x 32 bytes */
    SPM_output_second_s0 = 1200, /* [0, 1): second, 4 x 32 bytes */
    SPM_stripe_first_s0 = 0, /* [0, 1): first, 6 x 64 bytes */
};

/* Tensors in DRAM, rows first. */
#define DRAM_weights_first 0ull
#define DRAM_weights_second 320ull
#define DRAM_image 640ull
#define DRAM_second 1152ull

static _Alignas(64) unsigned char spm[SPM_BYTES];

static dma_ticket loaded_image_s0[4];
static dma_ticket loaded_weights_second_s0;

/* Step 0: first + second; 4 tiles of rows, depth 1, halo: retain. */
static void load_image_s0(int32_t t) {
    const int32_t row0 = (t > 0 ? 4 * t + 2 : 0), row1 = least(4 * t + 6, 16);
    loaded_image_s0[t] = dma_start(DMA_LOAD,
        dma_line(DRAM_image + 32 * row0, 32 * (row1 - row0)),
        dma_rows(SPM_input_image_s0, 6, 32, row0, row1));
}
static void compute_first_s0(int32_t t) {
    const int32_t row0 = (t > 0 ? 4 * t + 1 : 0), row1 = least(4 * t + 5, 16);
    dma_note("first", 0, t, row0, row1, 2304 * (row1 - row0));
    const spm_window out = {spm + SPM_stripe_first_s0, 6, 64, 0, 8};
    const spm_window in0 = {spm + SPM_input_image_s0, 6, 32, 0, 1};
    spm_conv(&layer_first, out, (const spm_window[]){in0}, (spm_weights){spm +
        SPM_weights_first_s0, 0, NULL}, (spm_part){row0, row1, 0, 8});
}
static void compute_second_s0(int32_t t) {
    const int32_t row0 = 4 * t, row1 = 4 * t + 4;
    dma_note("second", 0, t, row0, row1, 9216);
    const spm_window out = {spm + SPM_output_second_s0, 4, 32, 0, 4};
    const spm_window in0 = {spm + SPM_stripe_first_s0, 6, 64, 0, 8};
    spm_conv(&layer_second, out, (const spm_window[]){in0}, (spm_weights){spm +
        SPM_weights_second_s0, 0, NULL}, (spm_part){row0, row1, 0, 4});
}
static void store_second_s0(int32_t t) {
    const int32_t row0 = 4 * t, row1 = 4 * t + 4;
    dma_start(DMA_STORE,
        dma_line(DRAM_second + 32 * row0, 128),
        dma_rows(SPM_output_second_s0, 4, 32, row0, row1));
}
static void step_0(void) {
    dma_start(DMA_LOAD,
        dma_line(DRAM_weights_first, 320),
        dma_bytes(SPM_weights_first_s0, 320));
    load_image_s0(0);
    loaded_weights_second_s0 = dma_start(DMA_LOAD,
        dma_line(DRAM_weights_second, 304),
        dma_bytes(SPM_weights_second_s0, 304));
    for (int32_t t = 0; t < 4; t++) {
        dma_wait(loaded_image_s0[t]);
        compute_first_s0(t);
        if (t == 0) {
            dma_wait(loaded_weights_second_s0);
        }
        compute_second_s0(t);
        store_second_s0(t);
        if (t < 3) {
            load_image_s0(t + 1);
        }
    }
}

static void run(const unsigned char *memory) {
    (void)memory;
    step_0();
}

static const program_map inputs[] = {
    {"image", "int8", 640u, 1, 4, 16, 8, 1, 0},
};
static const program_map outputs[] = {
    {"second", "int8", 1152u, 1, 4, 16, 8, 1, 0},
};
static const program_constants constants[] = {
    {0u, 624u},
};
const program network = {
    spm, SPM_BYTES, 1664u, 64u,
    {0, 0, 65536u},
    1, 1, 1,
    inputs, outputs, constants, run,
};
