/*
 * An ordinary program: 18 threads, each blocking or busy in another way, and a main thread waiting for its user (threads SOCKET).
 * On the line "stop" it ends them all and reports "NAME rounds eintr wrong" for each; EINTR is counted, since nobody sends it signals.
 */
#define _GNU_SOURCE
#include "pattern.h"
#include "stage.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum { WAIT_MS = 40, RANGE = 16 << 20 };
static atomic_int stop;
static int quiet_pipe[2], quiet_socket[2], full_socket[2], full_pipe[2], file, epoll, semaphores, futex_word;
static char *range;
static _Atomic uint64_t writes;

/* A round returns 0 when all is right, an errno when a call failed with it, -1 for a wrong result. */
static int timed_out(int right) { return right ? 0 : errno ? errno : -1; }

static int sleep_relative(void)
{
    struct timespec time = { .tv_nsec = WAIT_MS * 1000000 };
    return timed_out(nanosleep(&time, NULL) == 0);
}

static int sleep_until(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_nsec += WAIT_MS * 1000000;
    if (time.tv_nsec >= 1000000000) time.tv_nsec -= 1000000000, time.tv_sec++;
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static int wait_futex(void)
{
    struct timespec time = { .tv_nsec = WAIT_MS * 1000000 };
    long result = syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &time);
    return timed_out(result == -1 && errno == ETIMEDOUT);
}

static int wait_poll(void)
{
    struct pollfd fd = { .fd = quiet_pipe[0], .events = POLLIN };
    return timed_out(poll(&fd, 1, WAIT_MS) == 0);
}

static int wait_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet_pipe[0], &set);
    struct timeval time = { .tv_usec = WAIT_MS * 1000 };
    return timed_out(select(quiet_pipe[0] + 1, &set, NULL, NULL, &time) == 0);
}

static int wait_epoll(void)
{
    struct epoll_event event;
    return timed_out(epoll_wait(epoll, &event, 1, WAIT_MS) == 0);
}

static int wait_semaphore(void)
{
    struct sembuf down = { .sem_op = -1 };
    struct timespec time = { .tv_nsec = WAIT_MS * 1000000 };
    return timed_out(semtimedop(semaphores, &down, 1, &time) == -1 && errno == EAGAIN);
}

static int wait_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec time = { .tv_nsec = WAIT_MS * 1000000 };
    return timed_out(sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN);
}

static int wait_receive(void)
{
    char byte;
    return timed_out(recv(quiet_socket[0], &byte, 1, 0) == -1 && errno == EAGAIN);
}

static int wait_preadv2(void)
{
    char byte;
    struct iovec place = { &byte, 1 };
    return timed_out(preadv2(quiet_socket[0], &place, 1, -1, 0) == -1 && errno == EAGAIN);
}

static int wait_pwritev2(void)
{
    struct iovec data = { "x", 1 };
    return timed_out(pwritev2(full_socket[0], &data, 1, -1, 0) == -1 && errno == EAGAIN);
}

static int wait_sendfile(void)
{
    off_t from = 0;
    return timed_out(sendfile(full_socket[0], file, &from, PAGE) == -1 && errno == EAGAIN && from == 0);
}

static int wait_splice(void)
{
    return timed_out(splice(full_pipe[0], NULL, full_socket[0], NULL, 8, 0) == -1 && errno == EAGAIN);
}

static int fill_socket(void)
{
    static char block[1 << 14];
    while (send(full_socket[0], block, sizeof block, MSG_DONTWAIT) > 0) ;
    while (send(full_socket[0], block, 1, MSG_DONTWAIT) > 0) ;
    return errno == EAGAIN ? 0 : -1;
}

static int wait_child(void)
{
    pid_t child = fork();
    if (child < 0) return errno;
    if (child == 0) { usleep(WAIT_MS * 1000); _exit(7); }
    int status;
    pid_t reaped = waitpid(child, &status, 0);
    return timed_out(reaped == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* Children of this thread only: the other fork loop has its own. A stranger among them is a wrong result. */
static int fork_loop(void)
{
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child < 0) return errno;
        if (child == 0) _exit(i);
        int status;
        pid_t reaped = waitpid(-1, &status, __WALL | __WNOTHREAD);
        if (reaped != child || !WIFEXITED(status) || WEXITSTATUS(status) != i) return timed_out(0);
    }
    usleep(2000);
    return 0;
}

