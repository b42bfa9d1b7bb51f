/* mobile_block on mobile_npu: 4 layers in 1 steps.
 * Strategy fuse, objective latency: optimal.
 * Promised: 6656 cycles, 5248 bytes of DRAM traffic.
 *
 * A step is a group of layers that run tile by tile. Transfers are started as early as
 * their data and the queue allow; a wait names the last transfer that must have ended. */

#include "dma.h"
#include "layers.h"
#include "program.h"
#include "spm_kernels.h"

/* Buffers in the scratchpad, each for the steps [first, end). */
enum {
    SPM_BYTES = 4864,
    SPM_weights_expand_s0 = 3312, /* [0, 1): expand, 1 x 576 bytes */
    SPM_weights_depthwise_s0 = 2688, /* [0, 1): depthwise, 1 x 624 bytes */
    SPM_weights_project_s0 = 3888, /* [0, 1): project, 1 x 416 bytes */
    SPM_input_image_s0 = 4304, /* [0, 1): image, 3 x 112 bytes */
    SPM_output_add_s0 = 4640, /* [0, 1): add, 2 x 112 bytes */
    SPM_stripe_depthwise_s0 = 2016, /* [0, 1): depthwise, 1 x 672 bytes */
    SPM_stripe_expand_s0 = 0, /* [0, 1): expand, 3 x 672 bytes */
    SPM_stripe_project_s0 = 4640, /* [0, 1): project, 2 x 112 bytes, over SPM_output_add_s0 */
};

/* Tensors in DRAM, rows first. */
#define DRAM_weights_expand 0ull
#define DRAM_weights_depthwise 576ull
#define DRAM_weights_project 1216ull
#define DRAM_image 1664ull
#define DRAM_add 3264ull

static _Alignas(64) unsigned char spm[SPM_BYTES];

static dma_ticket loaded_image_s0[13];
static dma_ticket stored_add_s0[14];

/* Step 0: expand + depthwise + project + add; 14 tiles of rows, depth 2, halo: retain. */
static void load_image_s0(int32_t t) {
    const int32_t row0 = (t > 0 ? t + 1 : 0), row1 = t + 2;
    loaded_image_s0[t] = dma_start(DMA_LOAD,
        dma_line(DRAM_image + 112 * row0, 112 * (row1 - row0)),
        dma_rows(SPM_input_image_s0, 3, 112, row0, row1));
}
static void compute_expand_s0(int32_t t) {
    const int32_t row0 = (t > 0 ? t + 1 : 0), row1 = t + 2;
    dma_note("expand", 0, t, row0, row1, 5376 * (row1 - row0));
    const spm_window out = {spm + SPM_stripe_expand_s0, 3, 672, 0, 48};
    const spm_window in0 = {spm + SPM_input_image_s0, 3, 112, 0, 8};
    spm_conv(&layer_expand, out, (const spm_window[]){in0}, (spm_weights){spm +
        SPM_weights_expand_s0, 0, NULL}, (spm_part){row0, row1, 0, 48});
}
static void compute_depthwise_s0(int32_t t) {
    const int32_t row0 = t, row1 = t + 1;
    dma_note("depthwise", 0, t, row0, row1, 6048);
    const spm_window out = {spm + SPM_stripe_depthwise_s0, 1, 672, 0, 48};
    const spm_window in0 = {spm + SPM_stripe_expand_s0, 3, 672, 0, 48};
    spm_conv(&layer_depthwise, out, (const spm_window[]){in0}, (spm_weights){spm +
        SPM_weights_depthwise_s0, 0, NULL}, (spm_part){row0, row1, 0, 48});
}
static void compute_project_s0(int32_t t) {
    const int32_t row0 = t, row1 = t + 1;
    dma_note("project", 0, t, row0, row1, 5376);
    const spm_window out = {spm + SPM_stripe_project_s0, 2, 112, 0, 8};
    const spm_window in0 = {spm + SPM_stripe_depthwise_s0, 1, 672, 0, 48};
    spm_conv(&layer_project, out, (const spm_window[]){in0}, (spm_weights){spm +
        SPM_weights_project_s0, 0, NULL}, (spm_part){row0, row1, 0, 8});
}
static void compute_add_s0(int32_t t) {
    const int32_t row0 = t, row1 = t + 1;
    dma_note("add", 0, t, row0, row1, 0);
    const spm_window out = {spm + SPM_output_add_s0, 2, 112, 0, 8};
    const spm_window in0 = {spm + SPM_stripe_project_s0, 2, 112, 0, 8};
    const spm_window in1 = {spm + SPM_input_image_s0, 3, 112, 0, 8};
    spm_binary(&layer_add, out, (const spm_window[]){in0, in1}, (spm_weights){NULL, 0,
        NULL}, (spm_part){row0, row1, 0, 8});
}
static void store_add_s0(int32_t t) {
    const int32_t row0 = t, row1 = t + 1;
    stored_add_s0[t] = dma_start(DMA_STORE,
        dma_line(DRAM_add + 112 * row0, 112),
        dma_rows(SPM_output_add_s0, 2, 112, row0, row1));
}
static void step_0(void) {
    dma_start(DMA_LOAD,
        dma_line(DRAM_weights_expand, 576),
        dma_bytes(SPM_weights_expand_s0, 576));
    dma_start(DMA_LOAD,
        dma_line(DRAM_weights_depthwise, 624),
        dma_bytes(SPM_weights_depthwise_s0, 624));
    dma_start(DMA_LOAD,
        dma_line(DRAM_weights_project, 416),
        dma_bytes(SPM_weights_project_s0, 416));
    load_image_s0(0);
    load_image_s0(1);
    for (int32_t t = 0; t < 14; t++) {
        if (t < 13) {
            dma_wait(loaded_image_s0[t]);
        }
        if (t == 13) {
            dma_wait(stored_add_s0[t - 2]);
        }
        if (t < 13) {
            compute_expand_s0(t);
        }
        compute_depthwise_s0(t);
        compute_project_s0(t);
        compute_add_s0(t);
        store_add_s0(t);
        if (t < 11) {
            load_image_s0(t + 2);
        }
    }
}

static void run(const unsigned char *memory) {
    (void)memory;
    step_0();
}

static const program_map inputs[] = {
    {"image", "int8", 1664u, 1, 8, 14, 14, 1, 0},
};
static const program_map outputs[] = {
    {"add", "int8", 3264u, 1, 8, 14, 14, 1, 0},
};
static const program_constants constants[] = {
    {0u, 1200u},
    {1216u, 416u},
};
const program network = {
    spm, SPM_BYTES, 4864u, 64u,
    {0, 0, 65536u},
    1, 1, 2,
    inputs, outputs, constants, run,
};
