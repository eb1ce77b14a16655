// SPDX-License-Identifier: GPL-2.0
/* The page table work of the call beside that of fork(), in one run. Emulation distorts everything else, so nothing else is measured. */
#include "harness.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(uint64_t length, int advice, const char *pages)
{
    enum { TIMES = 9 };
    struct worker target = start_worker();
    double called[TIMES], moved[TIMES], forked[TIMES];
    uint64_t from = PLACE / 2;
    mmap((void *)from, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    madvise((void *)from, length, advice);
    for (uint64_t offset = 0; offset < length; offset += PAGE) *(volatile uint64_t *)(from + offset) = offset;
    for (int i = 0; i < TIMES; i++) {
        double start = now();
        long at = call(-target.pid, from, length, 0, 0);
        called[i] = now() - start;
        if (at < 0) abort();
        ask(target, OP_MUNMAP, at, length, 0, 0);
        start = now();
        pid_t child = fork();
        if (!child) _exit(0);
        forked[i] = now() - start;
        waitpid(child, NULL, 0);
        start = now();
        at = call(getpid(), from, length, PLACE, PVMMAP_MOVE | PVMMAP_FIXED);
        moved[i] = now() - start;
        if (at < 0 || call(getpid(), PLACE, length, from, PVMMAP_MOVE | PVMMAP_FIXED) < 0) abort();
    }
    qsort(called, TIMES, sizeof *called, by_value);
    qsort(moved, TIMES, sizeof *moved, by_value);
    qsort(forked, TIMES, sizeof *forked, by_value);
    printf("%5lu MiB in %s pages: process_vm_mmap %.2f ms, moved %.2f ms, fork %.2f ms; the call takes %.2f of a fork\n", length >> 20, pages,
           called[TIMES / 2] * 1e3, moved[TIMES / 2] * 1e3, forked[TIMES / 2] * 1e3, called[TIMES / 2] / forked[TIMES / 2]);
    fflush(stdout);
    munmap((void *)from, length);
    end_worker(target);
}

void compare(void)
{
    measure(4UL << 20, MADV_NOHUGEPAGE, "small");
    measure(64UL << 20, MADV_NOHUGEPAGE, "small");
    measure(1UL << 30, MADV_NOHUGEPAGE, "small");
    measure(64UL << 20, MADV_HUGEPAGE, "huge");
    measure(1UL << 30, MADV_HUGEPAGE, "huge");
}
