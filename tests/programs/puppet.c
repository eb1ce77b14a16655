/*
 * A process that does what a test tells it: puppet SOCKET. Each line on the socket is a command, each answer a line "ok ..." or "err ERRNO".
 * Numbers are decimal or 0x-hexadecimal. What can be done with one system call is done with "syscall"; see ConformanceTests/Puppet.cs.
 */
#define _GNU_SOURCE
#include "pattern.h"
#include "stage.h"
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

typedef uint64_t u64;

enum { MOST_THREADS = 256, IDLE_KINDS = 5 };
static char *path, *self;
static char scratch[1 << 16];
typedef long call_type(pid_t, unsigned long, unsigned long, unsigned long, unsigned long);
static call_type *process_vm_mmap;

/* ---- reading memory that may not be there ---- */

/* volatile: the compiler does not know that a plain read can jump */
static _Thread_local sigjmp_buf *volatile bail;
static _Thread_local volatile int bailed;

static void on_fault(int signal)
{
    if (!bail) _exit(128 + signal);
    bailed = signal;
    /* the runtime of a library loaded since then calls this from its own handler, with the signal blocked */
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, signal);
    pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
    siglongjmp(*bail, 1);
}

static void catch_faults(void)
{
    struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

/* Runs the statement; yields the signal that a fault in it raised, or 0. */
#define FAULT_IN(...) ({ \
        sigjmp_buf here; \
        int signal = 0; \
        if (sigsetjmp(here, 0) == 0) { bail = &here; __VA_ARGS__; } \
        else signal = bailed; \
        bail = NULL; \
        signal; })

struct census { u64 good, zero, wrong, sigbus, segv, at; char kind[96]; };

static void complain(struct census *seen, u64 at, const char *kind, u64 word, u64 first)
{
    if (seen->at) return;
    seen->at = at;
    snprintf(seen->kind, sizeof seen->kind, "%s;word=%lu;holds=seed:%lu,page:%lu", kind, word, first >> 40, first & 0xffffffffff);
}

static void examine(const volatile u64 *words, u64 wanted, struct census *seen)
{
    u64 bad = WORDS, first = words[0];
    int zero = 1;
    for (u64 i = 0; i < WORDS; i++) {
        u64 word = words[i];
        if (word) zero = 0;
        if (bad == WORDS && word != (wanted ? word_at(wanted, i) : 0)) bad = i;
    }
    if (bad == WORDS) { seen->good++; return; }
    if (zero) seen->zero++; else seen->wrong++;
    complain(seen, (u64)words, zero ? "zero" : bad == 0 ? "other" : "torn", bad, first);
}

/* Every STEPth page holds the pattern, the others zeros. */
static struct census take_census(u64 start, u64 length, u64 seed, u64 page, u64 step)
{
    struct census seen = { 0 };
    for (u64 at = start; at < start + length; at += PAGE, page++) {
        u64 wanted = page % step == 0 ? first_word(seed, page) : 0;
        int fault = FAULT_IN(examine((volatile u64 *)at, wanted, &seen));
        if (!fault) continue;
        if (fault == SIGBUS) seen.sigbus++; else seen.segv++;
        complain(&seen, at, fault == SIGBUS ? "sigbus" : "segv", 0, 0);
    }
    return seen;
}

static u64 sum(u64 start, u64 length)
{
    u64 hash = 14695981039346656037u;
    for (u64 at = start; at < start + length; at += 8) hash = (hash ^ *(volatile u64 *)at) * 1099511628211u;
    return hash;
}

/* ---- threads ---- */

static pthread_t threads[MOST_THREADS];
static int thread_count, ended; /* after "join" the figures stay until the next thread starts */
static atomic_int halt;
struct work { u64 start, length, old, new, index; _Atomic u64 seen_old, seen_new, seen_zero, seen_other, faults, backward, rounds; };
static struct work works[MOST_THREADS];

static void launch(void *(*body)(void *), struct work work)
{
    if (ended) thread_count = ended = 0;
    if (thread_count == MOST_THREADS) return;
    work.index = thread_count;
    works[thread_count] = work;
    pthread_create(&threads[thread_count], NULL, body, &works[thread_count]);
    thread_count++;
}

