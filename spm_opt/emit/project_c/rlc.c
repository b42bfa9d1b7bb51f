#include "rlc.h"

#include <string.h>

static int64_t pairs_of_word(rlc_code code) {
    return code.word_bits / (code.run_bits + 8 * code.element_bytes);
}

static int64_t bytes_of(rlc_code code, int64_t pairs) {
    int64_t held = pairs_of_word(code), words = (pairs + held - 1) / held;
    return (words * code.word_bits + 7) / 8;
}

/* First bit of a pair. */
static int64_t place_of(rlc_code code, int64_t pair) {
    int64_t held = pairs_of_word(code);
    return pair / held * code.word_bits + pair % held * (code.run_bits + 8 * code.element_bytes);
}

static void put(unsigned char *words, int64_t bit, uint32_t value, int32_t bits) {
    for (int32_t i = 0; i < bits; i++, bit++)
        if (value >> i & 1) words[bit / 8] |= (unsigned char)(1u << bit % 8);
}

static uint32_t get(const unsigned char *words, int64_t bit, int32_t bits) {
    uint32_t value = 0;
    for (int32_t i = 0; i < bits; i++, bit++)
        value |= (uint32_t)(words[bit / 8] >> bit % 8 & 1) << i;
    return value;
}

static int is_zero(const unsigned char *element, int32_t bytes) {
    for (int32_t i = 0; i < bytes; i++)
        if (element[i] != 0) return 0;
    return 1;
}

int64_t rlc_room(rlc_code code, int64_t count) { return bytes_of(code, count); }

int64_t rlc_encode(rlc_code code, const unsigned char *raw, int64_t count, unsigned char *words) {
    int64_t pairs = 0, longest = ((int64_t)1 << code.run_bits) - 1;
    memset(words, 0, (size_t)rlc_room(code, count));
    for (int64_t at = 0; at < count; at++, pairs++) {
        int64_t zeros = 0;
        /* the last element ends a pair whether it is zero or not */
        while (zeros < longest && at + 1 < count
               && is_zero(raw + at * code.element_bytes, code.element_bytes))
            zeros++, at++;
        int64_t bit = place_of(code, pairs);
        put(words, bit, (uint32_t)zeros, code.run_bits);
        for (int32_t i = 0; i < code.element_bytes; i++)
            put(words, bit + code.run_bits + 8 * i, raw[at * code.element_bytes + i], 8);
    }
    return bytes_of(code, pairs);
}

void rlc_decode(rlc_code code, const unsigned char *words, int64_t count, unsigned char *raw) {
    memset(raw, 0, (size_t)(count * code.element_bytes));
    for (int64_t at = 0, pairs = 0; at < count; at++, pairs++) {
        int64_t bit = place_of(code, pairs);
        at += get(words, bit, code.run_bits);
        for (int32_t i = 0; at < count && i < code.element_bytes; i++)
            raw[at * code.element_bytes + i] =
                (unsigned char)get(words, bit + code.run_bits + 8 * i, 8);
    }
}
