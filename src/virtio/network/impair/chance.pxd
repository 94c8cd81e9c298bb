"""Chance that can be repeated: xoshiro256** seeded by splitmix64, with correlation and distributions.

Correlated draws are made on a normal variable (an autoregressive one) and mapped back, so that their share
and distribution stay what was asked for, whatever the correlation.
"""

from libc.math cimport M_PI, cos, erfc, log, pow, sqrt
from libc.stdint cimport uint64_t

cdef enum Distribution:     # settings.DISTRIBUTIONS
    UNIFORM = 0
    NORMAL = 1
    PARETO = 2
    PARETONORMAL = 3


cdef struct Chance:
    uint64_t state[4]
    double last             # the normal variable of the last correlated draw


cdef inline uint64_t rotate(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef inline uint64_t next_word(Chance *chance) noexcept nogil:
    cdef uint64_t result = rotate(chance.state[1] * 5, 7) * 9
    cdef uint64_t shifted = chance.state[1] << 17
    chance.state[2] ^= chance.state[0]
    chance.state[3] ^= chance.state[1]
    chance.state[1] ^= chance.state[2]
    chance.state[0] ^= chance.state[3]
    chance.state[2] ^= shifted
    chance.state[3] = rotate(chance.state[3], 45)
    return result


# In (0, 1), both ends excluded.
cdef inline double uniform(Chance *chance) noexcept nogil:
    return (<double> (next_word(chance) >> 11) + 0.5) * (1.0 / 9007199254740992.0)


cdef inline double normal(Chance *chance) noexcept nogil:
    cdef double radius = sqrt(-2.0 * log(uniform(chance)))
    return radius * cos(2.0 * M_PI * uniform(chance))


cdef inline void seed_chance(Chance *chance, uint64_t seed) noexcept nogil:
    cdef uint64_t word
    cdef int i
    for i in range(4):
        seed += <uint64_t> 0x9E3779B97F4A7C15
        word = seed
        word = (word ^ (word >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
        word = (word ^ (word >> 27)) * <uint64_t> 0x94D049BB133111EB
        chance.state[i] = word ^ (word >> 31)
    chance.last = normal(chance)


# A normal variable that has `correlation` with the one drawn before.
cdef inline double correlated_normal(Chance *chance, double correlation) noexcept nogil:
    chance.last = correlation * chance.last + sqrt(1.0 - correlation * correlation) * normal(chance)
    return chance.last


cdef inline double correlated(Chance *chance, double correlation) noexcept nogil:
    if correlation == 0.0:
        return uniform(chance)
    return 0.5 * erfc(-correlated_normal(chance, correlation) / sqrt(2.0))


cdef inline bint happens(Chance *chance, double share, double correlation) noexcept nogil:
    return share > 0.0 and correlated(chance, correlation) <= share


cdef inline double clipped(double value) noexcept nogil:
    return -4.0 if value < -4.0 else 4.0 if value > 4.0 else value


# Of mean 0: a Pareto variable of exponent 3, which falls below -0.5 never and beyond 4 is cut.
cdef inline double pareto(double share) noexcept nogil:
    if share < 1e-300:
        return 4.0
    return clipped(pow(share, -1.0 / 3.0) - 1.5)


# How far a delay is from its mean, in units of the jitter.
cdef inline double deviation(Chance *chance, int distribution, double correlation) noexcept nogil:
    cdef double value
    if distribution == NORMAL:
        return clipped(correlated_normal(chance, correlation))
    if distribution == PARETO:
        return pareto(correlated(chance, correlation))
    if distribution == PARETONORMAL:
        value = 0.75 * pareto(correlated(chance, correlation))
        return value + 0.25 * clipped(normal(chance))
    return 2.0 * correlated(chance, correlation) - 1.0