static void join_all(void)
{
    halt = 1;
    for (int i = 0; i < thread_count && !ended; i++) pthread_join(threads[i], NULL);
    halt = 0;
    ended = 1;
}

/* Writes the number of the round into the second word of each of its pages, in order: at any instant at most two numbers are there,
   and the higher one before the lower. */
static void *writer(void *argument)
{
    struct work *my = argument;
    for (u64 round = 1; !halt; round++) {
        for (u64 at = my->start; at < my->start + my->length && !halt; at += PAGE) ((volatile u64 *)at)[1] = round;
        my->rounds++;
    }
    return NULL;
}

/* A relay: low[0] counts, high[0] follows low[0], low[64] follows high[0]. At any instant high[0] <= low[0] and low[64] <= high[0]. */
static void *count_up(void *argument)
{
    struct work *my = argument;
    for (_Atomic u64 *low = (_Atomic u64 *)my->start; !halt; my->rounds++) (*low)++;
    return NULL;
}

static void *follow(void *argument)
{
    struct work *my = argument;
    _Atomic u64 *from = (_Atomic u64 *)my->old, *to = (_Atomic u64 *)my->new;
    for (; !halt; my->rounds++) *to = *from;
    return NULL;
}

/* Starts the next one, and ends: there are always as many, and none for long. */
static void *chain(void *argument)
{
    pthread_t next;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 18);
    while (!halt && pthread_create(&next, &attributes, chain, argument)) usleep(10);
    return NULL;
}

/* Reads pages of a range that is replaced under it: OLD until some instant, NEW from then on, nothing else ever. */
static void *hammer(void *argument)
{
    struct work *my = argument;
    u64 pages = my->length / PAGE, x = 88172645463325252u + my->index;
    int replaced = 0;
    while (!halt) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        u64 page = x % pages;
        volatile u64 word = 0;
        if (FAULT_IN(word = *(volatile u64 *)(my->start + page * PAGE))) { my->faults++; continue; }
        my->rounds++;
        if (word == first_word(my->old, page)) { my->seen_old++; my->backward += replaced; }
        else if (word == first_word(my->new, page)) { my->seen_new++; replaced = 1; }
        else if (word == 0) my->seen_zero++;
        else my->seen_other++;
    }
    return NULL;
}

/* Slots of three pages. One thread moves the first page of each away, to the third or to a place of its own; another, as soon as the first
   is free, moves the second there. Neither knows of the other, as with realloc(). */
static volatile u64 slot_at, slot_to, slot_done;

static void *mover(void *argument)
{
    for (u64 at = 0; !halt;) {
        if (slot_at == at) continue;
        at = slot_at;
        if (at) mremap((void *)at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)slot_to);
        slot_done = at;
    }
    return argument;
}

static void cross(u64 start, u64 slots, u64 seed, u64 apart)
{
    unsigned char present;
    struct census seen = { 0 };
    launch(mover, (struct work){ 0 });
    for (u64 i = 0; i < slots; i++) {
        u64 at = start + 3 * i * PAGE;
        slot_to = apart ? apart + 2 * i * PAGE : at + 2 * PAGE;
        slot_at = at;
        while (mincore((void *)at, PAGE, &present) == 0);
        mremap((void *)(at + PAGE), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)at);
        while (slot_done != at);
        for (int moved = 0; moved < 2; moved++) {
            struct census one = take_census(moved ? slot_to : at, PAGE, seed, 3 * i + !moved, 1);
            seen.good += one.good, seen.zero += one.zero, seen.wrong += one.wrong, seen.sigbus += one.sigbus, seen.segv += one.segv;
            if (!seen.at && one.at) seen.at = one.at, memcpy(seen.kind, one.kind, sizeof seen.kind);
        }
    }
    join_all();
    slot_at = slot_done = 0;
    say("ok %lu %lu %lu %lu %lu %lu %s", seen.good, seen.zero, seen.wrong, seen.sigbus, seen.segv, seen.at, seen.at ? seen.kind : "-");
}

