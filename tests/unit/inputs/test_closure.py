"""The files that a job file needs, found by their names alone."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

import pytest

from quakegrid.inputs import closure, names


class MemoryFiles:
    """Files that exist in memory only; counts what is read."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self.read_paths: list[str] = []
        self.asked_count = 0

    def is_file(self, path: str) -> bool:
        """Whether there is one."""
        self.asked_count += 1
        return path in self._texts

    def read(self, path: str, most_bytes: int) -> str:
        """Its text."""
        self.read_paths.append(path)
        return self._texts[path][:most_bytes]

    def same_stem(self, path: str) -> Iterable[str]:
        """Those with the same stem."""
        stem = posixpath.splitext(path)[0]
        return [each for each in self._texts if posixpath.splitext(each)[0] == stem]


TREE = "<uncertaintyModel>\n  source_model_1.xml\n  sub/source_model_2.xml\n</uncertaintyModel>"
MODEL = {
    "/m/job.ini": "source_model_logic_tree_file = ssmLT.xml\nexposure_file = ../shared/exposure.xml\n",
    "/m/ssmLT.xml": TREE,
    "/m/source_model_1.xml": "<nrml/>",
    "/m/source_model_1.hdf5": "",
    "/m/sub/source_model_2.xml": "<nrml/>",
    "/shared/exposure.xml": "<assets>exposure_1.csv exposure_2.csv</assets>",
    "/shared/exposure_1.csv": "id,lon,lat\n1,0.5,0.5\n",
    "/shared/exposure_2.csv": "id,lon,lat\n2,0.5,0.5\n",
    "/m/notes.txt": "",
}


def found(texts: Mapping[str, str], job_ini: str = "/m/job.ini") -> list[str]:
    """The closure of one job file."""
    return closure.find([job_ini], MemoryFiles(texts))


def test_files_are_found_from_file_to_file() -> None:
    """Logic trees, sources with their HDF5, exposures elsewhere; nothing that nobody names."""
    assert found(MODEL) == [
        "/m/job.ini",
        "/m/ssmLT.xml",
        "/shared/exposure.xml",
        "/m/source_model_1.xml",
        "/m/sub/source_model_2.xml",
        "/shared/exposure_1.csv",
        "/shared/exposure_2.csv",
        "/m/source_model_1.hdf5",
    ]


def test_files_that_name_each_other_are_found_once() -> None:
    """A circle of names has an end; a file that names itself is no circle."""
    files = MemoryFiles(
        {"/m/job.ini": "a_file = a.xml", "/m/a.xml": "a.xml b.xml", "/m/b.xml": "a.xml job.ini"}
    )

    assert closure.find(["/m/job.ini"], files) == ["/m/job.ini", "/m/a.xml", "/m/b.xml"]
    assert sorted(files.read_paths) == ["/m/a.xml", "/m/b.xml", "/m/job.ini"]


def test_several_job_files_share_what_they_name() -> None:
    """As the hazard and the risk part of one calculation."""
    texts = {
        "/m/haz.ini": "site_model_file = s.csv",
        "/m/risk.ini": "site_model_file = s.csv",
        "/m/s.csv": "lon,lat",
    }

    assert closure.find(["/m/haz.ini", "/m/risk.ini"], MemoryFiles(texts)) == [
        "/m/haz.ini",
        "/m/risk.ini",
        "/m/s.csv",
    ]


def test_shapefile_comes_with_its_parts() -> None:
    """The engine opens them by their common name."""
    texts = {
        "/m/job.ini": "aggregate_file = a.shp",
        "/m/a.shp": "",
        "/m/a.dbf": "",
        "/m/a.prj": "",
        "/m/b.dbf": "",
    }

    assert found(texts) == ["/m/job.ini", "/m/a.shp", "/m/a.dbf", "/m/a.prj"]


def test_archive_is_taken_whole() -> None:
    """What is in it is not looked for."""
    assert found({"/m/job.ini": "exposure_file = e.zip", "/m/e.zip": "x.xml", "/m/x.xml": ""}) == [
        "/m/job.ini",
        "/m/e.zip",
    ]


