// The floor of what a copy's call can cost: the system calls that a push cannot do without, one behind the other, in C. Nothing is checked that could be left out,
// nothing can be undone, nobody guards anybody, no page is delivered and there is no third process; source and target are one thread each. Prints the
// median of fork() of the source, and of the call, in nanoseconds.
// usage: bare_call BYTES small|huge ROUNDS
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_SETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#define PTRACE_SETSIGMASK 0x420b
#endif

static char *source;
static size_t bytes;
static int is_huge;
static pid_t program, target, holder;
static int ours;
static char tracer_stack[64 << 10] __attribute__((aligned(16)));

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void trace(long request, void *address, void *data)
{
    if (ptrace(request, target, address, data)) fail("ptrace");
}

// As who is woken from a sleep comes late, the look is repeated for as long as an answer mostly takes.
static void await_stop(void)
{
    int status;
    pid_t who = 0;
    for (int spin = 0; spin < 1000 && !who; spin++) {
        who = waitpid(target, &status, __WALL | WNOHANG);
        if (!who) sched_yield();
    }
    if (!who) who = waitpid(target, &status, __WALL);
    if (who != target || !WIFSTOPPED(status)) fail("waitpid");
}

static struct user_regs_struct saved;

static long in_target(long number, long a1, long a2, long a3, long a4, long a5, long a6)
{
    struct user_regs_struct r = saved;
    // It waits in pause(): its instruction is right before.
    r.rip -= 2;
    r.rax = number;
    r.orig_rax = -1;
    r.rdi = a1, r.rsi = a2, r.rdx = a3, r.r10 = a4, r.r8 = a5, r.r9 = a6;
    trace(PTRACE_SETREGS, 0, &r);
    for (int i = 0; i < 2; i++) {
        trace(PTRACE_SYSCALL, 0, 0);
        await_stop();
    }
    trace(PTRACE_GETREGS, 0, &r);
    if ((long)r.rax < 0 && (long)r.rax > -4096) {
        errno = -r.rax;
        fail("a system call in the target");
    }
    return r.rax;
}

static void send_descriptor(int socket, int fd)
{
    char byte = 'U', room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(socket, &m, 0) != 1) fail("sendmsg");
}

static void receive_descriptor(int socket)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    if (recvmsg(socket, &m, 0) != 1) _exit(0);
}

static void expect(int socket)
{
    char byte;
    if (read(socket, &byte, 1) != 1) fail("the holder");
}

static void read_proc(pid_t pid, const char *name)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text) < 0) fail(path);
    close(fd);
}

// The parent may have ended before.
static void end_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
}

// Has the memory, and a guardian without a page of it.
static void hold(int socket)
{
    end_with(program);
    setsid();
    madvise(source, bytes, MADV_WIPEONFORK);
    pid_t self = getpid();
    if (!fork()) {
        end_with(self);
        for (;;) pause();
    }
    if (write(socket, "R", 1) != 1) _exit(1);
    receive_descriptor(socket);
    if (write(socket, "S", 1) != 1) _exit(1);
    for (;;) pause();
}

static int call(void *destination)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
    holder = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (holder < 0) fail("clone");
    if (!holder) {
        close(pair[0]);
        hold(pair[1]);
    }
    close(pair[1]);
    ours = pair[0];
    expect(ours);
    read_proc(holder, "maps");

    trace(PTRACE_SEIZE, 0, (void *)PTRACE_O_TRACESYSGOOD);
    trace(PTRACE_INTERRUPT, 0, 0);
    await_stop();
    uint64_t mask, all = ~0ull;
    static char state[16 << 10];
    struct iovec area = { state, sizeof state };
    trace(PTRACE_GETREGS, 0, &saved);
    trace(PTRACE_GETSIGMASK, (void *)8, &mask);
    trace(PTRACE_GETREGSET, (void *)NT_X86_XSTATE, &area);
    trace(PTRACE_SETSIGMASK, (void *)8, &all);
    // Code of ours, which gives the thread its registers back should the tracer die.
    long pages = in_target(SYS_mmap, 0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec from = { state, 4096 }, to = { (void *)pages, 4096 };
    if (process_vm_writev(target, &from, 1, &to, 1, 0) != 4096) fail("process_vm_writev");
    // The region, built where nobody knows of it.
    long region = in_target(SYS_mmap, 0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    long number = in_target(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
    int pidfd = syscall(SYS_pidfd_open, target, 0), uffd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
    close(pidfd);
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register r = { .range = { region, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &r)) fail("userfaultfd");
    in_target(SYS_close, number, 0, 0, 0, 0, 0);
    in_target(SYS_mprotect, region, bytes, PROT_READ | PROT_WRITE, 0, 0, 0);
    in_target(SYS_madvise, region, bytes, is_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, 0, 0, 0);
    send_descriptor(ours, uffd);
    expect(ours);
    in_target(SYS_mremap, region, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)destination, 0);
    in_target(SYS_munmap, pages, 8192, 0, 0, 0, 0);
    // Back through a stop in which the kernel makes its own system call start again.
    trace(PTRACE_SETSIGMASK, (void *)8, &mask);
    trace(PTRACE_INTERRUPT, 0, 0);
    trace(PTRACE_SETREGS, 0, &saved);
    trace(PTRACE_CONT, 0, 0);
    await_stop();
    trace(PTRACE_SETREGS, 0, &saved);
    trace(PTRACE_DETACH, 0, 0);
    close(uffd);
    _exit(0);
}

// The stops of whom one traces are reported to a whole process, so that it takes one of its own.
static uint64_t push(void *destination)
{
    uint64_t start = now();
    pid_t tracer = clone((int (*)(void *))call, tracer_stack + sizeof tracer_stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_VFORK, destination);
    int status;
    if (tracer < 0 || waitpid(tracer, &status, __WALL) != tracer || status) fail("the call");
    uint64_t took = now() - start;
    kill(holder, SIGKILL);
    waitpid(holder, 0, 0);
    close(ours);
    return took;
}

static uint64_t raw_fork(void)
{
    uint64_t start = now();
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (!child) _exit(0);
    uint64_t took = now() - start;
    waitpid(child, 0, 0);
    return took;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    program = getpid();
    bytes = strtoull(argv[1], 0, 0);
    is_huge = !strcmp(argv[2], "huge");
    int rounds = atoi(argv[3]);
    const size_t huge_page = 2 << 20;
    source = mmap(0, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *destination = mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (source == MAP_FAILED || destination == MAP_FAILED) fail("mmap");
    source += -(uintptr_t)source & (huge_page - 1);
    if (madvise(source, bytes, is_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) && errno != EINVAL) fail("madvise");
    uint64_t *calls = malloc(rounds * sizeof *calls), *forks = malloc(rounds * sizeof *forks);
    if (!calls || !forks) fail("malloc");
    for (int i = -1; i < rounds; i++) {
        // Before there is any memory, so that it has none of it.
        madvise(source, bytes, MADV_DONTNEED);
        target = fork();
        if (target < 0) fail("fork");
        if (!target) {
            end_with(program);
            for (;;) pause();
        }
        for (size_t at = 0; at < bytes; at += 4096) source[at] = 1;
        uint64_t forked = raw_fork(), called = push(destination);
        kill(target, SIGKILL);
        waitpid(target, 0, 0);
        // The first finds the code.
        if (i < 0) continue;
        forks[i] = forked;
        calls[i] = called;
    }
    qsort(forks, rounds, sizeof *forks, ascending);
    qsort(calls, rounds, sizeof *calls, ascending);
    printf("%lu %lu\n", forks[rounds / 2], calls[rounds / 2]);
    return 0;
}