/* Blocked in a system call for good, each in another one and with another signal blocked. */
static void *idle(void *argument)
{
    struct work *my = argument;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 3 + (int)my->index % 20);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    struct timespec age = { .tv_sec = 100000 };
    int word = 0, pair[2] = { -1, -1 };
    char byte;
    long result;
    switch (my->index % IDLE_KINDS) {
        case 0: result = nanosleep(&age, NULL); break;
        case 1: result = syscall(SYS_futex, &word, 0, 0, NULL); break;
        case 2: result = poll(NULL, 0, -1); break;
        case 3: { struct epoll_event event; result = epoll_wait(epoll_create1(0), &event, 1, -1); break; }
        default: result = pipe(pair) == 0 ? read(pair[0], &byte, 1) : -1; break;
    }
    my->new = result == -1 ? errno : 0;
    my->rounds++;
    return NULL;
}

/* ---- commands ---- */

static void born_again(void)
{
    close(stage_fd);
    thread_count = 0;
    enter_stage(path);
}

static void peek(u64 from, u64 length)
{
    static char hex[2 * sizeof scratch + 1];
    if (length > 32768) { say("err %d", EINVAL); return; }
    int fault = FAULT_IN(
        for (u64 i = 0; i < length; i++) {
            unsigned char byte = *(volatile unsigned char *)(from + i);
            hex[2 * i] = "0123456789abcdef"[byte >> 4], hex[2 * i + 1] = "0123456789abcdef"[byte & 15];
        });
    hex[2 * length] = 0;
    if (fault) say("err %d", EFAULT); else say("ok %s", hex);
}

static int digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static void poke(u64 to, const char *hex)
{
    int fault = FAULT_IN(for (; hex[0] && hex[1]; hex += 2, to++) *(volatile char *)to = digit(hex[0]) << 4 | digit(hex[1]));
    if (fault) say("err %d", EFAULT); else say("ok");
}

/* Maps until the kernel refuses: neighbours differ in protection, so none merge. */
static void fragment(u64 most)
{
    u64 last = 0;
    for (u64 made = 0; made < most; made++) {
        void *page = mmap(NULL, PAGE, made % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) break;
        last = (u64)page;
    }
    say("ok %lu", last);
}

static void tally(void)
{
    u64 total[7] = { 0 };
    for (int i = 0; i < thread_count; i++) {
        total[0] += works[i].rounds, total[1] += works[i].seen_old, total[2] += works[i].seen_new, total[3] += works[i].seen_zero;
        total[4] += works[i].seen_other, total[5] += works[i].faults, total[6] += works[i].backward;
    }
    say("ok %lu %lu %lu %lu %lu %lu %lu", total[0], total[1], total[2], total[3], total[4], total[5], total[6]);
}

