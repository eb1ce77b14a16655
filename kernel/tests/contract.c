// SPDX-License-Identifier: GPL-2.0
/* What the call promises: content, kind, placement, errors, limits. */
#include "harness.h"

#define N     64UL
#define BYTES (N * PAGE)

static void content(enum direction direction)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    long at = duplicate(source, target, direction, from, BYTES, 0, 0);
    CHECK(at > 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, BYTES, 7, 0), 0);
    ask(source, OP_FILL, from, BYTES / 2, 8, 0);
    ask(target, OP_FILL, at + BYTES / 2, BYTES / 2, 9, 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, PAGE, 7, 0), 0);
    EXPECT(ask(target, OP_PEEK, at + BYTES / 2 - PAGE, 0, 0, 0), pattern(7, BYTES / 2 - PAGE));
    EXPECT(ask(source, OP_PEEK, from + BYTES / 2, 0, 0, 0), pattern(7, BYTES / 2));
    EXPECT(ask(source, OP_COUNT_WRONG, from, BYTES / 2, 8, 0), 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at + BYTES / 2, BYTES / 2, 9, 0), 0);
    end_worker(source);
    EXPECT(ask(target, OP_COUNT_WRONG, at + BYTES / 2, BYTES / 2, 9, 0), 0);
    EXPECT(ask(target, OP_PEEK, at, 0, 0, 0), pattern(7, 0));
    end_worker(target);
}
static void push(void) { content(PUSH); }
static void pull(void) { content(PULL); }

static void shares_frames(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    long at = duplicate(source, target, PUSH, from, BYTES, 0, PVMMAP_POPULATE);
    EXPECT(same_frames(source, from, target, at, BYTES), N);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_RSS, 0), BYTES / 1024);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_PSS, 0), BYTES / 2048);
    ask(target, OP_POKE, at, 1, 0, 0);
    EXPECT(same_frames(source, from, target, at, BYTES), N - 1);
    end_worker(source);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_PSS, 0), BYTES / 1024);
    end_worker(target);
}

static void untouched_pages(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from + 10 * PAGE, PAGE, 7, 0);
    EXPECT(ask(source, OP_PEEK, from + 20 * PAGE, 0, 0, 0), 0);
    long at = duplicate(source, target, PULL, from, BYTES, 0, PVMMAP_LAZY);
    EXPECT(PRESENT((uint64_t)ask(target, OP_PAGEMAP, at, 0, 0, 0)), 0);
    EXPECT(PRESENT((uint64_t)ask(target, OP_PAGEMAP, at + 10 * PAGE, 0, 0, 0)), 1);
    EXPECT(PRESENT((uint64_t)ask(source, OP_PAGEMAP, from, 0, 0, 0)), 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at + 10 * PAGE, PAGE, 7, 0), 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at + 11 * PAGE, BYTES - 11 * PAGE, 0, 0), 0);
    /* Nothing touched at all: there is no anon_vma yet on either side. */
    uint64_t empty = map(source, 0, BYTES);
    at = duplicate(source, target, PUSH, empty, BYTES, 0, 0);
    CHECK(at > 0);
    ask(target, OP_FILL, at, BYTES, 5, 0);
    EXPECT(ask(source, OP_COUNT_WRONG, empty, BYTES, 0, 0), 0);
    end_worker(source);
    end_worker(target);
}