/* Nobody made children of this thread, so it must never see one. */
static int expect_no_child(void)
{
    int status;
    pid_t reaped = waitpid(-1, &status, __WALL | WNOHANG | __WNOTHREAD);
    int result = timed_out(reaped == -1 && errno == ECHILD);
    usleep(1000);
    return result;
}

static void *nothing(void *argument) { return argument; }

static int create_and_join(void)
{
    pthread_t thread;
    void *result = NULL;
    int error = pthread_create(&thread, NULL, nothing, &writes);
    if (!error) error = pthread_join(thread, &result);
    usleep(1000);
    return error ? error : result == &writes ? 0 : -1;
}

static int write_range(void)
{
    for (int i = 0; i < 1000; i++) {
        uint64_t n = writes++;
        volatile uint64_t *word = (volatile uint64_t *)(range + n * 7919 % (RANGE / PAGE) * PAGE);
        word[3] = n;
        if (word[3] != n) return -1;
    }
    usleep(100);
    return 0;
}

static struct activity { const char *name; int (*round)(void); _Atomic uint64_t rounds, eintr, wrong; int last; } activities[] = {
    { "nanosleep", sleep_relative }, { "clock_nanosleep", sleep_until }, { "futex", wait_futex }, { "poll", wait_poll },
    { "select", wait_select }, { "epoll_wait", wait_epoll }, { "semtimedop", wait_semaphore }, { "sigtimedwait", wait_signal },
    { "recv", wait_receive }, { "waitpid", wait_child }, { "fork", fork_loop }, { "no-child", expect_no_child },
    { "thread", create_and_join }, { "write", write_range }, { "preadv2", wait_preadv2 }, { "pwritev2", wait_pwritev2 }, { "sendfile", wait_sendfile }, { "splice", wait_splice },
};
enum { COUNT = sizeof activities / sizeof *activities };

static void *run(void *argument)
{
    struct activity *my = argument;
    while (!stop) {
        errno = 0;
        int error = my->round();
        if (error == EINTR) my->eintr++;
        else if (error) { my->wrong++; my->last = error; }
        my->rounds++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    struct timeval patience = { .tv_usec = WAIT_MS * 1000 };
    struct epoll_event watch = { .events = EPOLLIN };
    range = mmap(NULL, RANGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (range == MAP_FAILED || epoll < 0 || semaphores < 0 || pipe(quiet_pipe) < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, quiet_socket) < 0
        || setsockopt(quiet_socket[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0
        || socketpair(AF_UNIX, SOCK_STREAM, 0, full_socket) < 0 || setsockopt(full_socket[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0
        || fill_socket() < 0 || pipe(full_pipe) < 0 || write(full_pipe[1], "12345678", 8) != 8 || (file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, quiet_pipe[0], &watch) < 0) {
        perror("threads");
        return 2;
    }
    for (uint64_t page = 0; page < RANGE / PAGE; page++) fill_page((uint64_t *)(range + page * PAGE), first_word(14, page));

    enter_stage(argv[1]);
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++) pthread_create(&threads[i], NULL, run, &activities[i]);
    say("ok %lu %lu", (uint64_t)range, (uint64_t)RANGE);

    /* the main thread's own wait, and one more place to see an EINTR */
    uint64_t main_eintr = 0;
    for (char line[16];;) {
        ssize_t n = recv(stage_fd, line, sizeof line, 0);
        if (n >= 0) break;
        if (errno == EINTR) main_eintr++;
    }
    stop = 1;
    uint64_t trouble = main_eintr;
    char report[4096];
    int length = 0;
    for (int i = 0; i < COUNT; i++) {
        pthread_join(threads[i], NULL);
        struct activity *a = &activities[i];
        trouble += a->eintr + a->wrong;
        length += snprintf(report + length, sizeof report - length, " %s:%lu:%lu:%lu:%d", a->name, a->rounds, a->eintr, a->wrong, a->last);
    }
    semctl(semaphores, 0, IPC_RMID);
    say("ok%s main:1:%lu:0:0", report, main_eintr);
    return trouble != 0;
}
