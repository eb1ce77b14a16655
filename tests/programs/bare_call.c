// The floor of what a copy's call can cost: the system calls that it cannot do without, one behind the other, in C, for a push, a pull and a call by a third process. Nothing
// is checked that could be left out, nothing can be undone, nobody guards anybody, and no page is delivered; source and target are one thread each. Or guarded: with the system
// calls by which one can know that it does no harm (who they are, whether a userfaultfd is in the range, what was taken and how it is mapped), with a process that keeps zeros
// away should holder and guardian be killed, and with their place in cgroups and for the out-of-memory killer. Or complete: guarded, with the writes that let a process find its way
// back by itself (a signal frame, and an entry for each change), a control page that the holder has too, a holder that keeps nothing busy (directory, files, core dumps), a lock on who
// is stopped, the question whether the caller may, and between programs like .NET's: three more threads, all of them stopped in the source, fifty more
// mappings and 5 MiB of other memory, which the holder of a push gives up. Even that is less than it takes: nobody looks where a frame may lie or whether a thread has to make its own
// call again, the sentinel is no program of its own, and the caller is the tracer. Prints the median of fork() of the source, and of the call, in nanoseconds.
// usage: bare_call push|pull|"third party" BYTES small|huge bare|guarded|complete ROUNDS
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
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

enum { holder_code = 36 << 10, holder_room = holder_code + (64 << 10) };
// A frame with the extended state of this processor and what else a signal's has; an entry of what undoes a change; the control page.
enum { frame_bytes = 12 << 10, undo_bytes = 64, control_bytes = 512 << 10 };
// Of a process like .NET's: more threads, pieces of memory with a gap behind each, so that they stay mappings of their own.
enum { more_threads = 3, pieces = 25, piece_bytes = 204 << 10, gap_bytes = 4 << 10, other_bytes = pieces * (piece_bytes + gap_bytes) };

static char *source, *other;
static size_t bytes;
static int is_huge, is_guarded, is_complete;
static pid_t program, from, to, holder, sentinel;
// A process that goes over as much memory as no cache of one processor has, when it is asked to; answers come from the first, requests go to the second.
static int crowd[2];
static int ours, to_sentinel;
static char tracer_stack[64 << 10] __attribute__((aligned(16))), sentinel_stack[16 << 10] __attribute__((aligned(16))), holder_stack[64 << 10] __attribute__((aligned(16)));
// What a holder that was born elsewhere tells of itself.
static struct {
    int pair[2];
    void *room;
} settled;

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

static void trace(long request, pid_t pid, void *address, void *data)
{
    if (ptrace(request, pid, address, data)) fail("ptrace");
}

// As who is woken from a sleep comes late, the look is repeated for as long as an answer mostly takes.
static int await(pid_t pid)
{
    int status;
    pid_t who = 0;
    for (int spin = 0; spin < 1000 && !who; spin++) {
        who = waitpid(pid, &status, __WALL | WNOHANG);
        if (!who) sched_yield();
    }
    if (!who) who = waitpid(pid, &status, __WALL);
    if (who != pid) fail("waitpid");
    return status;
}

static void await_stop(pid_t pid)
{
    if (!WIFSTOPPED(await(pid))) fail("a stop");
}

// A process that stands still, from enter() to leave(); the caller itself makes its system calls at once.
struct visit {
    pid_t pid;
    struct user_regs_struct saved;
    uint64_t mask;
    long pages;
    // All its threads, where they are to stand still; the first is the one that runs the calls.
    pid_t threads[1 + more_threads];
    int count, locks[2];
    char state[16 << 10], below[frame_bytes];
};

static void prepare(struct visit *v, uintptr_t code, long number, long a1, long a2, long a3, long a4, long a5, long a6)
{
    struct user_regs_struct r = v->saved;
    r.rip = code;
    r.rax = number;
    r.orig_rax = -1;
    r.rdi = a1, r.rsi = a2, r.rdx = a3, r.r10 = a4, r.r8 = a5, r.r9 = a6;
    trace(PTRACE_SETREGS, v->pid, 0, &r);
}

static void step(struct visit *v)
{
    trace(PTRACE_SYSCALL, v->pid, 0, 0);
    await_stop(v->pid);
}

