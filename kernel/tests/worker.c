// SPDX-License-Identifier: GPL-2.0
/* The worker processes: what they do on request, and how they are asked. */
#include "harness.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

struct request { uint64_t operation, a, b, c, d; };

static uint64_t mixed(uint64_t seed, uint64_t place)
{
    uint64_t x = seed * 0x9E3779B97F4A7C15ull + place * 0xBF58476D1CE4E5B9ull;
    x ^= x >> 31;
    return x | 1;
}

uint64_t pattern(uint64_t seed, uint64_t offset) { return seed ? mixed(seed, offset) : 0; }

void fill(uint64_t address, uint64_t length, uint64_t seed)
{
    for (uint64_t offset = 0; offset < length; offset += 64) *(volatile uint64_t *)(address + offset) = pattern(seed, offset);
}

long count_wrong(uint64_t address, uint64_t length, uint64_t seed)
{
    long wrong = 0;
    for (uint64_t offset = 0; offset < length; offset += 64) wrong += *(volatile uint64_t *)(address + offset) != pattern(seed, offset);
    return wrong;
}

static long answer(long result) { return result == -1 ? -errno : result; }

long call(pid_t pid, uint64_t source, uint64_t length, uint64_t destination, uint64_t flags)
{
    return answer(syscall(NR_process_vm_mmap, (long)pid, source, length, destination, flags));
}

uint64_t pagemap(uint64_t address)
{
    uint64_t entry = 0;
    int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pread(file, &entry, 8, address / PAGE * 8) != 8) entry = -1;
    close(file);
    return entry;
}

long smaps(uint64_t address, uint64_t length, int what, int flag)
{
    static const char *keys[] = { "Rss:", "Pss:", "AnonHugePages:", "Swap:" };
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    bool inside = false;
    long result = 0;
    while (fgets(line, sizeof line, file)) {
        uint64_t start, end;
        char *space = strchr(line, ' '), *dash = strchr(line, '-');
        if (dash && space && dash < space && sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            inside = address < end && start < address + (length ? length : 1);
            if (inside && what == SMAPS_VMAS) result++;
            if (inside && what == SMAPS_NAMED && strstr(line, "[anon:twin]")) result++;
        } else if (inside && what <= SMAPS_SWAP && !strncmp(line, keys[what], strlen(keys[what]))) {
            result += atol(line + strlen(keys[what]));
        } else if (inside && what == SMAPS_FLAGS && !strncmp(line, "VmFlags:", 8)) {
            for (char *word = line + 9; word[0] && word[1]; word += 3) result += FLAG(word[0], word[1]) == flag;
        }
    }
    fclose(file);
    return result;
}

/* All of /proc/self/maps but the heap, which the reading itself changes. */
static long maps_hash(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    uint64_t hash = 14695981039346656037ull;
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, "[heap]")) continue;
        for (char *c = line; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
    }
    fclose(file);
    return hash >> 2;
}

static long map_count(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    int c;
    long lines = 0;
    while ((c = fgetc(file)) != EOF) lines += c == '\n';
    fclose(file);
    return lines;
}

/* The pages are pinned for as long as the descriptor is open. */
static long pin(uint64_t address, uint64_t length)
{
    char parameters[256] = { 0 };
    struct iovec range = { (void *)address, length };
    int ring = syscall(SYS_io_uring_setup, 8, parameters);
    if (ring < 0) return -errno;
    return syscall(SYS_io_uring_register, ring, 0 /* IORING_REGISTER_BUFFERS */, &range, 1) ? -errno : ring;
}

static long guard(uint64_t address, uint64_t length)
{
    int file = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .range = { address, length }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (file < 0 || ioctl(file, UFFDIO_API, &api) || ioctl(file, UFFDIO_REGISTER, &range)) return -errno;
    return 0;
}

static long secret_memory(uint64_t length)
{
    int file = syscall(447 /* memfd_secret */, 0);
    if (file < 0 || ftruncate(file, length)) return -errno;
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) *(volatile char *)at = 1;
    return at == MAP_FAILED ? -errno : (long)at;
}

static long fork_and_check(uint64_t address, uint64_t length, uint64_t seed)
{
    int status;
    pid_t child = fork();
    if (!child) {
        bool wrong = count_wrong(address, length, seed);
        fill(address, length, seed + 1);
        _exit(wrong || count_wrong(address, length, seed + 1));
    }
    waitpid(child, &status, 0);
    return (status ? 1000000 : 0) + count_wrong(address, length, seed);
}

