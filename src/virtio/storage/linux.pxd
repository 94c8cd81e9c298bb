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
    unsigned int geteuid()
    int usleep(unsigned int microseconds)

cdef extern from "<sys/mman.h>" nogil:
    int mincore(void *address, size_t length, unsigned char *resident)
    int madvise(void *address, size_t length, int advice)
    const int MADV_DONTNEED

cdef extern from "<sys/stat.h>" nogil:
    ctypedef struct Stat "struct stat":
        int64_t st_size
        unsigned int st_uid
    int fstat(int fd, Stat *status)

cdef extern from "<sys/resource.h>" nogil:
    ctypedef struct Rusage "struct rusage":
        long ru_majflt
    int getrusage(int who, Rusage *usage)
    const int RUSAGE_THREAD

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/fs.h>" nogil:
    const unsigned long BLKDISCARD
    const unsigned long BLKZEROOUT
    const unsigned long FS_IOC_FIEMAP

cdef extern from "<linux/fiemap.h>" nogil:
    ctypedef struct Extent "struct fiemap_extent":
        uint64_t fe_logical
        uint64_t fe_length
        unsigned int fe_flags
    ctypedef struct ExtentMap "struct fiemap":
        uint64_t fm_start
        uint64_t fm_length
        unsigned int fm_flags
        unsigned int fm_mapped_extents
        unsigned int fm_extent_count
        Extent fm_extents[0]
    const unsigned int FIEMAP_EXTENT_LAST

cdef extern from "<sys/vfs.h>" nogil:
    ctypedef struct Statfs "struct statfs":
        long f_type
    int fstatfs(int fd, Statfs *status)

cdef extern from "<linux/magic.h>" nogil:
    """
    #ifndef XFS_SUPER_MAGIC     /* not in the headers of before 5.3 */
    #define XFS_SUPER_MAGIC 0x58465342
    #endif
    """
    const long TMPFS_MAGIC
    const long RAMFS_MAGIC
    const long EXT4_SUPER_MAGIC
    const long BTRFS_SUPER_MAGIC
    const long XFS_SUPER_MAGIC

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)
