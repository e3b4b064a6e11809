//! The values of labels, as far as they are the same for every server.

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $value,)+
        }

        impl $name {
            /// The values of the label, in the order of this type's numbers.
            pub const NAMES: &'static [&'static str] = &[$($text,)+];
        }
    };
}

label! {
    /// The kind of listener that accepted a control connection.
    Listener {
        /// Clear until AUTH.
        Explicit => "explicit",
        /// TLS from the first octet.
        Implicit => "implicit",
    }
}

label! {
    /// What became of a connection.
    Admitted {
        /// It is served.
        Accepted => "accepted",
        /// It was over a limit, or there was no descriptor for it.
        Refused => "refused",
    }
}

label! {
    /// Why somebody, or an upload, was not let in.
    Refusal {
        /// The network is not allowed.
        Denied => "denied",
        /// Too many failed logins from there.
        Banned => "banned",
        /// The server has as many connections as it may.
        Connections => "connections",
        /// The address has as many connections as it may.
        Address => "address",
        /// The user has as many sessions as there may be.
        Sessions => "sessions",
        /// The system has no descriptor left.
        Descriptors => "descriptors",
        /// A proxy did not say whom it speaks for, or somebody went past it.
        Proxy => "proxy",
        /// An upload was more than the user may store.
        Quota => "quota",
        /// No passive port was free.
        Ports => "ports",
    }
}

label! {
    /// What was banned.
    Banned {
        /// One address, or an IPv6 /64.
        Address => "address",
        /// An IPv4 /24 or an IPv6 /48.
        Network => "network",
    }
}

label! {
    /// What a TLS handshake was for.
    Channel {
        /// A control connection.
        Control => "control",
        /// A data connection.
        Data => "data",
    }
}

label! {
    /// How a connection of a trusted proxy was introduced.
    Introduction {
        /// A PROXY header named the client.
        Client => "client",
        /// The proxy spoke for itself: a health check.
        Local => "local",
        /// There was no PROXY header, or not in time.
        Missing => "missing",
        /// The PROXY header broke a rule.
        Malformed => "malformed",
    }
}

label! {
    /// The kind of a TLS handshake.
    Handshake {
        /// With certificate and signature.
        Full => "full",
        /// Of a session known before.
        Resumed => "resumed",
    }
}

label! {
    /// The verdict on a user name and password.
    Verdict {
        /// Logged in.
        Granted => "granted",
        /// Unknown name or wrong password.
        Refused => "refused",
        /// Too many sessions of the user, or the account cannot be served.
        Unavailable => "unavailable",
    }
}

label! {
    /// Commands by what they ask of the server.
    Class {
        /// NOOP: the round trip and nothing else.
        Noop => "noop",
        /// USER, ACCT, REIN, QUIT.
        Session => "session",
        /// PASS; its time is that of the login.
        Password => "password",
        /// AUTH, PBSZ, PROT, CCC.
        Protection => "protection",
        /// TYPE, STRU, MODE, REST, OPTS, LANG, CLNT.
        Parameter => "parameter",
        /// FEAT, HELP, SYST, STAT, PWD.
        Information => "information",
        /// PASV, EPSV, PORT, EPRT.
        Setup => "setup",
        /// CWD, CDUP, MKD, RMD, DELE, RNFR, RNTO, SIZE, MDTM, MFMT, MLST, ALLO, SITE.
        File => "file",
        /// RETR, up to its 150.
        Download => "download",
        /// STOR, STOU, APPE, up to their 150.
        Upload => "upload",
        /// LIST, NLST, MLSD, up to their 150.
        Listing => "listing",
        /// ABOR.
        Abort => "abort",
        /// Not known, or known and never carried out.
        Unknown => "unknown",
    }
}

label! {
    /// Who opened a data connection.
    Mode {
        /// The client.
        Passive => "passive",
        /// The server.
        Active => "active",
    }
}

label! {
    /// What a transfer moved.
    Kind {
        /// A file to the client.
        Download => "download",
        /// A file from the client.
        Upload => "upload",
        /// A directory to the client.
        Listing => "listing",
    }
}

label! {
    /// How a transfer ended.
    End {
        /// 226.
        Complete => "complete",
        /// No data connection (425).
        NotConnected => "not_connected",
        /// Its TLS handshake failed (522).
        TlsFailed => "tls_failed",
        /// It did not resume the session that policy wants (522).
        NotResumed => "not_resumed",
        /// The connection broke (426).
        ConnectionLost => "connection_lost",
        /// An upload ended without close_notify (426).
        Truncated => "truncated",
        /// No progress for too long (426).
        Stalled => "stalled",
        /// ABOR, or the end of the server (426).
        Aborted => "aborted",
        /// The file could not be read or written (451, 452, 552).
        FileError => "file_error",
    }
}