static void obey(char *line)
{
    char *words[10] = { 0 }, *rest;
    u64 n[10] = { 0 };
    int count = 0;
    for (char *word = strtok_r(line, " ", &rest); word && count < 10; word = strtok_r(NULL, " ", &rest)) {
        words[count] = word;
        n[count++] = *word == '-' ? (u64)strtoll(word, NULL, 0) : strtoull(word, NULL, 0);
    }
#define IS(name) (count > 0 && strcmp(words[0], name) == 0)
    if (IS("syscall")) {
        long result = syscall(n[1], n[2], n[3], n[4], n[5], n[6], n[7]);
        say("ok %ld", result == -1 ? -(long)errno : result);
    } else if (IS("fill")) {
        for (u64 at = n[1], page = n[4]; at < n[1] + n[2]; at += PAGE, page++)
            if (page % n[5] == 0) fill_page((volatile u64 *)at, first_word(n[3], page));
        say("ok");
    } else if (IS("verify")) {
        struct census s = take_census(n[1], n[2], n[3], n[4], n[5]);
        say("ok %lu %lu %lu %lu %lu %lu %s", s.good, s.zero, s.wrong, s.sigbus, s.segv, s.at, s.at ? s.kind : "-");
    } else if (IS("sum")) {
        say("ok %lu", sum(n[1], n[2]));
    } else if (IS("touch")) {
        /* first word of each page, read only: what a program that looks at its memory does */
        u64 taste = 0;
        for (u64 at = n[1]; at < n[1] + n[2]; at += n[3]) taste ^= *(volatile u64 *)at;
        say("ok %lu", taste);
    } else if (IS("peek")) {
        peek(n[1], n[2]);
    } else if (IS("poke")) {
        poke(n[1], count > 2 ? words[2] : "");
    } else if (IS("scratch")) {
        say("ok %lu %lu", (u64)scratch, (u64)sizeof scratch);
    } else if (IS("fork")) {
        pid_t pid = fork();
        if (pid == 0) born_again();
        else say("ok %d", pid < 0 ? -errno : pid);
    } else if (IS("wait")) {
        int status;
        pid_t pid = waitpid((int)n[1], &status, 0);
        if (pid < 0) say("err %d", errno); else say("ok %d %d", pid, status);
    } else if (IS("exec")) {
        execl(self, self, path, NULL);
        say("err %d", errno);
    } else if (IS("exit")) {
        _exit((int)n[1]);
    } else if (IS("writers")) {
        for (u64 i = 0; i < n[1]; i++) {
            u64 share = n[3] / n[1] & ~(PAGE - 1);
            launch(writer, (struct work){ .start = n[2] + i * share, .length = share });
        }
        say("ok");
    } else if (IS("relay")) {
        u64 low = n[1], high = n[2];
        launch(count_up, (struct work){ .start = low });
        launch(follow, (struct work){ .old = low, .new = high });
        launch(follow, (struct work){ .old = high, .new = low + 512 });
        say("ok");
    } else if (IS("chains")) {
        for (u64 i = 0; i < n[1]; i++) chain(NULL);
        say("ok");
    } else if (IS("cross")) {
        cross(n[1], n[2], n[3], n[4]);
    } else if (IS("hammer")) {
        for (u64 i = 0; i < n[1]; i++) launch(hammer, (struct work){ .start = n[2], .length = n[3], .old = n[4], .new = n[5] });
        say("ok");
    } else if (IS("idle")) {
        /* born with every signal blocked: a test may send a thread its own before it has got to its mask */
        sigset_t all, mine;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &mine);
        for (u64 i = 0; i < n[1]; i++) launch(idle, (struct work){ 0 });
        pthread_sigmask(SIG_SETMASK, &mine, NULL);
        say("ok");
    } else if (IS("awake")) {
        /* idlers whose call has returned: KIND:ERRNO */
        static const char *kinds[IDLE_KINDS] = { "nanosleep", "futex", "poll", "epoll_wait", "read" };
        char list[1024] = "";
        for (int i = 0; i < thread_count; i++)
            if (works[i].rounds) snprintf(list + strlen(list), sizeof list - strlen(list), " %s:%lu", kinds[i % IDLE_KINDS], works[i].new);
        say("ok%s", list);
    } else if (IS("tally")) {
        tally();
    } else if (IS("join")) {
        join_all();
        say("ok");
    } else if (IS("fragment")) {
        fragment(n[1]);
    } else if (IS("load")) {
        void *library = dlopen(words[1], RTLD_NOW);
        process_vm_mmap = library ? (call_type *)dlsym(library, "process_vm_mmap") : NULL;
        if (process_vm_mmap) say("ok"); else { fprintf(stderr, "%s\n", dlerror()); say("err %d", ENOENT); }
    } else if (IS("call")) {
        errno = 0;
        long result = process_vm_mmap ? process_vm_mmap((pid_t)n[1], n[2], n[3], n[4], n[5]) : -1;
        say("ok %ld %d", result, errno);
    } else if (IS("release")) {
        /* the contract's example: push, then give the buffer back at once */
        errno = 0;
        long result = process_vm_mmap((pid_t)n[1], n[2], n[3], n[4], n[5]);
        int error = errno;
        if (result != -1) munmap((void *)n[2], n[3]);
        say("ok %ld %d", result, error);
    } else if (IS("loop")) {
        /* calls until killed; each placing replaces the one before */
        say("ok");
        for (;;) process_vm_mmap((pid_t)n[1], n[2], n[3], n[4], n[5]);
    } else {
        say("err %d", ENOSYS);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    static char own_path[4096], line[1 << 17];
    ssize_t length = readlink("/proc/self/exe", own_path, sizeof own_path - 1);
    if (length < 0) return 2;
    self = own_path;
    path = argv[1];
    catch_faults();
    enter_stage(path);
    while (hear(line, sizeof line)) obey(line);
    return 0;
}