static void placement(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    map(target, PLACE, BYTES);
    ask(target, OP_FILL, PLACE, BYTES, 1, 0);
    EXPECT(duplicate(source, target, PUSH, from, BYTES, PLACE, PVMMAP_FIXED_NOREPLACE), -EEXIST);
    EXPECT(duplicate(source, target, PUSH, from, BYTES, PLACE, PVMMAP_FIXED_NOREPLACE | PVMMAP_FIXED), -EEXIST);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE, BYTES, 1, 0), 0);
    EXPECT(duplicate(source, target, PUSH, from, BYTES, PLACE + 2 * BYTES, PVMMAP_FIXED_NOREPLACE), PLACE + 2 * BYTES);
    /* In the middle of another mapping, again and again. */
    for (int i = 0; i < 6; i++) EXPECT(duplicate(source, target, i & 1, from, 16 * PAGE, PLACE + 8 * PAGE, PVMMAP_FIXED), PLACE + 8 * PAGE);
    EXPECT(ask(target, OP_PEEK, PLACE + 7 * PAGE, 0, 0, 0), pattern(1, 7 * PAGE));
    EXPECT(ask(target, OP_PEEK, PLACE + 24 * PAGE, 0, 0, 0), pattern(1, 24 * PAGE));
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE + 8 * PAGE, 16 * PAGE, 7, 0), 0);
    /* Over the end of one and a hole. */
    EXPECT(duplicate(source, target, PULL, from, BYTES, PLACE + BYTES - PAGE, PVMMAP_FIXED), PLACE + BYTES - PAGE);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE + BYTES - PAGE, BYTES, 7, 0), 0);
    EXPECT(ask(target, OP_PEEK, PLACE + BYTES - 2 * PAGE, 0, 0, 0), pattern(1, BYTES - 2 * PAGE));
    /* A hint that is free, and one that is taken. */
    EXPECT(duplicate(source, target, PULL, from, BYTES, PLACE + 16 * BYTES, 0), PLACE + 16 * BYTES);
    long elsewhere = duplicate(source, target, PULL, from, BYTES, PLACE, 0);
    CHECK(elsewhere > 0 && elsewhere != (long)PLACE);
    /* An address that is not aligned: the pages around the range. */
    long at = duplicate(source, target, PULL, from + 100, PAGE, 0, 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, 2 * PAGE, 7, 0), 0);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_RSS, 0), 2 * PAGE / 1024);
    end_worker(source);
    end_worker(target);
}

static void arguments(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    EXPECT(call(0, 0, 0, 0, ~0UL), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, 0, 0x4), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, 0, PVMMAP_LAZY | PVMMAP_POPULATE), -EINVAL);
    EXPECT(call(0, from, BYTES, 0, 0), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, 0, 0, 0), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, -PAGE, 0, 0), -EINVAL);
    EXPECT(duplicate(source, target, PULL, 100, PAGE, 0, 0), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, PLACE + 1, PVMMAP_FIXED), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, PLACE + 1, PVMMAP_FIXED_NOREPLACE), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, 0x7fffffffe000, PVMMAP_FIXED), -EINVAL);
    EXPECT(duplicate(source, target, PULL, from, BYTES, -PAGE, PVMMAP_FIXED), -EINVAL);
    EXPECT(duplicate(source, source, PULL, from, BYTES, from + PAGE, PVMMAP_FIXED), -EINVAL);
    EXPECT(call(999999, from, BYTES, 0, 0), -ESRCH);
    EXPECT(call(2, from, BYTES, 0, 0), -EINVAL);        /* a kernel thread */
    /* Arguments before the process, the process before the range, the range before the destination. */
    EXPECT(call(999999, from, 0, 0, 0), -EINVAL);
    EXPECT(call(999999, PLACE, BYTES, 0, 0), -ESRCH);
    map(target, PLACE, BYTES);
    EXPECT(duplicate(source, target, PULL, PLACE, BYTES, PLACE, PVMMAP_FIXED_NOREPLACE), -EFAULT);
    /* A hole in the source; the target is left alone. */
    ask(target, OP_FILL, PLACE, BYTES, 1, 0);
    ask(source, OP_MUNMAP, from + 9 * PAGE, PAGE, 0, 0);
    EXPECT(duplicate(source, target, PULL, from, BYTES, PLACE, PVMMAP_FIXED), -EFAULT);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE, BYTES, 1, 0), 0);
    /* A process that has ended and is not waited for. */
    struct worker zombie = start_worker();
    kill(zombie.pid, SIGKILL);
    CHECK(EVENTUALLY(call(zombie.pid, PLACE, PAGE, 0, 0) == -ESRCH));
    end_worker(zombie);
    end_worker(source);
    end_worker(target);
}

