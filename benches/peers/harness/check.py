"""Whether each server works as it is configured here: other people's clients on both of its ports."""

import filecmp
import subprocess

from .servers import EXPLICIT, HTTPS, IMPLICIT, PASSWORD, TLS_1_2, USER, WITHOUT_IMPLICIT, Failed, Server


def everyone(names, files, program, core):
    """Tries each, and says what works; the status of the command."""
    status = 0
    for name in names:
        try:
            server = Server(name, files, core, program)
            try:
                for what, command in _commands(name, files):
                    _run(name, what, command)
                if name != HTTPS:
                    _compare(files)
            finally:
                server.stop()
                files.forget_uploads()
        except Failed as failure:
            status = 1
            print(f"{failure}", flush=True)
    return status


def _commands(name, files):
    fetched, original = files.base / "fetched", files.served / "100k" / "0"
    curl = ["curl", "--silent", "--show-error", "--insecure", "--max-time", "20"]
    if name == HTTPS:
        yield "download", [*curl, "--fail", "--output", fetched, f"https://127.0.0.1:{EXPLICIT}/100k/0"]
        return
    curl += ["--user", f"{USER}:{PASSWORD}", "--ssl-reqd"]
    lftp = "set ssl:verify-certificate no; set net:timeout 10; set net:max-retries 1; set ftp:ssl-protect-data yes; cd 1k; ls"
    ports = {f"ftp://127.0.0.1:{EXPLICIT}": "explicit"}
    if name not in WITHOUT_IMPLICIT:
        ports[f"ftps://127.0.0.1:{IMPLICIT}"] = "implicit"
    for origin, port in ports.items():
        starttls = ["-starttls", "ftp"] if port == "explicit" else []
        address = origin.split("//")[1]
        version = "-tls1_2" if name in TLS_1_2 else "-tls1_3"
        yield f"{port}, openssl", ["openssl", "s_client", *starttls, version, "-connect", address]
        yield f"{port}, download", [*curl, "--output", fetched, f"{origin}/100k/0"]
        yield f"{port}, upload", [*curl, "--upload-file", original, f"{origin}/upload/{port}"]
        yield f"{port}, list", [*curl, "--output", "/dev/null", f"{origin}/10000/"]
        yield f"{port}, lftp", ["lftp", "-u", f"{USER},{PASSWORD}", "-e", f"{lftp}; exit", origin]
    yield "explicit, PROT C", [*curl[:-1], "--ftp-ssl-control", "--output", fetched, f"ftp://127.0.0.1:{EXPLICIT}/100k/0"]


def _run(name, what, command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        print(f"{name}: {what}: skipped, there is no {command[0]}", flush=True)
        return
    except subprocess.TimeoutExpired:
        raise Failed(f"{name}: {what}: takes too long") from None
    if done.returncode != 0:
        raise Failed(f"{name}: {what}: {(done.stderr or done.stdout).strip()[-300:]}")
    print(f"{name}: {what}: works", flush=True)


def _compare(files):
    original = files.served / "100k" / "0"
    for copy in (files.base / "fetched", *(files.served / "upload").iterdir()):
        if not filecmp.cmp(original, copy, shallow=False):
            raise Failed(f"{copy.name} is not what was sent")