def test_name_is_looked_for_beside_its_text_first() -> None:
    """Then in the folder of the job file, as for tables of ground motion models."""
    texts = {
        "/m/job.ini": "gsim_logic_tree_file = trees/g.xml",
        "/m/trees/g.xml": 'gmpe_table="near.hdf5" other="far.hdf5"',
        "/m/trees/near.hdf5": "",
        "/m/near.hdf5": "",
        "/m/far.hdf5": "",
    }

    assert found(texts) == ["/m/job.ini", "/m/trees/g.xml", "/m/trees/near.hdf5", "/m/far.hdf5"]


def test_absolute_names_are_left_to_the_engine() -> None:
    """It refuses them; they are never sent."""
    assert found({"/m/job.ini": "a_file = /etc/passwd.xml", "/etc/passwd.xml": ""}) == ["/m/job.ini"]


def test_hidden_files_are_not_sent() -> None:
    """Whoever has made a model could name secrets of those who run it."""
    files = {
        "/h/m/job.ini": "# ../.netrc ../.config/key.pem ./a.csv x/../b.csv\n",
        "/h/.netrc": "",
        "/h/.config/key.pem": "",
        "/h/m/a.csv": "",
        "/h/m/b.csv": "",
    }
    assert found(files, "/h/m/job.ini") == ["/h/m/job.ini", "/h/m/a.csv", "/h/m/b.csv"]


def test_text_without_names_asks_for_no_file() -> None:
    """A large source model has millions of numbers, which are no names."""
    numbers = " ".join(f"{number / 7:.5f} -1.0E{number % 9} {number}e-05" for number in range(10_000))
    files = MemoryFiles({"/m/job.ini": "a_file = a.xml", "/m/a.xml": f"<posList>{numbers}</posList>"})

    closure.find(["/m/job.ini"], files)

    assert files.asked_count < 20


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gsim = [GMPETable]\ngmpe_table = 'tables/wes.hdf5'\n", "tables/wes.hdf5"),
        ('gsim = [GMPETable] gmpe_table="a.hdf5"', "a.hdf5"),
        ("x_file = {'structural': 'v_s.xml', 'contents': 'v_c.xml'}", "v_c.xml"),
        ("source_model_file = a.xml b.xml", "b.xml"),
        ("mmi_file = exposure (0.1).xml\r\n", "exposure (0.1).xml"),
        ("site_model_file = sites_(0.1).csv", "sites_(0.1).csv"),
        ("shakemap_uri = {'kind': 'usgs_xml', 'grid_url': 'shakemap/grid.xml'}", "shakemap/grid.xml"),
        ("<assets>tables/my assets.csv</assets>", "tables/my assets.csv"),
        ("<uncertaintyModel>a,b.xml</uncertaintyModel>", "a,b.xml"),
        ('<model path="a [1].xml"/>', "a [1].xml"),
    ],
)
def test_names_are_seen_however_they_are_written(text: str, name: str) -> None:
    """In tables, lists, dictionaries, quotes and elements; with brackets and blanks."""
    assert name in list(names.words(text))


def test_words_are_bounded() -> None:
    """No more is read than a path can have; each word is given once."""
    found = list(names.words(f"{'a' * 2000}.xml b.xml b.xml 1.5 12. x."))

    assert max(map(len, found)) <= names.MOST_NAME_CHARACTERS + len(".xml")
    assert found.count("b.xml") == 1
    texts = "1.5 12. x. 1.0E+05 1.e5 a.b.c"
    assert list(names.words(texts)) == ["1.e5", texts.removesuffix(" a.b.c"), "a.b.c", texts]


def test_wishes_of_a_job_file_are_read() -> None:
    """Which exports it wants, and where."""
    assert names.export_wishes("exports = csv, xml\nexport_dir = out\ndescription = exports = x\n") == (
        "csv, xml",
        "out",
    )
    assert names.export_wishes("[general]\n") == ("", "")


def test_absolute_inputs_are_told() -> None:
    """Only keys of inputs: the folder of exports may be absolute, and lines without a value are none."""
    text = "[x]\nsite_model_file = /data/s.csv\nexport_dir = /tmp\nexposure_file = e.xml\n"

    assert names.absolute_inputs(text) == ["site_model_file = /data/s.csv"]
