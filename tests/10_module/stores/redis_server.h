/* redis_server.h: a real redis-server of its own for a test, on a UNIX socket in a folder of its
 * own (and a TLS port where asked for), without persistence; it dies with the test. */
#ifndef TESTS_REDIS_SERVER_H
#define TESTS_REDIS_SERVER_H

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

enum { REDIS_SERVER_WORDS_MAX = 24 };

struct redis_server {
    char dir[64], path[96], url[112];
    pid_t pid;
};

static inline void redis_server_pause(void)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    nanosleep(&pause, NULL);
}

static inline bool redis_server_answers(const struct redis_server *s)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, s->path, strlen(s->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return ok;
}

static inline uint16_t redis_server_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static inline void redis_server_init(struct redis_server *s)
{
    memcpy(s->dir, "/tmp/bud-redis-XXXXXX", 22);
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/redis.sock", s->dir);
    snprintf(s->url, sizeof(s->url), "unix:%s", s->path);
}

/* `more` (may be NULL) are further words, NULL-terminated. Waits until it answers. */
static inline void redis_server_start(struct redis_server *s, const char *const *more)
{
    const char *words[REDIS_SERVER_WORDS_MAX] = {
        "redis-server", "--port", "0", "--unixsocket", s->path, "--dir",
        s->dir,         "--save", "",  "--appendonly", "no"};
    size_t n = 11;
    pid_t parent = getpid();
    for (size_t i = 0; more != NULL && more[i] != NULL; i++) {
        assert_true(n < REDIS_SERVER_WORDS_MAX - 1);
        words[n++] = more[i];
    }
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        if (getppid() == parent) {
            execvp(words[0], (char *const *)words);
        }
        _exit(127);
    }
    int status = 0;
    while (!redis_server_answers(s)) {
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            s->pid = 0;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
                check_skip_absent("redis-server");
            }
            fail_msg("redis-server ended with %d", status);
        }
        redis_server_pause();
    }
}

static inline void redis_server_kill(struct redis_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

static inline void redis_server_end(struct redis_server *s)
{
    char path[352];
    redis_server_kill(s);
    DIR *d = opendir(s->dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, e->d_name);
        if (e->d_name[0] != '.') {
            unlink(path);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    rmdir(s->dir);
}

#endif
