"""What keeps a job of cgroups version 2 from devices: a small program that the kernel asks (bpf(2))."""

import errno
import os
import stat
import struct
from typing import List, Sequence, Tuple

# The system call bpf(2) by machine; its commands, and what they are told here.
BPF_CALLS = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "riscv64": 280, "armv7l": 386}
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
# What stands above us (a service manager, a container) goes on to decide as well.
BPF_F_ALLOW_MULTI = 2


def device_numbers(paths: Sequence[str]) -> List[Tuple[str, int, int]]:
    """The type, major and minor number of each device there is; one that this host lacks need not be denied.

    Raises ``OSError`` for what is no device.
    """
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), path)
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
        found.append((kind, os.major(status.st_rdev), os.minor(status.st_rdev)))
    return found


def device_program(denied: Sequence[Tuple[str, int, int]]) -> bytes:
    """The program that answers 0 to the use of denied devices, and 1 to that of others."""
    load, mask, unless, answer, leave = 0x61, 0x57, 0x55, 0xB7, 0x95

    def step(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return struct.pack("<BBhi", code, to | source << 4, offset, value)

    # r1 names three words: kind (in its lower half) and access, major, minor.
    steps = [step(load, 2, 1), step(mask, 2, value=0xFFFF), step(load, 3, 1, 4), step(load, 4, 1, 8)]
    for kind, major, minor in denied:
        steps += [
            step(unless, 2, offset=4, value=1 if kind == "b" else 2),
            step(unless, 3, offset=3, value=major),
            step(unless, 4, offset=2, value=minor),
            step(answer, 0),
            step(leave),
        ]
    return b"".join([*steps, step(answer, 0, value=1), step(leave)])


def deny_devices(group: str, denied: Sequence[Tuple[str, int, int]]) -> None:
    """Keep what is in a control group of version 2 from devices.  Raises ``OSError`` where that cannot be had."""
    import ctypes

    call = BPF_CALLS.get(os.uname().machine)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), group)
    libc = ctypes.CDLL(None, use_errno=True)

    def bpf(command: int, attributes: bytes) -> int:
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        done = libc.syscall(ctypes.c_long(call), command, buffer, ctypes.c_uint(len(attributes)))
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), group)
        return int(done)

    code = device_program(denied)
    steps, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"BSD")
    where = (ctypes.addressof(steps), ctypes.addressof(licence))
    program = bpf(BPF_PROG_LOAD, struct.pack("<IIQQ32x", BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *where))
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Kept by the group, and gone with it.
            bpf(BPF_PROG_ATTACH, struct.pack("<IIII", directory, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
        finally:
            os.close(directory)
    finally:
        os.close(program)
