//! The binding to libpam (pam_start(3) and its like).

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io;
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

use super::{Answer, Question, Terms};
use crate::sys::identity::{self, Identity};

const SUCCESS: c_int = 0;
const OPEN_ERR: c_int = 1;
const SYMBOL_ERR: c_int = 2;
const SERVICE_ERR: c_int = 3;
const SYSTEM_ERR: c_int = 4;
const BUF_ERR: c_int = 5;
const CONV_ERR: c_int = 19;
const ABORT: c_int = 26;
const MODULE_UNKNOWN: c_int = 28;
const BAD_ITEM: c_int = 29;

const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_RHOST: c_int = 4;
const ITEM_FAIL_DELAY: c_int = 10;

const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

/// PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK: nobody reads messages, and no password is none.
const FLAGS: c_int = 0x8000 | 0x0001;
/// Most prompts of one call (PAM_MAX_NUM_MSG).
const PROMPTS_MAX: usize = 32;

/// pam_handle_t.
#[repr(C)]
struct Handle {
    _private: [u8; 0],
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    /// Zero always.
    code: c_int,
}

type Converse = extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    converse: Converse,
    data: *mut c_void,
}

// By the name that programs load at run time: neither headers nor the package with the plain name are needed.
#[link(name = "libpam.so.0", kind = "dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const Conversation,
        handle: *mut *mut Handle,
    ) -> c_int;
    fn pam_set_item(handle: *mut Handle, item: c_int, value: *const c_void) -> c_int;
    fn pam_get_item(handle: *const Handle, item: c_int, value: *mut *const c_void) -> c_int;
    fn pam_authenticate(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_strerror(handle: *mut Handle, code: c_int) -> *const c_char;
    fn pam_end(handle: *mut Handle, code: c_int) -> c_int;
}

/// What the modules are told, and what they want.
struct Dialogue<'a> {
    question: &'a Question,
    delay: Cell<Duration>,
}

/// Asks the modules of the service, then the account database.
///
/// No credentials are set and no session is opened: both are for a process that becomes the user.
pub(super) fn check(terms: &Terms, question: &Question) -> Answer {
    let dialogue = Dialogue {
        question,
        delay: Cell::new(Duration::ZERO),
    };
    let mut transaction = match Transaction::start(terms, &dialogue) {
        Ok(transaction) => transaction,
        Err(reason) => return Answer::Failed { reason },
    };
    match transaction.run() {
        Ok(()) => {}
        Err(step) => {
            let reason = format!("{step}: {}", transaction.error());
            let delay = dialogue.delay.get();
            return if is_failure(transaction.code) {
                Answer::Failed { reason }
            } else {
                Answer::Refused { reason, delay }
            };
        }
    }
    let Some(user) = transaction.user() else {
        let reason = "the modules left no name that is UTF-8".to_owned();
        return Answer::Failed { reason };
    };
    admit(terms, user)
}

/// Whether the account may come in, now that its password was right.
fn admit(terms: &Terms, user: String) -> Answer {
    let found = identity::find_home(&user);
    judge(terms, user, found)
}

fn judge(terms: &Terms, user: String, found: io::Result<Option<(Identity, PathBuf)>>) -> Answer {
    let refused = |reason| Answer::Refused {
        reason,
        delay: Duration::ZERO,
    };
    match found {
        Ok(Some((account, _))) if account.is_root() => refused("the account is root's".to_owned()),
        Ok(Some((account, _))) if account.user < terms.user_id_min => {
            let id = account.user;
            refused(format!("user id {id} is below {}", terms.user_id_min))
        }
        // SECURITY: under the system's own name: by other spellings nobody gets more sessions, or past the users file.
        Ok(Some((account, home))) => Answer::Granted {
            user: account.name,
            home: Some(home),
        },
        Ok(None) => Answer::Granted { user, home: None },
        Err(error) => Answer::Failed {
            reason: format!("the account database: {error}"),
        },
    }
}

/// Codes that say nothing about the user. (PAM_AUTHINFO_UNAVAIL is not among them: some modules say it of unknown
/// names, and an answer of another kind would give them away.)
fn is_failure(code: c_int) -> bool {
    matches!(
        code,
        OPEN_ERR
            | SYMBOL_ERR
            | SERVICE_ERR
            | SYSTEM_ERR
            | BUF_ERR
            | CONV_ERR
            | ABORT
            | MODULE_UNKNOWN
            | BAD_ITEM
    )
}

struct Transaction<'a> {
    handle: *mut Handle,
    /// Of the last call.
    code: c_int,
    /// Lives as long as the library may call back.
    _dialogue: &'a Dialogue<'a>,
}

