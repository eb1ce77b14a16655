// SPDX-License-Identifier: GPL-2.0
/* Threads of the source and of the target at work during the call, processes that fork, execute and die meanwhile, and stress. */
#include "harness.h"

static uint64_t state = 88172645463325252ull;
static uint64_t any(uint64_t n)
{
    state ^= state >> 7;
    state ^= state << 9;
    return state % n;
}

/*
 * A thread of the source counts up a word in each of many pages, one after another, each in a page table of its own. A copy is of one instant if no page in it is more than one
 * behind the page before it, and none is ahead of one before it. Without the TLB flush a thread goes on writing to what is shared; without
 * the lock on the VMA it goes on to the next page while its last write is in a copy of its own.
 */
static void cut(void)
{
    enum { PAGES = 64, ROUNDS = 300 };
    static const uint64_t LENGTH = PAGES * HUGEPAGE;
    static uint64_t counts[PAGES];
    struct worker source = start_worker();
    uint64_t from = map(source, 0, LENGTH);
    long torn = 0, changed = 0, moved = 0;
    uint64_t last = 0;
    ask(source, OP_MADVISE, from, LENGTH, MADV_NOHUGEPAGE, 0);
    for (int i = 0; i < PAGES; i++) ask(source, OP_POKE, from + i * HUGEPAGE, 0, 0, 0);
    EXPECT(ask(source, OP_START_COUNTERS, from, LENGTH, 0, 0), 0);
    /* On a busy machine the counting thread runs seldom: go on until it has been met often enough. */
    for (int round = 0; round < ROUNDS || (moved <= ROUNDS / 20 && round < 20 * ROUNDS); round++) {
        long at = call(source.pid, from, LENGTH, PLACE, PVMMAP_FIXED);
        EXPECT(at, PLACE);
        if (at != (long)PLACE) break;
        int steps = 0;
        for (int i = 0; i < PAGES; i++) {
            counts[i] = *(volatile uint64_t *)(PLACE + i * HUGEPAGE);
            steps += i && counts[i] != counts[i - 1];
        }
        torn += steps > 1 || counts[0] - counts[PAGES - 1] > 1;
        moved += counts[0] != last;
        last = counts[0];
        for (int i = 0; i < PAGES; i++) changed += *(volatile uint64_t *)(PLACE + i * HUGEPAGE) != counts[i];
    }
    EXPECT(torn, 0);
    EXPECT(changed, 0);
    CHECK(moved > ROUNDS / 20);
    printf("  the counter moved %ld times, to %lu\n", moved, last);
    ask(source, OP_STOP_COUNTERS, 0, 0, 0, 0);
    end_worker(source);
    munmap((void *)PLACE, LENGTH);
}

/* A thread of the target reads a range that is replaced again and again: it sees the old mapping or the new one, never anything else. */
static void replaced_at_once(void)
{
    enum { PAGES = 600 };
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = PAGES * PAGE, one = map(source, 0, length), two = map(source, 0, length);
    ask(source, OP_FILL, one, length, 7, 0);
    ask(source, OP_FILL, two, length, 8, 0);
    EXPECT(duplicate(source, target, PUSH, one, length, PLACE, PVMMAP_FIXED), PLACE);
    EXPECT(ask(target, OP_START_HAMMER, PLACE, 7UL << 48 | length, 0, 0), 0);
    for (int i = 0; i < 200; i++) EXPECT(duplicate(source, target, PUSH, i & 1 ? one : two, length, PLACE, PVMMAP_FIXED), PLACE);
    EXPECT(ask(target, OP_STOP_HAMMER, 2, 0, 0, 0), 0);
    CHECK(ask(target, OP_STOP_HAMMER, 0, 0, 0, 0) > 0);
    CHECK(ask(target, OP_STOP_HAMMER, 1, 0, 0, 0) > 0);
    end_worker(source);
    end_worker(target);
}

static void forks_meanwhile(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = 256 * PAGE, from = map(source, 0, length);
    ask(source, OP_FILL, from, length, 7, 0);
    ask(source, OP_START_FORKS, 0, 0, 0, 0);
    ask(target, OP_START_FORKS, 0, 0, 0, 0);
    for (int i = 0; i < 200; i++) EXPECT(duplicate(source, target, i & 1, from, length, PLACE, PVMMAP_FIXED), PLACE);
    CHECK(ask(source, OP_STOP_FORKS, 0, 0, 0, 0) > 0);
    CHECK(ask(target, OP_STOP_FORKS, 0, 0, 0, 0) > 0);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE, length, 7, 0), 0);
    EXPECT(ask(target, OP_FORK_AND_CHECK, PLACE, length, 7, 0), 0);
    end_worker(source);
    end_worker(target);
}

