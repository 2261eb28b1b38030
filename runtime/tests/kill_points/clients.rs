//! Clients that are killed while their requests are under way.

use crate::cluster::{Cluster, LOOKS_MAX};
use crate::scenarios::{FOREIGN, Keys, mica, value};
use crate::table::{census, record};
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::Place;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Argument of the client's process, before the cluster's name.
pub const CLIENT: &str = "--put-until-killed";
/// Clients that are killed, one after another.
const CLIENTS: u32 = 4;
/// Requests of a client that are answered before it is killed.
const REQUESTS: u64 = 300;
/// Keys that it writes.
const KEYS: u64 = 12;

/// The client: puts records through both places for as long as it lives, and says when it is at it.
pub fn put_until_killed(cluster: &str) {
    let address = Address::of(cluster).expect("a name");
    let target = Control::at(&address).target("deployed", "put").expect("it is deployed");
    let mut session =
        Connection::open(&address, &ConnectionOptions { window: 32, ..ConnectionOptions::default() }).expect("a session");
    let mut sent = 0;
    loop {
        while session.under_way() < session.window() {
            let key = sent % KEYS + 1;
            // Each second one goes to the NIC.
            session.submit(target, Some(sent % 2 * 512), &record(key, &value(key, sent, 40)), sent).expect("there is room");
            sent += 1;
        }
        session.poll(|reply| assert!(matches!(reply.outcome, Ok(0 | 5)), "{reply:?}")).expect("the session lives");
        let done = sent - session.under_way() as u64;
        if done >= REQUESTS {
            println!("{done}");
            std::io::stdout().flush().expect("somebody reads");
        }
        session.wait(None).expect("the session lives");
    }
}

/// A client that is killed while its requests are under way leaves no lock, no lost block, no session and no memory, in the supervisor or
/// in places; and others are served.
pub fn a_client_that_is_killed_leaves_nothing() {
    let keys = Keys::new();
    let group = mica("store", "put", false, &keys);
    let mut cluster = Cluster::start(&group.model, group.handler);
    cluster.load(&group.scenarios[0].before);
    let processes = |cluster: &Cluster| {
        let status = cluster.node.control().status().expect("the cluster answers");
        assert!(status.places.iter().all(|place| place.incarnation == 1), "no place died");
        let places = status.places.iter().map(|place| place.process.expect("it runs"));
        std::iter::once(status.process).chain(places).map(memory_files).collect::<Vec<_>>()
    };
    let before = processes(&cluster);
    assert!(before.iter().all(|files| *files > 0), "{before:?}");
    for _ in 0..CLIENTS {
        let mut client = Command::new(std::env::current_exe().expect("this program"))
            .args([CLIENT, &cluster.node.address().name])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut output = BufReader::new(client.stdout.take().expect("it is piped"));
        output.read_line(&mut String::new()).expect("it says when it is at it");
        let status = cluster.node.control().status().expect("the cluster answers");
        assert_eq!(status.sessions, 2, "the client's and ours");
        let during = processes(&cluster);
        assert!(during.iter().zip(&before).all(|(during, before)| during > before), "{during:?} where {before:?} were before");
        client.kill().expect("it runs");
        client.wait().expect("it was killed");
        // The cluster notices by itself; each look is a request to it.
        let sessions = || cluster.node.control().status().expect("the cluster answers").sessions;
        assert!((0..LOOKS_MAX).any(|_| sessions() == 1), "the session is closed");
        let is_rid = |now: Vec<usize>| now.iter().zip(&before).all(|(now, before)| now <= before);
        assert!(
            (0..LOOKS_MAX).any(|_| is_rid(processes(&cluster))),
            "{:?} files where {before:?} were before",
            processes(&cluster)
        );
        for place in [Place::Host, Place::Nic] {
            let answer = cluster.call(place, "put", &record(FOREIGN.into(), &value(1, 1, 20)));
            assert_eq!((answer.outcome, answer.place), (Ok(0), place));
        }
        let left = census(&cluster.save());
        left.check_whole();
        assert!((1..=KEYS).all(|key| left.records.contains_key(&key)));
    }
    cluster.stop();
}

/// Memory files that a process has open or mapped.
fn memory_files(process: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    // A descriptor may be closed meanwhile.
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let open = open.filter(|target| target.to_string_lossy().starts_with("/memfd:")).count();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    open + maps.lines().filter(|line| line.contains("/memfd:")).count()
}