static void permission(void)
{
    struct worker source = start_worker(), other = start_worker();
    uint64_t from = map(source, 0, PAGE), hers = map(other, 0, PAGE);
    ask(source, OP_FILL, from, PAGE, 7, 0);
    EXPECT(ask(other, OP_SETUID, 65534, 0, 0, 0), 0);
    EXPECT(duplicate(source, other, PULL, from, PAGE, 0, 0), -EPERM);
    EXPECT(duplicate(other, source, PUSH, hers, PAGE, 0, 0), -EPERM);
    EXPECT(duplicate(other, source, PUSH, PLACE, PAGE, 0, 0), -EPERM);   /* before anything is said about the range */
    CHECK(duplicate(source, other, PUSH, from, PAGE, 0, 0) > 0);
    EXPECT(duplicate(other, other, PULL, hers, PAGE, 0, 0) > 0, 1);
    end_worker(source);
    end_worker(other);
}

static void limits(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t big = 128UL << 20, from = map(source, 0, big);
    ask(source, OP_POKE, from, 1, 0, 0);
    EXPECT(ask(target, OP_RLIMIT, RLIMIT_AS, 64UL << 20, 0, 0), 0);
    long maps = ask(target, OP_MAPS_HASH, 0, 0, 0, 0);
    EXPECT(duplicate(source, target, PUSH, from, big, 0, 0), -ENOMEM);
    EXPECT(duplicate(source, target, PULL, from, big, 0, 0), -ENOMEM);
    EXPECT(ask(target, OP_MAPS_HASH, 0, 0, 0, 0), maps);
    CHECK(duplicate(source, target, PULL, from, 8UL << 20, PLACE, PVMMAP_FIXED) > 0);
    /* What is replaced makes room. */
    for (int i = 0; i < 20; i++) CHECK(duplicate(source, target, i & 1, from, 40UL << 20, PLACE, PVMMAP_FIXED) > 0);
    end_worker(target);
    /* The caller's own limits are of no concern. */
    target = start_worker();
    EXPECT(ask(source, OP_RLIMIT, RLIMIT_AS, 1UL << 20, 0, 0), 0);
    CHECK(duplicate(source, target, PUSH, from, big, 0, 0) > 0);
    end_worker(target);
    target = start_worker();
    EXPECT(ask(target, OP_RLIMIT, RLIMIT_DATA, 16UL << 20, 0, 0), 0);
    EXPECT(duplicate(source, target, PUSH, from, big, 0, 0), -ENOMEM);
    CHECK(duplicate(source, target, PUSH, from, 1UL << 20, 0, 0) > 0);
    end_worker(target);
    end_worker(source);

    source = start_worker();
    target = start_worker();
    from = map(source, 0, 400 * PAGE);
    for (int i = 0; i < 200; i++) ask(source, OP_MPROTECT, from + 2 * i * PAGE, PAGE, PROT_READ, 0);
    char old[32] = "65530", limit[32];
    snprintf(limit, sizeof limit, "%ld", ask(target, OP_MAP_COUNT, 0, 0, 0, 0) + 200);
    EXPECT(put("/proc/sys/vm/max_map_count", limit), 0);
    maps = ask(target, OP_MAPS_HASH, 0, 0, 0, 0);
    EXPECT(duplicate(source, target, PUSH, from, 400 * PAGE, 0, 0), -ENOMEM);
    EXPECT(ask(target, OP_MAPS_HASH, 0, 0, 0, 0), maps);
    CHECK(duplicate(source, target, PUSH, from, 100 * PAGE, 0, 0) > 0);
    EXPECT(put("/proc/sys/vm/max_map_count", old), 0);

    /* Strict overcommit: room for this once, not twice. */
    uint64_t huge = 3UL << 29;
    from = map(source, 0, huge);
    CHECK((long)from > 0);
    EXPECT(put("/proc/sys/vm/overcommit_memory", "2"), 0);
    EXPECT(duplicate(source, target, PUSH, from, huge, 0, 0), -ENOMEM);
    EXPECT(put("/proc/sys/vm/overcommit_memory", "0"), 0);
    end_worker(source);
    end_worker(target);
}