static long in(struct visit *v, long number, long a1, long a2, long a3, long a4, long a5, long a6)
{
    long result;
    if (v->pid == program) {
        result = syscall(number, a1, a2, a3, a4, a5, a6);
    } else {
        // It waits in pause(): its instruction is right before.
        prepare(v, v->saved.rip - 2, number, a1, a2, a3, a4, a5, a6);
        step(v);
        step(v);
        struct user_regs_struct r;
        trace(PTRACE_GETREGS, v->pid, 0, &r);
        result = r.rax;
        if (result < 0 && result > -4096) {
            errno = -result;
            result = -1;
        }
    }
    if (result == -1) fail("a system call");
    return result;
}

static void transfer(int is_write, pid_t pid, void *here, long there, size_t length)
{
    struct iovec local = { here, length }, remote = { (void *)there, length };
    ssize_t moved = is_write ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (moved != (ssize_t)length) fail("another process's memory");
}

// A change that is taken back should the tracer die: the entry stands ready before it, and is armed behind it.
static long change(struct visit *v, long number, long a1, long a2, long a3, long a4, long a5, long a6)
{
    char entry[undo_bytes] = { 0 };
    int armed = is_complete && v->pid != program;
    if (armed) transfer(1, v->pid, entry, v->pages + 4096, sizeof entry);
    long result = in(v, number, a1, a2, a3, a4, a5, a6);
    if (armed) transfer(1, v->pid, entry, v->pages + 4096, 16);
    return result;
}

static long frame_of(struct visit *v)
{
    return (v->saved.rsp & ~63ul) - 4096 - frame_bytes;
}

// One call at a time stops a process, and waits for who stops its caller.
static void take_locks(struct visit *v)
{
    const pid_t who[] = { program, v->pid };
    char path[64];
    for (int i = 0; is_complete && i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%d", who[i]);
        v->locks[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (v->locks[i] < 0 || flock(v->locks[i], (i ? LOCK_EX : LOCK_SH) | LOCK_NB)) fail(path);
    }
}

static void give_locks_back(struct visit *v)
{
    for (int i = 0; is_complete && i < 2; i++)
        if (flock(v->locks[i], LOCK_UN) || close(v->locks[i])) fail("the locks");
}

static void find_threads(struct visit *v)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", v->pid);
    DIR *tasks = opendir(path);
    if (!tasks) fail(path);
    for (struct dirent *d; (d = readdir(tasks));) {
        pid_t tid = atoi(d->d_name);
        if (!tid || tid == v->pid) continue;
        if (v->count == 1 + more_threads) fail("more threads than are known");
        v->threads[v->count++] = tid;
    }
    closedir(tasks);
}

static void enter(struct visit *v, pid_t pid, int every_thread)
{
    v->pid = pid;
    if (pid == program) return;
    take_locks(v);
    v->threads[0] = pid;
    v->count = 1;
    if (every_thread && is_complete) find_threads(v);
    for (int i = 0; i < v->count; i++) trace(PTRACE_SEIZE, v->threads[i], 0, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE));
    for (int i = 0; i < v->count; i++) trace(PTRACE_INTERRUPT, v->threads[i], 0, 0);
    for (int i = v->count - 1; i >= 0; i--) {
        await_stop(v->threads[i]);
        trace(PTRACE_GETREGS, v->threads[i], 0, &v->saved);
    }
    uint64_t all = ~0ull;
    struct iovec area = { v->state, sizeof v->state };
    trace(PTRACE_GETSIGMASK, pid, (void *)8, &v->mask);
    trace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &area);
    trace(PTRACE_SETSIGMASK, pid, (void *)8, &all);
    if (is_complete) {
        transfer(0, pid, v->below, frame_of(v), frame_bytes);
        transfer(1, pid, v->state, frame_of(v), frame_bytes);
    }
    // Code of ours, which gives the thread its registers back should the tracer die.
    v->pages = in(v, SYS_mmap, 0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    transfer(1, pid, v->state, v->pages, 4096);
}

