"""The wheel and the sdist: the same bytes each time, and enough for an environment that has nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy import release
from quakegrid import testing

UV = release.ROOT / ".venv" / "tools" / "bin" / "uv"
EPOCH_S = 1_767_225_600
PROGRAM = """\
from quakegrid import LocalCluster

if __name__ == "__main__":
    with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
        print(sum(executor.map(abs, range(-10, 1))))
"""

pytestmark = pytest.mark.skipif(
    not UV.exists(), reason="uv is not in .venv/tools; `make install` puts it there"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel and the sdist of this checkout."""
    return release.build(tmp_path_factory.mktemp("dist"), EPOCH_S)


def test_packages_are_the_same_bytes_each_time(built: list[Path], tmp_path: Path) -> None:
    """Also those that are built from the sdist, elsewhere and later: what a distribution does."""
    (sdist,) = (path for path in built if path.name.endswith(".tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (sources,) = tmp_path.iterdir()

    again = release.build(tmp_path / "dist", EPOCH_S, sources)

    assert release.check_sums(again) == release.check_sums(built)


def test_wheel_has_the_package_and_nothing_beside_it(built: list[Path]) -> None:
    """No name at the top that another package could have, and all that is read at run time."""
    (wheel,) = (path for path in built if path.suffix == ".whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = release.ROOT / "quakegrid"
    tracked = {
        str(path.relative_to(release.ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"quakegrid"}
    assert tracked - names == set()


@pytest.mark.alone
def test_wheel_works_in_an_empty_environment(built: list[Path], tmp_path: Path) -> None:
    """Without the engine, a cluster runs functions of one's own."""
    (wheel,) = (path for path in built if path.suffix == ".whl")
    bin_dir = tmp_path / "venv" / "bin"
    export = [UV, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--output-file"]
    subprocess.run([*export, tmp_path / "needs.txt"], cwd=release.ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", bin_dir / "python"]
    subprocess.run([*install, "--require-hashes", "-r", tmp_path / "needs.txt"], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    environ = testing.isolated_environ(tmp_path)
    environ.pop("PYTHONPATH", None)

    def run(*argv: str | Path) -> str:
        done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(bin_dir / "quakegrid", "--version").split()[-1] == wheel.name.split("-")[1]
    assert run(bin_dir / "python", "program.py") == "55\n"
    assert shutil.which("agentctl", path=str(bin_dir))