static void attributes(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    ask(source, OP_MADVISE, from, BYTES, MADV_NOHUGEPAGE, 0);
    ask(source, OP_MADVISE, from, BYTES, MADV_DONTDUMP, 0);
    ask(source, OP_MADVISE, from, BYTES, MADV_DONTFORK, 0);
    ask(source, OP_MADVISE, from, BYTES, MADV_MERGEABLE, 0);
    EXPECT(ask(source, OP_MLOCK, from, BYTES, 0, 0), 0);
    EXPECT(ask(source, OP_NAME, from, BYTES, 0, 0), 0);
    long at = duplicate(source, target, PULL, from, BYTES, 0, 0);
    CHECK(at > 0);
#define HAS(a, b) ask(target, OP_SMAPS, at, 0, SMAPS_FLAGS, FLAG(a, b))
    EXPECT(HAS('n', 'h'), 1);
    EXPECT(HAS('d', 'd'), 1);
    EXPECT(HAS('m', 'g'), 1);
    EXPECT(HAS('d', 'c'), 0);
    EXPECT(HAS('l', 'o'), 0);
    EXPECT(HAS('w', 'r'), 1);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_NAMED, 0), 1);
    /* A stack, memory that a child does not inherit, memory without swap reserve. */
    uint64_t stack = ask(source, OP_MMAP, 0, BYTES, 0, MAP_GROWSDOWN | MAP_NORESERVE);
    ask(source, OP_FILL, stack, BYTES, 6, 0);
    at = duplicate(source, target, PUSH, stack, BYTES, 0, 0);
    EXPECT(HAS('g', 'd'), 1);
    EXPECT(HAS('n', 'r'), 1);
    uint64_t wiped = map(source, 0, BYTES);
    ask(source, OP_FILL, wiped, BYTES, 5, 0);
    EXPECT(ask(source, OP_MADVISE, wiped, BYTES, MADV_WIPEONFORK, 0), 0);
    at = duplicate(source, target, PUSH, wiped, BYTES, 0, 0);
    EXPECT(HAS('w', 'f'), 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, BYTES, 5, 0), 0);
    EXPECT(ask(target, OP_FORK_AND_CHECK, at, BYTES, 5, 0), 0);
    end_worker(source);
    end_worker(target);
}

static void several_vmas(void)
{
    struct worker source = start_worker(), target = start_worker();
    uint64_t from = map(source, 0, 48 * PAGE);
    ask(source, OP_FILL, from, 48 * PAGE, 7, 0);
    ask(source, OP_MPROTECT, from + 16 * PAGE, 16 * PAGE, PROT_READ, 0);
    for (int fixed = 0; fixed < 2; fixed++) {
        if (fixed) map(target, PLACE - 3 * PAGE, 60 * PAGE);
        long at = duplicate(source, target, PUSH, from, 48 * PAGE, PLACE, fixed ? PVMMAP_FIXED : PVMMAP_FIXED_NOREPLACE);
        EXPECT(at, PLACE);
        EXPECT(ask(target, OP_COUNT_WRONG, at, 48 * PAGE, 7, 0), 0);
        EXPECT(ask(target, OP_SMAPS, at, 48 * PAGE, SMAPS_VMAS, 0), 3);
        EXPECT(ask(target, OP_SMAPS, at, 48 * PAGE, SMAPS_FLAGS, FLAG('w', 'r')), 2);
        EXPECT(same_frames(source, from, target, at, 48 * PAGE), 48);
        ask(target, OP_MPROTECT, at, 48 * PAGE, PROT_READ | PROT_WRITE, 0);
        EXPECT(ask(target, OP_FORK_AND_CHECK, at, 48 * PAGE, 7, 0), 0);
    }
    end_worker(source);
    end_worker(target);
}

