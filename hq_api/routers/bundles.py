"""The bundle of a bootstrap mission: its run folder at HQ, packed for the factory that runs it (contract http §11)."""

import io
import re
import tarfile
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends
from starlette.responses import Response

from corporation.db import transaction
from corporation.missions import queries
from hq_api.access import FACTORY, Principal
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import sends
from hq_api.gates import MayConsume
from hq_api.responses import Refusal

LARGEST_BUNDLE_BYTES: Final = 50 * 1024 * 1024
LARGEST_RUN_BYTES: Final = 200 * 1024 * 1024
PACKED: Final = (".tgz", ".tar.gz")
FOLDER: Final = "implementation"

router = APIRouter(prefix="/api/v1/ops/tutorials/bootstrap-jobs", tags=["bootstrap"])


@router.get("/{job_id:path}/bundle", response_class=Response, responses=sends("application/gzip", "A tar.gz"))
def bundle(
    job_id: str,
    caller: Annotated[Principal, Depends(principal_with(FACTORY))],
    _: MayConsume,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """A tar.gz with the top folder `implementation/`, made from the run folder or sent as it lies there."""
    with transaction(ledger) as connection:
        mission = queries.find_mission(connection, job_id) if "\0" not in job_id else None
    if mission is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    if caller.scope == FACTORY and mission["factory_id"] != caller.factory_id:
        raise Refusal(403, "forbidden", "this mission belongs to another factory")
    run_path = mission["envelope"]["payload"]["context"].get("tutorial_run_path")
    if not isinstance(run_path, str) or not run_path:
        raise Refusal(400, "no_run_path", "the mission's context names no tutorial_run_path")
    data = pack(find_run(settings.artifact_root, run_path))
    # Only a plain name reaches the header; a job_id is any text.
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job_id)[:100]
    return Response(
        data,
        media_type="application/gzip",
        headers={
            "Content-Disposition": f'attachment; filename="{name}_implementation.tgz"',
            "X-Tutorial-Run-Path": quote(run_path),
        },
    )


def find_run(artifact_root: Path, run_path: str) -> Path:
    """The run folder, or packed run, at `run_path`; links are followed, and the end must lie below the root."""
    root = artifact_root.resolve()
    try:
        found = (root / run_path).resolve()
    except (OSError, ValueError) as error:
        raise Refusal(400, "bad_run_path", "tutorial_run_path is no path") from error
    if not found.is_relative_to(root):
        raise Refusal(400, "bad_run_path", "tutorial_run_path leaves the artifact root")
    if not (found / FOLDER).is_dir() and not (found.is_file() and found.name.endswith(PACKED)):
        raise Refusal(404, "unknown_run", f"there is no run with a folder {FOLDER}/ at tutorial_run_path")
    return found


def pack(run: Path) -> bytes:
    """The run as tar.gz bytes; links and special files are left out, since they could lead anywhere."""
    if run.is_file():
        if run.stat().st_size > LARGEST_BUNDLE_BYTES:
            raise _too_large()
        return run.read_bytes()
    if sum(path.lstat().st_size for path in (run / FOLDER).rglob("*")) > LARGEST_RUN_BYTES:
        raise Refusal(413, "bundle_too_large", f"the run's files are larger than {LARGEST_RUN_BYTES} bytes")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(run / FOLDER, arcname=FOLDER, filter=_plain)
    return _small_enough(packed.getvalue())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _small_enough(data: bytes) -> bytes:
    if len(data) > LARGEST_BUNDLE_BYTES:
        raise _too_large()
    return data


def _too_large() -> Refusal:
    return Refusal(413, "bundle_too_large", f"the bundle is larger than {LARGEST_BUNDLE_BYTES} bytes")
