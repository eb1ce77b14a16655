/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests share: worker processes that do memory operations on request, so that a test reads as a list of steps in several
 * processes, and checks that are counted.
 */
#ifndef HARNESS_H
#define HARNESS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NR_process_vm_mmap     490
#define PVMMAP_FIXED           0x1UL
#define PVMMAP_FIXED_NOREPLACE 0x2UL
#define PVMMAP_MOVE            0x100UL
#define PVMMAP_LAZY            0x200UL
#define PVMMAP_POPULATE        0x400UL

#define PAGE     4096UL
#define HUGEPAGE (2UL << 20)
/* Addresses that nothing else of a process takes. */
#define PLACE    0x500000000000UL

/* ---- checks ---- */
struct test {
    const char *name;
    void (*run)(void);
};
extern const struct test contract_tests[], memory_tests[], race_tests[], failure_tests[];

extern int checks, failures;
void check_failed(const char *file, int line, const char *what, long value);
/* The value is shown when the check fails: for a call that should succeed that is what it returned. */
#define CHECK(condition) do { checks++; if (!(condition)) check_failed(__FILE__, __LINE__, #condition, 0); } while (0)
#define EXPECT(expression, wanted) do { checks++; long got_ = (long)(expression), wanted_ = (long)(wanted); \
    if (got_ != wanted_) check_failed(__FILE__, __LINE__, #expression " == " #wanted, got_); } while (0)

/* ---- worker processes ---- */
struct worker {
    pid_t pid;
    int socket;
};
enum operation {
    OP_NOTHING, OP_MMAP, OP_MMAP_FILE, OP_FILL, OP_COUNT_WRONG, OP_PEEK, OP_POKE, OP_MADVISE, OP_MUNMAP, OP_MREMAP, OP_MPROTECT, OP_MLOCK,
    OP_PAGEMAP, OP_SMAPS, OP_CALL, OP_FORK_AND_CHECK, OP_SETUID, OP_RLIMIT, OP_PIN, OP_UFFD, OP_NAME, OP_SECRETMEM, OP_MAPS_HASH, OP_MAP_COUNT,
    OP_START_HAMMER, OP_STOP_HAMMER, OP_START_COUNTERS, OP_STOP_COUNTERS, OP_START_FORKS, OP_STOP_FORKS, OP_START_PINS, OP_STOP_PINS, OP_EXIT,
};
/* -errno if the operation fails. */
long ask(struct worker worker, enum operation operation, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
struct worker start_worker(void);
/* A worker that may not have reached main() yet. */
struct worker start_worker_unready(void);
void end_worker(struct worker worker);
void serve(int socket) __attribute__((noreturn));

/* Private anonymous memory of a worker. */
long map(struct worker worker, uint64_t address, uint64_t length);
/* Duplicates between workers, by whichever of the two calls: source pushes, or target pulls. */
enum direction { PUSH, PULL };
long duplicate(struct worker source, struct worker target, enum direction direction, uint64_t address, uint64_t length, uint64_t destination,
               uint64_t flags);

/* Every 64 bytes hold a word that follows from the seed and the place in the range. */
void fill(uint64_t address, uint64_t length, uint64_t seed);
/* How many words are not as fill() made them; seed 0 means zeros. */
long count_wrong(uint64_t address, uint64_t length, uint64_t seed);
uint64_t pattern(uint64_t seed, uint64_t offset);

/* ---- what the kernel shows ---- */
enum { SMAPS_RSS, SMAPS_PSS, SMAPS_HUGE, SMAPS_SWAP, SMAPS_VMAS, SMAPS_FLAGS, SMAPS_NAMED };
#define FLAG(a, b) ((a) | (b) << 8)
long smaps(uint64_t address, uint64_t length, int what, int flag);
uint64_t pagemap(uint64_t address);
#define PRESENT(entry) ((entry) >> 63 & 1)
#define SWAPPED(entry) ((entry) >> 62 & 1)
#define FRAME(entry)   ((entry) & ((1UL << 55) - 1))
/* The number of pages that are in memory in both and in the same frame. */
long same_frames(struct worker a, uint64_t at_a, struct worker b, uint64_t at_b, uint64_t length);
long swapped_pages(struct worker worker, uint64_t address, uint64_t length);
long slab_objects(const char *cache);
unsigned long vmstat(const char *name);
unsigned long swap_reads(void);
int put(const char *path, const char *text);
double now(void);
/* Polls until the condition holds; false after a minute. */
#define EVENTUALLY(condition) ({ double end_ = now() + 60; bool ok_; while (!(ok_ = (condition)) && now() < end_) usleep(20000); ok_; })
long call(pid_t pid, uint64_t source, uint64_t length, uint64_t destination, uint64_t flags);
/* The cgroup that all workers are in. */
#define GROUP "/sys/fs/cgroup/workers"
extern int stress_seconds;
void compare(void);
#endif
