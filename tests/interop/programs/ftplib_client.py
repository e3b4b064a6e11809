"""One session with Python's ftplib. Arguments: TLS version, and "resume" to reuse the control connection's session."""

import ftplib
import io
import os
import socket
import ssl
import sys

HOST, PORT = os.environ["FTPS_HOST"], int(os.environ["FTPS_PORT"])
USER, PASSWORD = os.environ["FTPS_USER"], os.environ["FTPS_PASSWORD"]
IMPLICIT = os.environ["FTPS_PORT_KIND"] == "implicit"
RESUME = "resume" in sys.argv[2:]


class Client(ftplib.FTP_TLS):
    """FTP_TLS that can start with TLS and can resume the control connection's session."""

    def connect(self, *arguments, **keywords):
        if not IMPLICIT:
            return super().connect(*arguments, **keywords)
        self.host, self.port, self.timeout = HOST, PORT, 60
        plain = socket.create_connection((HOST, PORT), 60)
        self.sock = self.context.wrap_socket(plain, server_hostname=HOST)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

    def ntransfercmd(self, cmd, rest=None):
        if not RESUME:
            conn, size = super().ntransfercmd(cmd, rest)
        else:
            conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
            conn = self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session)
        if not conn.session_reused:
            print("not resumed:", cmd)
        return conn, size


context = ssl.create_default_context(cafile=os.environ["FTPS_CERTIFICATE"])
version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[sys.argv[1]]
context.minimum_version = context.maximum_version = version

ftp = Client(context=context, timeout=60)
welcome = ftp.connect(HOST, PORT)
assert welcome.startswith("220"), welcome
assert ftp.login(USER, PASSWORD).startswith("230")
ftp.prot_p()
assert ftp.pwd() == "/", ftp.pwd()

data = io.BytesIO()
assert ftp.retrbinary("RETR down.bin", data.write).startswith("226")
assert ftp.size("down.bin") == len(data.getvalue())
data.seek(0)
assert ftp.storbinary("STOR up.bin", data).startswith("226")

ftp.set_pasv(False)
active = io.BytesIO()
assert ftp.retrbinary("RETR down.bin", active.write).startswith("226")
assert active.getvalue() == data.getvalue()
data.seek(0)
assert ftp.storbinary("STOR up.bin", data).startswith("226")
ftp.set_pasv(True)

rest = io.BytesIO()
ftp.retrbinary("RETR down.bin", rest.write, rest=1_000_000)
assert rest.getvalue() == data.getvalue()[1_000_000:]

assert ftp.mkd("a dir") == "/a dir"
assert ftp.mkd('a "quoted" dir') == '/a "quoted" dir'
ftp.cwd("a dir")
assert ftp.pwd() == "/a dir"
assert ftp.storlines("STOR lines.txt", io.BytesIO(b"one\ntwo\nthree")).startswith("226")
lines = []
ftp.retrlines("RETR lines.txt", lines.append)
assert lines == ["one", "two", "three"], lines
ftp.storbinary("APPE appended", io.BytesIO(b"head "))
ftp.storbinary("APPE appended", io.BytesIO(b"tail"))
ftp.storbinary("STOR empty", io.BytesIO())
assert sorted(ftp.nlst()) == ["appended", "empty", "lines.txt"], ftp.nlst()
facts = dict(ftp.mlsd(facts=["type", "size"]))
assert facts["appended"] == {"type": "file", "size": "9"}, facts
assert facts["empty"]["size"] == "0", facts
listing = []
ftp.dir(listing.append)
assert len(listing) == 3, listing
ftp.rename("appended", "/renamed name")
ftp.voidcmd("TYPE I")  # the listings were TYPE A
ftp.cwd("..")
assert ftp.size("renamed name") == 9
assert ftp.sendcmd("MDTM renamed name").startswith("213 ")
try:
    ftp.size("appended")
    raise AssertionError("the old name is still there")
except ftplib.error_perm as refused:
    assert str(refused).startswith("550"), refused

# A download given up in the middle: the reader closes, says ABOR, and the session goes on.
for _ in range(3):
    ftp.voidcmd("TYPE I")
    conn = ftp.transfercmd("RETR down.bin")
    assert conn.recv(1000)
    conn.close()
    ftp.putline("ABOR")
    replies = [ftp.getmultiline(), ftp.getmultiline()]
    assert replies[0][:3] in ("426", "226") and replies[1][:3] in ("225", "226"), replies
assert ftp.sendcmd("NOOP").startswith("200")

for name in ("a dir/lines.txt", "a dir/empty", "renamed name"):
    ftp.delete(name)
ftp.rmd("a dir")
ftp.rmd('a "quoted" dir')
assert sorted(ftp.nlst()) == ["down.bin", "up.bin"], ftp.nlst()
assert ftp.quit().startswith("221")
print("done")
