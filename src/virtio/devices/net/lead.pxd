"""Which worker of a queue pair reads a link that waits for a file descriptor.

The receive queue's does, and a transmit queue's that has sent something takes over while that one sleeps: the
answers to what it sends come at once, and reading them itself saves waking another thread, and the driver, for
each. It gives the lead back when more comes than a few answers, when the receive ring is full, whose kicks are
not its own, and before it pauses.
"""

from virtio.memory.atomic cimport ACQUIRE, RELAXED, SEQ_CST, load_int, replace_int, store_int

cdef enum Lead:             # who reads; written by the one who does
    LEAD_RECEIVER = 0
    LEAD_ASLEEP = 1         # the receiver, which sleeps: its transmitter may take over
    LEAD_TRANSMITTER = 2


cdef inline bint take_lead(int *lead) noexcept nogil:
    """For the transmitter: read the link from now on, if the receiver is not at it."""
    return load_int(lead, RELAXED) == LEAD_ASLEEP and replace_int(lead, LEAD_ASLEEP, LEAD_TRANSMITTER)


cdef inline void give_lead(int *lead) noexcept nogil:
    """For the transmitter: leave it to the receiver, which is to be woken then."""
    store_int(lead, LEAD_RECEIVER, SEQ_CST)


cdef inline void leave_lead(int *lead) noexcept nogil:
    """For the receiver: it is about to sleep."""
    store_int(lead, LEAD_ASLEEP, SEQ_CST)


cdef inline bint resume_lead(int *lead) noexcept nogil:
    """For the receiver: whether the link is still its own to read."""
    return load_int(lead, ACQUIRE) == LEAD_RECEIVER or replace_int(lead, LEAD_ASLEEP, LEAD_RECEIVER)
