"""Pickles that would run `touch canary`, put together by hand from opcodes, and the files that they hide in."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

COMMAND = b"touch canary"
CODE = b"open('canary', 'w').close()"


def _short(text: bytes) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text


PAYLOADS: dict[str, bytes] = {
    "protocol 0 REDUCE": b"cos\nsystem\n(S'" + COMMAND + b"'\ntR.",
    "protocol 1 REDUCE": b"cos\nsystem\n(U" + bytes([len(COMMAND)]) + COMMAND + b"tR.",
    "protocol 2 REDUCE": b"\x80\x02cos\nsystem\nU" + bytes([len(COMMAND)]) + COMMAND + b"\x85R.",
    "protocol 3 REDUCE": b"\x80\x03cposix\nsystem\nX" + struct.pack("<I", len(COMMAND)) + COMMAND + b"\x85R.",
    "protocol 4 STACK_GLOBAL": b"\x80\x04" + _short(b"os") + _short(b"system") + b"\x93" + _short(COMMAND) + b"\x85R.",
    "protocol 5 framed": b"\x80\x05\x95"
    + struct.pack("<Q", 33)
    + _short(b"os")
    + _short(b"system")
    + b"\x93"
    + _short(COMMAND)
    + b"\x85R.",
    "INST": b"(S'" + COMMAND + b"'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'" + COMMAND + b"'\no.",
    "NEWOBJ": b"\x80\x02csubprocess\nPopen\n](X\x05\x00\x00\x00touchX\x06\x00\x00\x00canarye\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04"
    + _short(b"subprocess")
    + _short(b"Popen")
    + b"\x93]("
    + _short(b"touch")
    + _short(b"canary")
    + b"e\x85}\x92.",
    "BUILD": b"\x80\x02ctypes\nSimpleNamespace\n)R}U\x01ac__builtin__\nexec\nU" + bytes([len(CODE)]) + CODE + b"\x85Rsb.",
    "EXT1": b"\x80\x02\x82\x01(U" + bytes([len(COMMAND)]) + COMMAND + b"tR.",
    "exec": b"\x80\x02cbuiltins\nexec\nU" + bytes([len(CODE)]) + CODE + b"\x85R.",
    "eval by getattr": b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\nU\x02os\x85RU\x06system\x86RU"
    + bytes([len(COMMAND)])
    + COMMAND
    + b"\x85R.",
    "inside a state_dict": b"\x80\x02}U\x06weightcos\nsystem\nU" + bytes([len(COMMAND)]) + COMMAND + b"\x85Rs.",
    "an import": b"\x80\x02ccanary_module\nrun\n)R.",
    "a lambda of functools": b"\x80\x02cfunctools\npartial\ncos\nsystem\nU" + bytes([len(COMMAND)]) + COMMAND + b"\x86R)R.",
    "after a whole value": b"\x80\x02}.\x80\x02cos\nsystem\nU" + bytes([len(COMMAND)]) + COMMAND + b"\x85R.",
}

# No code, but without end: memory, depth or time.
GROWING: dict[str, bytes] = {
    "a promise of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a promise of text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "a long of gigabytes": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
    "a frame of terabytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 42) + b"N.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "doubling": b"\x80\x02]" + b"".join(b"q%c(h%ch%ct" % (i, i, i) for i in range(100)) + b".",
    "a memo index of billions": b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFFF) + b".",
    "text as a number": b"I" + b"9" * 100_000 + b"\n.",
    "marks": b"(" * 300_000,
    "nothing": b"",
    "a stop": b".",
    "items of no mapping": b"\x80\x02](U\x01aK\x01u.",
}


def zipped(members: dict[str, bytes], *, stored: bool = True) -> bytes:
    """A zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return made.getvalue()


def torch_archive(pickle: bytes, **others: bytes) -> bytes:
    """As torch.save writes it since 1.6."""
    return zipped({"archive/data.pkl": pickle, "archive/byteorder": b"little", "archive/version": b"3\n"} | others)


def torch_script(pickle: bytes) -> bytes:
    """As torch.jit.save writes it."""
    members = {"archive/data.pkl": pickle, "archive/constants.pkl": pickle, "archive/version": b"3\n"}
    return zipped(members | {"archive/code/__torch__.py": b"import os\nos.system('touch canary')\n"})


def legacy(pickle: bytes) -> bytes:
    """As torch.save wrote it before 1.6: magic number, protocol, system, then the object."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    return magic + b"\x80\x02M\xe9\x03." + b"\x80\x02}." + pickle + b"\x80\x02]."


def tar(pickle: bytes) -> bytes:
    """As torch.save wrote it before 0.1.10: a tar archive of pickles."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", "../../canary"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickle)
            archive.addfile(entry, io.BytesIO(pickle))
    return made.getvalue()


def npy(pickle: bytes, shape: str = "(1,)") -> bytes:
    """An .npy file of Python objects."""
    header = ("{'descr': '|O', 'fortran_order': False, 'shape': " + shape + ", }").encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle


def npz(pickle: bytes) -> bytes:
    """An .npz file of Python objects under the keys that a job asks for."""
    return zipped({"inputs.npy": npy(pickle), "targets.npy": npy(pickle), "data.pkl": pickle})


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda pickle: pickle,
    "archive": torch_archive,
    "script": torch_script,
    "legacy": legacy,
    "tar": tar,
    "npy": npy,
    "npz": npz,
    "zip in zip": lambda pickle: zipped({"inputs.npy": torch_archive(pickle), "archive/data.pkl": torch_archive(pickle)}),
}
