/* What the machine charges for the steps that every request pays, in nanoseconds each, one a line.
 *
 *     primitives CORE OTHER_CORE [ROUNDS]
 *
 * The two that need company, a cache line's way and a wake-up's, are half of a round trip between the cores;
 * with one core to choose from they are left out.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64 };

struct pair {
    int core;
    long rounds;
    _Alignas(LINE) int ping;
    _Alignas(LINE) int pong;
    int to, from;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void stay_on(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    must(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static void say(const char *name, double begin, long times) {
    printf("%s\t%.1f\n", name, (now() - begin) / (double)times);
    fflush(stdout);
}

static void *bounce(void *argument) {
    struct pair *pair = argument;
    int round;
    stay_on(pair->core);
    for (round = 1; round <= pair->rounds; round++) {
        while (__atomic_load_n(&pair->ping, __ATOMIC_ACQUIRE) != round)
            ;
        __atomic_store_n(&pair->pong, round, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void cache_line(int other, long rounds) {
    struct pair pair = {.core = other, .rounds = rounds};
    pthread_t thread;
    double begin;
    int round;
    must(pthread_create(&thread, NULL, bounce, &pair) == 0, "pthread_create");
    begin = now();
    for (round = 1; round <= rounds; round++) {
        __atomic_store_n(&pair.ping, round, __ATOMIC_RELEASE);
        while (__atomic_load_n(&pair.pong, __ATOMIC_ACQUIRE) != round)
            ;
    }
    say("a cache line to the other core", begin, 2 * rounds);
    pthread_join(thread, NULL);
}

static void take(int fd) {
    uint64_t count;
    must(read(fd, &count, sizeof count) == sizeof count, "read");
}

static void give(int fd) {
    uint64_t one = 1;
    must(write(fd, &one, sizeof one) == sizeof one, "write");
}

static void *answer(void *argument) {
    struct pair *pair = argument;
    long round;
    stay_on(pair->core);
    for (round = 0; round < pair->rounds; round++) {
        take(pair->to);
        give(pair->from);
    }
    return NULL;
}

static void wake_up(int other, long rounds) {
    struct pair pair = {.core = other, .rounds = rounds, .to = eventfd(0, 0), .from = eventfd(0, 0)};
    pthread_t thread;
    double begin;
    long round;
    must(pthread_create(&thread, NULL, answer, &pair) == 0, "pthread_create");
    begin = now();
    for (round = 0; round < rounds; round++) {
        give(pair.to);
        take(pair.from);
    }
    say("a wake-up through an eventfd", begin, 2 * rounds);
    pthread_join(thread, NULL);
}

static void alone(long rounds) {
    static char from[4096], to[4096];
    static int counter;
    int fd = eventfd(0, EFD_NONBLOCK);
    long round;
    double begin = now();
    for (round = 0; round < rounds; round++)
        __atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
    say("an atomic addition", begin, rounds);
    begin = now();
    for (round = 0; round < rounds; round++)
        now();
    say("reading the clock", begin, rounds);
    begin = now();
    for (round = 0; round < rounds; round++)
        syscall(SYS_getppid);
    say("entering the kernel and leaving it", begin, rounds);
    begin = now();
    for (round = 0; round < rounds; round++)
        give(fd);
    say("signalling an eventfd that nobody waits for", begin, rounds);
    begin = now();
    for (round = 0; round < rounds; round++) {
        memcpy(to, from, sizeof to);
        __asm__ volatile("" : : "r"(to), "r"(from) : "memory");
    }
    say("copying 4 KiB within the cache", begin, rounds);
}

int main(int count, char **arguments) {
    long rounds = count > 3 ? atol(arguments[3]) : 1000000;
    int core, other;
    if (count < 3 || rounds < 100) {
        fprintf(stderr, "usage: primitives CORE OTHER_CORE [ROUNDS, at least 100]\n");
        return 2;
    }
    core = atoi(arguments[1]);
    other = atoi(arguments[2]);
    stay_on(core);
    alone(rounds);
    if (core != other) {
        cache_line(other, rounds / 10);
        wake_up(other, rounds / 20);
    }
    return 0;
}
