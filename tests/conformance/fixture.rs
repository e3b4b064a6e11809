//! What every check starts from: a server, a directory of its own, a logged-in client.

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::Port;
use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, USER, tail};
use crate::common::tls::Profile;

/// Options that leave the protection of both connections to the client.
pub(crate) const OPTIONAL: &[&str] = &[
    "--protect-control",
    "optional",
    "--protect-data",
    "optional",
];
/// Options that leave the protection of data connections to the client.
pub(crate) const DATA_OPTIONAL: &[&str] = &["--protect-data", "optional"];

/// One run of a check.
pub(crate) struct Test {
    /// The port under test.
    pub(crate) port: Port,
    /// The directory of this run as the client names it.
    pub(crate) directory: String,
    servers: RefCell<Vec<Arc<Server>>>,
}

/// Runs a check; when it fails, its servers' last words are shown.
pub(crate) fn run(name: &'static str, port: Port, check: fn(&Test)) {
    let directory = format!("/{name}-{port:?}").to_lowercase();
    std::fs::create_dir(Accounts::shared().home.join(&directory[1..])).unwrap();
    check(&Test {
        port,
        directory,
        servers: RefCell::default(),
    });
}

impl Test {
    /// Whether this runs on the explicit port.
    pub(crate) fn explicit(&self) -> bool {
        self.port == Port::Explicit
    }

    /// The server with no options.
    pub(crate) fn server(&self) -> Arc<Server> {
        self.server_with(&[])
    }

    /// The server with these options, shared with other checks.
    pub(crate) fn server_with(&self, options: &[&str]) -> Arc<Server> {
        let server = Server::shared(options);
        self.servers.borrow_mut().push(server.clone());
        server
    }

    /// A connection on which nothing has been said.
    pub(crate) fn connect(&self, server: &Server) -> Client {
        Client::connect(server, self.port)
    }

    /// A connection with TLS up and its greeting read, not logged in.
    #[track_caller]
    pub(crate) fn secure(&self, server: &Server) -> Client {
        let mut client = self.connect(server);
        client.secure();
        client
    }

    /// A login over TLS: protected data, TYPE I, in the directory of this run.
    #[track_caller]
    pub(crate) fn login(&self, server: &Server) -> Client {
        self.login_with(server, Profile::usual())
    }

    /// The same with a given idea of TLS.
    #[track_caller]
    pub(crate) fn login_with(&self, server: &Server, profile: Profile) -> Client {
        let mut client = Client::connect_as(server, self.port, profile, None);
        client.secure();
        self.settle(&mut client, USER);
        client
    }

    /// Logs in on a secured connection and makes it as [`Self::login`] leaves it.
    #[track_caller]
    pub(crate) fn settle(&self, client: &mut Client, user: &str) {
        client.login(user, PASSWORD);
        if self.explicit() {
            client.protect();
        }
        client.ok("TYPE I", 200);
        client.ok(format!("CWD {}", self.directory), 250);
    }

    /// A login in the clear (explicit port, policy permitting): TYPE I, in the directory.
    #[track_caller]
    pub(crate) fn login_clear(&self, server: &Server) -> Client {
        assert!(self.explicit());
        let mut client = self.connect(server);
        client.expect(220);
        client.login(USER, PASSWORD);
        client.ok("TYPE I", 200);
        client.ok(format!("CWD {}", self.directory), 250);
        client
    }

    /// A login on the server with no options.
    #[track_caller]
    pub(crate) fn session(&self) -> Client {
        self.login(&self.server())
    }

    /// The directory of this run, or a name in it, on disk.
    pub(crate) fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        let name = std::ffi::OsStr::from_bytes(name.as_ref());
        Accounts::shared()
            .home
            .join(&self.directory[1..])
            .join(name)
    }

    /// Makes a file.
    pub(crate) fn put(&self, name: impl AsRef<[u8]>, octets: &[u8]) {
        std::fs::write(self.path(name), octets).unwrap();
    }

    /// Makes a sparse file of so many zeros.
    pub(crate) fn put_zeros(&self, name: &str, length: u64) {
        let file = std::fs::File::create(self.path(name)).unwrap();
        file.set_len(length).unwrap();
    }

    /// Reads a file.
    pub(crate) fn get(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in self.servers.borrow().iter() {
                eprintln!("{}", tail(&server.log()));
            }
        } else {
            let _ = std::fs::remove_dir_all(self.path(""));
        }
    }
}
