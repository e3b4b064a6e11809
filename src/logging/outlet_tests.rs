use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;

fn outlet(path: &Path) -> Arc<Outlet> {
    let outlet = Outlet::new(Name::Transfers);
    outlet.start(Sink::file(path).unwrap()).unwrap();
    outlet
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Waits until a file has so many octets.
fn wait_for(path: &Path, octets: u64) {
    for _ in 0..1000 {
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= octets) {
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{}: fewer than {octets} octets", path.display());
}

#[test]
fn lines_of_many_threads_come_whole_and_in_the_order_of_each() {
    const LINES: usize = 3000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let outlet = outlet(&path);
    thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let outlet = &outlet;
            scope.spawn(move || {
                for number in 0..LINES {
                    outlet.send(format!("{name} {number}\n").into_bytes());
                }
            });
        }
    });
    outlet.finish();
    assert_eq!(outlet.lost(), 0);
    let text = read(&path);
    for name in ["a", "b", "c"] {
        let own = text.lines().filter_map(|line| line.split_once(' '));
        let own: Vec<&str> = own
            .filter(|(of, _)| *of == name)
            .map(|(_, number)| number)
            .collect();
        let wanted: Vec<String> = (0..LINES).map(|number| number.to_string()).collect();
        assert_eq!(own, wanted, "{name}");
    }
}

#[test]
fn lines_that_came_before_the_thread_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let outlet = Outlet::new(Name::Server);
    outlet.send(b"early\n".to_vec());
    assert!(!outlet.is_started());
    outlet.start(Sink::file(&path).unwrap()).unwrap();
    outlet.send(b"late\n".to_vec());
    outlet.finish();
    assert_eq!(read(&path), "early\nlate\n");
}

#[test]
fn a_sleeping_thread_is_woken_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let outlet = outlet(&path);
    for round in 1..=3 {
        outlet.send(b"x\n".to_vec());
        wait_for(&path, round * 2);
        // Longer than the window: it sleeps by then, or is about to.
        thread::park_timeout(limits::LOG_WINDOW * 2);
    }
}

#[test]
fn rotation_loses_nothing_and_copytruncate_goes_on_at_the_front() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
    let outlet = outlet(&path);
    outlet.send(b"one\n".to_vec());
    wait_for(&path, 4);
    fs::rename(&path, &old).unwrap();
    // Before the signal it still goes to the old file.
    outlet.send(b"two\n".to_vec());
    outlet.reopen();
    wait_for(&old, 8);
    wait_for(&path, 0);
    outlet.send(b"three\n".to_vec());
    wait_for(&path, 6);
    fs::copy(&path, directory.path().join("log.2")).unwrap();
    fs::File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    outlet.send(b"four\n".to_vec());
    outlet.finish();
    assert_eq!(read(&old), "one\ntwo\n");
    assert_eq!(read(&path), "four\n");
}

#[test]
fn a_file_that_cannot_be_opened_again_leaves_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
    let outlet = outlet(&path);
    fs::rename(&path, &old).unwrap();
    fs::create_dir(&path).unwrap();
    outlet.reopen();
    outlet.send(b"still\n".to_vec());
    outlet.finish();
    assert_eq!(read(&old), "still\n");
}

#[test]
fn a_full_disk_loses_only_what_finds_no_room_and_that_is_counted() {
    let outlet = outlet(Path::new("/dev/full"));
    let line = vec![b'x'; 4096];
    let most = limits::LOG_QUEUE_OCTETS_MAX / line.len();
    for _ in 0..most + 10 {
        outlet.send(line.clone());
    }
    assert_eq!(outlet.lost(), 10);
    outlet.finish();
    // Given up: nothing was written.
    assert_eq!(outlet.lost(), most as u64 + 10);
}

#[test]
fn a_line_that_was_cut_is_finished_or_written_anew_after_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut writer = Writer {
        name: Name::Transfers,
        receiver: mpsc::sync_channel(1).1,
        state: Arc::default(),
        sink: Sink::file(&path).unwrap(),
        lines: VecDeque::from([b"abc\n".to_vec(), b"def\n".to_vec()]),
        from: 0,
        failing: false,
        lost_told: 0,
    };
    writer.state.waiting.store(8, Ordering::Relaxed);
    writer.advance(6);
    assert_eq!((writer.lines.len(), writer.from), (1, 2));
    assert_eq!(writer.state.waiting.load(Ordering::Relaxed), 4);
    // The same file: the rest follows. Another one: the whole line.
    writer.reopen();
    assert_eq!(writer.from, 2);
    fs::remove_file(&path).unwrap();
    writer.reopen();
    assert_eq!(writer.from, 0);
    assert_eq!(writer.drain(), Drained::All);
    assert_eq!(read(&path), "def\n");
    assert_eq!(writer.state.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn the_journal_gets_an_entry_a_datagram_also_after_it_was_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let outlet = Outlet::new(Name::Server);
    outlet.start(Sink::journal(&path).unwrap()).unwrap();
    outlet.send(b"MESSAGE=one\n".to_vec());
    outlet.send(b"MESSAGE=two\n".to_vec());
    let receive = |journal: &UnixDatagram| {
        journal
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut room = [0; 100];
        let count = journal.recv(&mut room).unwrap();
        String::from_utf8(room[..count].to_vec()).unwrap()
    };
    assert_eq!(receive(&journal), "MESSAGE=one\n");
    assert_eq!(receive(&journal), "MESSAGE=two\n");
    drop(journal);
    fs::remove_file(&path).unwrap();
    let journal = UnixDatagram::bind(&path).unwrap();
    outlet.send(b"MESSAGE=three\n".to_vec());
    assert_eq!(receive(&journal), "MESSAGE=three\n");
    assert_eq!(outlet.lost(), 0);
}
