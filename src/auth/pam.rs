//! Accounts that PAM knows: those of the system, and of whatever directory its modules ask.
//!
//! A few threads, each with a helper process, take logins from one queue, so that no core waits. Nothing is remembered
//! here: an account that is locked, or a password that is good for one login, is refused the next time.

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::bounds::Bounds;
use super::permissions::Permissions;
use super::personal::Personal;
use super::users::check_user_name;
use super::{Account, Accounts, CheckFailed, Verdict};
use crate::limits;
use crate::sys::pam::{Answer, Helper, Helpers, Question};

/// What accounts of PAM are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PamAccounts {
    /// Their root directory; `None`: the home directory that the system names.
    pub directory: Option<DirectoryTemplate>,
    /// What they may do.
    pub permissions: Permissions,
}

/// A root directory for each user: `/srv/ftp/%u`. `%u` is the user's name, `%h` the home directory, `%%` a percent sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryTemplate(String);

impl FromStr for DirectoryTemplate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('/') && !text.starts_with("%h") {
            return Err("give an absolute path, as /srv/ftp/%u, or one that begins with %h");
        }
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('%') {
            rest = behind.strip_prefix(['u', 'h', '%']).ok_or(
                "give %u for the user's name, %h for the home directory, %% for a percent sign",
            )?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl DirectoryTemplate {
    /// The directory of a user; `None` where it depends on a home directory that there is not.
    fn expand(&self, user: &str, home: Option<&Path>) -> Option<PathBuf> {
        let mut path = std::ffi::OsString::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once('%') {
            path.push(before);
            match behind.chars().next()? {
                'u' => path.push(user),
                'h' => path.push(home?),
                _ => path.push("%"),
            }
            rest = behind.get(1..)?;
        }
        path.push(rest);
        Some(path.into())
    }
}

/// The pool of threads that ask.
pub struct Pam {
    queue: SyncSender<Job>,
    /// Milliseconds after `began` of the last warning that the queue is full, and one more.
    warned: AtomicU64,
    began: Instant,
}

struct Job {
    question: Question,
    asked: Instant,
    reply: oneshot::Sender<Result<Answer, CheckFailed>>,
}

/// A login that PAM is to decide.
pub struct PamCheck {
    pub(super) pam: Arc<Pam>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) user: Box<[u8]>,
    pub(super) password: Zeroizing<Vec<u8>>,
    pub(super) now: Instant,
}

/// What came of it.
pub struct PamVerdict {
    /// Whom it opens.
    pub verdict: Verdict,
    /// A refusal is to be told so long after the question at the earliest.
    pub refusal_time: Duration,
}

impl Pam {
    /// Starts the threads. To be called once root is given away: they keep the rights of this moment.
    ///
    /// # Errors
    /// The system's.
    pub fn start(helpers: Helpers, now: Instant) -> io::Result<Arc<Self>> {
        let (queue, jobs) = sync_channel(limits::PAM_QUEUE_MAX);
        let (helpers, jobs) = (Arc::new(helpers), Arc::new(Mutex::new(jobs)));
        for number in 0..limits::PAM_HELPERS {
            let asker = Asker {
                number,
                helpers: Arc::clone(&helpers),
                helper: None,
                asked: 0,
            };
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("pam-{number}"))
                .spawn(move || asker.work(&jobs))?;
        }
        Ok(Arc::new(Self {
            queue,
            warned: AtomicU64::new(0),
            began: now,
        }))
    }

    fn warn_of_queue(&self, now: Instant) {
        let now = now.saturating_duration_since(self.began);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let before = self.warned.load(Ordering::Relaxed);
        let due = before == 0 || millis(now) + 1 >= before + millis(limits::PAM_WARNING_INTERVAL);
        // Of several at once one says it.
        let swap = |new| {
            let order = Ordering::Relaxed;
            self.warned.compare_exchange(before, new, order, order)
        };
        if due && swap(millis(now) + 1).is_ok() {
            tracing::warn!(
                waiting = limits::PAM_QUEUE_MAX,
                "too many logins wait for PAM: further ones get 421"
            );
        }
    }
}

