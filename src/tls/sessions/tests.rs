//! Tests of resumption: what is stored, for whom, and for how long.

use rustls::{SupportedProtocolVersion, version};

use super::super::testing::{
    Offer, Pair, Sessions, VERSIONS, client_config, identity, now, settings,
};
use super::super::{NotResumed, Progress, Resume, check_resumption};
use super::*;

/// A control connection and the client on it.
struct Client {
    settings: Settings,
    control: Rc<ControlTls>,
    sessions: Arc<Sessions>,
    version: &'static SupportedProtocolVersion,
}

impl Client {
    fn connect(
        settings: &Settings,
        offer: Offer,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let client = Self {
            settings: settings.clone(),
            control: ControlTls::new(settings, now()),
            sessions: Sessions::new(offer),
            version,
        };
        assert!(!client.open(Role::Control).engine.resumed());
        client
    }

    fn start(&self, role: Role) -> Pair {
        let config = client_config(self.version, &self.sessions);
        Pair::new(&self.settings, role, &self.control, config)
    }

    fn open(&self, role: Role) -> Pair {
        let mut pair = self.start(role);
        assert_eq!(pair.pump().unwrap(), Progress::Established);
        pair
    }

    fn check(&self, policy: Resume, pair: &Pair) -> Result<(), NotResumed> {
        check_resumption(policy, &self.control, &pair.engine)
    }

    /// What becomes of a data connection of this one that offers a session of the other: refused,
    /// or accepted, resumed or not.
    fn offer_of(&self, other: &Self) -> Result<bool, NotResumed> {
        let own = Self {
            settings: self.settings.clone(),
            control: Rc::clone(&self.control),
            sessions: Arc::clone(&other.sessions),
            version: self.version,
        };
        let pair = own.open(Role::Download);
        own.check(Resume::Prefer, &pair)
            .map(|()| pair.engine.resumed())
    }
}

#[test]
fn data_connections_resume_with_any_session_on_any_core() {
    let settings = settings(Resume::Require);
    let work = |settings: &Settings| {
        for version in VERSIONS {
            for offer in [Offer::Newest, Offer::Oldest] {
                let client = Client::connect(settings, offer, version);
                for round in 0..20 {
                    // Tickets of TLS 1.3 are used once here, and uploads give no new ones.
                    let upload = version == VERSIONS[0] && round % 2 == 1;
                    let role = [Role::Download, Role::Upload][usize::from(upload)];
                    let pair = client.open(role);
                    assert!(pair.engine.resumed(), "{offer:?} round {round}");
                    client.check(Resume::Require, &pair).unwrap();
                }
                assert!(client.control.has_resumed());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| work(&settings));
        }
    });
    assert!(
        settings.store().is_empty(),
        "sessions of ended control connections are left"
    );
}

#[test]
fn one_ticket_serves_many_data_connections() {
    for version in VERSIONS {
        let settings = settings(Resume::Require);
        let client = Client::connect(&settings, Offer::Newest, version);
        // A client's first flight holds the proof that it knows the session, and nothing of
        // the server: sent again it is as good as a second client with the same ticket.
        let mut first = client.start(Role::Upload);
        first.send();
        for _ in 0..20 {
            let mut again = client.start(Role::Upload);
            again.incoming.clone_from(&first.incoming);
            again.process().unwrap();
            assert!(again.engine.resumes());
        }
    }
}

#[test]
fn sessions_are_bounded_and_the_used_one_survives() {
    let settings = settings(Resume::Require);
    let control = ControlTls::new(&settings, now());
    let store = settings.store();
    let scope = Scope::enter(&control, Role::Download, true);
    for round in 0..3 * limits::TLS_SESSIONS_PER_CONTROL_MAX as u8 {
        assert!(store.put(vec![round; 32], vec![round]));
        assert_eq!(store.take(&[0; 32]), Some(vec![0]), "round {round}");
        assert_eq!(store.get(&[round; 32]), Some(vec![round]));
    }
    assert_eq!(store.get(&[1; 32]), None);
    assert_eq!(store.len(), limits::TLS_SESSIONS_PER_CONTROL_MAX);
    assert!(!store.put(vec![1; 31], Vec::new()), "not a key of rustls");
    drop((scope, control));
    assert_eq!(store.len(), 0);
    assert!(
        !store.put(vec![1; 32], Vec::new()),
        "no connection is current"
    );
}