impl<'a> Transaction<'a> {
    fn start(terms: &Terms, dialogue: &'a Dialogue<'a>) -> Result<Self, String> {
        let data: *const Dialogue<'_> = dialogue;
        let conversation = Conversation {
            converse,
            data: data.cast_mut().cast(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the strings are NUL-terminated, the conversation is copied by the library, what it points to
        // outlives the transaction, and the handle is valid for writes.
        let code = unsafe {
            pam_start(
                terms.service.as_ptr(),
                dialogue.question.user.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            )
        };
        if code != SUCCESS || handle.is_null() {
            let service = terms.service.to_string_lossy();
            return Err(format!("pam_start of `{service}`: code {code}"));
        }
        Ok(Self {
            handle,
            code,
            _dialogue: dialogue,
        })
    }

    /// Password, then account. The name of the step that was refused.
    fn run(&mut self) -> Result<(), &'static str> {
        let address = self._dialogue.question.address.as_ptr();
        self.set(ITEM_RHOST, address.cast())?;
        self.set(ITEM_TTY, c"ftp".as_ptr().cast())?;
        let delay: extern "C" fn(c_int, c_uint, *mut c_void) = note_delay;
        self.set(ITEM_FAIL_DELAY, delay as *const c_void)?;
        // SAFETY: the handle is that of pam_start and has not ended; so in the next call.
        self.code = unsafe { pam_authenticate(self.handle, FLAGS) };
        self.judge("password")?;
        // SAFETY: as above.
        self.code = unsafe { pam_acct_mgmt(self.handle, FLAGS) };
        self.judge("account")
    }

    fn set(&mut self, item: c_int, value: *const c_void) -> Result<(), &'static str> {
        // SAFETY: the handle has not ended; strings are NUL-terminated and copied by the library, a function is
        // kept and is there for ever.
        self.code = unsafe { pam_set_item(self.handle, item, value) };
        self.judge("pam_set_item")
    }

    fn judge(&self, step: &'static str) -> Result<(), &'static str> {
        (self.code == SUCCESS).then_some(()).ok_or(step)
    }

    /// The name as the modules left it.
    fn user(&self) -> Option<String> {
        let mut value = ptr::null();
        // SAFETY: the handle has not ended, and the value is valid for writes.
        let code = unsafe { pam_get_item(self.handle, ITEM_USER, &raw mut value) };
        if code != SUCCESS || value.is_null() {
            return None;
        }
        // SAFETY: this item is a NUL-terminated string that stays until the next call.
        let user = unsafe { CStr::from_ptr(value.cast()) };
        user.to_str().ok().map(str::to_owned)
    }

    fn error(&self) -> String {
        // SAFETY: the handle has not ended; the library does not use it for more than that.
        let text = unsafe { pam_strerror(self.handle, self.code) };
        if text.is_null() {
            return format!("code {}", self.code);
        }
        // SAFETY: pam_strerror returns NUL-terminated strings that are never freed.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle has not ended, and is not used again. The code it returns changes nothing.
        unsafe { pam_end(self.handle, self.code) };
    }
}

/// In place of the library's sleep after a refusal: the server waits by itself, without holding a process for it.
extern "C" fn note_delay(code: c_int, microseconds: c_uint, data: *mut c_void) {
    // SAFETY: the library hands back what it was given with the conversation, which lives longer.
    let dialogue = unsafe { data.cast::<Dialogue<'_>>().as_ref() };
    if let Some(dialogue) = dialogue.filter(|_| code != SUCCESS) {
        let delay = Duration::from_micros(microseconds.into());
        dialogue.delay.set(dialogue.delay.get().max(delay));
    }
}

/// Answers prompts: without echo by the password, with echo by the name. Messages are for a screen.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    // SAFETY: as in `note_delay`.
    let dialogue = unsafe { data.cast::<Dialogue<'_>>().as_ref() };
    let count = usize::try_from(count).ok().filter(|n| *n <= PROMPTS_MAX);
    let (Some(dialogue), Some(count @ 1..)) = (dialogue, count) else {
        return CONV_ERR;
    };
    if messages.is_null() || responses.is_null() {
        return CONV_ERR;
    }
    // SAFETY: calloc takes numbers only. The modules free what they get with free(3).
    let answers: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
    if answers.is_null() {
        return BUF_ERR;
    }
    for at in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers.
        let message = unsafe { messages.add(at) };
        // SAFETY: as above.
        let message = unsafe { message.read() };
        // SAFETY: each of which points to a message, or is null.
        let style = unsafe { message.as_ref() }.map_or(-1, |message| message.style);
        let text = match style {
            PROMPT_ECHO_OFF => copy(&dialogue.question.password),
            PROMPT_ECHO_ON => copy(dialogue.question.user.to_bytes()),
            ERROR_MSG | TEXT_INFO => Some(ptr::null_mut()),
            _ => None,
        };
        let Some(text) = text else {
            free(answers, count);
            return CONV_ERR;
        };
        // SAFETY: there are `count` answers.
        let answer = unsafe { answers.add(at) };
        // SAFETY: it is valid for writes, and zeroed.
        unsafe { answer.write(Response { text, code: 0 }) };
    }
    // SAFETY: not null, and valid for writes by the library's contract.
    unsafe { responses.write(answers) };
    SUCCESS
}

/// A copy for free(3), with a NUL at its end; `None` without memory.
fn copy(octets: &[u8]) -> Option<*mut c_char> {
    // SAFETY: calloc takes numbers only.
    let text: *mut u8 = unsafe { libc::calloc(octets.len() + 1, 1) }.cast();
    if text.is_null() {
        return None;
    }
    // SAFETY: it has room for the octets, and overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), text, octets.len()) };
    Some(text.cast())
}

/// Gives back answers that nobody will get, wiped.
fn free(answers: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: there are `count` answers.
        let answer = unsafe { answers.add(at) };
        // SAFETY: each is zeroed or was written.
        let text = unsafe { answer.read() }.text;
        if text.is_null() {
            continue;
        }
        // SAFETY: made by `copy`, NUL-terminated.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: as many octets are valid for writes.
        unsafe { libc::explicit_bzero(text.cast(), length) };
        // SAFETY: made by calloc, and not used again.
        unsafe { libc::free(text.cast()) };
    }
    // SAFETY: made by calloc, and not used again.
    unsafe { libc::free(answers.cast()) };
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn question() -> Question {
        Question {
            user: c"ann".to_owned(),
            password: Zeroizing::new(b"secret".to_vec()),
            address: c"192.0.2.1".to_owned(),
        }
    }