impl PamCheck {
    /// Has PAM asked by a thread of the pool, for a client at that address.
    ///
    /// # Errors
    /// [`CheckFailed`]: too many wait, PAM does not answer, or does not work. The log says which.
    pub async fn verdict(mut self, address: IpAddr) -> Result<PamVerdict, CheckFailed> {
        let refused = |refusal_time: Duration| PamVerdict {
            verdict: None,
            refusal_time: refusal_time
                .clamp(limits::PAM_REFUSAL_TIME_MIN, limits::PAM_REFUSAL_TIME_MAX),
        };
        let Some(question) = question(&self.user, mem::take(&mut self.password), address) else {
            return Ok(refused(Duration::ZERO));
        };
        let (reply, answer) = oneshot::channel();
        let job = Job {
            question,
            asked: self.now,
            reply,
        };
        if self.pam.queue.try_send(job).is_err() {
            self.pam.warn_of_queue(self.now);
            return Err(CheckFailed);
        }
        let user = self.user.escape_ascii();
        match answer.await.map_err(|_| CheckFailed)?? {
            Answer::Granted { user: name, home } => match account(&self.accounts, &name, home) {
                Ok(account) => Ok(PamVerdict {
                    verdict: Some(Arc::new(account)),
                    refusal_time: Duration::ZERO,
                }),
                Err(reason) => {
                    tracing::warn!(%user, "PAM let the user in, but {reason}");
                    Ok(refused(Duration::ZERO))
                }
            },
            Answer::Refused { reason, delay } => {
                let reason = reason.escape_debug();
                tracing::info!(%user, %address, %reason, "PAM refused");
                Ok(refused(delay))
            }
            Answer::Failed { reason } => {
                let reason = reason.escape_debug();
                tracing::error!(%user, %reason, "PAM does not work: see the service's file in /etc/pam.d, and what its modules wrote to the system's log");
                Err(CheckFailed)
            }
        }
    }
}

/// The account of a user whom PAM has let in, or why there is none.
fn account(table: &Accounts, name: &str, home: Option<PathBuf>) -> Result<Account, &'static str> {
    // Modules and the system may change the name, as `ANN` to `ann`, who may have less by the users file than PAM would give.
    if table.find(name.as_bytes()).is_some() {
        return Err("the account's name is one of the users file");
    }
    let accounts = table.pam().ok_or("it is not asked any more")?;
    accounts.open(name, home)
}

/// What to ask; `None` for what no account of PAM can be called, or have as its password.
fn question(user: &[u8], password: Zeroizing<Vec<u8>>, address: IpAddr) -> Option<Question> {
    let name = std::str::from_utf8(user).ok()?;
    let plain = is_usable(name)
        && password.len() <= limits::PAM_PASSWORD_OCTETS_MAX
        && !password.contains(&0);
    plain.then_some(())?;
    Some(Question {
        user: CString::new(user).ok()?,
        password,
        address: CString::new(address.to_string()).ok()?,
    })
}

/// SECURITY: the name becomes part of paths, and of the command lines of modules' programs.
fn is_usable(name: &str) -> bool {
    check_user_name(name).is_ok() && !name.contains('/') && !name.starts_with(['-', '.'])
}

impl PamAccounts {
    /// The account of this name, or why there can be none.
    fn open(&self, name: &str, home: Option<PathBuf>) -> Result<Account, &'static str> {
        if !is_usable(name) {
            return Err("the name that its modules left cannot be used");
        }
        let directory = match &self.directory {
            Some(template) => template
                .expand(name, home.as_deref())
                .ok_or("the system knows no home directory for %h in --pam-directory")?,
            None => home.ok_or("the system does not know that name: give --pam-directory")?,
        };
        if !directory.is_absolute() {
            return Err("its home directory is no absolute path");
        }
        // Accounts without a home have this one, and would see every file of the machine.
        if directory.parent().is_none() {
            return Err("its home directory is /: give --pam-directory");
        }
        Ok(Account {
            name: name.to_owned(),
            home: directory,
            permissions: self.permissions,
            anonymous: false,
            bounds: Bounds::default(),
            file_rules: Arc::default(),
            personal: Personal::default(),
        })
    }
}

/// One thread with its helper.
struct Asker {
    number: usize,
    helpers: Arc<Helpers>,
    helper: Option<Helper>,
    /// Questions to this helper.
    asked: usize,
}