static void leave(struct visit *v)
{
    if (v->pid == program) return;
    in(v, SYS_munmap, v->pages, 8192, 0, 0, 0, 0);
    // Back through a stop in which the kernel makes its own system call start again.
    trace(PTRACE_SETSIGMASK, v->pid, (void *)8, &v->mask);
    trace(PTRACE_INTERRUPT, v->pid, 0, 0);
    trace(PTRACE_SETREGS, v->pid, 0, &v->saved);
    trace(PTRACE_CONT, v->pid, 0, 0);
    await_stop(v->pid);
    trace(PTRACE_SETREGS, v->pid, 0, &v->saved);
    if (is_complete) transfer(1, v->pid, v->below, frame_of(v), frame_bytes);
    for (int i = 0; i < v->count; i++) trace(PTRACE_DETACH, v->threads[i], 0, 0);
    give_locks_back(v);
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

static int receive_descriptor(int socket)
{
    int fd;
    char byte, room[CMSG_SPACE(sizeof fd)];
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    if (recvmsg(socket, &m, 0) != 1) _exit(0);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

// A word of the holder is its guardian's number, one of the sentinel its own.
static pid_t expect(int socket)
{
    pid_t who;
    if (read(socket, &who, sizeof who) != sizeof who) fail("the holder");
    return who;
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

// Its end of the socket, as descriptor 0, and no other file.
static void keep_only(int socket)
{
    if (dup2(socket, 0)) _exit(1);
    close_range(1, ~0u, 0);
}

// Nothing stays busy because of it: no directory, no file, and no core dump is written.
static void keep_nothing_busy(int socket)
{
    const struct rlimit none = { 1, 1 };
    syscall(SYS_set_mempolicy, 0, 0, 0);
    if (chdir("/") || setrlimit(RLIMIT_CORE, &none)) _exit(1);
    keep_only(socket);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

// Has the memory, and a guardian without a page of it. Ends with whoever has the other end of the socket.
static void hold(int socket)
{
    setsid();
    if (is_complete) {
        keep_nothing_busy(socket);
        socket = 0;
    }
    if (is_complete && from == program && munmap(other, other_bytes)) _exit(1);
    madvise(source, bytes, MADV_WIPEONFORK);
    if (is_complete && mmap(0, control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, receive_descriptor(socket), 0) == MAP_FAILED) _exit(1);
    pid_t self = getpid(), guardian = fork();
    if (!guardian) {
        end_with(self);
        for (;;) pause();
    }
    if (write(socket, &guardian, sizeof guardian) != sizeof guardian) _exit(1);
    receive_descriptor(socket);
    if (write(socket, &guardian, sizeof guardian) != sizeof guardian) _exit(1);
    receive_descriptor(socket);
    _exit(0);
}

// In a task that shares the source's memory: forks a child that the source never learns of, and exits.
void intermediate(void);
__asm__("intermediate:\n\t"
        "syscall\n\t"
        "test %eax, %eax\n\t"
        "jnz 1f\n\t"
        "mov $56, %eax\n\t"
        "xor %edi, %edi\n\t"
        "xor %esi, %esi\n\t"
        "xor %edx, %edx\n\t"
        "xor %r10d, %r10d\n\t"
        "xor %r8d, %r8d\n\t"
        "syscall\n\t"
        "mov $60, %eax\n\t"
        "xor %edi, %edi\n\t"
        "syscall\n\t"
        "1: hlt");

// In that child, under the tracer: room for the code, and sockets; then it waits.
static void settle(void)
{
    settled.room = mmap(0, holder_room, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (settled.room == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, settled.pair)) _exit(1);
    __asm__ volatile("int3");
    __builtin_unreachable();
}

static void continue_at(long request, pid_t pid, struct user_regs_struct r, uintptr_t code, long argument)
{
    r.rip = code;
    r.rdi = argument;
    r.rsp = (uintptr_t)holder_stack + sizeof holder_stack - 8;
    r.orig_rax = -1;
    trace(PTRACE_SETREGS, pid, 0, &r);
    trace(request, pid, 0, 0);
}

static pid_t next_born(pid_t parent)
{
    unsigned long born;
    trace(PTRACE_GETEVENTMSG, parent, 0, &born);
    await_stop(born);
    return born;
}

// The userfaultfd of a process, for the caller; closed there.
static int new_userfaultfd(struct visit *v)
{
    long number = change(v, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
    if (v->pid == program) return number;
    int pidfd = syscall(SYS_pidfd_open, v->pid, 0), uffd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
    close(pidfd);
    in(v, SYS_close, number, 0, 0, 0, 0, 0);
    return uffd;
}

static void guard(int uffd, void *at)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register r = { .range = { (uintptr_t)at, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &r)) fail("userfaultfd");
}

// Nobody else's is in the range if ours can be.
static void probe(struct visit *v)
{
    if (!is_guarded) return;
    int uffd = new_userfaultfd(v);
    guard(uffd, source);
    struct uffdio_range r = { (uintptr_t)source, bytes };
    if (ioctl(uffd, UFFDIO_UNREGISTER, &r)) fail("userfaultfd");
    close(uffd);
}

static void may_be_traced(pid_t pid, int pidfd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    // No such descriptor, if one may ask.
    if (fd < 0 || syscall(SYS_pidfd_getfd, pidfd, INT32_MAX, 0) >= 0 || errno != EBADF) fail("permission");
    close(fd);
}

static void look_at(pid_t pid)
{
    if (!is_guarded) return;
    char byte;
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    read_proc(pid, "status");
    if (pidfd < 0) fail("a look at a process");
    transfer(0, pid, &byte, (long)source, 1);
    if (is_complete && pid != program) may_be_traced(pid, pidfd);
    close(pidfd);
}

static int watch(void *socket)
{
    keep_only((int)(intptr_t)socket);
    setsid();
    receive_descriptor(0);
    if (write(0, &sentinel, sizeof sentinel) != sizeof sentinel) _exit(1);
    receive_descriptor(0);
    _exit(0);
}

static void start_sentinel(void)
{
    if (!is_guarded) return;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
    sentinel = clone(watch, sentinel_stack + sizeof sentinel_stack, CLONE_VM, (void *)(intptr_t)pair[1]);
    if (sentinel < 0) fail("clone");
    close(pair[1]);
    to_sentinel = pair[0];
}

static void make_control_page(void)
{
    if (!is_complete) return;
    int file = syscall(SYS_memfd_create, "control", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, control_bytes)) fail("memfd_create");
    char *page = mmap(0, control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) fail("mmap");
    *page = 1;
    send_descriptor(ours, file);
    close(file);
}

static void settle_in(pid_t pid)
{
    if (!is_guarded) return;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1) fail(path);
    close(fd);
}

static void take_from_another(void)
{
    static struct visit there;
    enter(&there, from, 1);
    if (is_guarded) read_proc(from, "status");
    probe(&there);
    prepare(&there, (uintptr_t)intermediate, SYS_clone, CLONE_VM, 0, 0, 0, 0, 0);
    step(&there);
    // The news of the birth comes before the end of the call.
    step(&there);
    pid_t between = next_born(from);
    step(&there);
    trace(PTRACE_CONT, between, 0, 0);
    await_stop(between);
    holder = next_born(between);
    trace(PTRACE_CONT, between, 0, 0);
    await(between);
    in(&there, SYS_wait4, between, 0, __WALL, 0, 0, 0);
    continue_at(PTRACE_CONT, holder, there.saved, (uintptr_t)settle, 0);
    leave(&there);
    await_stop(holder);

    transfer(0, holder, &settled, (long)&settled, sizeof settled);
    int pidfd = syscall(SYS_pidfd_open, holder, 0);
    ours = syscall(SYS_pidfd_getfd, pidfd, settled.pair[0], 0);
    if (ours < 0) fail("pidfd_getfd");
    close(pidfd);
    static char code[holder_code];
    transfer(1, holder, code, (long)settled.room, sizeof code);
    continue_at(PTRACE_DETACH, holder, there.saved, (uintptr_t)hold, settled.pair[1]);
}

static void take_own(void)
{
    static struct visit here;
    here.pid = program;
    probe(&here);
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
}

static int call(void *destination)
{
    start_sentinel();
    look_at(from);
    look_at(to);
    if (is_guarded) read_proc(from, "maps");
    if (from == program) take_own();
    else take_from_another();
    make_control_page();
    if (is_guarded) {
        read_proc(from, "cgroup");
        read_proc(to, "cgroup");
    }
    pid_t guardian = expect(ours);
    read_proc(guardian, is_guarded ? "smaps" : "maps");
    if (is_guarded) read_proc(guardian, "numa_maps");

    static struct visit there;
    enter(&there, to, 0);
    if (is_guarded) read_proc(to, "status");
    // The region, built where nobody knows of it.
    long region = change(&there, SYS_mmap, 0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int uffd = new_userfaultfd(&there);
    guard(uffd, (void *)region);
    in(&there, SYS_mprotect, region, bytes, PROT_READ | PROT_WRITE, 0, 0, 0);
    in(&there, SYS_madvise, region, bytes, is_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, 0, 0, 0);
    if (is_guarded) send_descriptor(to_sentinel, uffd);
    send_descriptor(ours, uffd);
    if (is_guarded) expect(to_sentinel);
    expect(ours);
    in(&there, SYS_mremap, region, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)destination, 0);
    leave(&there);
    close(uffd);
    settle_in(sentinel);
    settle_in(guardian);
    settle_in(holder);
    _exit(0);
}

// The stops of whom one traces are reported to a whole process, so that it takes one of its own.
static uint64_t call_time(void *destination)
{
    uint64_t start = now();
    pid_t tracer = clone((int (*)(void *))call, tracer_stack + sizeof tracer_stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_VFORK, destination);
    int status;
    if (tracer < 0 || waitpid(tracer, &status, __WALL) != tracer || status) fail("the call");
    uint64_t took = now() - start;
    kill(holder, SIGKILL);
    waitpid(holder, 0, 0);
    close(ours);
    if (is_guarded) close(to_sentinel);
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

static void have_caches_used(void)
{
    char byte = 0;
    if (write(crowd[1], &byte, 1) != 1 || read(crowd[0], &byte, 1) != 1) fail("another process");
}

// As the call's own: behind another fork(), for the first has every page to take the right to write from, and behind somebody who has had the caches.
static uint64_t fork_time(void)
{
    raw_fork();
    have_caches_used();
    return raw_fork();
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void *sleep_on(void *nothing)
{
    for (;;) pause();
    return nothing;
}

// What the range has, and in a process like .NET's what else there is.
static void fill(void)
{
    for (size_t at = 0; at < bytes; at += 4096) source[at] = 1;
    if (!is_complete) return;
    for (size_t at = 0; at < other_bytes; at += 4096)
        if (at % (piece_bytes + gap_bytes) < piece_bytes) other[at] = 1;
}

static void start_threads(void)
{
    pthread_t thread;
    for (int i = 0; is_complete && i < more_threads; i++)
        if (pthread_create(&thread, 0, sleep_on, 0)) fail("pthread_create");
}

static void start_crowd(void)
{
    int requests[2], answers[2];
    if (pipe(requests) || pipe(answers)) fail("pipe");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (!pid) {
        end_with(program);
        const size_t length = 64 << 20;
        volatile char *memory = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("mmap");
        for (size_t at = 0; at < length; at += 4096) memory[at] = 1;
        char byte;
        while (read(requests[0], &byte, 1) == 1) {
            for (size_t at = 0; at < length; at += 64) byte = memory[at];
            if (write(answers[1], &byte, 1) != 1) break;
        }
        _exit(0);
    }
    close(requests[0]);
    close(answers[1]);
    crowd[0] = answers[0];
    crowd[1] = requests[1];
}

// One that has the memory, or none of it, and says how long fork() of it takes.
static pid_t other_process(int is_source, uint64_t *forked)
{
    int ends[2];
    if (pipe(ends)) fail("pipe");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (!pid) {
        end_with(program);
        start_threads();
        if (is_source) fill();
        uint64_t took = fork_time();
        if (write(ends[1], &took, sizeof took) != sizeof took) _exit(1);
        for (;;) pause();
    }
    uint64_t took;
    if (read(ends[0], &took, sizeof took) != sizeof took) fail("another process");
    if (is_source) *forked = took;
    close(ends[0]);
    close(ends[1]);
    return pid;
}

static void end(pid_t pid)
{
    if (pid == program) return;
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
}

int main(int argc, char **argv)
{
    if (argc != 6) return 2;
    program = getpid();
    int pushes = !strcmp(argv[1], "push"), pulls = !strcmp(argv[1], "pull");
    bytes = strtoull(argv[2], 0, 0);
    is_huge = !strcmp(argv[3], "huge");
    is_complete = !strcmp(argv[4], "complete");
    is_guarded = is_complete || !strcmp(argv[4], "guarded");
    int rounds = atoi(argv[5]);
    start_crowd();
    const size_t huge_page = 2 << 20;
    source = mmap(0, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *destination = mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    other = mmap(0, other_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (source == MAP_FAILED || destination == MAP_FAILED || other == MAP_FAILED) fail("mmap");
    for (char *gap = other + piece_bytes; is_complete && gap < other + other_bytes; gap += piece_bytes + gap_bytes)
        if (mprotect(gap, gap_bytes, PROT_NONE)) fail("mprotect");
    if (madvise(other, other_bytes, MADV_NOHUGEPAGE) && errno != EINVAL) fail("madvise");
    source += -(uintptr_t)source & (huge_page - 1);
    if (madvise(source, bytes, is_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) && errno != EINVAL) fail("madvise");
    uint64_t *calls = malloc(rounds * sizeof *calls), *forks = malloc(rounds * sizeof *forks);
    if (!calls || !forks) fail("malloc");
    for (int i = -1; i < rounds; i++) {
        uint64_t forked = 0;
        // Before there is any memory, so that the target has none of it.
        madvise(source, bytes, MADV_DONTNEED);
        to = pulls ? program : other_process(0, &forked);
        from = pushes ? program : other_process(1, &forked);
        if (pushes) {
            fill();
            forked = fork_time();
        }
        have_caches_used();
        uint64_t called = call_time(destination);
        end(from);
        end(to);
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
