/*
 * Starts programs for the tests and reaps them at once, so that they are not children of the .NET process and leave no zombies.
 * stdin:  start<TAB>LOG<TAB>PROGRAM<TAB>ARGUMENT...    stdout: started PID | exited PID CODE | killed PID SIGNAL
 * At the end of stdin it kills what it started and goes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4096 };
static pid_t living[MOST];
static int count;

static void on_child(int signal) { (void)signal; }

static void reap(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int i = 0; i < count; i++)
            if (living[i] == pid) living[i] = living[--count];
        if (WIFEXITED(status)) printf("exited %d %d\n", pid, WEXITSTATUS(status));
        else printf("killed %d %d\n", pid, WTERMSIG(status));
    }
}

static void start(char *line, const sigset_t *normal)
{
    char *arguments[64] = { 0 };
    int n = 0;
    for (char *word = strtok(line, "\t\n"); word && n < 63; word = strtok(NULL, "\t\n")) arguments[n++] = word;
    if (n < 3 || strcmp(arguments[0], "start") != 0 || count == MOST) { printf("started -1\n"); return; }
    pid_t pid = fork();
    if (pid == 0) {
        for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
        sigprocmask(SIG_SETMASK, normal, NULL);
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int log = open(arguments[1], O_WRONLY | O_CREAT | O_APPEND, 0666), null = open("/dev/null", O_RDONLY);
        dup2(null, 0), dup2(log, 1), dup2(log, 2);
        closefrom(3);
        execvp(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    if (pid > 0) living[count++] = pid;
    printf("started %d\n", pid);
}

int main(void)
{
    sigset_t child, normal;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &normal);
    signal(SIGCHLD, on_child);
    /* it ends with its stdin, however the test run ends */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    setvbuf(stdout, NULL, _IONBF, 0);
    static char line[65536];
    size_t length = 0;
    for (;;) {
        reap();
        struct pollfd input = { .fd = 0, .events = POLLIN };
        if (ppoll(&input, 1, NULL, &normal) < 0) continue;
        ssize_t n = read(0, line + length, sizeof line - 1 - length);
        if (n <= 0) break;
        length += n;
        line[length] = 0;
        for (char *end; (end = strchr(line, '\n'));) {
            *end = 0;
            start(line, &normal);
            length -= end + 1 - line;
            memmove(line, end + 1, length + 1);
        }
    }
    for (int i = 0; i < count; i++) kill(living[i], SIGKILL);
    return 0;
}
