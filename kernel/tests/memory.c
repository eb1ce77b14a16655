// SPDX-License-Identifier: GPL-2.0
/* What memory management does with the shared pages: swap, reclaim, huge pages, migration, KSM, pins, the anon_vma tree. */
#include "harness.h"

static void swapped_out(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = 512 * PAGE, from = map(source, 0, length);
    ask(source, OP_FILL, from, length, 7, 0);
    ask(source, OP_MADVISE, from, length, MADV_PAGEOUT, 0);
    long out = swapped_pages(source, from, length);
    CHECK(out > 400);
    unsigned long reads = swap_reads();
    long at = duplicate(source, target, PULL, from, length, 0, 0);
    CHECK(at > 0);
    EXPECT(swap_reads() - reads, 0);
    EXPECT(swapped_pages(source, from, length), out);
    EXPECT(swapped_pages(target, at, length), out);
    ask(source, OP_FILL, from, length / 2, 8, 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, length, 7, 0), 0);
    CHECK(swap_reads() - reads > 0);
    EXPECT(ask(source, OP_COUNT_WRONG, from, length / 2, 8, 0), 0);
    /* Moved: the swap entries change hands. */
    ask(source, OP_MADVISE, from, length / 2, MADV_PAGEOUT, 0);
    CHECK(swapped_pages(source, from, length / 2) > 200);
    long moved = duplicate(source, target, PULL, from, length / 2, PLACE, PVMMAP_MOVE | PVMMAP_FIXED);
    EXPECT(moved, PLACE);
    CHECK(swapped_pages(target, moved, length / 2) > 200);
    EXPECT(ask(target, OP_COUNT_WRONG, moved, length / 2, 8, 0), 0);
    /* More copies of one entry than its byte in the swap map counts. */
    uint64_t page = map(source, 0, PAGE), copies = map(target, 0, 300 * PAGE);
    ask(source, OP_FILL, page, PAGE, 9, 0);
    /* A page that is on its way to a list of the kernel's is not taken at once. */
    for (int tries = 0; tries < 1000 && !swapped_pages(source, page, PAGE); tries++) ask(source, OP_MADVISE, page, PAGE, MADV_PAGEOUT, 0);
    EXPECT(swapped_pages(source, page, PAGE), 1);
    for (int i = 0; i < 300; i++) EXPECT(duplicate(source, target, PUSH, page, PAGE, copies + i * PAGE, PVMMAP_FIXED), copies + i * PAGE);
    for (int i = 0; i < 300; i += 13) EXPECT(ask(target, OP_COUNT_WRONG, copies + i * PAGE, PAGE, 9, 0), 0);
    end_worker(source);
    end_worker(target);
}

static void reclaim(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = 2048 * PAGE, from = map(source, 0, length);
    ask(source, OP_FILL, from, length, 7, 0);
    EXPECT(duplicate(source, target, PUSH, from, length, PLACE + PAGE, PVMMAP_FIXED), PLACE + PAGE);
    /* A shared page goes out only if both mappings of it are found. */
    put(GROUP "/memory.reclaim", "1G");
    CHECK(swapped_pages(source, from, length) > 1500);
    CHECK(swapped_pages(target, PLACE + PAGE, length) > 1500);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE + PAGE, length, 7, 0), 0);
    EXPECT(ask(source, OP_COUNT_WRONG, from, length, 7, 0), 0);
    end_worker(source);
    put(GROUP "/memory.reclaim", "1G");
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE + PAGE, length, 7, 0), 0);
    end_worker(target);
}

static void huge_pages(void)
{
    uint64_t length = 4 * HUGEPAGE, at = PLACE;
    for (int round = 0; round < 6; round++) {
        struct worker source = start_worker(), target = start_worker();
        uint64_t from = map(source, PLACE / 4, length), part = length;
        ask(source, OP_MADVISE, from, length, MADV_HUGEPAGE, 0);
        ask(source, OP_FILL, from, length, 7, 0);
        EXPECT(ask(source, OP_SMAPS, from, 0, SMAPS_HUGE, 0), length / 1024);
        bool congruent = round % 3 != 1, replace = round >= 3;
        uint64_t start = from;
        if (round % 3 == 2) {
            start += 5 * PAGE;
            part -= 9 * PAGE;
        }
        at = PLACE + (start & (HUGEPAGE - 1)) + (congruent ? 0 : PAGE);
        if (replace) {
            map(target, PLACE - HUGEPAGE, length + 3 * HUGEPAGE);
            ask(target, OP_MADVISE, PLACE - HUGEPAGE, length + 3 * HUGEPAGE, round == 3 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE, 0);
            ask(target, OP_FILL, PLACE - HUGEPAGE, length + 3 * HUGEPAGE, 1, 0);
        }
        EXPECT(duplicate(source, target, round & 1, start, part, at, replace ? PVMMAP_FIXED : PVMMAP_FIXED_NOREPLACE), at);
        EXPECT(same_frames(source, start, target, at, part), part / PAGE);
        long huge = ask(target, OP_SMAPS, at, 0, SMAPS_HUGE, 0);
        if (round % 3 == 0) EXPECT(huge, length / 1024);
        if (round % 3 == 1) EXPECT(huge, 0);
        if (round % 3 == 2) CHECK(huge > 0);
        for (uint64_t offset = 0; offset < part; offset += 64 * PAGE)
            EXPECT(ask(target, OP_PEEK, at + offset, 0, 0, 0), pattern(7, offset + start - from));
        if (replace) {
            EXPECT(ask(target, OP_PEEK, at - PAGE, 0, 0, 0), pattern(1, at - PAGE - (PLACE - HUGEPAGE)));
            EXPECT(ask(target, OP_PEEK, at + part, 0, 0, 0), pattern(1, at + part - (PLACE - HUGEPAGE)));
        }
        ask(target, OP_FILL, at, 100 * PAGE, 8, 0);
        EXPECT(ask(source, OP_COUNT_WRONG, from, length, 7, 0), 0);
        ask(target, OP_FILL, at, part, 9, 0);
        put(GROUP "/memory.reclaim", "256M");
        EXPECT(ask(target, OP_COUNT_WRONG, at, part, 9, 0), 0);
        EXPECT(ask(source, OP_COUNT_WRONG, from, length, 7, 0), 0);
        end_worker(source);
        end_worker(target);
    }
}

