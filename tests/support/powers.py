"""To meet the same refusals as everybody when tests run as root."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


@contextmanager
def without_root_powers() -> Iterator[None]:
    """This thread heeds file permissions inside the block, whoever runs it (see capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low word, then high word
    if libc.capget(header, before) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    lowered = (ctypes.c_uint32 * 6)(*before)
    lowered[0] &= ~((1 << CAP_DAC_OVERRIDE) | (1 << CAP_DAC_READ_SEARCH))
    if libc.capset(header, lowered) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, before)
