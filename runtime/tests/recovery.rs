//! What clients that run handlers themselves, and places, leave in regions is recovered, whatever else happens to the deployment; and
//! nothing that clients write there keeps recovery from ending.

#[allow(dead_code, reason = "no block is looked for in a certain list")]
#[path = "../../testdata/handlers/mica_table.rs"]
mod mica_table;
mod own_main;

use mica_table::{BUCKET_BYTES, Census, HEADER_BYTES, addition, bucket_of, record};
use runtime::channel;
use runtime::control::{Connection, ConnectionOptions, ControlError};
use runtime::memory::SharedMemory;
use runtime::message::{Header, Kind, Place, Target};
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, Steer};
use runtime::supervisor::error::Code;
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, DeploymentRecord};
use runtime::supervisor::sessions::{SessionNews, SessionOffer, SessionRequest, VERSION};
use runtime::transport::Link;
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::wake::Wake;
use runtime::udma::Action;
use runtime::udma::wire::WireOperation;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::OwnedFd;

const TESTS: &[(&str, fn())] = &[
    ("a_deployment_stays_while_clients_may_hold_locks_in_it", a_deployment_stays_while_clients_may_hold_locks_in_it),
    ("locks_of_a_place_that_dies_while_it_drains_are_recovered", locks_of_a_place_that_dies_while_it_drains_are_recovered),
    ("as_many_locks_as_a_client_can_take_are_recovered", as_many_locks_as_a_client_can_take_are_recovered),
    ("recovery_ends_whatever_a_client_wrote", recovery_ends_whatever_a_client_wrote),
];

fn main() {
    enter(&NativePrograms::default());
    own_main::run(TESTS);
}

/// Bytes of the table: whole pages, as regions are.
const TABLE_BYTES: u64 = (HEADER_BYTES + 64 * BUCKET_BYTES) as u64;
const KEY: u64 = 1;
const OK: i32 = 0;

/// Bytes of the tree's header, of its nodes, and its nodes that are looked at.
const TREE_HEADER_BYTES: u64 = 4096;
const NODE_BYTES: u64 = 512;
const NODES: u64 = 900;
/// Where the tree says how many nodes were ever handed out.
const NODES_USED: u64 = 64;

/// A client that runs handlers itself, as far as its node can see: it has an executor number and writes words of regions.
struct Client {
    _socket: OwnedFd,
    link: RingLink,
    executor: u16,
    sequence: u32,
}

impl Client {
    fn open(node: &Node) -> Client {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(node.address().session_socket()).unwrap()).unwrap();
        let rings = RingSizes::default();
        channel::send(&socket, &SessionRequest { version: VERSION, slots: 4, rings, numbered: true }, &[]).unwrap();
        let (offer, _flows): (Result<SessionOffer, ControlError>, _) = channel::receive(&socket).unwrap();
        let (_, descriptors): (SessionNews, Vec<OwnedFd>) = channel::receive(&socket).unwrap();
        let [memory, wake, ..] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
        let memory = SharedMemory::from_descriptor(memory).unwrap().map().unwrap();
        let link = RingLink::client(memory, rings, Wake::from_descriptor(wake)).unwrap();
        Client { _socket: socket, link, executor: offer.unwrap().executor.unwrap(), sequence: 0 }
    }

    /// What locks under its number look like in both applications.
    fn lock(&self, version: u64) -> u64 {
        version | 1 | u64::from(self.executor) << 32
    }

    fn write(&mut self, deployment: &DeploymentRecord, region: u16, offset: u64, bytes: &[u8]) {
        let operation = WireOperation { action: Action::Write, offset, length_bytes: bytes.len() as u32 };
        let body = [&operation.emit()[..], bytes].concat();
        self.sequence += 1;
        let target = Target { deployment: deployment.index, generation: deployment.generation, handler: region };
        let header = Header { kind: Kind::Udma, ..Header::request(target, 0, self.sequence, 0, body.len() as u16) };
        assert!(self.link.room_bytes(8192).unwrap() >= 8192);
        self.link.send(&header.emit(), &body, &[]);
        self.link.flush();
        let reply = loop {
            match self.link.next().unwrap() {
                Some(words) => break Header::parse(&words).unwrap(),
                None => std::thread::yield_now(),
            }
        };
        assert_eq!((reply.error, reply.result), (None, 0));
        self.link.advance();
    }
}

fn start(nic: Option<u64>) -> Node {
    let nic_executors = nic.map_or(0, |_| 1);
    let dma_latency_ns = nic.unwrap_or(0);
    let (executors, engine, pin) = (1, EngineChoice::Interpreter, false);
    Node::start(&Options { executors, nic_executors, dma_latency_ns, engine, pin, ..Options::new(embedded_name()) }).unwrap()
}

