"""Only a machine that stopped inside its kernel is started a second time."""

from __future__ import annotations

import pytest

from kiln.control_plane.road.run import stood_still

KERNEL = b"[    0.000000] Linux version 6.1.0\n[    1.269979] IP idents hash table entries: 32768\n"


def test_a_kernel_that_stopped_stood_still() -> None:
    assert stood_still(KERNEL)


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"No bootable device.\n",
        KERNEL + b"[    2.1] Run /init as init process\n",
        KERNEL + b"[    4.0] systemd[1]: Started ssh.service.\n",
    ],
)
def test_any_other_silence_is_the_fault_of_the_image(log: bytes) -> None:
    assert not stood_still(log)