/* ---- threads that work until they are stopped ---- */
static atomic_bool stop;
static pthread_t thread;
static uint64_t range_start, range_length;
static long observed[3];

/* Reads the range over and over; every page is the old one, the new one, or neither. */
static void *hammer(void *unused)
{
    uint64_t old = range_length >> 48, new = old + 1, length = range_length & ((1ull << 48) - 1);
    while (!stop)
        for (uint64_t offset = 0; offset < length; offset += PAGE) {
            uint64_t word = *(volatile uint64_t *)(range_start + offset);
            observed[word == pattern(old, offset) ? 0 : word == pattern(new, offset) ? 1 : 2]++;
        }
    return unused;
}

/* Counts up one word in every huge page's range, one after another: at any instant each is at the count of the next one or one ahead of it. */
static void *count_up(void *unused)
{
    for (uint64_t count = 1; !stop; count++)
        for (uint64_t offset = 0; offset < range_length; offset += HUGEPAGE) *(volatile uint64_t *)(range_start + offset) = count;
    return unused;
}

static void *fork_children(void *unused)
{
    while (!stop) {
        pid_t child = fork();
        if (!child) _exit(0);
        waitpid(child, NULL, 0);
        observed[0]++;
    }
    return unused;
}

/*
 * Pins a page and writes to it. Whatever is called meanwhile, the page that is mapped stays the one that is pinned: its frame is that of
 * the moment before the write.
 */
static void *pin_pages(void *unused)
{
    for (uint64_t count = 1; !stop; count++) {
        uint64_t address = range_start + count % (range_length / PAGE) * PAGE;
        *(volatile uint64_t *)address = count;
        int ring = pin(address, PAGE);
        if (ring < 0) { observed[1]++; continue; }
        uint64_t before = FRAME(pagemap(address));
        *(volatile uint64_t *)address = count + 1;
        observed[2] += FRAME(pagemap(address)) != before;
        observed[0]++;
        close(ring);
    }
    return unused;
}

static long start_thread(void *(*run)(void *), uint64_t start, uint64_t length)
{
    range_start = start;
    range_length = length;
    memset(observed, 0, sizeof observed);
    stop = false;
    return -pthread_create(&thread, NULL, run, NULL);
}

static long stop_thread(int which)
{
    if (!stop) {
        stop = true;
        pthread_join(thread, NULL);
    }
    return observed[which];
}

static long perform(const struct request *q)
{
    switch (q->operation) {
    case OP_MMAP:
        return answer((long)mmap((void *)q->a, q->b, q->c ? (int)q->c : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | q->d, -1, 0));
    case OP_MMAP_FILE: {
        /* A memfd, or with c == MAP_HUGETLB one of huge pages, filled with the seed d; the flags in c. */
        int file = memfd_create("test", q->c & MAP_HUGETLB ? MFD_HUGETLB : 0);
        if (file < 0 || ftruncate(file, q->b)) return -errno;
        char *whole = mmap(NULL, q->b, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (whole == MAP_FAILED) return -errno;
        fill((uint64_t)whole, q->b, q->d);
        munmap(whole, q->b);
        return answer((long)mmap((void *)q->a, q->b, PROT_READ | PROT_WRITE, (int)q->c & (MAP_SHARED | MAP_PRIVATE), file, 0));
    }
    case OP_FILL: fill(q->a, q->b, q->c); return 0;
    case OP_COUNT_WRONG: return count_wrong(q->a, q->b, q->c);
    case OP_PEEK: return *(volatile long *)q->a;
    case OP_POKE: *(volatile uint64_t *)q->a = q->b; return 0;
    case OP_MADVISE: return answer(madvise((void *)q->a, q->b, q->c));
    case OP_MUNMAP: return answer(munmap((void *)q->a, q->b));
    case OP_MREMAP: return answer((long)mremap((void *)q->a, q->b, q->b, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)q->c));
    case OP_MPROTECT: return answer(mprotect((void *)q->a, q->b, q->c));
    case OP_MLOCK: return answer(mlock((void *)q->a, q->b));
    case OP_PAGEMAP: return (long)pagemap(q->a);
    case OP_SMAPS: return smaps(q->a, q->b, q->c, q->d);
    case OP_CALL: return call((int)(q->d >> 32), q->a, q->b, q->c, q->d & 0xffffffff);
    case OP_FORK_AND_CHECK: return fork_and_check(q->a, q->b, q->c);
    case OP_SETUID: return answer(setresuid(q->a, q->a, q->a));
    case OP_RLIMIT: {
        struct rlimit limit = { q->b, q->b };
        return answer(setrlimit(q->a, &limit));
    }
    case OP_PIN: return pin(q->a, q->b);
    case OP_UFFD: return guard(q->a, q->b);
    case OP_NAME: return answer(prctl(PR_SET_VMA, 0 /* PR_SET_VMA_ANON_NAME */, q->a, q->b, "twin"));
    case OP_SECRETMEM: return secret_memory(q->b);
    case OP_MAPS_HASH: return maps_hash();
    case OP_MAP_COUNT: return map_count();
    case OP_START_HAMMER: return start_thread(hammer, q->a, q->b);
    case OP_START_COUNTERS: return start_thread(count_up, q->a, q->b);
    case OP_START_FORKS: return start_thread(fork_children, 0, 0);
    case OP_START_PINS: return start_thread(pin_pages, q->a, q->b);
    case OP_STOP_HAMMER: case OP_STOP_COUNTERS: case OP_STOP_FORKS: case OP_STOP_PINS: return stop_thread(q->a);
    case OP_EXIT: _exit(0);
    }
    return 0;
}

