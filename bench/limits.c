/* What one core does with a file when no ring, no other process and no device is in the way.
 *
 *     limits MODE BLOCK ORDER FILE SECONDS      prints operations per second
 *
 * MODE: pread, pwrite, copy (from a mapping), ahead (the same, fetching the next block's start early).
 * ORDER: random or sequential. The other end of each copy is one of 32 buffers in turn, as with a ring of
 * that depth.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum { BUFFERS = 32, BETWEEN_CLOCKS = 64 };
enum mode { PREAD, PWRITE, COPY, AHEAD, MODES };
static const char *const mode_names[MODES] = {"pread", "pwrite", "copy", "ahead"};

struct run {
    enum mode mode;
    int fd;
    size_t block;
    uint64_t blocks;
    int random;
    uint64_t state;
    uint64_t next;
    const char *mapping;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint64_t choose(struct run *run) {
    uint64_t value;
    if (!run->random) {
        value = run->next;
        run->next = value + 1 < run->blocks ? value + 1 : 0;
        return value * run->block;
    }
    value = run->state += 0x9E3779B97F4A7C15u;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return (((value ^ (value >> 31)) >> 32) * run->blocks >> 32) * run->block;
}

static void fetch(const struct run *run, uint64_t offset) {
    const char *from = run->mapping + offset;
    int line;
    for (line = 0; line < 8; line++)
        __builtin_prefetch(from + 64 * line);
}

static void operate(const struct run *run, uint64_t offset, char *buffer) {
    ssize_t done = (ssize_t)run->block;
    if (run->mode == PREAD)
        done = pread(run->fd, buffer, run->block, (off_t)offset);
    else if (run->mode == PWRITE)
        done = pwrite(run->fd, buffer, run->block, (off_t)offset);
    else
        memcpy(buffer, run->mapping + offset, run->block);
    if (done != (ssize_t)run->block)
        die(mode_names[run->mode]);
}

static double measure(struct run *run, char *buffers, double seconds) {
    double begin = now(), end = begin;
    uint64_t count = 0, offset = choose(run), following;
    int i;
    while (end - begin < seconds) {
        for (i = 0; i < BETWEEN_CLOCKS; i++, count++) {
            following = choose(run);
            if (run->mode == AHEAD)
                fetch(run, following);
            operate(run, offset, buffers + run->block * (count % BUFFERS));
            offset = following;
        }
        end = now();
    }
    return (double)count / (end - begin);
}

static enum mode mode_named(const char *name) {
    int mode;
    for (mode = 0; mode < MODES; mode++)
        if (strcmp(name, mode_names[mode]) == 0)
            return (enum mode)mode;
    fprintf(stderr, "no such mode: %s\n", name);
    exit(2);
}

static void map(struct run *run, size_t size) {
    void *mapping = mmap(NULL, size, PROT_READ, MAP_SHARED, run->fd, 0);
    if (mapping == MAP_FAILED)
        die("mmap");
    madvise(mapping, size, MADV_POPULATE_READ);
    run->mapping = mapping;
}

int main(int count, char **arguments) {
    struct run run = {.state = 1};
    char *buffers;
    off_t size;
    if (count != 6) {
        fprintf(stderr, "usage: limits MODE BLOCK ORDER FILE SECONDS\n");
        return 2;
    }
    run.mode = mode_named(arguments[1]);
    run.block = strtoul(arguments[2], NULL, 10);
    run.random = strcmp(arguments[3], "random") == 0;
    run.fd = open(arguments[4], run.mode == PWRITE ? O_RDWR : O_RDONLY);
    if (run.fd < 0 || (size = lseek(run.fd, 0, SEEK_END)) < 0)
        die(arguments[4]);
    if (run.block == 0 || (run.blocks = (uint64_t)size / run.block) == 0) {
        fprintf(stderr, "%s has no block of %zu bytes\n", arguments[4], run.block);
        return 2;
    }
    if (posix_memalign((void **)&buffers, 4096, run.block * BUFFERS) != 0)
        die("memory");
    memset(buffers, 1, run.block * BUFFERS);
    if (run.mode >= COPY)
        map(&run, (size_t)size);
    measure(&run, buffers, strtod(arguments[5], NULL) / 10);
    printf("%.0f\n", measure(&run, buffers, strtod(arguments[5], NULL)));
    return 0;
}