static void chains(void)
{
    struct worker a = start_worker(), b = start_worker(), c = start_worker();
    uint64_t x = map(a, 0, BYTES);
    ask(a, OP_FILL, x, BYTES, 7, 0);
    long y = duplicate(a, b, PUSH, x, BYTES, 0, 0), z = duplicate(b, c, PULL, y, BYTES, 0, 0), w = duplicate(c, a, PUSH, z, BYTES, 0, 0);
    CHECK(y > 0 && z > 0 && w > 0);
    /* The same pages twice in one process, and in two others. */
    EXPECT(same_frames(a, x, a, w, BYTES), N);
    EXPECT(ask(a, OP_SMAPS, w, 0, SMAPS_PSS, 0), BYTES / 4096);
    ask(a, OP_FILL, w, 8 * PAGE, 8, 0);
    EXPECT(ask(a, OP_COUNT_WRONG, x, BYTES, 7, 0), 0);
    EXPECT(ask(b, OP_COUNT_WRONG, y, BYTES, 7, 0), 0);
    EXPECT(ask(c, OP_COUNT_WRONG, z, BYTES, 7, 0), 0);
    EXPECT(ask(a, OP_COUNT_WRONG, w, 8 * PAGE, 8, 0), 0);
    for (int i = 0; i < 4; i++)
        EXPECT(ask(b, OP_MREMAP, y + i * BYTES / 4, BYTES / 4, PLACE + i * BYTES / 4, 0), PLACE + i * BYTES / 4);
    ask(a, OP_MUNMAP, x, BYTES, 0, 0);
    /* Reclaimed through the twins only. */
    put(GROUP "/memory.reclaim", "512M");
    EXPECT(ask(b, OP_COUNT_WRONG, PLACE, BYTES, 7, 0), 0);
    EXPECT(ask(c, OP_COUNT_WRONG, z, BYTES, 7, 0), 0);
    EXPECT(ask(a, OP_PEEK, w + 20 * PAGE, 0, 0, 0), pattern(7, 20 * PAGE));
    end_worker(a);
    ask(b, OP_FILL, PLACE, BYTES, 9, 0);
    EXPECT(ask(c, OP_COUNT_WRONG, z, BYTES, 7, 0), 0);
    end_worker(b);
    end_worker(c);
}

static void within_one_process(void)
{
    struct worker worker = start_worker();
    uint64_t from = map(worker, PLACE, BYTES);
    ask(worker, OP_FILL, from, BYTES, 7, 0);
    long at = duplicate(worker, worker, PULL, from, BYTES, 0, 0);
    CHECK(at > 0);
    EXPECT(same_frames(worker, from, worker, at, BYTES), N);
    /* Right beside the source: one page table holds both. */
    EXPECT(duplicate(worker, worker, PUSH, from, BYTES, PLACE + BYTES, PVMMAP_FIXED), PLACE + BYTES);
    EXPECT(duplicate(worker, worker, PUSH, from, BYTES, PLACE + BYTES, PVMMAP_FIXED), PLACE + BYTES);
    EXPECT(duplicate(worker, worker, PUSH, from + PAGE, BYTES, PLACE + 2 * BYTES, PVMMAP_FIXED), PLACE + 2 * BYTES);
    EXPECT(same_frames(worker, from, worker, PLACE + BYTES, BYTES), N);
    ask(worker, OP_FILL, from, BYTES, 8, 0);
    EXPECT(ask(worker, OP_COUNT_WRONG, PLACE + BYTES, BYTES, 7, 0), 0);
    EXPECT(ask(worker, OP_COUNT_WRONG, at, BYTES, 7, 0), 0);
    EXPECT(ask(worker, OP_FORK_AND_CHECK, from, BYTES, 8, 0), 0);
    put(GROUP "/memory.reclaim", "64M");
    EXPECT(ask(worker, OP_COUNT_WRONG, at, BYTES, 7, 0), 0);
    end_worker(worker);
}