static void exec_meanwhile(void)
{
    uint64_t length = 100 * PAGE, mapped = 0, again = 0;
    uint64_t from = (uint64_t)mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fill(from, length, 7);
    for (int i = 0; i < 40; i++) {
        struct worker worker = start_worker_unready();
        for (int k = 0; k < 20; k++) {
            long result = call(-worker.pid, from, length, 0, 0);
            mapped += result > 0;
            again += result == -EAGAIN;
            if (result < 0) EXPECT(result, -EAGAIN);
        }
        EXPECT(ask(worker, OP_NOTHING, 0, 0, 0, 0), 0);
        end_worker(worker);
    }
    CHECK(mapped > 40);
    printf("  %lu mapped, %lu while the program was loaded\n", mapped, again);
    EXPECT(count_wrong(from, length, 7), 0);
    munmap((void *)from, length);
}

/* Killed at any moment: the one that calls, the source, the target. */
static void killed_meanwhile(void)
{
    uint64_t length = 2048 * PAGE;
    for (int i = 0; i < 30; i++) {
        struct worker source = start_worker(), target = start_worker();
        uint64_t from = map(source, 0, length);
        ask(source, OP_FILL, from, length, 7, 0);
        pid_t caller = fork();
        if (!caller)
            for (;;) duplicate(source, target, i & 1, from, length, PLACE, PVMMAP_FIXED);
        usleep(1000 + i * 500);
        pid_t victim = i % 3 == 0 ? source.pid : i % 3 == 1 ? target.pid : caller;
        kill(victim, SIGKILL);
        if (victim != caller) {
            kill(caller, SIGKILL);
            waitpid(victim, NULL, 0);
        }
        EXPECT(waitpid(caller, NULL, 0), caller);
        kill(source.pid, SIGKILL);
        kill(target.pid, SIGKILL);
        end_worker(source);
        end_worker(target);
    }
}

/* A page that a device may write to stays where it is, however the calls and the pinning fall together. */
static void pins_meanwhile(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = 64 * PAGE, from = map(source, 0, length);
    ask(source, OP_FILL, from, length, 7, 0);
    EXPECT(ask(source, OP_START_PINS, from, length, 0, 0), 0);
    double end = now() + (stress_seconds < 20 ? stress_seconds : 20);
    long calls = 0;
    while (now() < end) calls += duplicate(source, target, PULL, from, length, PLACE, PVMMAP_FIXED) == (long)PLACE;
    CHECK(calls > 10);
    EXPECT(ask(source, OP_STOP_PINS, 2, 0, 0, 0), 0);
    CHECK(ask(source, OP_STOP_PINS, 0, 0, 0, 0) > 10);
    EXPECT(ask(source, OP_STOP_PINS, 1, 0, 0, 0), 0);
    end_worker(source);
    end_worker(target);
}

/*
 * Pages wander between two nodes while they are duplicated. A migration that does not find both mappings leaves an entry behind that
 * nobody takes away: whoever touches that page waits for ever.
 */
static void migration_meanwhile(void)
{
    enum { PAGES = 128 };
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = PAGES * PAGE, from = map(source, 0, length);
    ask(source, OP_MADVISE, from, length, MADV_NOHUGEPAGE, 0);
    ask(source, OP_FILL, from, length, 7, 0);
    pid_t mover = fork();
    if (!mover) {
        void *page[PAGES];
        int nodes[PAGES], status[PAGES];
        for (int node = 0;; node ^= 1) {
            for (int i = 0; i < PAGES; i++) {
                page[i] = (void *)(from + i * PAGE);
                nodes[i] = node;
            }
            syscall(SYS_move_pages, source.pid, (long)PAGES, page, nodes, status, 4);
        }
    }
    unsigned long migrated = vmstat("pgmigrate_success");
    pid_t checker = fork();
    if (!checker) {
        int wrong = 0;
        double end = now() + (stress_seconds < 20 ? stress_seconds : 20);
        while (now() < end) {
            /* Call and migration wait for the same lock: without a pause each call would come upon the same part of a migration. */
            for (volatile uint64_t pause = any(1 << 20); pause; pause--) { }
            wrong |= duplicate(source, target, PULL, from, length, PLACE, PVMMAP_FIXED) != (long)PLACE;
            wrong |= ask(target, OP_COUNT_WRONG, PLACE, length, 7, 0) != 0;
        }
        _exit(wrong);
    }
    int status = -1;
    bool ended = false;
    double end = now() + 180;
    while (!(ended = waitpid(checker, &status, WNOHANG) == checker) && now() < end) usleep(50000);
    CHECK(ended);
    EXPECT(status, 0);
    kill(mover, SIGKILL);
    waitpid(mover, NULL, 0);
    CHECK(vmstat("pgmigrate_success") - migrated > 1000);
    kill(checker, SIGKILL);
    kill(source.pid, SIGKILL);
    kill(target.pid, SIGKILL);
}

