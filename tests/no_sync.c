/* Preloaded: a file system that cannot sync folders, nor data alone, nor lock files, as some network and FUSE ones. */
#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd) {
    struct stat about;
    if (!fstat(fd, &about) && S_ISDIR(about.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    (void)fd;
    errno = EINVAL;
    return -1;
}

int flock(int fd, int how) {
    (void)fd, (void)how;
    errno = ENOLCK;
    return -1;
}