static void move_with(enum direction direction, bool replace, bool self)
{
    struct worker source = start_worker(), target = self ? source : start_worker();
    uint64_t from = map(source, PLACE / 2, BYTES);
    ask(source, OP_FILL, from, BYTES, 7, 0);
    uint64_t frame = FRAME((uint64_t)ask(source, OP_PAGEMAP, from + 8 * PAGE, 0, 0, 0));
    if (replace) {
        map(target, PLACE, BYTES);
        ask(target, OP_FILL, PLACE, BYTES, 1, 0);
    }
    EXPECT(duplicate(source, target, direction, from + 8 * PAGE, 16 * PAGE, PLACE + 4 * PAGE, PVMMAP_MOVE | (replace ? PVMMAP_FIXED : PVMMAP_FIXED_NOREPLACE)),
           PLACE + 4 * PAGE);
    EXPECT(ask(source, OP_MADVISE, from + 8 * PAGE, 16 * PAGE, MADV_NORMAL, 0), -ENOMEM);      /* not mapped */
    EXPECT(ask(source, OP_PEEK, from + 7 * PAGE, 0, 0, 0), pattern(7, 7 * PAGE));
    EXPECT(ask(source, OP_PEEK, from + 24 * PAGE, 0, 0, 0), pattern(7, 24 * PAGE));
    EXPECT(FRAME((uint64_t)ask(target, OP_PAGEMAP, PLACE + 4 * PAGE, 0, 0, 0)), frame);
    for (int i = 0; i < 16; i++) EXPECT(ask(target, OP_PEEK, PLACE + (4 + i) * PAGE, 0, 0, 0), pattern(7, (8 + i) * PAGE));
    /* Nobody else has the pages: writing copies nothing. */
    ask(target, OP_FILL, PLACE + 4 * PAGE, 16 * PAGE, 9, 0);
    EXPECT(FRAME((uint64_t)ask(target, OP_PAGEMAP, PLACE + 4 * PAGE, 0, 0, 0)), frame);
    if (replace) EXPECT(ask(target, OP_PEEK, PLACE + 3 * PAGE, 0, 0, 0), pattern(1, 3 * PAGE));
    end_worker(source);
    if (!self) end_worker(target);
}
static void move(void)
{
    for (int i = 0; i < 8; i++) move_with(i & 1, i & 2, i & 4);
}

static void files_and_shared_memory(void)
{
    struct worker source = start_worker(), target = start_worker();
    for (int replace = 0; replace < 2; replace++) {
        uint64_t flags = replace ? PVMMAP_FIXED : PVMMAP_FIXED_NOREPLACE;
        if (replace) map(target, PLACE, BYTES);
        /* Shared stays shared, both ways. */
        uint64_t shared = ask(source, OP_MMAP_FILE, 0, BYTES, MAP_SHARED, 7);
        EXPECT(duplicate(source, target, PUSH, shared, BYTES, PLACE, flags), PLACE);
        EXPECT(ask(target, OP_COUNT_WRONG, PLACE, BYTES, 7, 0), 0);
        ask(source, OP_POKE, shared, 123, 0, 0);
        EXPECT(ask(target, OP_PEEK, PLACE, 0, 0, 0), 123);
        ask(target, OP_POKE, PLACE + PAGE, 321, 0, 0);
        EXPECT(ask(source, OP_PEEK, shared + PAGE, 0, 0, 0), 321);
        EXPECT(ask(target, OP_SMAPS, PLACE, 0, SMAPS_FLAGS, FLAG('s', 'h')), 1);
        /* A private file mapping: what was changed, and the file for the rest. */
        uint64_t private = ask(source, OP_MMAP_FILE, 0, BYTES, MAP_PRIVATE, 7);
        ask(source, OP_FILL, private, 8 * PAGE, 8, 0);
        EXPECT(ask(source, OP_PEEK, private + 20 * PAGE, 0, 0, 0), pattern(7, 20 * PAGE));
        EXPECT(duplicate(source, target, PULL, private, BYTES, PLACE + 2 * BYTES, flags), PLACE + 2 * BYTES);
        EXPECT(ask(target, OP_COUNT_WRONG, PLACE + 2 * BYTES, 8 * PAGE, 8, 0), 0);
        for (int i = 8; i < 64; i++) EXPECT(ask(target, OP_PEEK, PLACE + 2 * BYTES + i * PAGE, 0, 0, 0), pattern(7, i * PAGE));
        EXPECT(same_frames(source, private, target, PLACE + 2 * BYTES, 8 * PAGE), 8);
        ask(target, OP_FILL, PLACE + 2 * BYTES, BYTES, 9, 0);
        EXPECT(ask(source, OP_COUNT_WRONG, private, 8 * PAGE, 8, 0), 0);
        EXPECT(ask(source, OP_PEEK, private + 30 * PAGE, 0, 0, 0), pattern(7, 30 * PAGE));
        EXPECT(ask(target, OP_MUNMAP, PLACE + 2 * BYTES, BYTES, 0, 0), 0);
    }
    end_worker(source);
    EXPECT(ask(target, OP_PEEK, PLACE + PAGE, 0, 0, 0), 321);
    end_worker(target);
}

