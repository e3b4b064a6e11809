//! Every bound of the server, in one place. Relations between bounds are asserted at compile time.

use std::time::Duration;

/// Longest command line in octets, its line end not counted (RFC 959 names none; vsftpd has 4096).
pub const COMMAND_LINE_OCTETS_MAX: usize = 8192;
/// Overlong lines before the control connection is closed.
pub const COMMAND_LINES_OVERLONG_MAX: u32 = 3;
/// Octets of the text of a 220 greeting.
pub const GREETING_OCTETS_MAX: usize = 200;
/// Lines that a user is told at login.
pub const WELCOME_LINES_MAX: usize = 50;
/// Octets of such a line: clients have buffers of 512 (RFC 959 names no bound; its peers have RFC 5321 §4.5.3.1.5).
pub const WELCOME_LINE_OCTETS_MAX: usize = 500;
/// Virtual hosts.
pub const VIRTUAL_HOSTS_MAX: usize = 1000;
/// Complete lines queued behind a running command before reading pauses.
pub const COMMAND_QUEUE_LINES_MAX: usize = 32;
/// Octets queued behind a running command before reading pauses.
pub const COMMAND_QUEUE_OCTETS_MAX: usize = 16 * 1024;
/// Octets taken from a control connection in one read.
pub const CONTROL_READ_OCTETS: usize = 4096;
/// Lines of a log that wait to be written; further ones are lost and counted.
pub const LOG_QUEUE_LINES_MAX: usize = 16 * 1024;
/// Octets of such lines.
pub const LOG_QUEUE_OCTETS_MAX: usize = 8 * 1024 * 1024;
/// Lines written by one system call (IOV_MAX).
pub const LOG_LINES_PER_WRITE: usize = 1024;
/// After a log was written, the time until it is looked at again: what comes meanwhile is written together.
pub const LOG_WINDOW: Duration = Duration::from_millis(50);
/// Pause before a log that could not be written is tried again.
pub const LOG_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts to write what is left of a log when the server ends.
pub const LOG_END_ATTEMPTS: usize = 20;
/// The server's end waits so long for a log, whose reader may have stopped reading.
pub const LOG_FINISH_TIME_MAX: Duration = Duration::from_secs(2);
/// Failed commands before login after which the control connection is closed.
pub const COMMANDS_FAILED_BEFORE_LOGIN_MAX: u32 = 20;
/// Rejected passwords on one control connection before it is closed.
pub const PASSWORDS_REJECTED_MAX: u32 = 3;
/// Longest component of a path in octets (NAME_MAX).
pub const PATH_COMPONENT_OCTETS_MAX: usize = 255;
/// Longest virtual path in octets (PATH_MAX less its terminator).
pub const PATH_OCTETS_MAX: usize = 4095;
/// Links on the way of one path, as many as the kernel follows.
pub const LINKS_FOLLOWED_MAX: usize = 40;
/// Names looked up to resolve the links of one path, each from the top: twice as many as a path can have.
pub const LINK_COMPONENTS_MAX: usize = 4096;
/// Rules by path, mounts, and patterns of names, of each kind, that hold for an account.
pub const FILE_RULES_MAX: usize = 256;
/// Largest file that SIZE reads through to count line ends for TYPE A.
pub const ASCII_SIZE_OCTETS_MAX: u64 = 1024 * 1024;
/// Rows of a STAT listing on the control connection.
pub const STAT_ROWS_MAX: usize = 1000;
/// Entries that one glob of LIST or NLST may match.
pub const GLOB_MATCHES_MAX: usize = 100_000;
/// TLS sessions kept for each control connection, the least recently used dropped first.
pub const TLS_SESSIONS_PER_CONTROL_MAX: usize = 16;
/// For how long a client surely keeps a session: GnuTLS forgets sooner than others, after an hour.
pub const TLS_SESSION_KEPT_MIN: Duration = Duration::from_secs(3600);
/// TLS 1.3 tickets sent on a control connection.
pub const TLS_TICKETS_CONTROL: usize = 4;
/// The same where data connections must resume: uploads bring no new tickets, and some clients
/// spend each ticket once.
pub const TLS_TICKETS_CONTROL_REQUIRED: usize = 12;
/// TLS 1.3 tickets sent on a download's or listing's handshake.
pub const TLS_TICKETS_DOWNLOAD: usize = 1;
/// Plaintext octets of one full TLS record (RFC 8446 §5.1).
pub const TLS_RECORD_PLAINTEXT_MAX: usize = 16 * 1024;
/// Octets read from a file, or received from a data connection, at a time.
pub const TRANSFER_CHUNK_OCTETS: usize = 256 * 1024;
/// Octets read, sealed and sent before others have their turn.
pub const TURN_OCTETS: u64 = 512 * 1024;
/// Octets moved from file to socket by the kernel before others have their turn.
pub const SENDFILE_CHUNK_OCTETS: u64 = 1024 * 1024;
/// The same where the kernel also encrypts them, which takes about four times as long.
pub const SENDFILE_TLS_CHUNK_OCTETS: u64 = 256 * 1024;
/// Octets between two looks at what of a file is in memory.
pub const RESIDENCY_STEP_OCTETS: u64 = 64 * 1024;
/// Octets of the pipe that splice moves pages through.
pub const SPLICE_PIPE_OCTETS: usize = 1024 * 1024;
/// Kernel TLS is worth its system calls (about ten for a connection) from so many octets on.
pub const KERNEL_TLS_OCTETS_MIN: u64 = 1024 * 1024;
/// Sealing or opening by ourselves instead of by rustls saves copies of every octet, and costs the
/// derivation of keys; it is worth that from so many octets on.
pub const DETACHED_OCTETS_MIN: u64 = 64 * 1024;
/// Kernel TLS is chosen up to this cost in CPU time, as the probe measures it, with sealing in this process as 1. A
/// whole transfer has 3 to 4 % more (benches/results), and 10 % are what the kernel may be dearer there.
pub const KERNEL_TLS_COST_RATIO_MAX: f64 = 1.05;
/// Failures of the kernel after which it no longer protects a suite for a while.
pub const KERNEL_TLS_FAILURES_MAX: u32 = 3;
/// How long, and within what time failures add up.
pub const KERNEL_TLS_SUSPENSION: Duration = Duration::from_secs(60);
/// Records that one key of AES-GCM protects: 2^24.5 full ones leave the margin that RFC 8446 §5.5
/// wants; rustls takes the same power of two.
pub const TLS_RECORDS_PER_KEY_MAX: u64 = 1 << 24;
/// Fewest records that a key can be told to protect: keys must not change with every chunk.
pub const TLS_RECORDS_PER_KEY_MIN: u64 = 1024;
/// Room for any record of TLS that is not data, as the kernel hands it over: alerts, key updates, tickets of a client.
pub const CONTROL_RECORD_OCTETS_MAX: usize = 64;
/// Chunks sent from this process before what the client says meanwhile is looked at.
pub const CHUNKS_PER_LOOK: u32 = 16;
/// Records of a client looked at between two chunks of a download: it should be silent.
pub const RECORDS_PER_LOOK_MAX: usize = 16;
/// Chunk buffers that a core keeps for the next transfer.
pub const TRANSFER_BUFFERS_KEPT_MAX: usize = 32;
/// A download whose client does not close ends so long after everything was acknowledged.
pub const DRAIN_ACKNOWLEDGED_WAIT: Duration = Duration::from_millis(200);
/// The same after the client's close_notify: how often the acknowledgement is looked for.
pub const DRAIN_CLOSED_WAIT: Duration = Duration::from_millis(2);
/// Where a rate is limited the kernel spreads what is sent at so many times the rate: headers and records are more than the octets
/// that count, a late task has to catch up, and the budget alone is to decide.
pub const PACING_RATIO: u64 = 2;
/// Failed logins of an address that are answered after the usual delay; each further one doubles it.
pub const LOGIN_FAILURES_UNDELAYED: u32 = 3;
/// How many times the usual delay it becomes at most.
pub const LOGIN_DELAY_RATIO_MAX: u32 = 16;
/// Places for addresses, networks and users with failed logins, 64 octets each; a power of two. When they are used up,
/// the oldest among eight makes room.
pub const LOGIN_FAILURES_REMEMBERED_MAX: usize = 65_536;
/// How often a transfer that waits for its rate looks whether its client is still there.
pub const THROTTLED_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Lowest rate that an option or a users file may set, in octets a second: pieces of 50 octets.
pub const RATE_OCTETS_PER_SECOND_MIN: u64 = 1000;
/// Counts for quotas that have changed are written to the state directory after this time, together.
pub const QUOTA_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// A home is counted again at a login when its count is so old.
pub const QUOTA_SCAN_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// An upload that would be refused waits so long for its home to be counted again.
pub const QUOTA_SCAN_WAIT: Duration = Duration::from_secs(2);
/// Shortest time between two such counts, to which 20 times that of the last one is added.
pub const QUOTA_SCAN_PAUSE: Duration = Duration::from_secs(1);
/// The end of the process waits so long for file systems to tell the sizes of files whose uploads have ended.
pub const QUOTA_END_WAIT: Duration = Duration::from_secs(5);
/// Files whose uploads ended last that a home remembers: who opens one of them meanwhile asks for its size again.
pub const QUOTA_CLOSED_FILES: usize = 64;
/// Deletions and renames of one home with a quota that are on threads of blocking work, of which they wait for one another.
pub const QUOTA_REMOVALS_MAX: usize = 4;
/// While another process uses the same counts, this one looks so often whether it has ended.
pub const QUOTA_OTHERS_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest time between scans of two homes whose counts a hand-over left in doubt.
pub const QUOTA_CATCH_UP_PAUSE: Duration = Duration::from_millis(100);
/// To which so many times as long as the scan took is added: they take a fifth of the time of one core at most.
pub const QUOTA_CATCH_UP_REST: u32 = 4;
/// Largest file of the state directory that is read for a count.
pub const QUOTA_FILE_OCTETS_MAX: u64 = 64 * 1024;
/// Files with hard links still to come, or elsewhere, that a scan remembers: a table of 26 MB (24 octets and one each, seven
/// eighths full).
pub const QUOTA_SCAN_LINKED_FILES_MAX: usize = (1 << 20) / 8 * 7;
/// Directories with a longer path below a home are not counted: each takes time by its depth.
pub const QUOTA_SCAN_PATH_OCTETS_MAX: usize = 16 * 1024;
/// Octets of a listing formatted at a time.
pub const LISTING_CHUNK_OCTETS: usize = 64 * 1024;
/// Threads of the pool for blocking work (password hashes, directory reading), whole process.
pub const BLOCKING_THREADS_MAX: usize = 16;
/// Ports tried at random before a passive port range is searched in order.
pub const PASSIVE_PORT_TRIES_RANDOM: usize = 16;
/// Ports tried in order after that before the client is told that there is none; each costs a few
/// microseconds, during which the core does nothing else.
pub const PASSIVE_PORT_TRIES_MAX: usize = 1024;
/// Connections of proxies that wait for their PROXY header at once, on a core. Proxies send it right away.
pub const PROXY_HEADERS_AWAITED_MAX: usize = 1024;
/// Shortest time between two warnings of a core about PROXY headers that are missing, bad, or not believed.
pub const PROXY_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two lines of a core's log that tell of one mistake of clients.
pub const HINT_INTERVAL: Duration = Duration::from_secs(60);
/// How often the names in --passive-address are looked up again.
pub const PASSIVE_NAME_INTERVAL: Duration = Duration::from_secs(300);
/// The same as long as one of them has never had an address.
pub const PASSIVE_NAME_RETRY_INTERVAL: Duration = Duration::from_secs(15);
/// How long the start waits for their first addresses.
pub const PASSIVE_NAME_FIRST_TIME: Duration = Duration::from_secs(5);
/// How long a verified credential is remembered.
pub const CREDENTIAL_REMEMBERED: Duration = Duration::from_secs(300);
/// Verified credentials remembered, whole process.
pub const CREDENTIALS_REMEMBERED_MAX: usize = 65_536;
/// Connections accepted on a core before other work gets its turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Octets of records that may hold parts of one incomplete TLS handshake message.
pub const TLS_HANDSHAKE_OCTETS_HELD_MAX: usize = 64 * 1024;
/// Validity of a self-signed certificate, as long as Apple's and other clients accept.
pub const SELF_SIGNED_VALIDITY: Duration = Duration::from_secs(825 * 24 * 3600);
/// Password hashes computed at once, whole process; each takes 19 MiB with the default parameters.
pub const PASSWORD_HASHES_AT_ONCE_MAX: usize = 4;
/// Memory cost that a password hash of the users file may ask for, in KiB.
pub const PASSWORD_HASH_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes that a password hash of the users file may ask for.
pub const PASSWORD_HASH_PASSES_MAX: u32 = 32;
/// Longest password that `ringftpd user` accepts, in octets.
pub const PASSWORD_OCTETS_MAX: usize = 1024;
/// Longest user name in octets.
pub const USER_NAME_OCTETS_MAX: usize = 64;
/// Processes that ask PAM at once; each answers one login at a time.
pub const PAM_HELPERS: usize = 8;
/// The same of all servers that share a starter, after upgrades.
pub const PAM_PROCESSES_MAX: usize = 64;
/// Logins that wait for such a process; further ones are told to come again.
pub const PAM_QUEUE_MAX: usize = 256;
/// How long they wait at most.
pub const PAM_QUEUE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long PAM may take for one login; then the process is replaced.
pub const PAM_CHECK_TIME_MAX: Duration = Duration::from_secs(30);
/// Logins after which such a process is replaced.
pub const PAM_CHECKS_PER_HELPER_MAX: usize = 1000;
/// With PAM, a refusal is told so long after the question at the earliest. Whether a name is known to PAM, to the users file or to
/// nobody must not show in the time, and pam_unix wants 2 s, of which libpam makes 1 to 3.
pub const PAM_REFUSAL_TIME_MIN: Duration = Duration::from_secs(3);
/// Longest time that modules can have a refusal held back.
pub const PAM_REFUSAL_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest password for PAM in octets (PAM_MAX_RESP_SIZE less its terminator).
pub const PAM_PASSWORD_OCTETS_MAX: usize = 511;
/// Octets of a module's words that reach the log.
pub const PAM_REASON_OCTETS_MAX: usize = 512;
/// Longest message between server and helper: names, a password, a path.
pub const PAM_MESSAGE_OCTETS_MAX: usize = 8192;
/// Shortest time between two warnings that too many logins wait for PAM.
pub const PAM_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Largest file of users, certificates, a key or revocation lists that is read, in octets.
pub const SETTINGS_FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// How long the end of the process that reads settings files is waited for.
pub const KEEPER_END_MAX: Duration = Duration::from_secs(1);
/// Descriptors that the server asks for at most.
pub const DESCRIPTORS_MAX: u64 = 1_048_576;
/// Threads that `--cores` may ask for.
pub const CORES_MAX: usize = 1024;
/// Longest time that a timer option may name.
pub const TIMER_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Octets of directory entries taken from the kernel at a time.
pub const DIRECTORY_READ_OCTETS: usize = 32 * 1024;
/// Directory entries looked at in one piece of blocking work.
pub const LISTING_ENTRIES_PER_JOB_MAX: usize = 16 * 1024;
/// How long what a directory held is kept for the next listing: no longer than the times in a listing are exact.
pub const DIRECTORY_CACHED_MAX: Duration = Duration::from_secs(1);
/// Directories whose contents are kept, whole process; each takes a watch (fs.inotify.max_user_watches).
pub const DIRECTORIES_CACHED_MAX: usize = 4096;
/// Names tried for STOU before giving up.
pub const UNIQUE_NAME_TRIES_MAX: usize = 32;
/// Times that opening is tried again while directories above are being renamed (openat2(2)).
pub const OPEN_TRIES_MAX: usize = 16;
/// Significant digits of the values in histograms.
pub const METRICS_DIGITS: u8 = 2;
/// Longest time that a histogram tells from longer ones.
pub const METRICS_TIME_MAX: Duration = Duration::from_secs(3600);
/// Lowest rate that a histogram of rates tells from lower ones, in octets a second.
pub const METRICS_RATE_OCTETS_PER_SECOND_MIN: u64 = 1024;
/// Highest rate that a histogram of rates tells from higher ones.
pub const METRICS_RATE_OCTETS_PER_SECOND_MAX: u64 = 128 * 1024 * 1024 * 1024;
/// Transfers of so many octets have a rate; shorter ones measure round trips.
pub const METRICS_RATE_OCTETS_MIN: u64 = 1024 * 1024;
/// How often a core looks how late it is.
pub const LOOP_DELAY_INTERVAL: Duration = Duration::from_millis(100);
/// A client that sends its next command so soon after a reply is a prompt one: on the same machine or in the same room.
pub const PROMPT_ANSWER_MAX: Duration = Duration::from_micros(500);
/// How long a core remembers that it had a prompt client.
pub const PROMPT_CLIENT_MAX: Duration = Duration::from_millis(2);
/// How long a core's figures are waited for; then the last ones are told.
pub const METRICS_ANSWER_TIME: Duration = Duration::from_secs(1);
/// Shortest interval of a histogram log.
pub const HISTOGRAM_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest interval of a histogram log.
pub const HISTOGRAM_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Connections to the metrics address at once; others wait.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// From accepting a connection to the metrics address to its end.
pub const METRICS_CONNECTION_TIME: Duration = Duration::from_secs(10);