fn deploy(node: &Node, name: &str, constants: &[(&str, u64)]) -> DeploymentRecord {
    let object = std::fs::read(format!("{}/../testdata/handlers/{name}.o", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let bundle = naamc::build::build(&object).unwrap();
    let control = node.control();
    let bound = |region: &str| (region.to_owned(), Binding { region: region.to_owned(), rights: naamc::abi::Rights::ALL });
    let request = Deploy {
        file: control.upload_bundle(&bundle.bundle().to_bytes()).unwrap().file,
        bindings: bundle.bundle().meaning.environment.regions.iter().map(|region| bound(&region.name)).collect(),
        constants: constants.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
        limits: Default::default(),
        engine: None,
    };
    control.deploy(name, &request).unwrap()
}

fn region(node: &Node, name: &str, length_bytes: u64) {
    node.control().create_region(name, &CreateRegion { length_bytes, huge_pages: false }).unwrap();
}

fn saved(node: &Node, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    node.control().save_region(name, &mut bytes).unwrap();
    bytes
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// MICA with one record.
fn table(node: &Node) -> DeploymentRecord {
    region(node, "heap", 1 << 22);
    region(node, "table", TABLE_BYTES);
    let deployment = deploy(node, "mica", &[]);
    assert_eq!(call(node, &deployment, "put", &record(KEY, &[0; 8])), OK);
    deployment
}

/// Nobody holds a lock, and nothing is lost.
fn check_table(node: &Node) {
    Census::take(&saved(node, "heap"), &saved(node, "table")).check_whole();
}

/// A tree with `NODES` nodes, of which each is locked by a client.
fn tree(node: &Node) -> (DeploymentRecord, Client) {
    region(node, "tree", 1 << 20);
    let deployment = deploy(node, "cell", &[("node_bytes", NODE_BYTES), ("value_bytes", 80)]);
    let mut client = Client::open(node);
    client.write(&deployment, 0, NODES_USED, &(NODES - 1).to_le_bytes());
    let mut nodes = vec![0; 15 * NODE_BYTES as usize];
    nodes.chunks_mut(NODE_BYTES as usize).for_each(|node| node[..8].copy_from_slice(&client.lock(0).to_le_bytes()));
    for first in (0..NODES).step_by(15) {
        client.write(&deployment, 0, TREE_HEADER_BYTES + first * NODE_BYTES, &nodes);
    }
    (deployment, client)
}

fn locked_nodes(node: &Node) -> usize {
    saved(node, "tree")[TREE_HEADER_BYTES as usize..].chunks(NODE_BYTES as usize).filter(|node| node[0] & 1 == 1).count()
}

fn call(node: &Node, deployment: &DeploymentRecord, handler: &str, body: &[u8]) -> i32 {
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    session.call(deployment.target(handler).unwrap(), None, body).unwrap().result
}

fn wait_until_nobody_is_there(node: &Node) {
    while node.control().status().unwrap().sessions > 0 {
        std::thread::yield_now();
    }
}

/// Only a deployment's own code can recover what a client leaves in its regions, so it stays until the client is gone.
fn a_deployment_stays_while_clients_may_hold_locks_in_it() {
    let node = start(None);
    let deployment = table(&node);
    wait_until_nobody_is_there(&node);
    let bucket = bucket_of(KEY, TABLE_BYTES as usize);
    let mut client = Client::open(&node);
    let locked = client.lock(word(&saved(&node, "table"), bucket));
    client.write(&deployment, 1, bucket as u64, &locked.to_le_bytes());
    let refused = node.control().undeploy("mica").unwrap_err();
    assert_eq!(refused.code, Code::InUse, "{refused}");
    assert_eq!(call(&node, &deployment, "get", &record(KEY, &[])), 5, "it is locked");
    drop(client);
    wait_until_nobody_is_there(&node);
    node.control().undeploy("mica").unwrap();
    let deployment = deploy(&node, "mica", &[]);
    assert_eq!(call(&node, &deployment, "read_modify_write", &addition(KEY, 1)), OK);
    check_table(&node);
}

/// A place that is started again, or one that runs, recovers what one left that died over the last messages of a deployment.
fn locks_of_a_place_that_dies_while_it_drains_are_recovered() {
    let node = start(Some(200_000_000));
    let control = node.control();
    let deployment = table(&node);
    let flows = vec![FlowRange { first: 0, last: 1023 }];
    control.steer(&Steer { flows: flows.clone(), place: Place::Nic }).unwrap();
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    session.submit(deployment.target("put").unwrap(), None, &record(KEY, &[1; 8]), 1).unwrap();
    session.flush();
    let is_locked = || saved(&node, "table")[bucket_of(KEY, TABLE_BYTES as usize)] & 1 == 1;
    while !is_locked() {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let undeployed = scope.spawn(|| control.undeploy("mica"));
        let drains = || control.status().unwrap().deployments.iter().any(|deployment| deployment.draining);
        while !drains() {
            std::thread::yield_now();
        }
        assert!(is_locked(), "too late to die over it");
        let status = control.status().unwrap();
        let nic = status.places.iter().find(|place| place.place == Place::Nic).unwrap();
        kill_process(Pid::from_raw(nic.process.unwrap() as i32).unwrap(), Signal::KILL).unwrap();
        undeployed.join().unwrap().unwrap();
    });
    assert!(!is_locked());
    control.steer(&Steer { flows, place: Place::Host }).unwrap();
    let deployment = deploy(&node, "mica", &[]);
    assert_eq!(call(&node, &deployment, "put", &record(KEY, &[2; 8])), OK);
}

/// The fuel of recovery is the place's: it lasts for however many locks a client took.
fn as_many_locks_as_a_client_can_take_are_recovered() {
    let node = start(None);
    let (_, client) = tree(&node);
    assert_eq!(locked_nodes(&node), NODES as usize);
    drop(client);
    wait_until_nobody_is_there(&node);
    assert_eq!(locked_nodes(&node), 0);
}

/// A word of the region says how far recovery has to look. It does not look for ever, and sessions are opened afterwards.
fn recovery_ends_whatever_a_client_wrote() {
    let node = start(None);
    let (deployment, mut client) = tree(&node);
    client.write(&deployment, 0, NODES_USED, &(1u64 << 60).to_le_bytes());
    drop(client);
    Client::open(&node);
    wait_until_nobody_is_there(&node);
    assert_eq!(locked_nodes(&node), 0);
}
