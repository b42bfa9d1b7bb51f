#include "dma.h"
#include "rlc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    unsigned char *spm, *dram;
    uint64_t spm_bytes, dram_bytes;
    int64_t burst;
    dma_code code;
    unsigned char *words, *again;
    size_t words_room, again_room;
    dma_ticket started, ended;
    dma_counts counts;
} engine;

static void fail(const char *what) {
    fprintf(stderr, "transfer %lu: %s\n", (unsigned long)engine.started, what);
    exit(3);
}

/* --- copies ------------------------------------------------------------------------------- */

static unsigned char *scratchpad(int64_t from, int64_t bytes) {
    if (from < 0 || (uint64_t)from + (uint64_t)bytes > engine.spm_bytes) fail("outside scratchpad");
    return engine.spm + from;
}

static unsigned char *memory(uint64_t from, int64_t bytes) {
    if (from + (uint64_t)bytes > engine.dram_bytes) fail("outside DRAM");
    return engine.dram + from;
}

/* Both sides are runs of bytes; runs of one need not be those of the other. */
static void carry_out(dma_direction direction, dma_dram dram, dma_spm spm) {
    int64_t run = 0, at = 0;
    for (int32_t r = spm.row0; r < spm.row1; r++) {
        int64_t row = spm.base + r % spm.held * spm.pitch + spm.first;
        for (int64_t k = 0; k < spm.runs; k++) {
            for (int64_t done = 0, bytes; done < spm.run_bytes; done += bytes) {
                bytes = spm.run_bytes - done;
                if (bytes > dram.run_bytes - at) bytes = dram.run_bytes - at;
                if (run >= dram.runs || bytes <= 0) fail("its sides differ in length");
                unsigned char *here = scratchpad(row + k * spm.step + done, bytes);
                unsigned char *there = memory(dram.address + (uint64_t)(run * dram.step + at),
                                              bytes);
                if (direction == DMA_LOAD) memcpy(here, there, (size_t)bytes);
                else memcpy(there, here, (size_t)bytes);
                at += bytes;
                if (at == dram.run_bytes) run++, at = 0;
            }
        }
    }
    if (run != dram.runs) fail("its sides differ in length");
}

static void *room_for(void *list, size_t *room, size_t count, size_t size) {
    if (count < *room) return list;
    *room = 2 * count + 16;
    list = realloc(list, *room * size);
    if (list == NULL) fail("out of memory");
    return list;
}

/* Bytes of a run in words; the host's DRAM has it raw, so that any part of it can be moved. */
static int64_t coded_bytes(const unsigned char *run, int64_t bytes, int32_t element_bytes) {
    rlc_code code = {engine.code.run_bits, engine.code.word_bits, element_bytes};
    int64_t elements = bytes / element_bytes;
    engine.words = room_for(engine.words, &engine.words_room, (size_t)rlc_room(code, elements), 1);
    int64_t coded = rlc_encode(code, run, elements, engine.words);
#ifdef SPM_CHECK
    engine.again = room_for(engine.again, &engine.again_room, (size_t)bytes, 1);
    rlc_decode(code, engine.words, elements, engine.again);
    if (memcmp(run, engine.again, (size_t)bytes) != 0) fail("is not what its code says");
#endif
    return coded < bytes ? coded : bytes;
}

/* Bytes of one run as it crosses the pins, without the rest of its last burst. */
static int64_t packed_bytes(dma_dram dram, int64_t run) {
    if (dram.element_bytes == 0) return dram.run_bytes;
    if (engine.code.run_bits == 0) return (dram.run_bytes * engine.code.share + 65535) / 65536;
    uint64_t address = dram.address + (uint64_t)(run * dram.step);
    return coded_bytes(memory(address, dram.run_bytes), dram.run_bytes, dram.element_bytes);
}

static void count(dma_direction direction, dma_dram dram) {
    uint64_t payload = (uint64_t)(dram.run_bytes * dram.runs), moved = 0;
    for (int64_t run = 0; run < dram.runs; run++) {
        int64_t bursts = (packed_bytes(dram, run) + engine.burst - 1) / engine.burst;
        moved += (uint64_t)(bursts * engine.burst);
    }
    if (direction == DMA_LOAD) {
        engine.counts.loaded += moved;
        engine.counts.payload_loaded += payload;
    } else {
        engine.counts.stored += moved;
        engine.counts.payload_stored += payload;
    }
    engine.counts.transfers++;
}

static void transfer_now(dma_direction direction, dma_dram dram, dma_spm spm) {
    carry_out(direction, dram, spm);
    count(direction, dram);
}

/* --- the queue, where transfers do not happen at once --------------------------------------- */

#ifdef SPM_CHECK
enum { RUBBISH = 0xA5 };

