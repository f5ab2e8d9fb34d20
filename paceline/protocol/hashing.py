"""One 64-bit mixing function, for digests, noise and seeds."""

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def mix(state: int, value: int) -> int:
    """64 bits that depend on every bit of `state` and `value`, each of 64 bits.

    Chained, mix(mix(state, a), b), it hashes a sequence. The finalizer of splitmix64
    (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = ((state ^ value) + _GAMMA) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
