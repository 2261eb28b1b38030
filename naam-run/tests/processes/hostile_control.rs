//! What control and the session socket do with bytes that no client of ours would send: a clear refusal, and nothing else.

use crate::deployments::bundle;
use crate::harness::{Cluster, Scratch};
use naamc::bundle::Bundle;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Sends raw bytes and reads until the server closes; returns status and body. `leaves` says that nothing more will be sent.
fn exchange(cluster: &Cluster<'_>, bytes: &[u8], leaves: bool) -> (u16, String) {
    let mut stream = UnixStream::connect(cluster.control_socket()).unwrap();
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(bytes);
    if leaves {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nhost: naam\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn control_refuses_hostile_requests_with_clear_errors() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let deep = "[".repeat(50_000);
    let long_name = "n".repeat(65);
    let huge = vec![b' '; 70 * 1024];
    let create = "/v0/regions/r";
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("GET", "/", b"", 404, "no-such-route"),
        ("GET", "/v0/secrets", b"", 404, "no-such-route"),
        ("GET", "/v0/regions/../../etc/passwd", b"", 404, "no-such-route"),
        ("DELETE", "/v0/status", b"", 405, "method-not-allowed"),
        ("PUT", create, b"", 400, "bad-request"),
        ("PUT", create, b"{", 400, "bad-request"),
        ("PUT", create, b"[]", 400, "bad-request"),
        ("PUT", create, b"\xff\xfe\x00", 400, "bad-request"),
        ("PUT", create, deep.as_bytes(), 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": -1}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 1e300}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 18446744073709551616}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 18446744073709551615}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 0}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 4096, "more": 1}"#, 400, "bad-request"),
        ("PUT", create, br#"{"length_bytes": 4096, "length_bytes": 4096}"#, 400, "bad-request"),
        ("PUT", create, &huge, 413, "too-large"),
        ("PUT", "/v0/regions/%2e%2e", br#"{"length_bytes": 4096}"#, 400, "bad-request"),
        ("PUT", "/v0/regions/a%2fb", br#"{"length_bytes": 4096}"#, 400, "bad-request"),
        ("PUT", "/v0/regions/%00", br#"{"length_bytes": 4096}"#, 400, "bad-request"),
        ("PUT", &format!("/v0/regions/{long_name}"), br#"{"length_bytes": 4096}"#, 400, "bad-request"),
        ("PUT", "/v0/regions/none/contents", b"x", 404, "not-found"),
        ("GET", "/v0/regions/none/contents", b"", 404, "not-found"),
        ("PUT", "/v0/deployments/d", br#"{"file": "0"}"#, 404, "not-found"),
        ("PUT", "/v0/deployments/d", br#"{"file": 0}"#, 400, "bad-request"),
        ("DELETE", "/v0/deployments/d", b"", 404, "not-found"),
        ("PUT", "/v0/deployments/d/grants/-1", br#"{"grant": "invoke"}"#, 400, "bad-request"),
        ("PUT", "/v0/deployments/d/grants/1", br#"{"grant": "all"}"#, 400, "bad-request"),
        ("PUT", "/v0/deployments/d/grants/1", br#"{"grant": "invoke"}"#, 404, "not-found"),
    ];
    for (method, path, body, status, code) in cases {
        let (answered, text) = exchange(&cluster, &request(method, path, body), false);
        let error: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {answered} {text:?}"));
        assert_eq!((answered, error["code"].as_str()), (*status, Some(*code)), "{method} {path}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty() && message.len() < 400), "{error}");
    }
    cluster.run(&["region", "create", "r", "--bytes", "4K"]).fine();
    let (status, text) = exchange(&cluster, &request("PUT", "/v0/regions/r/contents", &[7; 4097]), false);
    assert_eq!(status, 413, "{text}");
    assert_eq!(cluster.run(&["region", "list", "--json"]).json().as_array().unwrap().len(), 1);
}

/// What a bundle makes its place say, however long, reaches whoever deploys it, and the next change finds the cluster as it was.
#[test]
fn long_names_in_a_bundle_are_refused_in_a_short_answer() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "counter");
    let good = Bundle::parse(&std::fs::read(&file).unwrap()).unwrap();
    let mut long_handler = good.clone();
    // Characters of two bytes, so that a cut at any odd place would fall inside one.
    long_handler.meaning.handlers[0].function.name = "\u{e4}".repeat(100_000);
    // A refusal that quotes its C line's file, whose name is as long as one can be, and longer.
    let [long_source, longer_source] = [1024, 20_000].map(|length| {
        let mut bundle = good.clone();
        bundle.debug.lines.iter_mut().for_each(|line| line.file = "f".repeat(length));
        bundle.meaning.handlers.iter_mut().for_each(|handler| handler.contracts = Default::default());
        bundle
    });
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let deploy = |file: &str| cluster.run(&["deploy", file, "--as", "counter", "--bind", "counters=numbers", "--json"]);
    for (bundle, quoted) in [(long_handler, "\u{e4}\u{e4}"), (long_source, "ffff"), (longer_source, "N404")] {
        let forged = scratch.file("forged.naam");
        std::fs::write(&forged, bundle.to_bytes()).unwrap();
        let ran = deploy(forged.to_str().unwrap());
        ran.refused(1, &["bundle-refused", quoted]);
        assert!(ran.stderr.len() < 16 * 1024, "{} bytes", ran.stderr.len());
    }
    deploy(&file).fine();
}

/// A request that its route takes can still be too long for the place: that is the request's fault, not the place's.
#[test]
fn a_deployment_too_long_for_an_order_is_a_bad_request() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = std::fs::read(bundle(&scratch, "counter")).unwrap();
    let (_, uploaded) = exchange(&cluster, &request("POST", "/v0/bundles", &file), false);
    let uploaded: Value = serde_json::from_str(&uploaded).unwrap();
    let rest = json!({ "file": uploaded["file"], "constants": { "step": "" } }).to_string().len();
    let constant = "x".repeat(64 * 1024 - rest);
    let body = json!({ "file": uploaded["file"], "constants": { "step": constant } }).to_string();
    assert_eq!(body.len(), 64 * 1024, "as long as the route takes");
    let (status, text) = exchange(&cluster, &request("PUT", "/v0/deployments/counter", body.as_bytes()), false);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, error["code"].as_str()), (400, Some("bad-request")), "{error}");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
}

/// Sockets and memory files that a cluster's supervisor has open, by the names that the kernel gives them.
fn open_files(cluster: &Cluster<'_>) -> BTreeSet<String> {
    let links = std::fs::read_dir(format!("/proc/{}/fd", cluster.child.id())).unwrap();
    // A descriptor may be closed while the others are listed.
    links.filter_map(|link| Some(std::fs::read_link(link.ok()?.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// A change goes on to its end when whoever asked for it leaves in the middle: what the place runs has a record, and can be removed.
#[test]
fn a_change_outlives_the_connection_that_asked_for_it() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = std::fs::read(bundle(&scratch, "counter")).unwrap();
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let (_, uploaded) = exchange(&cluster, &request("POST", "/v0/bundles", &file), false);
    let uploaded: Value = serde_json::from_str(&uploaded).unwrap();
    let body = json!({ "file": uploaded["file"], "bindings": { "counters": { "region": "numbers" } } }).to_string();
    let place = cluster.place();
    place.signal(Signal::STOP);
    let before = open_files(&cluster);
    let mut connection = UnixStream::connect(cluster.control_socket()).unwrap();
    connection.write_all(&request("PUT", "/v0/deployments/counter", body.as_bytes())).unwrap();
    // The bundle goes to the place in a file of its own, which the supervisor has open for as long as it waits for the answer.
    while !open_files(&cluster).iter().any(|file| file.contains("memfd:naam-bundle")) {}
    // Once more, now that nothing changes: a list that is made while files are opened can miss some.
    let during = open_files(&cluster);
    drop(connection);
    let is_socket = |file: &&String| file.starts_with("socket:");
    let accepted: Vec<&String> = during.difference(&before).filter(is_socket).collect();
    assert_eq!(accepted.len(), 1, "{before:?} {during:?}");
    while open_files(&cluster).contains(accepted[0]) {}
    place.signal(Signal::CONT);
    // Changes happen one after another: after this one, that one is over.
    cluster.run(&["region", "create", "later", "--bytes", "4K"]).fine();
    cluster.run(&["invoke", "counter/count"]).fine();
    cluster.run(&["undeploy", "counter"]).fine();
    cluster.run(&["region", "remove", "numbers"]).fine();
}

#[test]
fn control_survives_what_is_not_http() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let many_headers = format!("GET /v0/status HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let announced = b"PUT /v0/regions/r HTTP/1.1\r\nhost: naam\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n";
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", &[0xff; 5000], many_headers.as_bytes(), announced] {
        let (status, _) = exchange(&cluster, bytes, true);
        assert_ne!(status, 200, "{:?}", &bytes[..bytes.len().min(40)]);
    }
    // Connections that say nothing, and leave in the middle of a request, hold nobody up.
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(cluster.control_socket()).unwrap()).collect();
    for _ in 0..20 {
        UnixStream::connect(cluster.control_socket()).unwrap().write_all(b"PUT /v0/regions/r HTTP/1.1\r\nhost").unwrap();
    }
    cluster.run(&["status"]).fine();
    drop(silent);
    cluster.run(&["stop"]).fine();
    cluster.ended().fine();
}

fn session_socket(cluster: &Cluster<'_>) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(cluster.session_socket()).unwrap()).unwrap();
    socket
}

#[test]
fn the_session_socket_refuses_what_is_not_a_request() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let huge = vec![b'['; 60_000];
    for bytes in [
        &b"{"[..],
        b"{}",
        b"null",
        &[0xff; 64],
        &huge,
        br#"{"version": 0, "slots": 1}"#,
        br#"{"version": 0, "slots": 1, "rings": {"request_bytes": 4096, "reply_bytes": 4096}, "more": 1}"#,
        br#"{"version": 9, "slots": 1, "rings": {"request_bytes": 4096, "reply_bytes": 4096}}"#,
        br#"{"version": 0, "slots": 0, "rings": {"request_bytes": 4096, "reply_bytes": 4096}}"#,
        br#"{"version": 0, "slots": 1025, "rings": {"request_bytes": 4096, "reply_bytes": 4096}}"#,
        br#"{"version": 0, "slots": 65536, "rings": {"request_bytes": 4096, "reply_bytes": 4096}}"#,
        br#"{"version": 0, "slots": 1, "rings": {"request_bytes": 4095, "reply_bytes": 4096}}"#,
        br#"{"version": 0, "slots": 1, "rings": {"request_bytes": 4096, "reply_bytes": 4294967295}}"#,
        br#"{"version": 0, "slots": 1, "rings": {"request_bytes": 0, "reply_bytes": 4096}}"#,
    ] {
        let socket = session_socket(&cluster);
        rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL).unwrap();
        let mut answer = vec![0; 65536];
        let (length, _) = rustix::net::recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty()).unwrap();
        let answer: Value = serde_json::from_slice(&answer[..length]).unwrap();
        assert_eq!(answer["Err"]["code"], "bad-request", "{answer}");
    }
    let status = cluster.run(&["status", "--json"]).json();
    assert_eq!(status["sessions"], 0);
}

/// The next packet of a session's socket.
fn receive_news(socket: &OwnedFd) -> Value {
    let mut packet = vec![0; 65536];
    let (length, _) = rustix::net::recv(socket, &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
    serde_json::from_slice(&packet[..length]).unwrap()
}

#[test]
fn a_session_ends_when_its_client_says_anything_more() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let good = br#"{"version": 0, "slots": 1, "rings": {"request_bytes": 4096, "reply_bytes": 4096}}"#;
    let mut answer = vec![0; 65536];
    let receive = |socket: &OwnedFd, answer: &mut Vec<u8>| {
        rustix::net::recv(socket, &mut answer[..], rustix::net::RecvFlags::empty()).unwrap().0
    };
    let sockets: Vec<OwnedFd> = (0..8).map(|_| session_socket(&cluster)).collect();
    for socket in &sockets {
        rustix::net::send(socket, good, SendFlags::NOSIGNAL).unwrap();
        let length = receive(socket, &mut answer);
        let answer: Value = serde_json::from_slice(&answer[..length]).unwrap();
        assert!(answer["Ok"]["number"].is_u64(), "{answer}");
        assert_eq!(answer["Ok"]["places"], 1);
        let news = receive_news(socket);
        assert_eq!((&news["what"], &news["place"], &news["executors"]), (&json!("joined"), &json!("host"), &json!([1])));
    }
    assert_eq!(cluster.run(&["status", "--json"]).json()["sessions"], 8);
    for socket in &sockets {
        rustix::net::send(socket, good, SendFlags::NOSIGNAL).unwrap();
        // Closed: with a reset, because what was sent was never read.
        let closed = rustix::net::recv(socket, &mut answer[..], rustix::net::RecvFlags::empty());
        assert!(matches!(closed, Ok((0, _)) | Err(rustix::io::Errno::CONNRESET)), "{closed:?}");
    }
    // The connection closes after the session is forgotten.
    assert_eq!(cluster.run(&["status", "--json"]).json()["sessions"], 0);
}

/// A process that may send what it wants as a user who owns nothing: only root reaches another user's directory.
#[test]
fn other_users_see_and_do_what_they_were_granted() {
    const OWNER: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("NAAM_LAB").is_none(), "this lab needs root, to be another user than the cluster's");
        println!("skipped: needs root, to be another user than the cluster's");
        return;
    }
    let mut scratch = Scratch::new();
    scratch.give_to(OWNER);
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers"]).fine();
    let ask = |method: &str, path: &str, body: &[u8]| {
        let (status, text) = exchange(&cluster, &request(method, path, body), false);
        (status, serde_json::from_str::<Value>(&text).unwrap_or(Value::Null))
    };
    let refused: [(&str, &str, &[u8]); 8] = [
        ("POST", "/v0/stop", b""),
        ("GET", "/v0/regions", b""),
        ("PUT", "/v0/regions/mine", br#"{"length_bytes": 4096}"#),
        ("GET", "/v0/regions/numbers/contents", b""),
        ("PUT", "/v0/regions/numbers/contents", b"x"),
        ("POST", "/v0/bundles", b"x"),
        ("PUT", "/v0/deployments/counter/grants/0", br#"{"grant": "direct"}"#),
        ("DELETE", "/v0/deployments/counter", b""),
    ];
    let check = |granted: bool| {
        for (method, path, body) in refused {
            assert_eq!(ask(method, path, body).0, 403, "{method} {path}");
        }
        assert_eq!(ask("GET", "/v0/deployments/counter", b"").0, if granted { 200 } else { 403 });
        let (_, status) = ask("GET", "/v0/status", b"");
        assert_eq!(status["regions"].as_array().unwrap().len(), 0);
        assert_eq!(status["deployments"].as_array().unwrap().len(), usize::from(granted));
    };
    check(false);
    cluster.run(&["grant", "0", "counter", "invoke"]).fine();
    check(true);
    cluster.run(&["grant", "0", "counter", "none"]).fine();
    check(false);
}
