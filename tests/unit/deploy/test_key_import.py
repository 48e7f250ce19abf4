from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.configure import CommandFailed
from deploy.key_import import Row, read

SECRET = "sk-hunter2-0123456789"


def rows(text: str) -> list[Row]:
    return read(io.StringIO(text, newline=""))


def test_without_a_head_the_columns_are_the_usual_four() -> None:
    text = f'\na, {SECRET}\nb,{SECRET}2,lab,"for x, y"\n\n'
    assert rows(text) == [
        Row(2, "a", SECRET, {}),
        Row(3, "b", SECRET + "2", {"account": "lab", "note": "for x, y"}),
    ]


def test_a_head_names_them() -> None:
    text = f"secret,name,models,requests,local,expires\n{SECRET},a,llama* m,60,true,30d\n"
    policy = {
        "models": ["llama*", "m"],
        "local": "true",
        "expires": "30d",
        "limits": {"requests": "60"},
    }
    assert rows(text) == [Row(2, "a", SECRET, policy)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"a,{SECRET},lab,note,more\n", "line 1: 5 cells, but 4 columns"),
        ("a\n", "line 1: a key has a name and a secret"),
        (f",{SECRET}\n", "line 1: a key has a name and a secret"),
        (f"a,{SECRET}\nb,{SECRET}\n", "lines 1 and 2 have the same secret"),
        (f"a,{SECRET}\na,{SECRET}2\n", "lines 1 and 2 have the same name"),
        (f"name,secret,acount\na,{SECRET},x\n", "there is no column 'acount'"),
        (f"name,secret,name\na,{SECRET},x\n", "a column is named twice"),
        (f'a,"{SECRET}\n', "no comma-separated text"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(text: str, why: str) -> None:
    with pytest.raises(CommandFailed, match=why) as caught:
        rows(text)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_rows_or_one_fault(text: str) -> None:
    try:
        found, said = rows(text), ""
    except CommandFailed as fault:
        found, said = [], str(fault)
    assert "\n" not in said
    assert all(row.name and row.secret for row in found)
