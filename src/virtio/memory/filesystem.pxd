"""What <sys/vfs.h> tells about the file system behind a descriptor."""

cdef extern from "<sys/vfs.h>" nogil:
    ctypedef struct statfs_t "struct statfs":
        long f_type
        long f_bsize

    int fstatfs(int fd, statfs_t *info)

cdef extern from "<linux/magic.h>" nogil:
    const long HUGETLBFS_MAGIC