void serve(int socket)
{
    struct request request;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(socket, &request, sizeof request) == sizeof request) {
        long result = perform(&request);
        if (write(socket, &result, sizeof result) != sizeof result) break;
    }
    _exit(0);
}

struct worker start_worker_unready(void)
{
    int pair[2];
    struct worker worker;
    char number[16];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) abort();
    worker.pid = fork();
    if (!worker.pid) {
        snprintf(number, sizeof number, "%d", dup(pair[1]));
        execl("/proc/self/exe", "worker", "serve", number, NULL);
        _exit(127);
    }
    close(pair[1]);
    worker.socket = pair[0];
    return worker;
}

struct worker start_worker(void)
{
    struct worker worker = start_worker_unready();
    ask(worker, OP_NOTHING, 0, 0, 0, 0);
    return worker;
}

long ask(struct worker worker, enum operation operation, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct request request = { operation, a, b, c, d };
    long result;
    if (write(worker.socket, &request, sizeof request) == sizeof request && read(worker.socket, &result, sizeof result) == sizeof result)
        return result;
    return -EPIPE;
}

void end_worker(struct worker worker)
{
    ask(worker, OP_EXIT, 0, 0, 0, 0);
    close(worker.socket);
    waitpid(worker.pid, NULL, 0);
}

long map(struct worker worker, uint64_t address, uint64_t length) { return ask(worker, OP_MMAP, address, length, 0, address ? MAP_FIXED : 0); }

long duplicate(struct worker source, struct worker target, enum direction direction, uint64_t address, uint64_t length, uint64_t destination,
               uint64_t flags)
{
    struct worker caller = direction == PUSH ? source : target;
    int pid = direction == PUSH ? -target.pid : source.pid;
    return ask(caller, OP_CALL, address, length, destination, (uint64_t)(uint32_t)pid << 32 | flags);
}

/* The entries of a range, of any process; the caller frees them. */
static uint64_t *entries(pid_t pid, uint64_t address, uint64_t length)
{
    char path[64];
    uint64_t size = length / PAGE * 8, *result = calloc(1, size);
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || pread(file, result, size, address / PAGE * 8) != (ssize_t)size) memset(result, 0, size);
    close(file);
    return result;
}

long same_frames(struct worker a, uint64_t at_a, struct worker b, uint64_t at_b, uint64_t length)
{
    uint64_t *one = entries(a.pid, at_a, length), *other = entries(b.pid, at_b, length);
    long same = 0;
    for (uint64_t i = 0; i < length / PAGE; i++) same += PRESENT(one[i]) && PRESENT(other[i]) && FRAME(one[i]) && FRAME(one[i]) == FRAME(other[i]);
    free(one);
    free(other);
    return same;
}

long swapped_pages(struct worker worker, uint64_t address, uint64_t length)
{
    uint64_t *all = entries(worker.pid, address, length);
    long swapped = 0;
    for (uint64_t i = 0; i < length / PAGE; i++) swapped += SWAPPED(all[i]);
    free(all);
    return swapped;
}
