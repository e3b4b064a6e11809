# One session with Net::FTP. Argument: the TLS version, as IO::Socket::SSL names it.
use strict;
use warnings;
use Net::FTP;

$SIG{PIPE} = 'IGNORE';
my $implicit = $ENV{FTPS_PORT_KIND} eq 'implicit';
my $ftp = Net::FTP->new($ENV{FTPS_HOST}, Port => $ENV{FTPS_PORT}, Timeout => 60, Passive => 1,
    SSL => $implicit, SSL_ca_file => $ENV{FTPS_CERTIFICATE}, SSL_version => $ARGV[0]) or die "connect: $@";
sub check { $_[0] or die "$_[1]: " . $ftp->code . ' ' . $ftp->message }

check($implicit || $ftp->starttls, 'AUTH TLS');
check($ftp->login($ENV{FTPS_USER}, $ENV{FTPS_PASSWORD}), 'login');
check($ftp->binary, 'TYPE I');
my $here = "$ENV{FTPS_SCRATCH}/down.bin";
check($ftp->get('down.bin', $here), 'RETR');
check(-s $here == $ftp->size('down.bin'), 'SIZE');
for my $file (0 .. 19) {
    check($ftp->put($here, "up-$file.bin"), "STOR $file");
    check($ftp->code == 226, "STOR $file was not confirmed");
    check($ftp->size("up-$file.bin") == -s $here, "STOR $file");
}
check($ftp->mkdir('a/b', 1), 'MKD');
check($ftp->cwd('a/b'), 'CWD');
check($ftp->pwd eq '/a/b', 'PWD');
check($ftp->append($here, 'appended'), 'APPE');
check($ftp->rename('appended', '../moved'), 'RNFR');
check($ftp->cdup, 'CDUP');
check(join(' ', sort $ftp->ls) eq 'b moved', 'NLST');
check(scalar(grep { /moved$/ } $ftp->dir) == 1, 'LIST');
check(defined $ftp->mdtm('moved'), 'MDTM');
check($ftp->get('moved', "$here.tail", 1_000_000), 'REST'); # continues at an offset
check(-s "$here.tail" == (-s $here) - 1_000_000, 'REST length');
check($ftp->ascii, 'TYPE A');
open(my $text, '>', "$ENV{FTPS_SCRATCH}/text") or die $!;
print {$text} "one\ntwo\n";
close $text;
check($ftp->put("$ENV{FTPS_SCRATCH}/text", 'text'), 'STOR in ASCII');
check($ftp->get('text', "$ENV{FTPS_SCRATCH}/back"), 'RETR in ASCII');
check(-s "$ENV{FTPS_SCRATCH}/back" == 8, 'ASCII length');
check($ftp->cwd('/'), 'CWD');
check($ftp->rmdir('a', 1), 'RMD');
check($ftp->quit, 'QUIT');
print "done\n";
