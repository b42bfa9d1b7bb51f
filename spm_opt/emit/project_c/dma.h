/* The DMA engine: one queue of transfers between DRAM and scratchpad, carried out in order.
 *
 * For a real accelerator, replace dma_start and dma_wait (PORTING.md says how). Here transfers are
 * copies that count bytes. With SPM_CHECK they are carried out as late as the program's waits
 * allow, or, where the environment has SPM_DMA=early, as soon as they are started: a missing wait
 * shows in one of the two; and scratchpad bytes that nobody owns hold rubbish.
 * With SPM_TRACE every command is printed as it is started or awaited. */
#ifndef DMA_H
#define DMA_H

#include <stddef.h>
#include <stdint.h>

/* Number of a transfer in the queue, from 1 on; 0 stands for one that has ended. */
typedef uint32_t dma_ticket;

typedef enum { DMA_LOAD, DMA_STORE } dma_direction;

/* How DRAM holds the feature maps that are compressed: each run by itself, in words of pairs (rlc.h)
 * where there are run_bits, else as a share of its bytes in 65,536 parts. What would grow is raw. */
typedef struct {
    int32_t run_bits, word_bits;
    uint32_t share;
} dma_code;

/* Bytes of DRAM: `runs` runs of `run_bytes`, `step` apart, the first at `address`. Where they are
 * compressed, `element_bytes` is not 0. */
typedef struct {
    uint64_t address;
    int64_t run_bytes, step, runs;
    int32_t element_bytes;
} dma_dram;

/* Bytes of scratchpad, for rows [row0, row1): row r begins at base + r % held * pitch; of each,
 * `runs` runs of `run_bytes`, `step` apart, the first `first` bytes into the row. */
typedef struct {
    int64_t base;
    int32_t held;
    int64_t pitch;
    int32_t row0, row1;
    int64_t first, run_bytes, step, runs;
} dma_spm;

/* Put a transfer at the end of the queue. Both sides have equally many bytes, in equal order. */
dma_ticket dma_start(dma_direction direction, dma_dram dram, dma_spm spm);

/* Return when this transfer has ended, and so all before it. */
void dma_wait(dma_ticket ticket);

/* One run of DRAM; one of scratchpad; whole rows of scratchpad. */
static inline dma_dram dma_line(uint64_t address, int64_t bytes) {
    return (dma_dram){address, bytes, bytes, 1, 0};
}
static inline dma_dram dma_packed(dma_dram dram, int32_t element_bytes) {
    dram.element_bytes = element_bytes;
    return dram;
}
static inline dma_spm dma_bytes(int64_t base, int64_t bytes) {
    return (dma_spm){base, 1, bytes, 0, 1, 0, bytes, bytes, 1};
}
static inline dma_spm dma_rows(int64_t base, int32_t held, int64_t pitch, int32_t row0,
                               int32_t row1) {
    return (dma_spm){base, held, pitch, row0, row1, 0, pitch, pitch, 1};
}

/* What was moved: bytes that were asked for, and bytes over the pins, in whole bursts a run, of the
 * code where runs are compressed. */
typedef struct {
    uint64_t loaded, stored;
    uint64_t payload_loaded, payload_stored;
    uint64_t transfers, macs;
} dma_counts;

/* Give the engine its memories, empty its queue and its counts. */
void dma_open(unsigned char *spm, size_t spm_bytes, unsigned char *dram, uint64_t dram_bytes,
              uint32_t burst_bytes, dma_code code);
/* Wait for everything. */
dma_counts dma_close(void);

/* These bytes belong to nobody once the transfer has ended: rubbish with SPM_CHECK. */
void dma_release(dma_ticket ticket, int64_t base, int64_t bytes);

/* A tile of a layer is about to be computed, which takes so many multiply-accumulates. */
void dma_note(const char *layer, int32_t step, int32_t tile, int32_t row0, int32_t row1,
              uint64_t macs);

#endif
