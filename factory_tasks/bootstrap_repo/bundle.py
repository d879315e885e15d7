"""A bundle from outside, unpacked without trusting a byte of it."""

import errno
import gzip
import io
import sys
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

if sys.version_info >= (3, 11, 4):
    import tarfile
else:
    # The Python of Debian 12 has no data filter, without which no stranger's archive is unpacked.
    from backports import tarfile

from corporation.errors import CorporationError
from factory_tasks.bootstrap_repo.order import OrderRefusedError

SCRIPT: Final = "implementation/create_new_repo.sh"
MOST_BYTES: Final = 50_000_000
MOST_MEMBERS: Final = 5_000
# Beyond the files themselves: a header and padding for each member, and the longest names.
_MOST_TAR_BYTES: Final = MOST_BYTES + MOST_MEMBERS * 4096
_CHUNK: Final = 65_536
# tarfile lets the last three through for headers that nobody writes by accident.
_DAMAGE: Final = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    ValueError,
    OverflowError,
    RecursionError,
    KeyError,  # a hard link to what is not in it
)
_OF_ITS_NAMES: Final = frozenset(
    {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ}
)
"""What the system says of names that cannot be those of files, whatever the state of the disk."""


class BundleUnreadableError(CorporationError):
    """The bytes are no whole tar.gz; after a download, another try may bring better ones."""

    code = "bundle_unreadable"


def unpack(data: bytes, folder: Path) -> Path:
    """The files of the tar.gz `data` are in `folder`, and the returned script is one of them.

    At most 50 MB and 5,000 members, only files, folders and links that stay inside. Raises OrderRefusedError for a
    bundle that asks for anything else, BundleUnreadableError for a damaged one; `folder` may be half full then.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as plain:
            _decompress(data, plain)
            with tarfile.open(fileobj=plain, mode="r:") as bundle:
                _extract(bundle, folder)
    except tarfile.FilterError as error:
        raise OrderRefusedError(f"The bundle is refused: {error}") from None
    except _DAMAGE as error:
        raise BundleUnreadableError(f"The bundle is no whole tar.gz ({type(error).__name__}: {error})") from None
    except OSError as error:
        if error.errno not in _OF_ITS_NAMES:
            raise  # a full disk is no fault of the bundle's
        why = f"two of its members are in each other's way, or a name is none here ({type(error).__name__})"
        raise OrderRefusedError(f"The bundle is refused: {why}") from None
    script = folder / SCRIPT
    if not script.is_file():
        raise OrderRefusedError(f"The bundle holds no {SCRIPT}; pack the folder `implementation` with the script in it")
    return script


def _decompress(data: bytes, plain: IO[bytes]) -> None:
    # Before tarfile sees it: a header alone can claim gigabytes, and tarfile would read them into memory.
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        written = 0
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > _MOST_TAR_BYTES:
                raise _too_large()
            plain.write(chunk)
    plain.seek(0)


def _extract(bundle: tarfile.TarFile, folder: Path) -> None:
    total = 0
    for number, member in enumerate(bundle, start=1):
        # A size below zero would lead tarfile in circles; the number of members ends that too.
        if number > MOST_MEMBERS or member.size < 0:
            raise OrderRefusedError(f"The bundle has more than {MOST_MEMBERS} members, or one of no size; pack less")
        total += member.size
        if total > MOST_BYTES:
            raise _too_large()
        _check_link(member)
        bundle.extract(member, folder, set_attrs=True, filter="data")


def _check_link(member: tarfile.TarInfo) -> None:
    # Stricter than the `data` filter, whose own check of long chains of links has been wrong in Python before.
    target = PurePosixPath(member.linkname) if member.islnk() or member.issym() else PurePosixPath()
    if target.is_absolute() or ".." in target.parts:
        raise OrderRefusedError(f"The bundle is refused: the link {member.name!r} points upwards or to a fixed path")


def _too_large() -> OrderRefusedError:
    return OrderRefusedError(f"The bundle unpacks to more than {MOST_BYTES // 1_000_000} MB; pack less")
