"""The clients for nginx: curl for throughput, wrk for operations, and this program to hold connections."""

import json
import re
import socket
import ssl
import sys
import time

SUITES = {"aes128": "TLS_AES_128_GCM_SHA256", "aes256": "TLS_AES_256_GCM_SHA384"}

# Paths in turn; at the end what ringftpd-load's JSON calls the same.
WRK = """
local count, number = {count}, 0
function request()
    number = number + 1
    return wrk.format("GET", "{path}" .. (count > 0 and "/" .. (number % count) or ""))
end
function done(summary, latency)
    local e = summary.errors
    io.write(string.format('\\n{{"seconds": %.6f, "operations": %d, "octets": %d, "p50": %.1f, "p99": %.1f, "errors": %d}}\\n',
        summary.duration / 1e6, summary.requests, summary.bytes, latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def curl(origin, path, suite, times, sessions):
    """The command that downloads `path`, a pattern of curl's, `times` times."""
    url = f"{origin}{path}"
    words = [
        "curl",
        "--silent",
        "--show-error",
        "--no-progress-meter",
        "--fail",
        "--insecure",
        "--tls13-ciphers",
        SUITES[suite],
        "--output",
        "/dev/null",
    ]
    if sessions > 1:
        words += ["--parallel", "--parallel-immediate", "--parallel-max", str(sessions)]
    # The same again: curl sees another URL and keeps the connection. Each of the patterns wants a place for its files.
    return [*words, "--write-out", "%{size_download} ", f"{url}?[1-{times}]"]


def curl_result(output, seconds):
    """What it did, from what it printed."""
    sizes = [int(size) for size in output.split()]
    return {"seconds": seconds, "operations": len(sizes), "octets": sum(sizes)}


def wrk(origin, words, sessions, seconds, script):
    """The command for `small DIRECTORY COUNT` and `handshake PATH`; writes its script."""
    workload, path, *count = words
    script.write_text(WRK.format(path=path, count=int(count[0]) if count else 0))
    command = ["wrk", "--threads", "1", "--connections", str(sessions), "--duration", f"{seconds}s", "--script", str(script)]
    return command + (["--header", "Connection: close"] if workload == "handshake" else []) + [origin]


def wrk_result(output, workload):
    """What it did, from what it printed."""
    found = json.loads(re.findall(r"^\{.*\}$", output, re.MULTILINE)[-1])
    errors = found.pop("errors")
    if workload == "handshake":
        # wrk's latency begins when the connection is there.
        del found["p50"], found["p99"]
    return {**found, "errors": {"wrk": errors} if errors else {}}


def hold(host, port, path, sessions, seconds):
    """Opens connections, has one answer on each, and holds them."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began, opened = time.monotonic(), []
    for _ in range(sessions):
        connection = context.wrap_socket(socket.create_connection((host, port)))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
            sys.exit(f"{path} is not served")
        opened.append(connection)
    print(json.dumps({"open": time.monotonic() - began, "operations": len(opened)}), flush=True)
    time.sleep(seconds)


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
