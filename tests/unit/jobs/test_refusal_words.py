"""What the engine says when it refuses, in words for people."""

from __future__ import annotations

import pytest

from quakegrid.jobs import refusal_words

CHOICES = (
    "Got 'clasical', expected scenario|classical: could not convert to Choice('scenario', 'classical'): "
)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("ValueError", "", "ValueError"),
        ("ValueError", "bad value", "ValueError: bad value"),
        ("ValueError", "Unknown GSIM XyzModel in the logic tree", "Unknown GSIM XyzModel in the logic tree"),
        (
            "ValueError",
            CHOICES + "calculation_mode=clasical",
            "calculation_mode = clasical is not allowed. Is classical meant? There are classical, scenario",
        ),
        (
            "ValueError",
            CHOICES.replace("clasical", "xyz", 1) + "calculation_mode=xyz",
            "calculation_mode = xyz is not allowed. There are classical, scenario",
        ),
        (
            "ValueError",
            "could not convert string to float: 'x': could not convert to <lambda>: truncation_level=x",
            "truncation_level = x is not allowed: it is no number",
        ),
        (
            "ValueError",
            "integer -3 < 0: could not convert to positiveint: number_of_logic_tree_samples=-3",
            "number_of_logic_tree_samples = -3 is not allowed: integer -3 < 0",
        ),
        (
            "ValueError",
            (
                "'>=' not supported between instances of 'str' and 'int': could not convert to new: "
                'maximum_distance={"default": "a"}'
            ),
            'maximum_distance = {"default": "a"} is not allowed: it has another form than the engine expects',
        ),
        (
            "ValueError",
            "'PGAX': could not convert to intensity_measure_types: intensity_measure_types=PGAX",
            "intensity_measure_types = PGAX is not allowed: the engine does not know 'PGAX'",
        ),
        (
            "KeyError",
            "'The site parameter vs30 is missing in the site model'",
            "'The site parameter vs30 is missing in the site model'",
        ),
    ],
)
def test_engine_is_quoted_without_its_classes(kind: str, text: str, words: str) -> None:
    """Parameter, value, why, and what is allowed; a class only where the text says too little."""
    assert refusal_words.of_engine(kind, text) == words


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("TypeError", "'<=' not supported between instances of 'NoneType' and 'int'"),
        ("KeyError", "'vs30'"),
    ],
)
def test_slips_of_the_program_are_told_as_such(kind: str, text: str) -> None:
    """With the text, for who helps."""
    words = refusal_words.of_engine(kind, text)

    assert words.startswith(f"the engine met an error that it does not explain ({text}); `quakegrid check")
    assert kind not in words


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("KeyError", "'calculation_mode'", "it does not say calculation_mode"),
        ("UnicodeDecodeError", "'utf-8' codec can't decode", "it is no text file"),
        (
            "MissingSectionHeaderError",
            "File contains no section headers.",
            "it is no job file: before its first line there is no [section]",
        ),
        ("ValueError", "bad value", "ValueError: bad value"),
    ],
)
def test_job_file_that_is_none_is_told_in_words(kind: str, text: str, words: str) -> None:
    """What is wrong with the file."""
    assert refusal_words.of_job_file(kind, text) == words
