// SPDX-License-Identifier: GPL-2.0
/* call [--stress SECONDS] [--list] [--compare] [NAME ...]: runs the tests, all of them or those named; a line PASS or FAIL for each. */
#include "harness.h"

int checks, failures, stress_seconds = 20;
static const struct test *const all[] = { contract_tests, memory_tests, race_tests, failure_tests };
static int shown;

void check_failed(const char *file, int line, const char *what, long value)
{
    failures++;
    if (shown++ < 12) printf("  %s:%d: %s (%ld)\n", file, line, what, value);
    fflush(stdout);
}

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC), result;
    if (file < 0) return -errno;
    result = write(file, text, strlen(text)) < 0 ? -errno : 0;
    close(file);
    return result;
}

unsigned long vmstat(const char *name)
{
    FILE *file = fopen("/proc/vmstat", "r");
    char key[64];
    unsigned long value, result = 0;
    while (fscanf(file, "%63s %lu", key, &value) == 2)
        if (!strcmp(key, name)) result = value;
    fclose(file);
    return result;
}

unsigned long swap_reads(void) { return vmstat("pswpin"); }

/* What is in use of a cache. KASAN keeps freed objects back, as in use, until the cache is shrunk. */
long slab_objects(const char *cache)
{
    char line[512], name[64];
    snprintf(line, sizeof line, "/sys/kernel/slab/%s/shrink", cache);
    FILE *file = fopen(line, "w");
    if (file) {
        fputs("1", file);
        fclose(file);
    }
    file = fopen("/proc/slabinfo", "r");
    long active, result = -1;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %ld", name, &active) == 2 && !strcmp(name, cache)) result = active;
    if (file) fclose(file);
    return result;
}

static bool wanted(const char *name, char **names)
{
    if (!*names) return true;
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

int main(int count, char **arguments)
{
    bool list = false;
    int failed = 0, first = 1;

    if (count == 3 && !strcmp(arguments[1], "serve")) serve(atoi(arguments[2]));
    for (; first < count && !strncmp(arguments[first], "--", 2); first++) {
        if (!strcmp(arguments[first], "--list")) list = true;
        else if (!strcmp(arguments[first], "--compare")) return compare(), 0;
        else if (!strcmp(arguments[first], "--stress") && first + 1 < count) stress_seconds = atoi(arguments[++first]);
        else return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (!list) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        mkdir(GROUP, 0755);
        put(GROUP "/cgroup.procs", pid);
    }
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        for (const struct test *test = all[i]; test->name; test++) {
            if (!wanted(test->name, arguments + first)) continue;
            if (list) {
                printf("%s\n", test->name);
                continue;
            }
            double start = now();
            checks = failures = shown = 0;
            printf("TEST %s\n", test->name);
            fflush(stdout);
            test->run();
            if (!checks) check_failed(__FILE__, __LINE__, "the test checks something", 0);
            failed += failures != 0;
            printf("%s %s (%d checks, %d failed, %.1f s)\n", failures ? "FAIL" : "PASS", test->name, checks, failures, now() - start);
            fflush(stdout);
        }
    return failed != 0;
}
