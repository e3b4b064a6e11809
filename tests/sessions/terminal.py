"""Runs a program in a pseudo-terminal: draws, is resized, obeys a key, ends as told, and leaves the terminal as it was."""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

END, PROGRAM = sys.argv[1], sys.argv[2:]
PATIENCE = 30


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


master, slave = pty.openpty()
resize(slave, 80, 24)
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.environ["TERM"] = "xterm"
    os.environ.pop("NO_COLOR", None)
    os.execvp(PROGRAM[0], PROGRAM)

seen = b""


def read(time_left):
    global seen
    if select.select([master], [], [], time_left)[0]:
        seen += os.read(master, 65536)


def wait_for(pattern, begin=0):
    deadline = time.monotonic() + PATIENCE
    while not re.search(pattern, seen[begin:], re.S):
        assert time.monotonic() < deadline, (pattern, seen[begin:][-2000:])
        read(0.2)


def columns_of(part):
    """The longest line between two moves of the cursor."""
    lines = re.split(rb"\x1b\[\d+;\d+H", part)
    plain = [re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line).decode() for line in lines]
    return max(map(len, plain))


wait_for(rb"\x1b\[\?1049h")
wait_for(rb"CORE +CONN .*ADDRESS.*main.*q quit")
assert b"\x1b[7m" in seen
assert 60 < columns_of(seen) <= 80, columns_of(seen)
assert not termios.tcgetattr(slave)[3] & termios.ECHO
at = len(seen)
resize(master, 40, 12)
os.kill(pid, signal.SIGWINCH)
wait_for(rb"\x1b\[2J.*CORE CONN .*main.*q quit", at)
assert columns_of(seen[at + seen[at:].index(b"\x1b[2J"):]) <= 40
at = len(seen)
os.write(master, b"s")
wait_for(rb"sort: octets", at)
if END == "q":
    os.write(master, b"q")
elif END == "gone":
    os.close(slave)
    os.close(master)
    deadline = time.monotonic() + PATIENCE
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            sys.exit("without a terminal it does not end")
        time.sleep(0.1)
    sys.exit(0)
elif END == "ctrl-c":
    os.write(master, b"\x03")
else:
    os.kill(pid, getattr(signal, "SIG" + END))
deadline = time.monotonic() + PATIENCE
while True:
    read(0.1)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        break
    assert time.monotonic() < deadline, "it does not end"
while select.select([master], [], [], 0.1)[0]:
    read(0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert re.search(rb"\x1b\[\?25h\x1b\[\?1049l$", seen), seen[-200:]
after = termios.tcgetattr(slave)
assert after == before, (before, after)
