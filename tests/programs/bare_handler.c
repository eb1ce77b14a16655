// The floor of what a page that a userfaultfd delivers can cost: a handler in a process of its own that does nothing but poll, read and
// UFFDIO_COPY one page, always the same. Prints p50, p99 and p99.9 of the accesses in nanoseconds.
// usage: bare_handler BYTES STRIDE read|write
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void handle(int uffd, void *page)
{
    for (;;) {
        struct pollfd p = { .fd = uffd, .events = POLLIN };
        poll(&p, 1, -1);
        struct uffd_msg m;
        if (read(uffd, &m, sizeof m) != sizeof m) continue;
        struct uffdio_copy c = { .dst = m.arg.pagefault.address & ~4095ull, .src = (uintptr_t)page, .len = 4096 };
        if (ioctl(uffd, UFFDIO_COPY, &c) && errno != EEXIST) _exit(1);
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    size_t bytes = strtoull(argv[1], 0, 0), stride = strtoull(argv[2], 0, 0), count = bytes / stride;
    int is_write = !strcmp(argv[3], "write");
    int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (uffd < 0) fail("userfaultfd");
    struct uffdio_api api = { .api = UFFD_API };
    if (ioctl(uffd, UFFDIO_API, &api)) fail("UFFDIO_API");
    char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || page == MAP_FAILED) fail("mmap");
    if (madvise(memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL) fail("madvise");
    memset(page, 1, 4096);
    struct uffdio_register r = { .range = { (uintptr_t)memory, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (ioctl(uffd, UFFDIO_REGISTER, &r)) fail("UFFDIO_REGISTER");
    pid_t handler = fork();
    if (handler < 0) fail("fork");
    if (!handler) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memset(page, 2, 4096);
        handle(uffd, page);
    }
    size_t *order = malloc(count * sizeof *order);
    uint64_t *times = malloc(count * sizeof *times);
    if (!order || !times) fail("malloc");
    for (size_t i = 0; i < count; i++) order[i] = i;
    srand(1);
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = rand() % (i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < count; i++) {
        volatile char *at = memory + order[i] * stride;
        uint64_t start = now();
        if (is_write) *at = 3;
        else if (*at != 2) return 1;
        times[i] = now() - start;
    }
    kill(handler, SIGKILL);
    waitpid(handler, 0, 0);
    qsort(times, count, sizeof *times, ascending);
    printf("%lu %lu %lu\n", times[(size_t)(0.5 * (count - 1))], times[(size_t)(0.99 * (count - 1))], times[(size_t)(0.999 * (count - 1))]);
    return 0;
}