impl Asker {
    fn work(mut self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            // One waits for a job, the others for it.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else {
                return;
            };
            let answer = if job.asked.elapsed() > limits::PAM_QUEUE_TIME_MAX {
                tracing::warn!("a login has waited too long for PAM");
                Err(CheckFailed)
            } else {
                self.ask(&job.question).ok_or(CheckFailed)
            };
            drop(job.question);
            // Whoever gave up waiting needs no answer.
            let _ = job.reply.send(answer);
        }
    }

    /// Asks the helper; a new one where there is none, or where it had ended before.
    fn ask(&mut self, question: &Question) -> Option<Answer> {
        // Modules leak.
        let fresh = self.asked < limits::PAM_CHECKS_PER_HELPER_MAX;
        let idle = self.helper.take().filter(|_| fresh);
        let helper = match idle.filter(|helper| helper.ask(question).is_ok()) {
            Some(helper) => helper,
            None => self.started(question)?,
        };
        self.asked += 1;
        match helper.answer(limits::PAM_CHECK_TIME_MAX) {
            Ok(answer) => {
                self.helper = Some(helper);
                Some(answer)
            }
            Err(error) => {
                let user = question.user.to_bytes().escape_ascii();
                match error.kind() {
                    io::ErrorKind::WouldBlock => tracing::error!(
                        %user,
                        seconds = limits::PAM_CHECK_TIME_MAX.as_secs(),
                        "PAM does not answer; its helper process is replaced"
                    ),
                    io::ErrorKind::UnexpectedEof => tracing::error!(
                        %user,
                        "a helper process of PAM has ended while it was asked: a module crashed, or it was killed; it is replaced"
                    ),
                    _ => tracing::error!(%user, %error, "a helper process of PAM fails"),
                }
                // Which ends the old one. Where that fails the next login says so.
                self.helper = self.helpers.start(self.number).ok();
                self.asked = 0;
                None
            }
        }
    }

    fn started(&mut self, question: &Question) -> Option<Helper> {
        self.asked = 0;
        let helper = self.helpers.start(self.number).and_then(|helper| {
            helper.ask(question)?;
            Ok(helper)
        });
        helper
            .inspect_err(|error| {
                tracing::error!(
                    %error,
                    "no helper process for PAM can be started: logins by PAM are refused until the server is started again"
                );
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{User, UsersFile, hash_password};

    fn template(text: &str) -> DirectoryTemplate {
        text.parse().unwrap()
    }

    #[test]
    fn templates_name_user_and_home() {
        let home = Path::new("/home/ann");
        let expand = |text: &str| template(text).expand("ann", Some(home)).unwrap();
        assert_eq!(expand("/srv/ftp/%u"), Path::new("/srv/ftp/ann"));
        assert_eq!(expand("%h/ftp"), Path::new("/home/ann/ftp"));
        assert_eq!(expand("/srv/100%%/%u%u"), Path::new("/srv/100%/annann"));
        assert_eq!(expand("/srv"), Path::new("/srv"));
        assert_eq!(template("%h/ftp").expand("ann", None), None);
        for bad in ["", "srv/%u", "%u", "/srv/%x", "/srv/%", "/srv/%%%"] {
            assert!(bad.parse::<DirectoryTemplate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_are_paths_or_options_are_not_asked_about() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let asked = |user: &[u8], password: &[u8]| {
            question(user, Zeroizing::new(password.to_vec()), address).is_some()
        };
        assert!(asked(b"ann", b"secret") && asked("b\u{f6}b".as_bytes(), b""));
        assert!(asked(b"ann.lee@example.net", b"  x  "));
        for user in [
            &b""[..],
            b"..",
            b".ssh",
            b"a/b",
            b"/etc",
            b"-x",
            b" ann",
            b"a\nb",
            b"a\0b",
            b"\xff",
        ] {
            assert!(!asked(user, b"secret"), "{}", user.escape_ascii());
        }
        assert!(!asked(b"ann", b"a\0b"));
        assert!(asked(b"ann", &[b'x'; limits::PAM_PASSWORD_OCTETS_MAX]));
        assert!(!asked(b"ann", &[b'x'; limits::PAM_PASSWORD_OCTETS_MAX + 1]));
    }

    #[test]
    fn an_account_needs_a_directory_of_its_own() {
        let accounts = |directory: Option<&str>| PamAccounts {
            directory: directory.map(template),
            permissions: Permissions::READ_ONLY,
        };
        let made = accounts(None)
            .open("ann", Some("/home/ann".into()))
            .unwrap();
        assert_eq!((made.name.as_str(), made.anonymous), ("ann", false));
        assert_eq!(made.home, Path::new("/home/ann"));
        assert_eq!(made.permissions, Permissions::READ_ONLY);
        // Unknown to the system.
        assert!(accounts(None).open("ann", None).is_err());
        assert!(accounts(Some("%h")).open("ann", None).is_err());
        let virtual_user = accounts(Some("/srv/%u")).open("ann", None).unwrap();
        assert_eq!(virtual_user.home, Path::new("/srv/ann"));
        for home in ["/", "", "home", "//"] {
            let made = accounts(None).open("ann", Some(home.into()));
            assert!(made.is_err(), "{home}");
        }
        // What the modules made of the name counts.
        let mut file = UsersFile::default();
        let hash = hash_password(b"secret").unwrap();
        let user = User::new(hash, None, Permissions::READ_ONLY).unwrap();
        file.add("ann", user).unwrap();
        let table = Accounts::from_users(&file, Path::new("/srv")).unwrap();
        let table = table.with_pam(accounts(Some("/srv/%u")));
        assert!(account(&table, "lee", None).is_ok());
        assert!(account(&table, "ann", None).is_err());
        assert!(accounts(Some("/srv/%u")).open("../x", None).is_err());
    }
}
