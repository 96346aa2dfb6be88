"""A real nginx with `deploy/nginx/impact.conf`, in front of a port."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system import ROOT, find_free_port

_MAIN = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/impact.conf;
}}
"""


def installed_nginx() -> str:
    """The program; the test is left out where there is none."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("no nginx here (Debian: nginx-light)")
    return program


@contextmanager
def nginx_before(
    collector: int, folder: Path, hosts: Sequence[str] = ("127.0.0.1",)
) -> Iterator[int]:
    """Its port, in front of a collector's on each host; skips the test where there is no nginx."""
    program = installed_nginx()
    port = find_free_port()
    site = (ROOT / "deploy/nginx/impact.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("listen [::]:80;", "")
    servers = " ".join(f"server {host}:{collector};" for host in hosts)
    site = site.replace("server 127.0.0.1:8000;", servers)
    (folder / "impact.conf").write_text(site)
    main = folder / "nginx.conf"
    main.write_text(_MAIN.format(folder=folder))
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-e", "stderr", "-p", str(folder), "-c", str(main)], stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)