static void pool_of_huge_pages(void)
{
    EXPECT(put("/proc/sys/vm/nr_hugepages", "8"), 0);
    struct worker source = start_worker(), target = start_worker();
    uint64_t shared = ask(source, OP_MMAP_FILE, 0, 2 * HUGEPAGE, MAP_SHARED | MAP_HUGETLB, 7);
    CHECK((long)shared > 0);
    long at = duplicate(source, target, PUSH, shared, 2 * HUGEPAGE, 0, 0);
    CHECK(at > 0 && at % HUGEPAGE == 0);
    EXPECT(ask(target, OP_COUNT_WRONG, at, 2 * HUGEPAGE, 7, 0), 0);
    ask(target, OP_POKE, at, 5, 0, 0);
    EXPECT(ask(source, OP_PEEK, shared, 0, 0, 0), 5);
    EXPECT(ask(target, OP_SMAPS, at, 0, SMAPS_FLAGS, FLAG('h', 't')), 1);
    EXPECT(duplicate(source, target, PULL, shared, PAGE, 0, 0), -EINVAL);
    EXPECT(duplicate(source, target, PULL, shared, HUGEPAGE, PLACE + PAGE, PVMMAP_FIXED), -EINVAL);
    /* In the place of each other and of small pages. */
    map(target, PLACE - PAGE, HUGEPAGE + 2 * PAGE);
    EXPECT(duplicate(source, target, PULL, shared, HUGEPAGE, PLACE, PVMMAP_FIXED), PLACE);
    EXPECT(ask(target, OP_PEEK, PLACE, 0, 0, 0), 5);
    uint64_t small = map(source, 0, HUGEPAGE);
    ask(source, OP_FILL, small, HUGEPAGE, 6, 0);
    EXPECT(duplicate(source, target, PULL, small, HUGEPAGE, PLACE, PVMMAP_FIXED), PLACE);
    EXPECT(ask(target, OP_COUNT_WRONG, PLACE, HUGEPAGE, 6, 0), 0);
    end_worker(source);
    end_worker(target);
    EXPECT(put("/proc/sys/vm/nr_hugepages", "0"), 0);
}

static uint64_t special(const char *name)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    uint64_t start = 0;
    while (!start && fgets(line, sizeof line, file))
        if (strstr(line, name)) sscanf(line, "%lx-", &start);
    fclose(file);
    return start;
}

static void refused_kinds(void)
{
    struct worker target = start_worker(), source = start_worker();
    EXPECT(call(-target.pid, special("[vdso]"), PAGE, 0, 0), -EFAULT);
    EXPECT(call(-target.pid, special("[vvar]"), PAGE, 0, 0), -EFAULT);
    uint64_t secret = ask(source, OP_SECRETMEM, 0, PAGE, 0, 0);
    EXPECT(duplicate(source, target, PULL, secret, PAGE, 0, 0), -EFAULT);
    uint64_t guarded = map(source, 0, BYTES);
    EXPECT(ask(source, OP_UFFD, guarded, BYTES, 0, 0), 0);
    EXPECT(duplicate(source, target, PULL, guarded, BYTES, 0, 0), -EOPNOTSUPP);
    /* Sealed: may be copied, not moved. */
    uint64_t sealed = (uint64_t)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(syscall(462 /* mseal */, sealed, PAGE, 0), 0);
    EXPECT(call(-target.pid, sealed, PAGE, 0, PVMMAP_MOVE), -EFAULT);
    CHECK(call(-target.pid, sealed, PAGE, 0, 0) > 0);
    end_worker(source);
    end_worker(target);
}

const struct test contract_tests[] = {
    { "push", push }, { "pull", pull }, { "shares-frames", shares_frames }, { "untouched-pages", untouched_pages }, { "placement", placement },
    { "arguments", arguments }, { "permission", permission }, { "limits", limits }, { "attributes", attributes }, { "several-vmas", several_vmas },
    { "chains", chains }, { "within-one-process", within_one_process }, { "move", move }, { "files-and-shared-memory", files_and_shared_memory },
    { "pool-of-huge-pages", pool_of_huge_pages }, { "refused-kinds", refused_kinds }, { NULL, NULL },
};
