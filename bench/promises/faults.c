/* Preloaded: system calls on what lies under FAULTS_FOLDER fail at random, as a disk does that is full, sick or gone.
   One of so many does as the file FAULTS_RATE says, none where it says 0; FAULTS_SEED begins the dice. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t count;

static uint64_t dice(void) { /* splitmix64 of seed and count */
    const char *seed = getenv("FAULTS_SEED");
    uint64_t z = (seed ? strtoull(seed, 0, 10) : 0) * 0x9E3779B97F4A7C15 + __atomic_add_fetch(&count, 1, 5) * 0xD1B54A32D192ED03;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static uint64_t rate(void) {
    char text[32] = {0};
    const char *path = getenv("FAULTS_RATE");
    long file = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    long size = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return size > 0 ? strtoull(text, 0, 10) : 0;
}

/* The fault for a call on this path, one of those named: an errno, 0 for none. */
static int fault(const char *path, const int *errors, int of) {
    const char *folder = getenv("FAULTS_FOLDER");
    if (!folder || !path || strncmp(path, folder, strlen(folder))) return 0;
    int kept = errno;
    uint64_t every = rate(), die = every ? dice() : 0;
    errno = kept;
    return every && die % every == 0 ? errors[(die >> 32) % of] : 0;
}

static int fault_of(int fd, const int *errors, int of) {
    char link[64] = "/proc/self/fd/", path[4096] = {0}, digits[16];
    int at = 0, rest = fd;
    if (fd < 3) return 0;
    do digits[at++] = '0' + rest % 10; while (rest /= 10);
    for (char *to = link + strlen(link); at;) *to++ = digits[--at];
    int kept = errno;
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = kept;
    return size > 0 ? fault(path, errors, of) : 0;
}

#define PART 10001 /* half of it */
#define HANG 10002 /* a while, and then well */
#define ERRORS(...) static const int errors[] = {__VA_ARGS__}; enum { of = sizeof errors / sizeof *errors }
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(found, failed) \
    do { \
        int it = (found); \
        if (it == HANG) nanosleep(&(struct timespec){0, 400000000}, 0); \
        else if (it && it != PART) { errno = it; return failed; } \
    } while (0)

#define OPEN(name, ...) \
    { \
        ERRORS(ENOENT, EACCES, EIO, ENOSPC, EMFILE, EROFS, ESTALE); \
        va_list more; \
        va_start(more, flags); \
        int mode = va_arg(more, int); \
        va_end(more); \
        FAIL(fault(path, errors, of), -1); \
        return REAL(name)(__VA_ARGS__, flags, mode); \
    }
int open(const char *path, int flags, ...) OPEN(open, path)
int open64(const char *path, int flags, ...) OPEN(open64, path)
int openat(int at, const char *path, int flags, ...) OPEN(openat, at, path)
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, at, path)

#define MOVE(type, name, data_type, more, more_names) \
    type name(int fd, data_type data, size_t size more) { \
        ERRORS(EIO, ENOSPC, PART, PART, HANG); \
        int found = fault_of(fd, errors, of); \
        FAIL(found, -1); \
        return REAL(name)(fd, data, found == PART && size > 1 ? size / 2 : size more_names); \
    }
#define COMMA ,
MOVE(ssize_t, write, const void *, , )
MOVE(ssize_t, pwrite, const void *, COMMA off_t at, COMMA at)
MOVE(ssize_t, pwrite64, const void *, COMMA off64_t at, COMMA at)

#define READ(name, more, more_names) \
    ssize_t name(int fd, void *data, size_t size more) { \
        ERRORS(EIO, ESTALE, PART, PART); \
        int found = fault_of(fd, errors, of); \
        FAIL(found, -1); \
        return REAL(name)(fd, data, found == PART && size > 1 ? size / 2 : size more_names); \
    }
READ(read, , )
READ(pread, COMMA off_t at, COMMA at)
READ(pread64, COMMA off64_t at, COMMA at)

#define ON_FD(name, more, more_names, ...) \
    int name(int fd more) { \
        ERRORS(__VA_ARGS__); \
        FAIL(fault_of(fd, errors, of), -1); \
        return REAL(name)(fd more_names); \
    }
ON_FD(fsync, , , EIO, ENOSPC, EINVAL, HANG)
ON_FD(fdatasync, , , EIO, ENOSPC, EINVAL, HANG)
ON_FD(ftruncate, COMMA off_t size, COMMA size, EIO, EINVAL)
ON_FD(ftruncate64, COMMA off64_t size, COMMA size, EIO, EINVAL)
ON_FD(flock, COMMA int how, COMMA how, ENOLCK, EIO)

#define ON_PATH(name, more, more_names, ...) \
    int name(const char *path more) { \
        ERRORS(__VA_ARGS__); \
        FAIL(fault(path, errors, of), -1); \
        return REAL(name)(path more_names); \
    }
ON_PATH(unlink, , , EIO, EACCES, EBUSY)
ON_PATH(mkdir, COMMA mode_t mode, COMMA mode, EIO, ENOSPC, EROFS)
ON_PATH(rename, COMMA const char *to, COMMA to, EIO, ENOSPC, EACCES)
ON_PATH(stat, COMMA struct stat *about, COMMA about, EIO, ENOENT, EACCES, ESTALE)
ON_PATH(stat64, COMMA struct stat64 *about, COMMA about, EIO, ENOENT, EACCES, ESTALE)

int pipe2(int ends[2], int flags) { /* what a command is started with */
    ERRORS(EMFILE, ENFILE);
    FAIL(fault(getenv("FAULTS_FOLDER"), errors, of), -1);
    return REAL(pipe2)(ends, flags);
}

DIR *opendir(const char *path) {
    ERRORS(EIO, EACCES, EMFILE, ENOENT);
    FAIL(fault(path, errors, of), 0);
    return REAL(opendir)(path);
}
