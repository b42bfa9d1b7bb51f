/* What schedule.c says of itself: memories, constants, inputs and outputs, and how to run it. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "dma.h"

#include <stddef.h>
#include <stdint.h>

/* A feature map in DRAM. Its file has it in row-major order as [images][outer][rows][inner]
 * elements; DRAM has the rows of each image first: [images][rows][outer][inner]. */
typedef struct {
    const char *name, *dtype;
    uint64_t address;
    int64_t images, outer, rows, inner;
    int32_t element_bytes;
    int64_t below; /* drawn integers are in [0, below); 0: any of the type */
} program_map;

/* A range of weights.bin, and where it lies in DRAM. */
typedef struct {
    uint64_t address, bytes;
} program_constants;

typedef struct {
    unsigned char *spm;
    size_t spm_bytes;
    uint64_t dram_bytes;
    uint32_t burst_bytes;
    dma_code code;
    int32_t inputs, outputs, constants;
    const program_map *input, *output;
    const program_constants *constant;
    /* Compute the outputs; DRAM holds inputs and constants. */
    void (*run)(const unsigned char *dram);
} program;

extern const program network;

static inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

#endif
