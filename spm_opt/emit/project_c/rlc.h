/* Run-length code of feature maps in DRAM: a pair is a number of zeros to skip and the element
 * behind them; a word holds as many whole pairs as fit. Bits run from the lowest on. */
#ifndef RLC_H
#define RLC_H

#include <stdint.h>

typedef struct {
    int32_t run_bits, word_bits;
    int32_t element_bytes;
} rlc_code;

/* Bytes that the words of `count` elements take at most. */
int64_t rlc_room(rlc_code code, int64_t count);

/* Write the words of `count` elements; returns their bytes. */
int64_t rlc_encode(rlc_code code, const unsigned char *raw, int64_t count, unsigned char *words);

/* The inverse. */
void rlc_decode(rlc_code code, const unsigned char *words, int64_t count, unsigned char *raw);

#endif