typedef struct {
    dma_direction direction;
    dma_dram dram;
    dma_spm spm;
} transfer;
typedef struct {
    dma_ticket ticket;
    int64_t base, bytes;
} release;

static struct {
    int early;
    transfer *waiting;
    release *leaving;
    size_t waiting_room, leaving_room, leaving_count;
} check;

static void spoil(int64_t base, int64_t bytes) {
    memset(scratchpad(base, bytes), RUBBISH, (size_t)bytes);
}

static void spoil_what_left(void) {
    size_t kept = 0;
    for (size_t i = 0; i < check.leaving_count; i++) {
        release one = check.leaving[i];
        if (one.ticket <= engine.ended) spoil(one.base, one.bytes);
        else check.leaving[kept++] = one;
    }
    check.leaving_count = kept;
}

/* `waiting` holds the transfers after `ended`, oldest first. */
static void advance(dma_ticket ticket) {
    size_t done = 0;
    while (engine.ended < ticket && engine.ended < engine.started) {
        transfer *next = &check.waiting[done++];
        transfer_now(next->direction, next->dram, next->spm);
        engine.ended++;
        spoil_what_left();
    }
    if (done > 0)
        memmove(check.waiting, check.waiting + done,
                (engine.started - engine.ended) * sizeof *check.waiting);
}

static void put(dma_direction direction, dma_dram dram, dma_spm spm) {
    size_t count = engine.started - engine.ended;
    check.waiting = room_for(check.waiting, &check.waiting_room, count, sizeof *check.waiting);
    check.waiting[count] = (transfer){direction, dram, spm};
    engine.started++;
    if (check.early) advance(engine.started);
}

void dma_release(dma_ticket ticket, int64_t base, int64_t bytes) {
    check.leaving = room_for(check.leaving, &check.leaving_room, check.leaving_count,
                             sizeof *check.leaving);
    check.leaving[check.leaving_count++] = (release){ticket, base, bytes};
    spoil_what_left();
}

static void open_check(void) {
    const char *mode = getenv("SPM_DMA");
    check.early = mode != NULL && strcmp(mode, "early") == 0;
    check.leaving_count = 0;
    memset(engine.spm, RUBBISH, engine.spm_bytes);
}

static void close_check(void) {
    free(check.waiting);
    free(check.leaving);
    check.waiting = NULL;
    check.leaving = NULL;
    check.waiting_room = check.leaving_room = 0;
}
#else
static void advance(dma_ticket ticket) { (void)ticket; }
static void put(dma_direction direction, dma_dram dram, dma_spm spm) {
    engine.started++;
    transfer_now(direction, dram, spm);
}
void dma_release(dma_ticket ticket, int64_t base, int64_t bytes) {
    (void)ticket, (void)base, (void)bytes;
}
static void open_check(void) {}
static void close_check(void) {}
#endif

/* --- what the program calls ----------------------------------------------------------------- */

dma_ticket dma_start(dma_direction direction, dma_dram dram, dma_spm spm) {
#ifdef SPM_TRACE
    printf("%s %lu dram %lu spm %ld rows %d %d bytes %ld runs %ld\n",
           direction == DMA_LOAD ? "load" : "store", (unsigned long)engine.started + 1,
           (unsigned long)dram.address, (long)spm.base, (int)spm.row0, (int)spm.row1,
           (long)dram.run_bytes, (long)dram.runs);
#endif
    put(direction, dram, spm);
    return engine.started;
}

void dma_wait(dma_ticket ticket) {
#ifdef SPM_TRACE
    printf("wait %lu\n", (unsigned long)ticket);
#endif
    advance(ticket);
}

void dma_note(const char *layer, int32_t step, int32_t tile, int32_t row0, int32_t row1,
              uint64_t macs) {
#ifdef SPM_TRACE
    printf("compute %d %d rows %d %d %s\n", (int)step, (int)tile, (int)row0, (int)row1, layer);
#else
    (void)layer, (void)step, (void)tile, (void)row0, (void)row1;
#endif
    engine.counts.macs += macs;
}

void dma_open(unsigned char *spm, size_t spm_bytes, unsigned char *dram, uint64_t dram_bytes,
              uint32_t burst_bytes, dma_code code) {
    engine.spm = spm;
    engine.spm_bytes = spm_bytes;
    engine.dram = dram;
    engine.dram_bytes = dram_bytes;
    engine.burst = burst_bytes;
    engine.code = code;
    engine.started = engine.ended = 0;
    engine.counts = (dma_counts){0};
    open_check();
}

dma_counts dma_close(void) {
    advance(engine.started);
    close_check();
    free(engine.words);
    free(engine.again);
    engine.words = engine.again = NULL;
    engine.words_room = engine.again_room = 0;
    return engine.counts;
}
