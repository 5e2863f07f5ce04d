"""HTTP servers and proxies that others wrote, from Debian's packages: nginx, HAProxy, Squid, tinyproxy, Dante."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ecosystem.databases import find
from tests.ecosystem.processes import accepts, free_port, serving

USER, PASSWORD = "aioxide-tests", "a-password-of-the-tests"
LARGE = bytes(range(256)) * 8000
TEXT = "What is said often is compressed well. " * 500

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 500; }}
http {{
  access_log off; client_max_body_size 100m; keepalive_requests 50; http2_max_concurrent_streams 16;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  types {{ text/plain txt; }} default_type application/octet-stream; absolute_redirect off;
  gzip on; gzip_types text/plain; gzip_min_length 1000; gzip_comp_level 1;
  ssl_certificate {folder}/localhost.crt; ssl_certificate_key {folder}/localhost.key;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{h2c} http2; listen 127.0.0.1:{secure} ssl http2;
    root {folder}/files;
    location = /hop {{ return 302 /small; }}
    location = /length {{ return 200 $content_length; }}
    location /guarded {{ auth_basic "here"; auth_basic_user_file {folder}/users; try_files /small =404; }}
    location /slow {{ limit_rate 400k; try_files /large =404; }}
    location /uploads/ {{ dav_methods PUT DELETE; }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 500
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend all
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{h2c} proto h2
  bind 127.0.0.1:{secure} ssl crt {folder}/localhost.pem alpn h2,http/1.1
  default_backend nginx
backend nginx
  server nginx 127.0.0.1:{upstream}
"""

SQUID = """
http_port 127.0.0.1:{port}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_log {folder}/cache.log
access_log none
pid_filename none
coredump_dir {folder}
shutdown_lifetime 1 second
"""

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 50
BasicAuth {user} {password}
"""

DANTE = """
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
clientmethod: none
socksmethod: username
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""


class WebServer:
    """Where a server of the files in `folder` is reached."""

    def __init__(self, plain: int, h2c: int, secure: int) -> None:
        self.plain = f"http://127.0.0.1:{plain}"
        self.h2c = f"http://127.0.0.1:{h2c}"
        self.secure = f"https://127.0.0.1:{secure}"
        self.port = plain


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that servers may enter that give up being root; pytest's own may not be entered."""
    with tempfile.TemporaryDirectory(prefix="aioxide-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@contextmanager
def nginx(certificates: Path) -> Iterator[WebServer]:
    """A server of files that also takes uploads."""
    program = find("nginx", "nginx")
    with folder_for_all() as folder:
        for name in ("localhost.crt", "localhost.key"):
            shutil.copy(certificates / name, folder)
            (folder / name).chmod(0o644)
        files = folder / "files"
        (files / "uploads").mkdir(parents=True)
        (files / "uploads").chmod(0o777)
        (files / "small").write_text("small")
        (files / "large").write_bytes(LARGE)
        (files / "text.txt").write_text(TEXT)
        (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        plain, h2c, secure = (free_port() for _ in range(3))
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, plain=plain, h2c=h2c, secure=secure))
        command = [program, "-c", configuration, "-e", folder / "error.log"]
        with serving(command, lambda: accepts(secure) and accepts(h2c), stop_signal=signal.SIGTERM):
            yield WebServer(plain, h2c, secure)


@contextmanager
def haproxy(certificates: Path, upstream: WebServer) -> Iterator[WebServer]:
    """The same files by another server's HTTP and TLS."""
    program = find("haproxy", "haproxy")
    with folder_for_all() as folder:
        shutil.copy(certificates / "localhost.pem", folder)
        plain, h2c, secure = (free_port() for _ in range(3))
        configuration = folder / "haproxy.cfg"
        settings = HAPROXY.format(folder=folder, plain=plain, h2c=h2c, secure=secure, upstream=upstream.port)
        configuration.write_text(settings)
        with serving([program, "-db", "-f", configuration], lambda: accepts(secure), status=-signal.SIGTERM):
            yield WebServer(plain, h2c, secure)


@contextmanager
def squid() -> Iterator[str]:
    """A proxy with user and password; host and port."""
    program = find("squid", "squid")
    with folder_for_all() as folder:
        hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True)
        (folder / "users").write_text(f"{USER}:{hashed.stdout}")
        port = free_port()
        configuration = folder / "squid.conf"
        configuration.write_text(SQUID.format(folder=folder, port=port))
        with serving([program, "-N", "-f", configuration], lambda: accepts(port), cwd=folder):
            yield f"127.0.0.1:{port}"


@contextmanager
def tinyproxy() -> Iterator[str]:
    """A proxy with user and password; host and port."""
    program = find("tinyproxy", "tinyproxy")
    with folder_for_all() as folder:
        port = free_port()
        configuration = folder / "tinyproxy.conf"
        configuration.write_text(TINYPROXY.format(port=port, user=USER, password=PASSWORD))
        with serving([program, "-d", "-c", configuration], lambda: accepts(port)):
            yield f"127.0.0.1:{port}"


@contextmanager
def dante() -> Iterator[str]:
    """A SOCKS 5 proxy; host and port. It knows the users of the system alone, so that there is one more meanwhile."""
    program = find("danted", "dante-server")
    with folder_for_all() as folder, _system_user():
        port = free_port()
        configuration = folder / "danted.conf"
        configuration.write_text(DANTE.format(port=port))
        with serving([program, "-f", configuration, "-p", folder / "danted.pid"], lambda: accepts(port)):
            yield f"127.0.0.1:{port}"


@contextmanager
def _system_user() -> Iterator[None]:
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("only root can make the user that Dante asks the system for")
    _remove_user()
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True)
    options = ["--no-create-home", "--shell", "/usr/sbin/nologin", "--password", hashed.stdout.strip()]
    subprocess.run(["useradd", *options, USER], check=True, capture_output=True)
    try:
        yield
    finally:
        _remove_user()


def _remove_user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return
    subprocess.run(["userdel", USER], check=True, capture_output=True)


PROXIES: dict[str, tuple[str, Callable[[], object]]] = {
    "squid": ("http", squid),
    "tinyproxy": ("http", tinyproxy),
    "dante": ("socks5", dante),
}
