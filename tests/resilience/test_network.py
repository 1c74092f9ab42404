"""Nothing is sent, asked or listened for: not in the source, and not while the verbs run."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from counted import report

PACKAGE = Path(__file__).parents[2] / "src" / "stepwell"
NETWORK = {
    *("requests", "urllib3", "httpx", "aiohttp", "http", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc"),
    *("socketserver", "ssl", "asyncio", "websockets", "webbrowser", "paramiko", "boto3", "huggingface_hub", "wandb"),
}
REACHING = {
    "connect",
    "connect_ex",
    "bind",
    "listen",
    "sendto",
    "create_connection",
    "create_server",
    "getaddrinfo",
    "AF_INET",
    "AF_INET6",
}
TABLE = "a,b,y\n" + "".join(f"{n},{n * n % 7},{n % 2}\n" for n in range(40))
JOB = """\
data: {source: table, path: data.csv, target: y}
model: {name: mlp, hidden: [4]}
task: binary
recipe: {objective: bce, optimizer: {name: sgd, lr: 0.1}, batch_size: 8}
budget: 2 epochs
"""
VERBS = [
    ["check", "job.yaml"],
    ["train", "job.yaml", "--out", "run", "--quiet"],
    ["evaluate", "run"],
    ["predict", "run", "data.csv", "--out", "predictions.csv"],
    ["report", "run"],
    ["resume", "run", "--budget", "3 epochs", "--quiet"],
    ["techniques"],
]
HOOKED = """\
import json, sys
seen = []
def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")) and event != "socket.gethostname":
        seen.append(event)
sys.addaudithook(hook)
from stepwell.cli.main import main
codes = []
for verb in json.loads(sys.argv[1]):
    try:
        main(verb)
    except SystemExit as end:
        codes.append(end.code)
print("\\n" + json.dumps({"codes": codes, "seen": seen}))
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    return tmp_path


def network_imports(tree: ast.AST) -> list[str]:
    """Modules that talk to other machines, as far as a file imports them."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    found = [name for name in names if name.split(".")[0] in NETWORK or name.startswith(("urllib.request", "torch.hub"))]
    # Pairs of local sockets join processes of one run; with these names a socket would reach further.
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} if "socket" in names else set()
    return found + sorted(used & REACHING) + [name for name in names if name.startswith("socket.")]


def test_no_file_imports_what_talks_to_other_machines() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    found = {path.name: names for path in files if (names := network_imports(ast.parse(path.read_text(encoding="utf-8"))))}
    assert not found
    report("T15 source", floors={"files": 150}, files=len(files), imports=0)


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import http.client",
        "import socket\nsocket.socket().connect(x)",
    ],
)
def test_an_import_that_talks_to_other_machines_is_found(source: str) -> None:
    assert network_imports(ast.parse(source))


def test_the_verbs_open_no_socket(here: Path) -> None:
    command = [sys.executable, "-c", HOOKED, json.dumps(VERBS)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"codes": [0] * len(VERBS), "seen": []}, done.stderr
    report("T15 verbs", floors={"verbs": 7}, verbs=len(VERBS), socket_events=len(told["seen"]))


@pytest.mark.slow
def test_the_verbs_work_on_a_machine_without_a_network(here: Path) -> None:
    alone = ["unshare", "-n", "--"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        report("T15 no network", verbs=0, skipped_without_unshare=1)
        pytest.skip("counted: a network namespace can't be made here")
    for verb in VERBS:
        done = subprocess.run(
            [*alone, sys.executable, "-m", "stepwell.cli.main", *verb], cwd=here, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    report("T15 no network", floors={"verbs": 7}, verbs=len(VERBS))


@pytest.mark.slow
def test_no_system_call_of_a_run_names_an_address(here: Path) -> None:
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,bind,sendto,sendmsg,listen", "-o", "trace.txt"]
    if shutil.which("strace") is None or subprocess.run([*trace, "true"], cwd=here, capture_output=True).returncode:
        report("T15 system calls", verbs=0, skipped_without_strace=1)
        pytest.skip("counted: system calls can't be traced here")
    calls = 0
    for verb in VERBS[:2]:
        done = subprocess.run(
            [*trace, sys.executable, "-m", "stepwell.cli.main", *verb], cwd=here, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        lines = (here / "trace.txt").read_text(encoding="utf-8").splitlines()
        calls += len(lines)
        assert not [line for line in lines if "AF_INET" in line]
    report("T15 system calls", floors={"verbs": 2}, verbs=2, local_calls=calls, addresses=0)
