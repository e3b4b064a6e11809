use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

fn offer() -> (Passed, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Passed {
        fd: listener.into(),
        role: Role::Implicit,
        address,
        opener: Opener::Server,
    };
    (passed, address)
}

/// A main thread that retires when it is told to.
fn retiring(mut retirements: mpsc::UnboundedReceiver<Retirement>) -> thread::JoinHandle<u32> {
    thread::spawn(move || {
        let retirement = retirements.blocking_recv().unwrap();
        retirement.done.send(()).unwrap();
        retirement.process
    })
}

#[test]
fn a_waiting_connection_goes_to_the_new_process_and_a_failed_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Predecessor::ask(directory.path(), None).unwrap().is_none());
    let (passed, address) = offer();
    let (door, retirements) = Door::open(directory.path(), false, vec![passed], None).unwrap();
    // It waits in the queue.
    let mut waiting = TcpStream::connect(address).unwrap();

    let (failing, _) = Predecessor::ask(directory.path(), None).unwrap().unwrap();
    let second = Predecessor::ask(directory.path(), None).unwrap_err();
    assert!(second.to_string().contains("already"), "{second}");
    drop(failing);
    let asked = std::iter::repeat_with(|| Predecessor::ask(directory.path(), None));
    // The end of the first is noticed a moment later.
    let (predecessor, mut passed) = asked
        .take(2000)
        .find_map(|asked| {
            thread::park_timeout(Duration::from_millis(5));
            asked.ok().flatten()
        })
        .unwrap();
    assert_eq!(predecessor.process, std::process::id());
    let Some(Passed {
        fd,
        role: Role::Implicit,
        opener: Opener::Server,
        address: found,
    }) = passed.pop()
    else {
        panic!("{passed:?}");
    };
    assert_eq!((found, passed.len()), (address, 0));
    let main = retiring(retirements);
    predecessor.replace().unwrap();
    assert_eq!(main.join().unwrap(), std::process::id());
    // A second take-over from what has retired.
    let late = Predecessor::ask(directory.path(), None).unwrap_err();
    assert!(late.to_string().contains("already"), "{late}");
    door.close();
    let (mut served, _) = TcpListener::from(fd).accept().unwrap();
    served.write_all(b"220").unwrap();
    let mut octets = [0; 3];
    io::Read::read_exact(&mut waiting, &mut octets).unwrap();
    assert!(!directory.path().join(SOCKET_FILE).exists());
}

#[test]
fn a_server_that_ends_hands_nothing_over() {
    let directory = tempfile::tempdir().unwrap();
    let (door, _retirements) = Door::open(directory.path(), false, vec![offer().0], None).unwrap();
    door.withdraw();
    assert!(Predecessor::ask(directory.path(), None).unwrap().is_none());
    // Who asked before may not have been seen off yet.
    let refused = (0..1000).find_map(|_| {
        let refused = upgrade(directory.path()).unwrap_err().to_string();
        thread::park_timeout(Duration::from_millis(1));
        (!refused.contains("already")).then_some(refused)
    });
    let refused = refused.expect("a door that is free within a second");
    assert!(refused.contains("ending"), "{refused}");
}

#[test]
fn a_living_server_keeps_its_door_and_a_dead_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let open = |took_over| Door::open(directory.path(), took_over, vec![offer().0], None);
    let (first, _retirements) = open(false).unwrap();
    let mode = fs::metadata(directory.path().join(SOCKET_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = open(false).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let (second, _retirements) = open(true).unwrap();
    first.close();
    assert!(directory.path().join(SOCKET_FILE).exists());
    drop(second);
    // What a killed server leaves.
    let dead = directory.path().join("dead");
    fs::create_dir(&dead).unwrap();
    drop(pass_fds::listen(&dead.join(SOCKET_FILE)).unwrap());
    assert!(Predecessor::ask(&dead, None).unwrap().is_none());
    let nobody = upgrade(&dead).unwrap_err();
    assert!(nobody.to_string().contains("--state-dir"), "{nobody}");
    Door::open(&dead, false, vec![offer().0], None)
        .unwrap()
        .0
        .close();
}

#[test]
fn only_the_own_account_and_root_are_trusted() {
    assert!(is_trusted(0, &[]));
    assert!(is_trusted(5, &[5]));
    assert!(!is_trusted(6, &[5]));
    assert!(!is_trusted(5, &[0]));
}

#[test]
fn the_program_is_started_with_one_wish_more() {
    let program = |arguments: &[&str]| Program {
        path: "/usr/bin/ringftpd".into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        directory: "/".into(),
    };
    let words = |program: Program| -> Vec<String> {
        let command = program.command();
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        words.collect()
    };
    let plain = words(program(&["serve", "--", "-dir"]));
    assert_eq!(plain, ["serve", "--take-over", "--", "-dir"]);
    let twice = words(program(&["serve", ".", "--take-over"]));
    assert_eq!(twice, ["serve", ".", "--take-over"]);
}

#[test]
fn a_program_that_fails_leaves_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let program = |path: &str| {
        Some(Program {
            path: path.into(),
            arguments: Vec::new(),
            directory: "/".into(),
        })
    };
    for (path, words) in [
        ("/no/such/program", "cannot start"),
        ("/bin/false", "log says why"),
    ] {
        let (door, _retirements) =
            Door::open(directory.path(), false, vec![offer().0], program(path)).unwrap();
        let failed = upgrade(directory.path()).unwrap_err();
        assert!(failed.to_string().contains(words), "{failed}");
        door.close();
    }
}
