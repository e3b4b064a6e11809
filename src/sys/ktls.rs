//! Kernel TLS: attaching it to a TCP socket, giving it keys, and records of other types than
//! application data.
//!
//! A socket goes through three states: [`attach`] changes nothing that can be seen; with
//! [`set_keys`] one direction becomes TLS. Plain calls then move application data; every other
//! record has a type that travels beside it ([`send_record`], [`receive_record`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use ktls::CryptoInfo;

/// Not in the C library's headers: linux/tls.h.
const SOL_TLS: libc::c_int = 282;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;

/// Octets for the one control message that accompanies a record, with room to spare.
const CONTROL_OCTETS: usize = 64;

/// Which half of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// What this side sends.
    Send,
    /// What it receives.
    Receive,
}

/// A message of a record's type, aligned as the kernel wants it.
#[derive(Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_OCTETS]);

impl Control {
    fn new() -> Self {
        Self([0; CONTROL_OCTETS])
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn len() -> usize {
        CONTROL_OCTETS
    }
}

/// What a receive call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets.
    pub count: usize,
    /// The type of the record, or records, they come from (RFC 8446 §5.1). None came at the end of
    /// the stream, and before the kernel has keys.
    pub record_type: Option<u8>,
}

/// Attaches kernel TLS to a connected socket; without keys it goes on as TCP. As root this loads the
/// kernel's module.
///
/// # Errors
/// `NotFound`: the kernel has none (module `tls`). `NotConnected`: the peer has already sent FIN.
pub fn attach(socket: impl AsFd) -> io::Result<()> {
    set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Gives the kernel the keys of one half, in the place of those it had.
///
/// # Errors
/// `NotFound`: the kernel's cipher is missing. `InvalidInput`: it does not know this version or
/// suite. `ResourceBusy`: it has keys and cannot change them (before Linux 6.14).
pub fn set_keys(socket: impl AsFd, half: Half, keys: &CryptoInfo) -> io::Result<()> {
    let name = match half {
        Half::Send => TLS_TX,
        Half::Receive => TLS_RX,
    };
    let length = libc::socklen_t::try_from(keys.size()).unwrap_or(0);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `keys` tells the address and the size of a structure that lives across the call; the
    // kernel copies it.
    check(unsafe { libc::setsockopt(fd, SOL_TLS, name, keys.as_ptr(), length) })
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    let fd = socket.as_raw_fd();
    // SAFETY: pointer and length are of one slice, which the kernel only reads.
    check(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), length) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends one record of another type than application data, if the socket's buffer takes it.
///
/// # Errors
/// `WouldBlock` when the buffer is full, else the kernel's error.
pub fn send_record(socket: impl AsFd, record_type: u8, payload: &[u8]) -> io::Result<()> {
    let mut control = Control::new();
    let mut part = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut message = message(&mut part, &mut control);
    write_record_type(&mut message, record_type);
    let fd = socket.as_fd().as_raw_fd();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the message refers to `payload`, which is only read, and to `control`; all of them
        // live across the call.
        let sent = unsafe { libc::sendmsg(fd, &raw const message, flags) };
        match usize::try_from(sent) {
            Ok(count) if count == payload.len() => return Ok(()),
            // A record this small is taken whole or not at all.
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(_) => {}
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Receives what is there, of records of one type.
///
/// # Errors
/// `WouldBlock` when nothing is. `InvalidData`: a record that could not be decrypted.
pub fn receive_record(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control::new();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = message(&mut part, &mut control);
    let fd = socket.as_fd().as_raw_fd();
    loop {
        // SAFETY: the message refers to `buffer` and `control`, both ours alone and alive across the
        // call.
        let count = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
        if let Ok(count) = usize::try_from(count) {
            return Ok(received(count, &message));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(decryption(error));
        }
    }
}

/// A record that cannot be decrypted, or whose key has not come, is the peer's fault.
fn decryption(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADMSG | libc::EKEYEXPIRED | libc::EMSGSIZE | libc::EINVAL) => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        _ => error,
    }
}

/// A record of another type than application data, ready to be sent by a ring operation. It must not
/// move while the kernel reads it, so it lies in memory of its own.
#[derive(Debug)]
pub(super) struct Outgoing(NonNull<Parts>);

#[derive(Debug)]
struct Parts {
    payload: Box<[u8]>,
    control: Control,
    part: libc::iovec,
    /// Refers to the others.
    message: Option<libc::msghdr>,
}

impl Outgoing {
    pub(super) fn new(record_type: u8, payload: &[u8]) -> Self {
        let parts = Box::new(Parts {
            payload: payload.into(),
            control: Control::new(),
            part: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: payload.len(),
            },
            message: None,
        });
        // From here on the parts are reached through this pointer alone.
        let mut pointer = NonNull::from(Box::leak(parts));
        // SAFETY: the parts have just been made, and nobody else knows of them.
        let Parts {
            payload,
            control,
            part,
            message: place,
        } = unsafe { pointer.as_mut() };
        part.iov_base = payload.as_mut_ptr().cast();
        write_record_type(place.insert(message(part, control)), record_type);
        Self(pointer)
    }

    /// For the kernel, until this is dropped.
    pub(super) fn message(&self) -> *const libc::msghdr {
        // SAFETY: the parts live until this is dropped, and nobody else refers to them.
        let parts = unsafe { self.0.as_ref() };
        parts
            .message
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, and is given back once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A message of one part, with room for the record's type.
fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: the structure consists of integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = Control::len();
    message
}

fn write_record_type(message: &mut libc::msghdr, record_type: u8) {
    // SAFETY: a computation of numbers.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as usize;
    // SAFETY: the message's control buffer is longer than a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: as above; the buffer is aligned for a header and ours alone.
    let Some(header) = (unsafe { header.as_mut() }) else {
        return;
    };
    header.cmsg_level = SOL_TLS;
    header.cmsg_type = TLS_SET_RECORD_TYPE;
    // SAFETY: a computation of numbers.
    header.cmsg_len = unsafe { libc::CMSG_LEN(1) } as usize;
    // SAFETY: the octet behind the header, inside of the control buffer.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: as above.
    unsafe { data.write(record_type) };
}

fn received(count: usize, message: &libc::msghdr) -> Received {
    // SAFETY: the kernel has filled the control buffer, and shortened its length to what it wrote.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header inside of the control buffer, which is aligned for it.
    let record_type = unsafe { header.as_ref() }
        .filter(|header| header.cmsg_level == SOL_TLS && header.cmsg_type == TLS_GET_RECORD_TYPE)
        .map(|header| {
            // SAFETY: the kernel writes one octet behind such a header.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: as above.
            unsafe { data.read() }
        });
    Received { count, record_type }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn without_keys_a_socket_is_plain_tcp_whether_kernel_tls_is_there_or_not() {
        let (ours, mut theirs) = pair();
        if let Err(error) = attach(&ours) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
        (&ours).write_all(b"there").unwrap();
        let mut octets = [0; 5];
        theirs.read_exact(&mut octets).unwrap();
        theirs.write_all(b"back").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut buffer = [0; 16];
        let mut count = 0;
        loop {
            match receive_record(&ours, &mut buffer[count..]) {
                Ok(Received { count: 0, .. }) => break,
                Ok(received) => {
                    assert_eq!(received.record_type, None);
                    count += received.count;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(&buffer[..count], b"back");
    }

    #[test]
    fn a_socket_whose_peer_has_finished_refuses_kernel_tls() {
        let (ours, theirs) = pair();
        drop(theirs);
        // Until the FIN has come.
        assert_eq!((&ours).read(&mut [0]).unwrap(), 0);
        let kind = attach(&ours).unwrap_err().kind();
        let kinds = [io::ErrorKind::NotConnected, io::ErrorKind::NotFound];
        assert!(kinds.contains(&kind), "{kind}");
    }

    #[test]
    fn a_record_type_lies_where_the_kernel_looks_for_it() {
        let mut control = Control::new();
        let mut part = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut message = message(&mut part, &mut control);
        write_record_type(&mut message, 21);
        assert_eq!(message.msg_controllen, 24);
        // What is sent and what is received differ in the type of the message only.
        assert_eq!(received(3, &message).record_type, None);
        control.0[12] = TLS_GET_RECORD_TYPE as u8;
        assert_eq!(&control.0[8..17], [26, 1, 0, 0, 2, 0, 0, 0, 21]);
    }
}