/* Moves pages of a process to another node of memory; the number of those that are there then. */
static long migrate(struct worker worker, uint64_t address, long pages, int node)
{
    void **page = calloc(pages, sizeof *page);
    int *nodes = calloc(pages, sizeof *nodes), *status = calloc(pages, sizeof *status);
    long there = 0;
    for (long i = 0; i < pages; i++) {
        page[i] = (void *)(address + i * PAGE);
        nodes[i] = node;
    }
    syscall(SYS_move_pages, worker.pid, pages, page, nodes, status, 4 /* MPOL_MF_MOVE_ALL */);
    for (long i = 0; i < pages; i++) there += status[i] == node;
    free(page);
    free(nodes);
    free(status);
    return there;
}

static void numa_migration(void)
{
    enum { PAGES = 1024 };
    CHECK(!access("/sys/devices/system/node/node1", F_OK));
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, PAGES * PAGE), to = PLACE + PAGE;
    ask(source, OP_MADVISE, from, PAGES * PAGE, MADV_NOHUGEPAGE, 0);
    ask(source, OP_FILL, from, PAGES * PAGE, 7, 0);
    EXPECT(duplicate(source, target, PULL, from, PAGES * PAGE, to, PVMMAP_FIXED), to);
    for (int round = 0; round < 6; round++) {
        uint64_t first = FRAME((uint64_t)ask(source, OP_PAGEMAP, from, 0, 0, 0));
        CHECK(migrate(round & 1 ? source : target, round & 1 ? from : to, PAGES, round & 1) > PAGES - 16);
        if (round) CHECK(first != FRAME((uint64_t)ask(target, OP_PAGEMAP, to, 0, 0, 0)));
        EXPECT(same_frames(source, from, target, to, PAGES * PAGE), PAGES);
    }
    EXPECT(ask(target, OP_COUNT_WRONG, to, PAGES * PAGE, 7, 0), 0);
    ask(target, OP_FILL, to, PAGES * PAGE, 8, 0);
    EXPECT(ask(source, OP_COUNT_WRONG, from, PAGES * PAGE, 7, 0), 0);
    end_worker(source);
    end_worker(target);
}

static void compaction(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t length = 4096 * PAGE, from = map(source, 0, length);
    ask(source, OP_MADVISE, from, length, MADV_NOHUGEPAGE, 0);
    ask(source, OP_FILL, from, length, 7, 0);
    long at = duplicate(source, target, PULL, from, length, 0, 0);
    /* Every second page given back: something for the compaction to do. */
    for (uint64_t offset = 0; offset < length; offset += 2 * PAGE) {
        ask(source, OP_MADVISE, from + offset, PAGE, MADV_DONTNEED, 0);
        ask(target, OP_MADVISE, at + offset, PAGE, MADV_DONTNEED, 0);
    }
    unsigned long migrated = vmstat("pgmigrate_success");
    EXPECT(put("/proc/sys/vm/compact_memory", "1"), 0);
    CHECK(vmstat("pgmigrate_success") > migrated);
    EXPECT(same_frames(source, from, target, at, length), 2048);
    for (uint64_t offset = PAGE; offset < length; offset += 2 * PAGE) {
        EXPECT(ask(target, OP_PEEK, at + offset, 0, 0, 0), pattern(7, offset));
        EXPECT(ask(source, OP_PEEK, from + offset, 0, 0, 0), pattern(7, offset));
    }
    end_worker(source);
    end_worker(target);
}

/* How many pages are in the frame of the first. */
static long merged(struct worker worker, uint64_t address, long pages)
{
    long same = 0;
    for (long i = 0; i < pages; i++) same += same_frames(worker, address, worker, address + i * PAGE, PAGE);
    return same;
}

