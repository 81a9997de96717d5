"""Addresses of stores: a secret in them is never shown, however it is written."""

import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from conftest import PATIENCE, CommandLine

from agmbench.addresses import hidden, shown


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("sqlite:////data/me/runs/mlflow.db", "sqlite:////data/me/runs/mlflow.db"),
        ("sqlite:////data/a@b/runs/mlflow.db", "sqlite:////data/a@b/runs/mlflow.db"),
        ("sqlite+pysqlite:////why%3F/mlflow.db", "sqlite+pysqlite:////why%3F/mlflow.db"),
        ("http://127.0.0.1:5000/prefix", "http://127.0.0.1:5000/prefix"),
        ("postgresql://host/runs", "postgresql://host/runs"),
        ("nonsense", "nonsense"),
        ("/data/a@b/runs", "/data/a@b/runs"),
        ("postgresql+psycopg://me:hush@host:5432/runs", "postgresql+psycopg://***@host:5432/runs"),
        ("https://hush@host/x", "https://***@host/x"),  # the user name is a token
        ("https://hush:@host/x", "https://***@host/x"),
        ("https://hush:x-oauth-basic@host", "https://***@host"),
        ("postgresql://me:hu%2fsh@host/runs", "postgresql://***@host/runs"),
        ("postgresql://me:hu/s?h#hu@sh@host/runs", "postgresql://***@host/runs"),
        ("postgresql://me:hush@host:54x2/runs", "postgresql://***@host:54x2/runs"),
        ("postgresql://me@corp.org:hush@host/runs", "postgresql://***@host/runs"),
        ("postgresql://host/runs?user=me&password=hush", "postgresql://host/runs?***"),
        ("https://host/x?token=hush", "https://host/x?***"),
        ("me:hush@host/runs", "***@host/runs"),
        ("postgres//me:hush@host", "***@host"),
    ],
)
def test_an_address_is_told_without_its_secrets(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert hidden(f"cannot reach {address}.", address) == f"cannot reach {expected}."


SECRETS = ["hush", "hu/sh", "hu%2fsh", "hu%2Fsh", "hu sh", "hu'sh", 'hu"sh', "hu\\sh", "hüsh", "hu+sh", "hu:sh@x", "hu$(sh)"]


@pytest.mark.parametrize("given", ["user", "password", "query"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_in_every_way_of_writing_it(secret: str, given: str) -> None:
    from urllib.parse import unquote

    address = {
        "user": f"https://{secret}@host/x",
        "password": f"postgresql://me:{secret}@host:54x2/x",
        "query": f"postgresql://host/x?sslmode=require&password={secret}",
    }[given]
    for plain in {secret, unquote(secret)}:
        for form in (plain, quote(plain), quote(plain, safe=""), quote(plain, safe="").lower(), quote_plus(plain), repr(plain)):
            said = hidden(f"no (password={form}; {form!r}, {form!a})", address)
            assert "hu" not in said, (form, said)
            assert "sh" not in said, (form, said)


def test_users_are_hidden_in_addresses_that_nobody_named() -> None:
    said = "no answer from postgresql://me:hush@host/x (see https://docs/x, or mail to a@b)"
    assert hidden(said, "") == "no answer from postgresql://***@host/x (see https://docs/x, or mail to a@b)"


def test_what_is_no_secret_stays() -> None:
    address = "postgresql://me:a@host:5432/runs?sslmode=require"
    said = "postgresql at host:5432: a role 'me' is not there, required mean"
    assert hidden(said, address) == "postgresql at host:5432: *** role '***' is not there, required mean"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hu%2fsh@127.0.0.1:1/x",
        "postgresql://me:hush@127.0.0.1:54x2/x",
        "postgresql://127.0.0.1:1/x?user=me&password=hush",
        "http://hush@127.0.0.1:1",
        "http://me:hu%2fsh@127.0.0.1:1x/x",
        "https://127.0.0.1:1/?token=hush",
        "nothing://me:hush@127.0.0.1/x",
        "mysql://me:hush@127.0.0.1/x",
    ],
)
@pytest.mark.parametrize("where", ["store", "study"])
def test_no_error_tells_a_secret(address: str, where: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if where == "store":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        error = line("compare").err
    else:
        words = ("sweep", "-d", "synthetic", "-m", "agm", "--set", "dataset.samples=64", "--trials", "1")
        error = line(*words, "--storage", address).err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in ("hush", "hu%2fsh", "hu/sh", "hu%2Fsh"):
        assert part not in error


def test_the_ui_is_told_the_address_where_ps_does_not_show_it(finished: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_ui import free_port

    store = f"sqlite:///{finished.folder / 'runs' / 'mlflow.db'}?password=hush"
    process = finished.process("ui", "--port", str(free_port()), env={"MLFLOW_TRACKING_URI": store})
    try:
        deadline = time.monotonic() + PATIENCE
        while b"mlflow" not in (words := Path(f"/proc/{process.pid}/cmdline").read_bytes()):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
        assert b"hush" not in words
        assert b"hush" in Path(f"/proc/{process.pid}/environ").read_bytes()  # only the owner may read this file
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_the_reader_of_addresses_is_quick(tmp_path: Path) -> None:
    code = "import sys, agmbench.addresses\nsys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
