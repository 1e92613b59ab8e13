"""The sign that README says to take off switches MELD on, and the graph then has its stages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_meld_is_off_in_the_shipped_file_and_on_after_the_readme_s_command(tmp_path: Path) -> None:
    command = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("$ sed"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    subprocess.run([Path(sys.executable).parent / "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    before = stages(tmp_path)
    subprocess.run(command.removeprefix("$ "), cwd=tmp_path, shell=True, check=True)  # noqa: S602
    added = stages(tmp_path) - before
    assert not [name for name in before if "meld" in name]
    assert {re.sub("@.*", "", name) for name in added} == {"ingest", "extract", "pretrain", "fuse", "score"}
    assert all("@meld" in name for name in added)


def stages(folder: Path) -> set[str]:
    listed = subprocess.run(
        [Path(sys.executable).parent / "dvc", "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split())
