"""The system calls that storage is made of, where Cython brings no declaration of its own."""

from libc.stdint cimport int64_t, uint64_t
from posix.uio cimport iovec

cdef extern from "<sys/uio.h>" nogil:
    ssize_t preadv2(int fd, const iovec *segments, int count, int64_t offset, int flags)
    ssize_t pwritev2(int fd, const iovec *segments, int count, int64_t offset, int flags)
    const int RWF_NOWAIT    # fail with EAGAIN rather than wait for the medium
    const int RWF_DSYNC     # return once the data is durable

cdef extern from "<limits.h>" nogil:
    const int IOV_MAX

cdef extern from "<fcntl.h>" nogil:
    int fallocate(int fd, int mode, int64_t offset, int64_t length)
    const int FALLOC_FL_KEEP_SIZE
    const int FALLOC_FL_PUNCH_HOLE
    const int FALLOC_FL_ZERO_RANGE

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int fd)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/fs.h>" nogil:
    const unsigned long BLKDISCARD
    const unsigned long BLKZEROOUT

cdef extern from "<sys/vfs.h>" nogil:
    ctypedef struct Statfs "struct statfs":
        long f_type
    int fstatfs(int fd, Statfs *status)

cdef extern from "<linux/magic.h>" nogil:
    const long TMPFS_MAGIC
    const long RAMFS_MAGIC

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)
