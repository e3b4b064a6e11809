# shellcheck shell=bash disable=SC2034
# Sourced by the start scripts. Each starts one server in the foreground, on 127.0.0.1 only, with a configuration made at the start:
#
#   PEER_ROOT      directory to serve; its owner is the account that the server acts as where it changes to one
#   PEER_WORK      scratch directory; with its parents it must be open to that account
#   PEER_EXPLICIT  port of explicit FTPS (with nginx: of HTTPS)
#   PEER_IMPLICIT  port of implicit FTPS, where the server has that
#   PEER_CERT, PEER_KEY         PEM files, P-256
#   PEER_USER, PEER_PASSWORD    the one account, below PEER_ROOT
#   PEER_PASSIVE_MIN, PEER_PASSIVE_MAX   ports of data connections
#   PEER_TAG       names what a server must leave outside of PEER_WORK (vsftpd: a PAM service), so that `run` can remove it
#
# Passwords are checked as cheaply as each server can, so that logins measure the server and not a password hash.
set -euo pipefail
: "${PEER_ROOT:?}" "${PEER_WORK:?}" "${PEER_EXPLICIT:?}" "${PEER_IMPLICIT:?}" "${PEER_CERT:?}" "${PEER_KEY:?}"
: "${PEER_USER:?}" "${PEER_PASSWORD:?}" "${PEER_PASSIVE_MIN:?}" "${PEER_PASSIVE_MAX:?}" "${PEER_TAG:?}"
peers=${RINGFTPD_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/ringftpd-peers}
account=$(stat -c %U "$PEER_ROOT")
group=$(id -gn "$account")
ulimit -Sn 20000

# Notes what a server is started with, for the report.
note() { printf '%s ' "$@" >"$PEER_WORK/command"; }

# Becomes the server.
start() {
    note "$@"
    exec "$@"
}

# The password as a DES crypt hash (its first 8 characters): the cheapest that crypt(3) takes.
crypted() { perl -e 'print crypt($ARGV[0], "fl")' "$PEER_PASSWORD"; }

# program SERVER NAME: the path of an unpacked program
program() {
    local directory
    for directory in "$peers/$1/usr/sbin" "$peers/$1/usr/bin" "$peers/$1/bin"; do
        [ -x "$directory/$2" ] && echo "$directory/$2" && return
    done
    echo "$2 of $1 is missing under $peers: run benches/peers/install" >&2
    exit 69
}