    fn answers(styles: &[c_int]) -> Result<Vec<Option<String>>, c_int> {
        let question = question();
        let dialogue = Dialogue {
            question: &question,
            delay: Cell::new(Duration::ZERO),
        };
        let messages: Vec<Message> = styles
            .iter()
            .map(|&style| Message {
                style,
                text: ptr::null(),
            })
            .collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(ptr::from_ref).collect();
        let mut responses = ptr::null_mut();
        let data = ptr::from_ref(&dialogue).cast_mut().cast();
        let count = c_int::try_from(styles.len()).unwrap();
        match converse(count, pointers.as_mut_ptr(), &raw mut responses, data) {
            SUCCESS => {}
            code => return Err(code),
        }
        let texts = (0..styles.len()).map(|at| {
            // SAFETY: there are as many answers as messages.
            let answer = unsafe { responses.add(at) };
            // SAFETY: each of which was written.
            let text = unsafe { answer.read() }.text;
            // SAFETY: NUL-terminated where not null.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap().into())
        });
        let texts = texts.collect();
        free(responses, styles.len());
        Ok(texts)
    }

    #[test]
    fn prompts_are_answered_by_their_style() {
        let told = answers(&[TEXT_INFO, PROMPT_ECHO_OFF, ERROR_MSG, PROMPT_ECHO_ON]).unwrap();
        let password = Some("secret".to_owned());
        assert_eq!(told, [None, password, None, Some("ann".to_owned())]);
        // A style that it does not know (PAM_BINARY_PROMPT), none, too many.
        assert_eq!(answers(&[PROMPT_ECHO_OFF, 7]), Err(CONV_ERR));
        assert_eq!(answers(&[]), Err(CONV_ERR));
        assert_eq!(answers(&[TEXT_INFO; PROMPTS_MAX + 1]), Err(CONV_ERR));
    }

    #[test]
    fn delays_count_after_a_refusal_only() {
        let question = question();
        let dialogue = Dialogue {
            question: &question,
            delay: Cell::new(Duration::ZERO),
        };
        let data: *mut c_void = ptr::from_ref(&dialogue).cast_mut().cast();
        note_delay(SUCCESS, 5, data);
        assert_eq!(dialogue.delay.get(), Duration::ZERO);
        note_delay(7, 3, data);
        note_delay(7, 2, data);
        assert_eq!(dialogue.delay.get(), Duration::from_micros(3));
    }

    #[test]
    fn root_and_accounts_of_the_system_are_refused() {
        let terms = Terms {
            service: c"ringftpd".to_owned(),
            user_id_min: 1000,
        };
        for user in ["root", "daemon"] {
            let answer = admit(&terms, user.to_owned());
            assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        }
        let low = Terms {
            user_id_min: 0,
            ..terms
        };
        let root = admit(&low, "root".to_owned());
        assert!(matches!(root, Answer::Refused { .. }), "{root:?}");
        let daemon = admit(&low, "daemon".to_owned());
        assert!(matches!(daemon, Answer::Granted { home: Some(_), .. }));
        let stranger = admit(&low, "no such account".to_owned());
        assert!(matches!(stranger, Answer::Granted { home: None, .. }));
        let ann = Identity {
            name: "ann".to_owned(),
            user: 2001,
            group: 2001,
        };
        let alias = judge(&low, "ANN".to_owned(), Ok(Some((ann, "/home/ann".into()))));
        assert!(matches!(alias, Answer::Granted { user, .. } if user == "ann"));
    }
}
