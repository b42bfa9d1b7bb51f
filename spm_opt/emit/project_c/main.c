/* Runs the network once on the host: reads inputs, computes, writes outputs, prints figures.
 *
 *     network [-w WEIGHTS] [-i FILE]... [-o DIRECTORY]
 *
 * Inputs in the order of manifest.json, one -i each, raw and row-major; drawn where there is none.
 * Outputs are written to DIRECTORY/output_0.bin and so on, likewise. */
#include "dma.h"
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    const char *weights, *output, **input;
    int32_t inputs;
} options;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "network: %s: %s\n", which, what);
    exit(1);
}

static void *room(uint64_t bytes) {
    void *found = calloc(1, (size_t)bytes + 1);
    if (found == NULL) fail("out of memory", "DRAM");
    return found;
}

static options parse(int argc, char **argv) {
    options found = {.weights = "weights.bin"};
    found.input = room((uint64_t)argc * sizeof *found.input);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) fail("a value is missing", argv[i]);
        if (strcmp(argv[i], "-w") == 0) found.weights = argv[i + 1];
        else if (strcmp(argv[i], "-o") == 0) found.output = argv[i + 1];
        else if (strcmp(argv[i], "-i") == 0) found.input[found.inputs++] = argv[i + 1];
        else fail("no such option", argv[i]);
    }
    if (found.inputs > 0 && found.inputs != network.inputs) fail("one for each input", "-i");
    return found;
}

static FILE *open_file(const char *name, const char *mode) {
    FILE *file = fopen(name, mode);
    if (file == NULL) fail("cannot be opened", name);
    return file;
}

static void read_all(FILE *file, const char *name, unsigned char *to, uint64_t bytes) {
    if (fread(to, 1, (size_t)bytes, file) != bytes) fail("is too short", name);
}

static void read_constants(const char *name, unsigned char *dram) {
    if (network.constants == 0) return;
    FILE *file = open_file(name, "rb");
    for (int32_t i = 0; i < network.constants; i++)
        read_all(file, name, dram + network.constant[i].address, network.constant[i].bytes);
    if (fgetc(file) != EOF) fail("is too long", name);
    fclose(file);
}

/* --- maps: row-major in files, rows first in DRAM ------------------------------------------- */

static uint64_t map_bytes(const program_map *map) {
    return (uint64_t)(map->images * map->outer * map->rows * map->inner)
           * (uint64_t)map->element_bytes;
}

/* Where DRAM has row r at index o of the axes before it, `o` counting those of all images. */
static uint64_t place_of(const program_map *map, int64_t o, int64_t r) {
    int64_t row = o / map->outer * map->rows + r;
    return map->address + (uint64_t)((row * map->outer + o % map->outer) * map->inner)
                              * (uint64_t)map->element_bytes;
}

static void to_dram(const program_map *map, unsigned char *dram, const unsigned char *from) {
    size_t run = (size_t)map->inner * (size_t)map->element_bytes;
    for (int64_t o = 0; o < map->images * map->outer; o++)
        for (int64_t r = 0; r < map->rows; r++, from += run)
            memcpy(dram + place_of(map, o, r), from, run);
}

static void from_dram(const program_map *map, const unsigned char *dram, unsigned char *to) {
    size_t run = (size_t)map->inner * (size_t)map->element_bytes;
    for (int64_t o = 0; o < map->images * map->outer; o++)
        for (int64_t r = 0; r < map->rows; r++, to += run)
            memcpy(to, dram + place_of(map, o, r), run);
}

/* Knuth's 64-bit linear congruence; its high bits are the good ones. */
static uint32_t drawn(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void draw(const program_map *map, uint64_t seed, unsigned char *to) {
    int64_t count = map->images * map->outer * map->rows * map->inner;
    int real = strncmp(map->dtype, "float", 5) == 0;
    for (int64_t i = 0; i < count; i++, to += map->element_bytes) {
        uint32_t bits = drawn(&seed);
        uint64_t whole = map->below > 0 ? bits % (uint64_t)map->below : bits;
        float value = (float)((double)bits / 1073741824.0 - 1.0);
        if (real) memcpy(to, &value, sizeof value);
        else for (int32_t k = 0; k < map->element_bytes; k++)
            to[k] = k < 8 ? (unsigned char)(whole >> (8 * k)) : 0;
    }
}

static void bring_inputs(const options *given, unsigned char *dram) {
    for (int32_t i = 0; i < network.inputs; i++) {
        const program_map *map = &network.input[i];
        unsigned char *content = room(map_bytes(map));
        if (given->inputs > 0) {
            FILE *file = open_file(given->input[i], "rb");
            read_all(file, given->input[i], content, map_bytes(map));
            if (fgetc(file) != EOF) fail("is too long", given->input[i]);
            fclose(file);
        } else {
            draw(map, (uint64_t)i + 1, content);
        }
        to_dram(map, dram, content);
        free(content);
    }
}

static void take_outputs(const char *folder, const unsigned char *dram) {
    for (int32_t i = 0; folder != NULL && i < network.outputs; i++) {
        const program_map *map = &network.output[i];
        char *name = room(strlen(folder) + 32);
        sprintf(name, "%s/output_%d.bin", folder, (int)i);
        unsigned char *content = room(map_bytes(map));
        from_dram(map, dram, content);
        FILE *file = open_file(name, "wb");
        size_t written = fwrite(content, 1, (size_t)map_bytes(map), file);
        if (fclose(file) != 0 || written != map_bytes(map)) fail("cannot be written", name);
        free(content);
        free(name);
    }
}

static double seconds_between(struct timespec begin, struct timespec end) {
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

int main(int argc, char **argv) {
    options given = parse(argc, argv);
    unsigned char *dram = room(network.dram_bytes);
    struct timespec begin, end;
    read_constants(given.weights, dram);
    bring_inputs(&given, dram);
    dma_open(network.spm, network.spm_bytes, dram, network.dram_bytes, network.burst_bytes,
             network.code);
    timespec_get(&begin, TIME_UTC);
    network.run(dram);
    dma_counts counts = dma_close();
    timespec_get(&end, TIME_UTC);
    take_outputs(given.output, dram);
    printf("{\"bytes_loaded\": %llu, \"bytes_stored\": %llu, \"payload_loaded\": %llu, "
           "\"payload_stored\": %llu, \"transfers\": %llu, \"macs\": %llu, \"seconds\": %.6f}\n",
           (unsigned long long)counts.loaded, (unsigned long long)counts.stored,
           (unsigned long long)counts.payload_loaded, (unsigned long long)counts.payload_stored,
           (unsigned long long)counts.transfers, (unsigned long long)counts.macs,
           seconds_between(begin, end));
    free(dram);
    free(given.input);
    return 0;
}