#[test]
fn downloads_without_end_keep_the_bound() {
    let settings = settings(Resume::Require);
    let client = Client::connect(&settings, Offer::Oldest, &version::TLS13);
    assert_eq!(settings.store().len(), limits::TLS_TICKETS_CONTROL_REQUIRED);
    for _ in 0..3 * limits::TLS_SESSIONS_PER_CONTROL_MAX {
        assert!(client.open(Role::Download).engine.resumed());
    }
    assert_eq!(settings.store().len(), limits::TLS_SESSIONS_PER_CONTROL_MAX);
    drop(client);
    assert!(settings.store().is_empty());
}

#[test]
fn sessions_of_another_control_connection_are_refused_under_every_policy() {
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let owner = Client::connect(&settings, Offer::Oldest, version);
        let mut other = Client::connect(&settings, Offer::Oldest, version);
        other.sessions = Arc::clone(&owner.sessions);
        let pair = other.open(Role::Upload);
        assert!(pair.engine.foreign() && !pair.engine.resumed());
        for policy in [Resume::Off, Resume::Prefer, Resume::Require] {
            assert_eq!(other.check(policy, &pair), Err(NotResumed::Foreign));
        }
        assert!(
            owner.open(Role::Upload).engine.resumed(),
            "the owner is not harmed"
        );
    }
}

#[test]
fn sessions_of_an_ended_control_connection_mean_a_full_handshake() {
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let ended = Client::connect(&settings, Offer::Newest, version);
        let sessions = Arc::clone(&ended.sessions);
        drop(ended);
        let mut next = Client::connect(&settings, Offer::Newest, version);
        next.sessions = sessions;
        let pair = next.open(Role::Upload);
        assert!(!pair.engine.foreign() && !pair.engine.resumed());
        next.check(Resume::Prefer, &pair).unwrap();
    }
}

#[test]
fn control_connections_that_resume_belong_to_one_client() {
    for version in VERSIONS {
        let settings = settings(Resume::Require);
        let first = Client::connect(&settings, Offer::Newest, version);
        // A second control connection out of the same cache of sessions.
        let mut second = Client::connect(&settings, Offer::Newest, version);
        second.sessions = Arc::clone(&first.sessions);
        let control = second.open(Role::Control);
        assert!(control.engine.resumed() && !control.engine.foreign());
        for round in 0..3 {
            for client in [&first, &second] {
                let pair = client.open(Role::Download);
                assert!(pair.engine.resumed(), "round {round}");
                client.check(Resume::Require, &pair).unwrap();
            }
        }
        // The sessions live on with the second control connection, and go with it.
        drop((first, control));
        assert!(second.open(Role::Upload).engine.resumed());
        assert!(!settings.store().is_empty());
        drop(second);
        assert!(settings.store().is_empty());
    }
}

#[test]
fn control_connections_begun_at_once_turn_out_to_be_one_client() {
    let here: IpAddr = [127, 0, 0, 1].into();
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let clients = [(); 4].map(|()| Client::connect(&settings, Offer::Newest, version));
        for (client, user) in clients.iter().zip(["ann", "ann", "ann", "bob"]) {
            client.control.logged_in(user, here, now());
        }
        let late = Client::connect(&settings, Offer::Newest, version);
        late.control.logged_in("ann", here, now());
        let [first, second, third, other] = clients;
        for (client, sessions) in [(&first, &second), (&third, &first), (&second, &third)] {
            assert_eq!(client.offer_of(sessions), Ok(true));
        }
        // Another user, and one whose handshake could have offered the session.
        assert_eq!(other.offer_of(&first), Err(NotResumed::Foreign));
        assert_eq!(late.offer_of(&second), Err(NotResumed::Foreign));
        assert_eq!(third.offer_of(&late), Err(NotResumed::Foreign));
        drop((first, second, third, other, late));
        assert!(settings.store().is_empty());
    }
}

#[test]
fn a_late_handshake_of_a_connection_opened_early_is_no_stranger() {
    let here: IpAddr = [127, 0, 0, 1].into();
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let first = Client::connect(&settings, Offer::Newest, version);
        let opened = now();
        first.control.logged_in("ann", here, now());
        // The server comes to the handshake of this one only now.
        let late = Client {
            settings: settings.clone(),
            control: ControlTls::new(&settings, opened),
            sessions: Sessions::new(Offer::Newest),
            version,
        };
        late.open(Role::Control);
        late.control.logged_in("ann", here, now());
        assert_eq!(late.offer_of(&first), Ok(true));
    }
}