/// From a process's wish to replace a running server until it is ready: it reads files and tries out kernel TLS.
pub const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(120);
/// For an answer between two processes that need not do anything for it.
pub const HAND_OVER_ANSWER_TIME: Duration = Duration::from_secs(10);
/// Processes that may ask at once.
pub const HAND_OVER_VISITORS_MAX: usize = 8;
/// Sessions that a core describes for the status socket before other work gets its turn; each takes up to 3 us.
pub const STATUS_SESSIONS_PER_TURN: usize = 128;
/// Sessions that it looks at meanwhile, in some 20 ns each.
pub const STATUS_SEATS_PER_TURN: usize = 4096;
/// Clients of the status socket at once; others wait.
pub const STATUS_CLIENTS_MAX: usize = 8;
/// Longest request to the status socket, in octets: some thousand numbers of sessions.
pub const STATUS_REQUEST_OCTETS_MAX: usize = 64 * 1024;
/// Longest line of an answer that is read, in octets.
pub const STATUS_LINE_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// For a client of the status socket to send a request, and to take each piece of the answer.
pub const STATUS_TURN_TIME: Duration = Duration::from_secs(10);
/// From the connection of such a client to its end.
pub const STATUS_CLIENT_TIME: Duration = Duration::from_secs(60);
/// How long a core is waited for; then its sessions are missing, which is said.
pub const STATUS_ANSWER_TIME: Duration = Duration::from_secs(1);

