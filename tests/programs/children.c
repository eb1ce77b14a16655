/*
 * A program whose main thread starts children all the time and knows no SIGCHLD, while its other threads wait in calls that say EINTR if
 * anything wakes them (children SOCKET). The line "stop" ends it; it reports "rounds eintr wrong".
 */
#define _GNU_SOURCE
#include "pattern.h"
#include "stage.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { WAITERS = 6, WAIT_MS = 40, RANGE = 1 << 20 };
static atomic_int stop;
static int epoll;
static _Atomic uint64_t rounds, eintr, wrong;

static void *wait_in_epoll(void *argument)
{
    struct epoll_event event;
    while (!stop) {
        int result = epoll_wait(epoll, &event, 1, WAIT_MS);
        if (result == -1 && errno == EINTR) eintr++;
        else if (result != 0) wrong++;
        rounds++;
    }
    return argument;
}

static void *wait_for_signal(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    while (!stop) {
        struct timespec time = { .tv_nsec = WAIT_MS * 1000000 };
        int result = sigtimedwait(&set, NULL, &time);
        if (result == -1 && errno == EINTR) eintr++;
        else if (result != -1 || errno != EAGAIN) wrong++;
        rounds++;
    }
    return argument;
}

/* Not by fork(): the C library blocks all signals around it (since glibc 2.41), and a blocked signal is not ignored either. */
static pid_t start_child(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL); }

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    char *range = mmap(NULL, RANGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (range == MAP_FAILED || epoll < 0) { perror("children"); return 2; }
    for (uint64_t page = 0; page < RANGE / PAGE; page++) fill_page((uint64_t *)(range + page * PAGE), first_word(15, page));

    enter_stage(argv[1]);
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) pthread_create(&threads[i], NULL, i % 2 ? wait_in_epoll : wait_for_signal, NULL);
    /* one that stays: at no time has it none */
    pid_t last = start_child();
    if (last == 0) { pause(); _exit(0); }
    say("ok %lu %lu", (uint64_t)range, (uint64_t)RANGE);

    struct pollfd line = { .fd = stage_fd, .events = POLLIN };
    for (unsigned n = 0; poll(&line, 1, 0) == 0; n++) {
        pid_t child = start_child();
        if (child < 0) { wrong++; break; }
        if (child == 0) { usleep(n * 7919 % 4000); _exit(0); }
        usleep(200);
        while (waitpid(-1, NULL, WNOHANG) > 0) ;
    }
    stop = 1;
    for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL);
    kill(last, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) ;
    say("ok %lu %lu %lu", rounds, eintr, wrong);
    return eintr + wrong != 0;
}
