"""Loads, stores and fences with a written-out memory order, as the compiler's own builtins."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    const int RELAXED "__ATOMIC_RELAXED"
    const int ACQUIRE "__ATOMIC_ACQUIRE"
    const int RELEASE "__ATOMIC_RELEASE"
    const int SEQ_CST "__ATOMIC_SEQ_CST"

    uint16_t load_u16 "__atomic_load_n"(const uint16_t *, int) noexcept
    uint32_t load_u32 "__atomic_load_n"(const uint32_t *, int) noexcept
    uint64_t load_u64 "__atomic_load_n"(const uint64_t *, int) noexcept
    int load_int "__atomic_load_n"(const int *, int) noexcept
    void *load_pointer "__atomic_load_n"(void **, int) noexcept

    void store_u16 "__atomic_store_n"(uint16_t *, uint16_t, int) noexcept
    void store_u32 "__atomic_store_n"(uint32_t *, uint32_t, int) noexcept
    void store_u64 "__atomic_store_n"(uint64_t *, uint64_t, int) noexcept
    void store_int "__atomic_store_n"(int *, int, int) noexcept
    void store_pointer "__atomic_store_n"(void **, void *, int) noexcept

    uint8_t or_u8 "__atomic_fetch_or"(uint8_t *, uint8_t, int) noexcept
    int add_int "__atomic_fetch_add"(int *, int, int) noexcept
    uint64_t add_u64 "__atomic_fetch_add"(uint64_t *, uint64_t, int) noexcept

    void fence "__atomic_thread_fence"(int) noexcept
    # Orders nothing in the machine: keeps the compiler from reading memory again behind our back.
    void compiler_fence "__atomic_signal_fence"(int) noexcept
    void prefetch "__builtin_prefetch"(const void *) noexcept
    void cpu_pause "__builtin_ia32_pause"() noexcept

cdef extern from *:
    """
    static inline void virtio_prefetch_write(const void *place) {
    #if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(*(const char *)place));  /* the builtin only emits it for newer sets */
    #else
        __builtin_prefetch(place, 1);
    #endif
    }
    static inline int virtio_replace_int(int *place, int old, int new_) {
        return __atomic_compare_exchange_n(place, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    # Have the cache line fetched to be written: away from the processor that wrote it last.
    void prefetch_write "virtio_prefetch_write"(const void *) noexcept nogil
    # Store `new` if `old` is there; whether it was.
    bint replace_int "virtio_replace_int"(int *place, int old, int new) noexcept nogil
