"""What tenants pay in advance. Keys themselves: test_serve.py, where a service asks for them."""

from __future__ import annotations

import pytest

from videosvc.cli.main import run

CREDIT = ["keys", "credit", "--tenant", "ada", "--usd", "12.50", "--reference", "INVOICE-7"]


def test_a_credit_is_booked_once_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--tenant", "ada"]) == 0
    assert run(["keys", "create", "--tenant", "bob"]) == 0
    capsys.readouterr()
    assert run(CREDIT) == 0
    assert capsys.readouterr().out == "12.50 USD are booked; the balance of ada is 12.5 USD\n"
    assert run(CREDIT) == 0
    assert capsys.readouterr().out == "INVOICE-7 was booked before, nothing is added; the balance of ada is 12.5 USD\n"
    assert run(["keys", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ada, bob = (next(line for line in lines if f" {tenant} " in line) for tenant in ("ada", "bob"))
    assert "12.5" in ada and "12.5" not in bob


def test_prepaid_begins_and_ends_without_a_credit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for option, balance in (("--prepaid", "0"), ("--no-prepaid", "")):
        assert run(["keys", "create", "--tenant", "ada", option]) == 0
        capsys.readouterr()
        assert run(["keys", "list"]) == 0
        assert all(line.split()[5:] == balance.split() for line in capsys.readouterr().out.splitlines()[1:])


def test_all_keys_of_a_tenant_end_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for tenant in ("ada", "ada", "bob"):
        assert run(["keys", "create", "--tenant", tenant]) == 0
    ids = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert run(["keys", "revoke", ids[0], "--tenant", "ada"]) == 0
    assert run(["keys", "revoke", "--tenant", "ada"]) == 0
    assert capsys.readouterr().out == f"{ids[0]} is revoked\n{ids[1]} is revoked\n"
    assert run(["keys", "revoke", "--tenant", "ada"]) == 2
    assert run(["keys", "revoke"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--tenant: 'ada' has no key in use" in lines[0] and "ID: name a key, or a --tenant" in lines[1]
    assert run(["keys", "revoke", ids[2]]) == 0, "another tenant's was left"


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--usd", "0", "--usd: 0 must be more than 0, less than 1000000000"),
        ("--usd", "-1", "--usd: -1 must be more than 0"),
        ("--usd", "nan", "--usd: NaN must be more than 0"),
        ("--usd", "inf", "--usd: Infinity must be more than 0"),
        ("--usd", "1e9", "--usd: 1E+9 must be more than 0, less than 1000000000"),
        ("--usd", "ten", "--usd: 'ten' is no amount"),
        ("--usd", "3", "--reference: 'INVOICE-7' was booked before, with 12.5 USD"),
        ("--reference", "", "--reference: 1 to 64 characters"),
        ("--tenant", "bob", "--tenant: there is no tenant 'bob'"),
    ],
)
def test_a_credit_that_is_none(option: str, value: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--tenant", "ada"]) == run(CREDIT) == 0
    capsys.readouterr()
    wrong = list(CREDIT)
    wrong[wrong.index(option) + 1] = value
    assert run(wrong) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and line in captured.err and len(captured.err.splitlines()) == 1
