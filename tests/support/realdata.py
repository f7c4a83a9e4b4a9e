"""The real spectra, and the SDSS tree that they come from.

Files are copied, never linked: a test that cuts one short must not reach the original through a second name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# the folder of the one file whose place the manifest leaves open: the same release's optical spectra
SPEC_FOLDER = "eboss/spectro/redux/v5_13_2/spectra/3586"


@dataclass(frozen=True, slots=True)
class RealFile:
    """One row of the manifest: the file, what it is, and its place below a release's root."""

    path: Path
    filetype: str
    release: str
    obj: str
    hdus: int
    size: int
    sas_path: str

    @property
    def renamed(self) -> bool:
        """Whether the file's present name is not the one it has in the SDSS tree."""
        return self.path.name != Path(self.sas_path).name


def read_manifest(folder: Path) -> list[RealFile]:
    """Read the table of files in ``MANIFEST.md``, in its order."""
    rows = []
    for line in (folder / "MANIFEST.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if len(cells) != 18 or not cells[0].endswith(".fits"):
            continue
        name, filetype, release, _, obj = cells[:5]
        sas_path = cells[16] if cells[16] != "-" else f"{SPEC_FOLDER}/{name}"
        rows.append(RealFile(folder / name, filetype, release, obj, int(cells[12]), int(cells[14]), sas_path))
    if not rows:
        raise ValueError(f"{folder / 'MANIFEST.md'} lists no files")
    return rows


def lay_out(
    files: list[RealFile], root: Path, only: Callable[[RealFile], bool] = lambda file: True
) -> dict[Path, RealFile]:
    """Copy `files` to their places in the tree below `root`; return what is where."""
    placed = {}
    for file in filter(only, files):
        target = root / file.sas_path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file.path, target)
        target.chmod(0o644)
        placed[target] = file
    return placed