#[test]
fn what_became_one_client_counts_as_one() {
    let here: IpAddr = [127, 0, 0, 1].into();
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let connect = || Client::connect(&settings, Offer::Oldest, version);
        let (first, second) = (connect(), connect());
        first.control.logged_in("ann", here, now());
        let third = connect();
        second.control.logged_in("ann", here, now());
        third.control.logged_in("ann", here, now());
        let stranger = connect();
        stranger.control.logged_in("ann", here, now());
        // Opened after the first had logged in, and nothing joins them.
        assert_eq!(third.offer_of(&first), Err(NotResumed::Foreign));
        assert_eq!(second.offer_of(&first), Ok(true));
        assert_eq!(third.offer_of(&first), Ok(true));
        assert_eq!(stranger.offer_of(&first), Err(NotResumed::Foreign));
    }
}

/// Somebody else's transfers are none of the first user's.
#[test]
fn another_user_on_the_same_connection_is_no_other_client() {
    let here: IpAddr = [127, 0, 0, 1].into();
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let connect = || Client::connect(&settings, Offer::Oldest, version);
        let (shared, joined, other) = (connect(), connect(), connect());
        for client in [&shared, &joined, &other] {
            client.control.logged_in("ann", here, now());
        }
        shared.control.logged_in("ann", here, now());
        assert_eq!(shared.offer_of(&joined), Ok(true));
        shared.control.logged_in("bob", here, now());
        for stranger in [&joined, &other] {
            assert_eq!(shared.offer_of(stranger), Err(NotResumed::Foreign));
        }
        assert_eq!(shared.offer_of(&shared), Ok(true));
        // Nor when the first one is back.
        shared.control.logged_in("ann", here, now());
        assert_eq!(shared.offer_of(&other), Err(NotResumed::Foreign));
    }
}

/// Nobody can tell yet whose it is, so it counts for nothing: neither against the client nor for it.
#[test]
fn the_session_of_a_connection_without_login_is_none() {
    let here: IpAddr = [127, 0, 0, 1].into();
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let connect = || Client::connect(&settings, Offer::Newest, version);
        let other = connect();
        let fresh = connect();
        fresh.control.logged_in("ann", here, now());
        assert_eq!(fresh.offer_of(&other), Ok(false));
        // A client that has resumed must go on with it.
        let (own, other) = (connect(), connect());
        own.control.logged_in("ann", here, now());
        assert_eq!(own.offer_of(&own), Ok(true));
        assert_eq!(own.offer_of(&other), Err(NotResumed::Full));
    }
}

#[test]
fn policies_judge_full_handshakes() {
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let mut client = Client::connect(&settings, Offer::Newest, version);
        let resuming = std::mem::replace(&mut client.sessions, Sessions::new(Offer::Newest));
        let full = client.open(Role::Upload);
        assert_eq!(client.check(Resume::Require, &full), Err(NotResumed::Full));
        assert_eq!(client.check(Resume::Prefer, &full), Ok(()));
        assert_eq!(client.check(Resume::Off, &full), Ok(()));
        client.sessions = resuming;
        let resumed = client.open(Role::Upload);
        assert_eq!(client.check(Resume::Prefer, &resumed), Ok(()));
        assert_eq!(client.check(Resume::Prefer, &full), Err(NotResumed::Full));
    }
}

#[test]
fn a_client_that_has_spent_its_ticket_need_not_resume() {
    let settings = settings(Resume::Prefer);
    let mut client = Client::connect(&settings, Offer::Newest, &version::TLS13);
    let sessions = Arc::clone(&client.sessions);
    let none = Sessions::new(Offer::Newest);
    let mut judge = |role, sessions: &Arc<Sessions>| {
        client.sessions = Arc::clone(sessions);
        let pair = client.open(role);
        client.check(Resume::Prefer, &pair)
    };
    assert_eq!(judge(Role::Upload, &sessions), Ok(()));
    // Uploads bring no ticket: a client that keeps only the latest one has none now.
    assert_eq!(judge(Role::Upload, &none), Ok(()));
    // A download brings one, so from here on there is no excuse.
    assert_eq!(judge(Role::Download, &sessions), Ok(()));
    assert_eq!(judge(Role::Upload, &none), Err(NotResumed::Full));
}