/* ---- stress: random operations in six processes under reclaim, compaction, migration and KSM ---- */
static void noise(const pid_t *pids, int count)
{
    for (int i = 0;; i++) {
        put(GROUP "/memory.reclaim", i & 1 ? "16M" : "4M");
        if (i % 7 == 0) {
            put("/proc/sys/vm/compact_memory", "1");
            for (int p = 0; p < count; p++) {
                unsigned long one = 1 << (i & 1), other = 1 << !(i & 1);
                syscall(SYS_migrate_pages, pids[p], 8, &one, &other);
            }
        }
        put("/sys/kernel/mm/ksm/run", i % 20 < 10 ? "1" : "0");
        usleep(3000);
    }
}

static void stress(void)
{
    enum { WORKERS = 6, SLOTS = 8 };
    struct worker worker[WORKERS];
    pid_t pids[WORKERS];
    uint64_t at[WORKERS][SLOTS] = { 0 }, seed[WORKERS][SLOTS] = { 0 }, length = 640 * PAGE;
    long operations = 0, calls = 0;
    for (int i = 0; i < WORKERS; i++) pids[i] = (worker[i] = start_worker()).pid;
    pid_t noisy = fork();
    if (!noisy) noise(pids, WORKERS);
    double end = now() + stress_seconds;
    while (now() < end) {
        int i = any(WORKERS), k = any(SLOTS), j = any(WORKERS), l = any(SLOTS);
        uint64_t here = at[i][k];
        operations++;
        switch (any(9)) {
        case 0:
            if (here) {
                ask(worker[i], OP_MUNMAP, here, length, 0, 0);
                at[i][k] = 0;
                break;
            }
            at[i][k] = here = map(worker[i], 0, length);
            if (any(2)) ask(worker[i], OP_MADVISE, here, length, MADV_HUGEPAGE, 0);
            if (!any(3)) ask(worker[i], OP_MADVISE, here, length, MADV_MERGEABLE, 0);
            ask(worker[i], OP_FILL, here, length, seed[i][k] = any(1 << 20) + 1, 0);
            break;
        case 1: case 2: case 3: {
            if (!here || (i == j && k == l)) break;
            bool move = !any(4), replace = at[j][l] && any(2);
            if (at[j][l] && !replace) ask(worker[j], OP_MUNMAP, at[j][l], length, 0, 0);
            long result = duplicate(worker[i], worker[j], any(2), here, length, replace ? at[j][l] : 0,
                                    (replace ? PVMMAP_FIXED : 0) | (move ? PVMMAP_MOVE : 0));
            CHECK(result > 0);
            calls++;
            at[j][l] = result > 0 ? result : 0;
            seed[j][l] = seed[i][k];
            if (move) at[i][k] = 0;
            break;
        }
        case 4:
            if (here) ask(worker[i], OP_FILL, here, length, seed[i][k] = any(1 << 20) + 1, 0);
            break;
        case 5: case 6:
            if (here) EXPECT(ask(worker[i], OP_COUNT_WRONG, here, length, seed[i][k], 0), 0);
            break;
        case 7:
            if (here && !any(3)) EXPECT(ask(worker[i], OP_FORK_AND_CHECK, here, length, seed[i][k], 0), 0);
            else if (here) ask(worker[i], OP_MADVISE, here, length, MADV_PAGEOUT, 0);
            break;
        case 8:
            if (!any(40)) {
                end_worker(worker[i]);
                worker[i] = start_worker();
                memset(at[i], 0, sizeof at[i]);
            } else if (here) {
                uint64_t to = map(worker[i], 0, length);
                EXPECT(ask(worker[i], OP_MREMAP, here, length, to, 0), to);
                at[i][k] = to;
            }
        }
    }
    for (int i = 0; i < WORKERS; i++)
        for (int k = 0; k < SLOTS; k++)
            if (at[i][k]) EXPECT(ask(worker[i], OP_COUNT_WRONG, at[i][k], length, seed[i][k], 0), 0);
    kill(noisy, SIGKILL);
    waitpid(noisy, NULL, 0);
    put("/sys/kernel/mm/ksm/run", "0");
    for (int i = 0; i < WORKERS; i++) end_worker(worker[i]);
    CHECK(calls > 0);
    printf("  %ld operations, %ld calls in %d s; %lu pages in from swap\n", operations, calls, stress_seconds, swap_reads());
}

const struct test race_tests[] = {
    { "cut", cut }, { "replaced-at-once", replaced_at_once }, { "forks-meanwhile", forks_meanwhile }, { "exec-meanwhile", exec_meanwhile },
    { "killed-meanwhile", killed_meanwhile }, { "pins-meanwhile", pins_meanwhile }, { "migration-meanwhile", migration_meanwhile },
    { "stress", stress }, { NULL, NULL },
};