static void same_page_merging(void)
{
    enum { PAGES = 256 };
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, PAGES * PAGE);
    for (int i = 0; i < PAGES; i++) ask(source, OP_FILL, from + i * PAGE, PAGE, 7, 0);
    ask(source, OP_MADVISE, from, PAGES * PAGE, MADV_MERGEABLE, 0);
    put("/sys/kernel/mm/ksm/sleep_millisecs", "1");
    put("/sys/kernel/mm/ksm/pages_to_scan", "2000");
    EXPECT(put("/sys/kernel/mm/ksm/run", "1"), 0);
    CHECK(EVENTUALLY(merged(source, from, PAGES) > 200));
    put("/sys/kernel/mm/ksm/run", "0");
    long at = duplicate(source, target, PULL, from, PAGES * PAGE, 0, 0);
    CHECK(at > 0);
    for (int i = 0; i < PAGES; i++) EXPECT(ask(target, OP_COUNT_WRONG, at + i * PAGE, PAGE, 7, 0), 0);
    ask(target, OP_FILL, at, PAGE, 8, 0);
    EXPECT(ask(source, OP_COUNT_WRONG, from, PAGE, 7, 0), 0);
    /* Now the twins are merged, moved about, and taken apart again. */
    put("/sys/kernel/mm/ksm/run", "1");
    CHECK(EVENTUALLY(merged(target, at + PAGE, PAGES - 1) > 200));
    put("/proc/sys/vm/compact_memory", "1");
    put(GROUP "/memory.reclaim", "256M");
    EXPECT(put("/sys/kernel/mm/ksm/run", "2"), 0);
    for (int i = 1; i < PAGES; i++) {
        EXPECT(ask(target, OP_COUNT_WRONG, at + i * PAGE, PAGE, 7, 0), 0);
        EXPECT(ask(source, OP_COUNT_WRONG, from + i * PAGE, PAGE, 7, 0), 0);
    }
    put("/sys/kernel/mm/ksm/run", "0");
    end_worker(source);
    end_worker(target);
}

static void pinned_pages(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, 64 * PAGE);
    ask(source, OP_FILL, from, 64 * PAGE, 7, 0);
    CHECK(ask(source, OP_PIN, from, 16 * PAGE, 0, 0) >= 0);
    uint64_t frame = FRAME((uint64_t)ask(source, OP_PAGEMAP, from, 0, 0, 0));
    long at = duplicate(source, target, PULL, from, 64 * PAGE, 0, 0);
    /* A device goes on writing to the source's page: that one must not change places. */
    EXPECT(same_frames(source, from, target, at, 16 * PAGE), 0);
    EXPECT(same_frames(source, from + 16 * PAGE, target, at + 16 * PAGE, 48 * PAGE), 48);
    EXPECT(ask(target, OP_COUNT_WRONG, at, 64 * PAGE, 7, 0), 0);
    ask(source, OP_FILL, from, 64 * PAGE, 8, 0);
    EXPECT(FRAME((uint64_t)ask(source, OP_PAGEMAP, from, 0, 0, 0)), frame);
    EXPECT(ask(target, OP_COUNT_WRONG, at, 64 * PAGE, 7, 0), 0);
    end_worker(source);
    end_worker(target);
}

/* To and fro a thousand times: the anon_vmas must not pile up, nor must anything else be lost. */
static void bounded_anon_vmas(void)
{
    enum { ROUNDS = 1000 };
    struct worker a = start_worker(), b = start_worker();
    uint64_t x = map(a, PLACE, 4 * PAGE), y = map(b, PLACE, 4 * PAGE);
    ask(a, OP_FILL, x, 4 * PAGE, 7, 0);
    long before[5];
    static const char *const caches[] = { "anon_vma_chain", "anon_vma", "vm_area_struct" };
    for (int how = 0; how < 2; how++) {
        for (int i = 0; i < 3; i++) CHECK((before[i] = slab_objects(caches[i])) > 0);
        for (int i = 0; i < ROUNDS; i++) {
            uint64_t flags = PVMMAP_FIXED | (how ? PVMMAP_MOVE : 0);
            EXPECT(duplicate(a, b, i & 1, x, 4 * PAGE, y, flags), y);
            if (i % 10 == 0) ask(b, OP_POKE, y + PAGE, pattern(7, PAGE), 0, 0);
            EXPECT(duplicate(b, a, i & 1, y, 4 * PAGE, x, flags), x);
            if (i % 10 == 5) ask(a, OP_POKE, x, pattern(7, 0), 0, 0);
        }
        for (int i = 0; i < 3; i++) CHECK(slab_objects(caches[i]) - before[i] < ROUNDS / 4);
        EXPECT(ask(a, OP_COUNT_WRONG, x, 4 * PAGE, 7, 0), 0);
    }
    end_worker(a);
    end_worker(b);
}

const struct test memory_tests[] = {
    { "swapped-out", swapped_out }, { "reclaim", reclaim }, { "huge-pages", huge_pages }, { "numa-migration", numa_migration },
    { "compaction", compaction }, { "same-page-merging", same_page_merging }, { "pinned-pages", pinned_pages },
    { "bounded-anon-vmas", bounded_anon_vmas }, { NULL, NULL },
};
