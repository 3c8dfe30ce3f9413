"""Which bin a number is in, for compiled loops."""

import numba


@numba.njit(cache=True, nogil=True, inline="always")
def bin_of(x, edges, per_width):  # type: ignore[no-untyped-def]
    """Return the bin of x, -1 outside.

    ``per_width`` is the number of bins over their whole width: a guess, right at once for even
    bins, which the edges correct.
    """
    n = len(edges) - 1
    if not (x >= edges[0] and x < edges[n]):
        return -1
    b = min(int((x - edges[0]) * per_width), n - 1)
    while x < edges[b]:
        b -= 1
    while x >= edges[b + 1]:
        b += 1
    return b
