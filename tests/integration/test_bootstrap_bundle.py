"""A bundle puts nothing outside its folder, no special file into it, and never more than its share of disk or time."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from factory_tasks.bootstrap_repo.bundle import SCRIPT, BundleUnreadableError, unpack
from factory_tasks.bootstrap_repo.order import OrderRefusedError

Change = Callable[[tarfile.TarInfo], None]


def bundle(*members: tuple[str, bytes, Change | None], script: bool = True) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, data, change in [(SCRIPT, b"echo hello\n", None)] * script + list(members):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change:
                change(member)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def is_a(kind: bytes, target: str = "") -> Change:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def everything_below(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


def test_a_good_bundle_is_unpacked_and_nothing_else_is_left(folder: Path) -> None:
    script = unpack(bundle(("implementation/data/a.txt", b"a", None)), folder)

    assert script.read_text() == "echo hello\n"
    assert everything_below(folder) == {"implementation", SCRIPT, "implementation/data", "implementation/data/a.txt"}


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped", b"x", None),
        ("implementation/../../escaped", b"x", None),
        ("implementation/link", b"", is_a(tarfile.SYMTYPE, "/etc/passwd")),
        ("implementation/link", b"", is_a(tarfile.SYMTYPE, "../../escaped")),
        ("implementation/link", b"", is_a(tarfile.LNKTYPE, "/etc/passwd")),
        ("implementation/link", b"", is_a(tarfile.LNKTYPE, "../escaped")),
        ("implementation/device", b"", is_a(tarfile.CHRTYPE)),
        ("implementation/device", b"", is_a(tarfile.BLKTYPE)),
        ("implementation/pipe", b"", is_a(tarfile.FIFOTYPE)),
    ],
)
def test_a_member_that_leaves_the_folder_or_is_no_file_is_refused(
    folder: Path, member: tuple[str, bytes, Change | None]
) -> None:
    with pytest.raises(OrderRefusedError, match="bundle is refused"):
        unpack(bundle(member), folder)

    assert everything_below(folder.parent) <= {"inside", "inside/implementation", f"inside/{SCRIPT}"}


def test_an_absolute_name_is_taken_as_one_below_the_folder(folder: Path) -> None:
    unpack(bundle(("/tmp/escaped", b"x", None)), folder)

    assert (folder / "tmp" / "escaped").read_text() == "x"


def test_a_link_to_a_neighbour_is_kept(folder: Path) -> None:
    unpack(bundle(("implementation/link", b"", is_a(tarfile.SYMTYPE, "create_new_repo.sh"))), folder)

    assert (folder / "implementation" / "link").readlink() == Path("create_new_repo.sh")


def test_no_file_is_setuid_afterwards(folder: Path) -> None:
    def setuid(member: tarfile.TarInfo) -> None:
        member.mode = 0o6777

    unpack(bundle(("implementation/tool", b"x", setuid)), folder)

    assert (folder / "implementation" / "tool").stat().st_mode & 0o6022 == 0


def test_too_many_members_are_refused(folder: Path) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as plain:
        plain.write(_folder_header() * 5001 + b"\0" * 1024)

    with pytest.raises(OrderRefusedError, match="5000 members"):
        unpack(packed.getvalue(), folder)


def _folder_header() -> bytes:
    member = tarfile.TarInfo("implementation")
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member.tobuf()


def test_a_bomb_is_refused_before_it_fills_the_disk(folder: Path) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as plain:
        for _ in range(80):
            plain.write(bytes(1_000_000))

    with pytest.raises(OrderRefusedError, match="more than 50 MB"):
        unpack(packed.getvalue(), folder)


def test_a_member_that_only_claims_to_be_large_is_refused(folder: Path) -> None:
    member = tarfile.TarInfo(SCRIPT)
    member.size = 10**12
    with pytest.raises(OrderRefusedError, match="more than 50 MB"):
        unpack(gzip.compress(member.tobuf() + bytes(1024)), folder)


@pytest.mark.parametrize("size", [-512, -(10**9)])
def test_a_member_of_negative_size_does_not_lead_in_circles(folder: Path, size: int) -> None:
    member = tarfile.TarInfo("implementation/x")
    member.size = size
    with pytest.raises((OrderRefusedError, BundleUnreadableError)):
        unpack(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), folder)


def test_endless_headers_are_refused(folder: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    with pytest.raises((OrderRefusedError, BundleUnreadableError)):
        unpack(gzip.compress(header.tobuf() * 20_000, 1), folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"no tar" * 200), gzip.compress(bytes(512))[:-9]],
    ids=["empty", "no gzip", "no tar", "cut"],  # the bytes hold the time
)
def test_damaged_bytes_are_no_bundle(folder: Path, data: bytes) -> None:
    with pytest.raises((BundleUnreadableError, OrderRefusedError)):
        unpack(data, folder)


def test_a_bundle_cut_in_the_middle_is_unreadable(folder: Path) -> None:
    whole = bundle(("implementation/noise", os.urandom(10_000), None))
    with pytest.raises(BundleUnreadableError, match="no whole tar"):
        unpack(whole[:5000], folder)


def test_a_bundle_without_the_script_is_refused(folder: Path) -> None:
    with pytest.raises(OrderRefusedError, match="holds no implementation/create_new_repo"):
        unpack(bundle(("other/create_new_repo.sh", b"x", None), script=False), folder)
