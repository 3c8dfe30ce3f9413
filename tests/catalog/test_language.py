"""The language of queries: the same rows as Python would choose, and nothing but a query."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from calib.errors import InputError
from jobs.catalog import tables
from jobs.catalog.catalog import Catalog
from jobs.catalog.language import COLUMNS, condition
from jobs.storage.database import writing

ROWS: list[dict[str, Any]] = [
    {
        "run": 100 + i // 2,
        "events": 10 * i,
        "luminosity": None if i % 5 == 0 else i / 4,
        "quality": ("good", "bad", "a'b", "50%")[i % 4],
        "sample": ("data", "mc")[i % 2],
        "resonance": "z",
        "format": ("stage1", "nanoaod")[i % 2],
        "simulation": bool(i % 2),
        "path": f"/data/{'Z' if i % 3 else 'z'}_{i}.parquet",
        "size": 1000 * i,
        "checksum": None,
        "added": "2026-01-01",
        "state": "present",
    }
    for i in range(20)
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog.open(str(tmp_path_factory.mktemp("language") / "c.sqlite"), new=True)
    with writing(catalog.engine, tables.LOCK) as connection:
        for name, format, simulation in (("data", "stage1", False), ("mc", "nanoaod", True)):
            connection.execute(
                tables.samples.insert().values(
                    name=name, resonance="z", format=format, simulation=simulation
                )
            )
        for i, row in enumerate(ROWS):
            sample = 1 + i % 2
            connection.execute(
                tables.files.insert().values(
                    id=i,
                    sample_id=sample,
                    path=row["path"],
                    uuid=str(i),
                    checksum=None,
                    size=row["size"],
                    mtime=0,
                    total=row["events"],
                    n_runs=1,
                    added=row["added"],
                    state="present",
                )
            )
            connection.execute(
                tables.entries.insert().values(
                    file_id=i,
                    run=row["run"],
                    sample_id=sample,
                    events=row["events"],
                    sections="",
                    luminosity=row["luminosity"],
                    quality=row["quality"],
                )
            )
    return catalog


def chosen(rows: Catalog, text: str) -> list[int]:
    return sorted(int(entry["uuid"]) for entry in rows.entries(text))


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("run >= 105", lambda r: r["run"] >= 105),
        ("105 <= run", lambda r: r["run"] >= 105),
        ("102 < run <= 105", lambda r: 102 < r["run"] <= 105),
        ("run in [101, 103]", lambda r: r["run"] in (101, 103)),
        ("run not in (101,)", lambda r: r["run"] != 101),
        ('quality == "good" and run < 108', lambda r: r["quality"] == "good" and r["run"] < 108),
        ('quality == "a\'b"', lambda r: r["quality"] == "a'b"),
        ('quality in {"good", "50%"}', lambda r: r["quality"] in ("good", "50%")),
        (
            'not (quality == "good" or run == 100)',
            lambda r: not (r["quality"] == "good" or r["run"] == 100),
        ),
        ("simulation", lambda r: r["simulation"]),
        ("not simulation and events > 20", lambda r: not r["simulation"] and r["events"] > 20),
        ("simulation == False", lambda r: not r["simulation"]),
        ('"Z_1" in path', lambda r: "Z_1" in r["path"]),
        ('"%" in quality', lambda r: "%" in r["quality"]),
        ('"_1" not in path', lambda r: "_1" not in r["path"]),
        ("luminosity == None", lambda r: r["luminosity"] is None),
        ("luminosity > 2.5", lambda r: r["luminosity"] is not None and r["luminosity"] > 2.5),
        ("run > 104.5", lambda r: r["run"] > 104.5),
        ("events > -1", lambda r: True),
        ("size >= events", lambda r: r["size"] >= r["events"]),
        ('format == "stage1" and sample == "data"', lambda r: r["format"] == "stage1"),
        ("run\n >= 105", lambda r: r["run"] >= 105),
    ],
)
def test_the_rows_that_python_would_choose(
    rows: Catalog, text: str, python: Callable[[dict[str, Any]], bool]
) -> None:
    assert chosen(rows, text) == [i for i, row in enumerate(ROWS) if python(row)]
    assert rows.totals(text).events == sum(row["events"] for row in ROWS if python(row))


ATOMS = st.one_of(
    st.tuples(
        st.sampled_from(["run", "events", "size"]),
        st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
        st.integers(-5, 200),
    ).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
    st.tuples(
        st.sampled_from(["quality", "sample", "path"]),
        st.sampled_from(["==", "!=", "<"]),
        st.text("agz'%_\\\" \n", max_size=4),
    ).map(lambda t: f"{t[0]} {t[1]} {t[2]!r}"),
)
QUERIES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda q: f"not ({q})"),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(QUERIES)
def test_any_query_means_what_it_means_in_python(rows: Catalog, text: str) -> None:
    expected = [
        i for i, row in enumerate(ROWS) if of_python(ast.parse(text, mode="eval").body, row)
    ]
    assert chosen(rows, text) == expected


OPERATORS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def of_python(node: Any, row: dict[str, Any]) -> Any:
    """Return what a query of the kinds above means, by Python's own operators."""
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        return every([of_python(v, row) for v in node.values])
    if isinstance(node, ast.UnaryOp):
        value = of_python(node.operand, row)
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.Compare):
        other = of_python(node.comparators[0], row)
        return OPERATORS[type(node.ops[0])](of_python(node.left, row), other)
    return row[node.id] if isinstance(node, ast.Name) else node.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rum >= 3", ["'rum'", "did you mean 'run'"]),
        ("luminositi > 3", ["did you mean 'luminosity'"]),
        ("xyzzy == 3", ["unknown word 'xyzzy'", "known: run, events"]),
        ('run == "3"', ["'run' is a number, compared with text"]),
        ("quality == 3", ["'quality' is text, compared with a number"]),
        ("simulation > 3", ["'simulation' is True or False"]),
        ("simulation < True", ["only == and !="]),
        ("run = 3", ["not understood"]),
        ("run >= ", ["not understood"]),
        ("", ["not understood"]),
        ("run", ["'run' alone is no condition"]),
        ("1 < 2", ["no column is compared"]),
        ("run is 3", ["`is` is not of this language"]),
        ("run in quality", ["expected a list"]),
        ("run in [quality]", ["expected numbers or text"]),
        ("run + 1 > 3", ["'run + 1'", "expected a column"]),
        ("__import__('os').system('true')", ["no comparison"]),
        ("run == __import__('os').getpid()", ["expected a column"]),
        ("run.__class__ == 3", ["expected a column"]),
        ("[r for r in (1,)]", ["no comparison"]),
        ("(lambda: run)() > 1", ["expected a column"]),
        ('f"{run}" == "3"', ["expected a column"]),
        ("run > 1e400", ["expected a column"]),
        ("run > " + "9" * 30, ["expected a column"]),
        ("run > 1 or " * 2000 + "run > 2", ["characters, expected at most"]),
        ("not " * 3000 + "simulation", ["query"]),
        ("(" * 300 + "run > 1" + ")" * 300, ["not understood"]),
        ("run > 1; run > 2", ["not understood"]),
        ("quality == 'a\0b'", ["not understood"]),
        ("run > 1) or (1 == 1", ["not understood"]),
    ],
)
def test_what_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        condition(text)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert len(str(error.value)) < 500


def test_values_are_bound_never_written_into_the_sql() -> None:
    found = condition('quality == "x\' or 1=1 --" and run in [7, 8]')
    text = str(found.clause.compile(dialect=postgresql.dialect()))
    assert "1=1" not in text and "7" not in text


def test_every_column_can_be_asked_for(rows: Catalog) -> None:
    for name, (_, kind) in COLUMNS.items():
        value = {"a number": "0", "text": "''", "True or False": "True"}[kind]
        rows.totals(f"{name} != {value}")
