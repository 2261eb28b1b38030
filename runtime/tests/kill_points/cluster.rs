//! A node whose places obey orders to die, and one client of it.

use crate::model::{Memory, Model};
use crate::order::{Created, Directory, Recoveries};
use runtime::client::Completion;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::{Place, RuntimeError, Target};
use runtime::node::{Node, Options, embedded_name};
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, PlaceLife, PlaceStatus, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, DeploymentRecord};
use std::collections::HashMap;

/// Flows from here on are the NIC's, those before the host's.
const NIC_FLOWS: u16 = 512;
/// Questions to the cluster by which something must have become so: what a test that fails may take, though some process be stopped for a
/// minute.
pub const LOOKS_MAX: u32 = 2_000_000;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Result<i32, RuntimeError>,
    pub body: Vec<u8>,
    pub place: Place,
}

pub struct Cluster {
    pub node: Node,
    pub directory: Created,
    pub recoveries: Recoveries,
    deployed: DeploymentRecord,
    regions: Vec<String>,
    session: Connection,
    last_token: u64,
    /// Requests that were sent and are not answered.
    open: HashMap<u64, Option<Answer>>,
}

impl Cluster {
    /// A handler, and those beside it that are always needed, at host and NIC with an executor each; the NIC's DMA engine takes no time.
    pub fn start(model: &Model, handler: &str) -> Cluster {
        let name = embedded_name();
        let directory = Directory::of(&name);
        let bundle = model.deployed(handler);
        let directory = directory.create(&bundle);
        let recoveries = directory.recoveries();
        let options =
            Options { nic_executors: 1, dma_latency_ns: 0, engine: EngineChoice::Native, pin: false, ..Options::new(name) };
        let node = Node::start(&options).expect("a cluster starts");
        let control = node.control();
        let nic = Steer { flows: vec![FlowRange { first: NIC_FLOWS, last: 1023 }], place: Place::Nic };
        control.steer(&nic).expect("it has a NIC");
        let regions = model.region_names();
        for region in &regions {
            let length_bytes = model.length_bytes(region);
            control.create_region(region, &CreateRegion { length_bytes, huge_pages: false }).expect("room for a region");
        }
        let bound = |region: &String| (region.clone(), Binding { region: region.clone(), rights: naamc::abi::Rights::ALL });
        let request = Deploy {
            file: control.upload_bundle(&bundle).expect("it is taken").file,
            bindings: regions.iter().map(bound).collect(),
            constants: Default::default(),
            limits: Default::default(),
            engine: None,
        };
        let deployed = control.deploy("deployed", &request).expect("it is deployed");
        let options = ConnectionOptions { window: 8, ..ConnectionOptions::default() };
        let session = Connection::open(node.address(), &options).expect("a session");
        Cluster { node, directory, recoveries, deployed, regions, session, last_token: 0, open: HashMap::new() }
    }

    pub fn target(&self, handler: &str) -> Target {
        self.deployed.target(handler).expect("a handler")
    }

    /// Sends a request to a place. Returns its token.
    pub fn submit(&mut self, place: Place, handler: &str, body: &[u8]) -> u64 {
        let target = self.target(handler);
        self.last_token += 1;
        let flow = if place == Place::Nic { NIC_FLOWS } else { 0 };
        self.session.submit(target, Some(flow.into()), body, self.last_token).expect("there is room");
        self.open.insert(self.last_token, None);
        self.last_token
    }

    /// Takes the answers that are there. Each belongs to a request that had none.
    pub fn poll(&mut self) {
        let Cluster { session, open, .. } = self;
        let take = |reply: Completion<'_>| {
            let answer = Answer { outcome: reply.outcome, body: reply.body.to_vec(), place: reply.place };
            let before = open.insert(reply.token, Some(answer));
            assert_eq!(before, Some(None), "a request is answered once");
        };
        session.poll(take).expect("the session lives");
    }

    /// The answer to a request, if it is there.
    pub fn take(&mut self, token: u64) -> Option<Answer> {
        self.open.get(&token)?.as_ref()?;
        self.open.remove(&token).flatten()
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, token: u64) -> Answer {
        loop {
            self.poll();
            if let Some(answer) = self.take(token) {
                return answer;
            }
            self.session.wait(None).expect("the session lives");
        }
    }

    pub fn call(&mut self, place: Place, handler: &str, body: &[u8]) -> Answer {
        let token = self.submit(place, handler, body);
        self.answer(token)
    }

    pub fn place(&self, place: Place) -> PlaceStatus {
        let status = self.node.control().status().expect("the cluster answers");
        status.places.into_iter().find(|status| status.place == place).expect("it has such a place")
    }

    /// Waits until a place runs that has died since `before`, and serves what is sent to it.
    pub fn await_restart(&mut self, before: &PlaceStatus, handler: &str, body: &[u8]) {
        let again = |now: &PlaceStatus| now.incarnation > before.incarnation && now.state == PlaceLife::Running;
        let now = (0..LOOKS_MAX).map(|_| self.place(before.place)).find(again).expect("the place starts again");
        assert!(now.executors.iter().all(|new| before.executors.iter().all(|old| old.executor != new.executor)));
        let serves = |cluster: &mut Cluster| {
            let answer = cluster.call(before.place, handler, body);
            answer.outcome.expect("every place serves it");
            answer.place == before.place
        };
        assert!((0..LOOKS_MAX).any(|_| serves(self)), "the place gets its flows again");
    }

    pub fn load(&self, memory: &Memory) {
        for (region, bytes) in self.regions.iter().zip(memory) {
            let from = Box::new(std::io::Cursor::new(bytes.clone()));
            self.node.control().load_region(region, from, bytes.len() as u64).expect("it is as long");
        }
    }

    pub fn save(&self) -> Memory {
        let save = |region: &String| {
            let mut bytes = Vec::new();
            self.node.control().save_region(region, &mut bytes).expect("its content");
            bytes
        };
        self.regions.iter().map(save).collect()
    }

    pub fn stop(self) {
        assert!(self.open.is_empty(), "every request was answered");
        drop(self.session);
        self.node.stop().expect("the cluster stops");
    }
}
