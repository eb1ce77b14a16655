// SPDX-License-Identifier: GPL-2.0
/* Every allocation of the call fails once; the call is undone each time. And the limit of a group of processes is reached in it. */
#include "harness.h"

static long numbers_of(pid_t pid, const char *file, const char *key)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, key, strlen(key))) value = atol(line + strlen(key));
    if (status) fclose(status);
    return value;
}

/* Of this thread; opened before anything is made to fail. */
static int fail_file = -1;

/* The nth allocation from now on fails; 0 for none. */
static void fail_nth(int n)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d", n);
    EXPECT(pwrite(fail_file, text, length, 0), length);
}

/* How many allocations there still are until one fails: 0 if it has. */
static int left(void)
{
    char text[16] = { 0 };
    CHECK(pread(fail_file, text, sizeof text - 1, 0) > 0);
    return atoi(text);
}

struct scene {
    const char *name;
    uint64_t flags;
    bool files, replace, self;
};

/* Until the call gets through without reaching the nth: that many allocations were made to fail. */
static void scene(const struct scene *scene)
{
    struct worker target = start_worker();
    uint64_t length = 40 * PAGE, from = PLACE / 2, to = PLACE;
    int failed = 0, survived = 0;
    for (int n = 1; n < 2000; n++) {
        /* A source with a readonly part, a swapped part, and one of a file. */
        munmap((void *)from, 4 * HUGEPAGE);
        mmap((void *)from, 4 * HUGEPAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        fill(from, length, 7);
        mprotect((void *)(from + 10 * PAGE), 10 * PAGE, PROT_READ);
        if (scene->files) {
            int file = memfd_create("failures", 0);
            if (ftruncate(file, 10 * PAGE)) CHECK(false);
            mmap((void *)(from + 20 * PAGE), 10 * PAGE, PROT_READ | PROT_WRITE, (n & 1 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, file, 0);
            fill(from + 20 * PAGE, 10 * PAGE, 8);
            close(file);
        }
        madvise((void *)from, 5 * PAGE, MADV_PAGEOUT);
        pid_t pid = scene->self ? getpid() : -target.pid;
        if (scene->replace && scene->self) {
            mmap((void *)(to - PAGE), length + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            fill(to - PAGE, length + 2 * PAGE, 1);
        } else if (scene->replace) {
            map(target, to - PAGE, length + 2 * PAGE);
            ask(target, OP_FILL, to - PAGE, length + 2 * PAGE, 1, 0);
        }
        long maps = ask(target, OP_MAPS_HASH, 0, 0, 0, 0), size = numbers_of(target.pid, "status", "VmSize:"), data = numbers_of(target.pid, "status", "VmData:");
        long own = numbers_of(getpid(), "status", "VmSize:");
        uint64_t old = scene->replace && !scene->self ? 1 : 0;

        fail_nth(n);
        long result = call(pid, from + 5 * PAGE, length - 10 * PAGE, to, scene->flags | (scene->replace ? PVMMAP_FIXED : PVMMAP_FIXED_NOREPLACE));
        int rest = left();
        fail_nth(0);

        if (result < 0) {
            failed++;
            EXPECT(result, -ENOMEM);
            EXPECT(ask(target, OP_MAPS_HASH, 0, 0, 0, 0), maps);
            EXPECT(numbers_of(target.pid, "status", "VmSize:"), size);
            EXPECT(numbers_of(target.pid, "status", "VmData:"), data);
            EXPECT(numbers_of(getpid(), "status", "VmSize:"), own);
            if (old) EXPECT(ask(target, OP_COUNT_WRONG, to - PAGE, length + 2 * PAGE, 1, 0), 0);
            if (scene->replace && scene->self) EXPECT(count_wrong(to - PAGE, length + 2 * PAGE, 1), 0);
            for (int i = 0; i < 40; i++)
                if (i < 20 || i >= 30 || !scene->files) EXPECT(*(volatile uint64_t *)(from + i * PAGE), pattern(7, i * PAGE));
        } else {
            survived += rest == 0;
            EXPECT(result, to);
            if (scene->self) {
                munmap((void *)to, length);
            } else {
                EXPECT(ask(target, OP_PEEK, to, 0, 0, 0), pattern(7, 5 * PAGE));
                EXPECT(ask(target, OP_PEEK, to + 10 * PAGE, 0, 0, 0), pattern(7, 15 * PAGE));
                ask(target, OP_MUNMAP, to, length, 0, 0);
            }
            if (rest > 0) break;
        }
    }
    printf("  %s: %d allocations failed the call, %d did not\n", scene->name, failed, survived);
    CHECK(failed > 5);
    munmap((void *)from, 4 * HUGEPAGE);
    if (scene->self) munmap((void *)(to - PAGE), length + 2 * PAGE);
    end_worker(target);
}

static void every_allocation(void)
{
    static const struct scene scenes[] = {
        { "new", 0, false, false, false },
        { "new, files", 0, true, false, false },
        { "replaces", 0, false, true, false },
        { "replaces, files", 0, true, true, false },
        { "moves", PVMMAP_MOVE, true, false, false },
        { "moves and replaces", PVMMAP_MOVE, true, true, false },
        { "within one process", 0, true, false, true },
        { "within one process, moves and replaces", PVMMAP_MOVE, true, true, true },
    };
    /* Also allocations that may reclaim memory, single pages, and page tables; nothing in the log. */
    put("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
    put("/sys/kernel/debug/failslab/verbose", "0");
    put("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
    put("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
    put("/sys/kernel/debug/fail_page_alloc/min-order", "0");
    put("/sys/kernel/debug/fail_page_alloc/verbose", "0");
    fail_file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
    CHECK(fail_file >= 0);
    static const char *const caches[] = { "anon_vma_chain", "anon_vma", "vm_area_struct" };
    long before[3];
    for (int i = 0; i < 3; i++) before[i] = slab_objects(caches[i]);
    for (unsigned i = 0; i < sizeof scenes / sizeof scenes[0]; i++) scene(&scenes[i]);
    close(fail_file);
    for (int i = 0; i < 3; i++) CHECK(slab_objects(caches[i]) - before[i] < 150);
}

/* The target's group of processes reaches its limit: the target may be killed, nobody else, and nothing hangs. */
static void out_of_memory(void)
{
    mkdir("/sys/fs/cgroup/small", 0755);
    for (int i = 0; i < 6; i++) {
        struct worker source = start_worker(), target = start_worker();
        char pid[16];
        uint64_t length = 4096 * PAGE, from = map(source, 0, length);
        ask(source, OP_MADVISE, from, length, MADV_NOHUGEPAGE, 0);
        ask(source, OP_FILL, from, length, 7, 0);
        if (i & 1) ask(source, OP_MADVISE, from, length, MADV_PAGEOUT, 0);
        snprintf(pid, sizeof pid, "%d", target.pid);
        EXPECT(put("/sys/fs/cgroup/small/cgroup.procs", pid), 0);
        EXPECT(put("/sys/fs/cgroup/small/memory.swap.max", "0"), 0);
        EXPECT(put("/sys/fs/cgroup/small/memory.max", "1M"), 0);
        for (int k = 0; k < 4; k++) {
            /* The page tables alone are too much for the limit after a while. */
            long at = duplicate(source, target, k & 1, from, length, 0, 0);
            if (at > 0) ask(target, OP_FILL, at, length, 8, 0);
        }
        EXPECT(ask(source, OP_COUNT_WRONG, from, length, 7, 0), 0);
        EXPECT(put("/sys/fs/cgroup/small/memory.max", "max"), 0);
        end_worker(target);
        end_worker(source);
    }
}

const struct test failure_tests[] = { { "every-allocation", every_allocation }, { "out-of-memory", out_of_memory }, { NULL, NULL } };