/// A certificate that expires within this time is warned of.
pub const CERTIFICATE_EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);
/// Actions of one session before other work of its core gets its turn.
pub const ACTIONS_PER_TURN: usize = 64;
/// Reads on a data connection after a download's end, of a client that should only close.
pub const DRAIN_READS_MAX: usize = 64;
/// Descriptors kept for other things than control connections: rings, listeners, logs, files.
pub const DESCRIPTORS_KEPT: usize = 256;

const _: () = assert!(PASSWORD_HASHES_AT_ONCE_MAX <= BLOCKING_THREADS_MAX);
const _: () = assert!(PAM_HELPERS * 4 <= PAM_PROCESSES_MAX);
const _: () = assert!(PAM_HELPERS <= PAM_QUEUE_MAX);
const _: () = assert!(PAM_REFUSAL_TIME_MIN.as_secs() <= PAM_REFUSAL_TIME_MAX.as_secs());
const _: () = assert!(PAM_REFUSAL_TIME_MAX.as_secs() < PAM_CHECK_TIME_MAX.as_secs());
const _: () = assert!(
    USER_NAME_OCTETS_MAX + PAM_PASSWORD_OCTETS_MAX + PATH_OCTETS_MAX + PAM_REASON_OCTETS_MAX
        < PAM_MESSAGE_OCTETS_MAX
);
const _: () = assert!(PASSWORD_OCTETS_MAX < COMMAND_LINE_OCTETS_MAX);
const _: () = assert!(COMMAND_QUEUE_OCTETS_MAX >= COMMAND_LINE_OCTETS_MAX);
const _: () = assert!(TLS_TICKETS_CONTROL_REQUIRED >= TLS_TICKETS_CONTROL);
const _: () = assert!(TLS_SESSIONS_PER_CONTROL_MAX > TLS_TICKETS_CONTROL_REQUIRED);
const _: () = assert!(SENDFILE_TLS_CHUNK_OCTETS <= SENDFILE_CHUNK_OCTETS);
const _: () = assert!(
    SENDFILE_TLS_CHUNK_OCTETS / TLS_RECORD_PLAINTEXT_MAX as u64 * 4 < TLS_RECORDS_PER_KEY_MIN
);
const _: () = assert!(TRANSFER_CHUNK_OCTETS.is_multiple_of(TLS_RECORD_PLAINTEXT_MAX));
const _: () = assert!(METRICS_ANSWER_TIME.as_secs() < METRICS_CONNECTION_TIME.as_secs());