/// Libraries forget sessions: after a day of nothing but one long transfer a full handshake is no theft.
#[test]
fn a_client_whose_sessions_are_old_need_not_resume() {
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let mut client = Client::connect(&settings, Offer::Newest, version);
        let resuming = std::mem::replace(&mut client.sessions, Sessions::new(Offer::Newest));
        let judge = |client: &mut Client, sessions: &Arc<Sessions>, role| {
            client.sessions = Arc::clone(sessions);
            let pair = client.open(role);
            client.check(Resume::Prefer, &pair)
        };
        let none = Sessions::new(Offer::Newest);
        assert_eq!(judge(&mut client, &resuming, Role::Download), Ok(()));
        let refused = judge(&mut client, &none, Role::Upload);
        assert_eq!(refused, Err(NotResumed::Full));
        assert_eq!(judge(&mut client, &resuming, Role::Download), Ok(()));
        client.control.issues.age(limits::TLS_SESSION_KEPT_MIN);
        assert_eq!(judge(&mut client, &none, Role::Upload), Ok(()));
        // What is remembered longer is good longer.
        assert_eq!(judge(&mut client, &resuming, Role::Download), Ok(()));
    }
}

#[test]
fn a_session_of_a_full_data_handshake_proves_nothing() {
    for version in VERSIONS {
        let settings = settings(Resume::Require);
        let mut client = Client::connect(&settings, Offer::Newest, version);
        // Somebody else reaches the data port: a full handshake, refused, but it brings a ticket.
        client.sessions = Sessions::new(Offer::Newest);
        let full = client.open(Role::Download);
        assert_eq!(client.check(Resume::Require, &full), Err(NotResumed::Full));
        for round in 0..3 {
            let again = client.open(Role::Download);
            let verdict = client.check(Resume::Require, &again);
            assert_eq!(verdict, Err(NotResumed::Full), "round {round}");
            assert_eq!(
                client.check(Resume::Prefer, &again),
                Ok(()),
                "as a full one"
            );
        }
        assert!(!client.control.has_resumed());
    }
}

#[test]
fn uploads_send_no_ticket_and_downloads_send_some() {
    let settings = settings(Resume::Prefer);
    let client = Client::connect(&settings, Offer::Newest, &version::TLS13);
    let count = |role| {
        let before = client.sessions.received();
        client.open(role);
        client.sessions.received() - before
    };
    assert_eq!(count(Role::Upload), 0);
    assert_eq!(count(Role::Download), limits::TLS_TICKETS_DOWNLOAD);
    assert_eq!(count(Role::Control), limits::TLS_TICKETS_CONTROL);
}

#[test]
fn nothing_is_stored_when_resumption_is_off() {
    for version in VERSIONS {
        let settings = settings(Resume::Off);
        let client = Client::connect(&settings, Offer::Newest, version);
        let pair = client.open(Role::Download);
        assert!(!pair.engine.resumed());
        client.check(Resume::Off, &pair).unwrap();
        assert!(settings.store().is_empty());
        assert_eq!(client.sessions.received(), 0);
    }
}

#[test]
fn clients_resume_across_a_reload() {
    for version in VERSIONS {
        let settings = settings(Resume::Require);
        let mut client = Client::connect(&settings, Offer::Newest, version);
        client.settings = settings
            .renewed(&identity(1).into(), settings.resume())
            .unwrap();
        assert_eq!(client.settings.resume(), Resume::Require);
        let pair = client.open(Role::Download);
        client.check(Resume::Require, &pair).unwrap();
    }
}

#[test]
fn interleaved_handshakes_keep_their_owners() {
    for version in VERSIONS {
        let settings = settings(Resume::Require);
        let clients = [(); 3].map(|()| Client::connect(&settings, Offer::Newest, version));
        let mut pairs: Vec<Pair> = clients
            .iter()
            .map(|client| client.start(Role::Download))
            .collect();
        for _ in 0..4 {
            for pair in &mut pairs {
                pair.send();
                pair.process().unwrap();
            }
            for pair in &mut pairs {
                pair.deliver();
            }
        }
        for (client, pair) in clients.iter().zip(&pairs) {
            client.check(Resume::Require, pair).unwrap();
        }
    }
}
