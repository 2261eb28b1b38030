//! Executors that come and go while a session lasts: places die and are started again.
//!
//! A request whose executor ended is sent again, under the same slot and number, once the node says that nothing of that executor runs any
//! more and what it had claimed is marked. So the message is kept until its answer is there. Between an executor's end and its
//! successor's start requests wait without a link.

use super::{ClientLink, Completion, Error, LocalPlace, NO_LINK, Session, Slot, has_room, link_of, local_link};
use crate::memory::{load_words, store_words};
use crate::message::{Header, Place};
use crate::steering::FlowView;
use crate::transport::{Broken, Link, body_record_bytes};
use crate::waiting::Waiting;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a node tells a session while it lasts.
#[derive(Debug)]
pub struct News<L> {
    /// How often executors have come or gone, this time included: what the flow table counts.
    pub changes: u64,
    /// What happened.
    pub what: Change<L>,
}

/// What happened to executors.
#[derive(Debug)]
pub enum Change<L> {
    /// They have started, at a place: their numbers, and links to them.
    Joined(Place, Vec<(u16, L)>),
    /// They have ended, for certain, and what they had claimed is marked.
    Gone(Vec<u16>),
}

/// Where a session hears of executors that come and go.
pub trait Membership<L>: Send {
    /// The next news, if there are any now.
    ///
    /// # Errors
    /// [`Broken`] once the node is gone, or has ended the session.
    fn next(&mut self) -> Result<Option<News<L>>, Broken>;

    /// What becomes readable when there are news.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// What a session needs to follow its executors.
pub(super) struct Hearing<L> {
    source: Box<dyn Membership<L>>,
    /// Changes that it has heard of.
    heard: u64,
    /// It was woken for something else than a reply, or a link has closed: there may be news, or an end, that nothing counts.
    to_ask: bool,
    /// Bodies of the requests under way, by slot, each as long as its slot's longest. They are copied as links copy them, by words: a body
    /// that was just written so would keep a wider load waiting for every store before it.
    bodies: Box<[Vec<AtomicU64>]>,
    /// Requests that wait for a link.
    homeless: Vec<u16>,
}

impl<L> Hearing<L> {
    /// Keeps a request's body until it is answered. One without a link waits for it.
    #[inline]
    pub(super) fn keep(&mut self, slot: u16, body: &[u8], is_homeless: bool) {
        let kept = &mut self.bodies[usize::from(slot)];
        let words = body.len().div_ceil(8);
        if kept.len() < words {
            kept.resize_with(words, AtomicU64::default);
        }
        store_words(kept, body, Ordering::Relaxed);
        if is_homeless {
            self.homeless.push(slot);
        }
    }

    /// Has a request, whose body is kept, wait for a link.
    pub(super) fn wait_for_link(&mut self, slot: u16) {
        self.homeless.push(slot);
    }

    /// Has the next poll ask for news, whether or not the flow table counts any.
    pub(super) fn ask(&mut self) {
        self.to_ask = true;
    }

    /// Whether requests wait for a link.
    pub(super) fn has_homeless(&self) -> bool {
        !self.homeless.is_empty()
    }

    /// What becomes readable when there are news.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.source.descriptor()
    }
}

/// The link of a request that waits for one, if it has one that works.
fn way_of<L>(
    slot: &Slot,
    links: &[ClientLink<L>],
    flows: Option<&FlowView>,
    local: Option<&(Box<dyn LocalPlace>, usize)>,
) -> Option<usize> {
    let local = local_link(local, slot.target).filter(|_| !slot.at_servers);
    link_of(links, flows, true, (slot.kind, slot.flow), local)
}

impl<L: Link> ClientLink<L> {
    /// Sends a request, for which there is room.
    #[inline]
    pub(super) fn send(&mut self, number: u16, slot: &Slot, body: &[u8]) {
        let header = Header { kind: slot.kind, ..Header::request(slot.target, number, slot.sequence, slot.flow, slot.body_bytes) };
        self.link.send(&header.emit(), body, &[]);
        self.unsent += 1;
    }
}

impl<L: Link> Session<L> {
    /// A session whose executors come and go. It begins with none: [`Session::hear`].
    ///
    /// # Panics
    /// If there is no slot.
    pub fn with_membership(id: u32, slots: u16, flows: FlowView, source: Box<dyn Membership<L>>, waiting: Waiting) -> Session<L> {
        let bodies = (0..slots).map(|_| Vec::new()).collect();
        let homeless = Vec::with_capacity(usize::from(slots));
        // The first news say how many changes there were before: later ones may be under way.
        let hearing = Hearing { source, heard: 0, to_ask: false, bodies, homeless };
        Session { hearing: Some(hearing), ..Session::over(id, slots, Vec::new(), Some(flows), waiting) }
    }

    /// Takes note of news that came some other way than through its membership: those with which a session begins. Replies to requests
    /// under way at executors that are gone must have been polled.
    pub fn hear(&mut self, news: News<L>) {
        let Some(hearing) = &mut self.hearing else { return };
        hearing.heard = hearing.heard.max(news.changes);
        match news.what {
            Change::Joined(place, links) => {
                for (executor, link) in links {
                    let new = ClientLink::new(executor, place, link);
                    match self.links.iter_mut().find(|link| link.gone) {
                        Some(gone) => *gone = new,
                        None => self.links.push(new),
                    }
                }
            }
            Change::Gone(executors) => {
                for index in 0..self.links.len() {
                    if executors.contains(&self.links[index].executor) && !self.links[index].gone {
                        self.leave(index);
                    }
                }
            }
        }
    }

    /// Takes the requests that were sent through a link whose executor is gone, to send them again.
    fn leave(&mut self, index: usize) {
        let state = &mut self.links[index];
        (state.gone, state.unsent) = (true, 0);
        state.broken.get_or_insert(Broken::Closed);
        let Some(hearing) = &mut self.hearing else { return };
        for (number, slot) in (0..).zip(&mut self.slots) {
            if slot.under_way && usize::from(slot.link) == index {
                slot.link = NO_LINK;
                hearing.homeless.push(number);
            }
        }
    }

    /// Whether [`Session::poll`] has news to hear, or requests to send that can be sent now.
    pub(super) fn has_news(&mut self) -> bool {
        let Some(hearing) = &self.hearing else { return false };
        let Session { slots, links, flows, local, .. } = self;
        let mut can_go = |number: &u16| {
            let slot = &slots[usize::from(*number)];
            let bytes = body_record_bytes(usize::from(slot.body_bytes));
            way_of(slot, links, flows.as_ref(), local.as_ref()).is_some_and(|to| {
                let link = &mut links[to].link;
                has_room(link, bytes) || bytes > link.capacity_bytes()
            })
        };
        flows.as_ref().is_some_and(|flows| flows.changes() != hearing.heard) || hearing.homeless.iter().any(&mut can_go)
    }

    /// Hears what there is to hear, and acts on it. One load, if there is nothing.
    #[inline]
    pub(super) fn follow_news(&mut self, completed: &mut impl FnMut(bool, Completion<'_>)) -> Result<(), Error> {
        match (&self.hearing, &self.flows) {
            (Some(hearing), Some(flows)) if flows.changes() != hearing.heard || hearing.to_ask || hearing.has_homeless() => {
                self.take_news(completed)
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn take_news(&mut self, completed: &mut impl FnMut(bool, Completion<'_>)) -> Result<(), Error> {
        if let Some(hearing) = &mut self.hearing {
            hearing.to_ask = false;
        }
        while let Some(hearing) = &mut self.hearing {
            match hearing.source.next() {
                Ok(None) => break,
                Ok(Some(news)) => {
                    if let Change::Gone(executors) = &news.what {
                        // What they answered before they ended is answered.
                        for index in 0..self.links.len() {
                            let state = &self.links[index];
                            if executors.contains(&state.executor) && !state.gone {
                                let _ = self.poll_link(index, completed);
                            }
                        }
                    }
                    self.hear(news);
                }
                Err(broken) => {
                    self.lose_all(broken);
                    return Err(broken.into());
                }
            }
        }
        self.send_homeless();
        Ok(())
    }

    /// Sends requests that wait for a link, as far as there are links and room.
    fn send_homeless(&mut self) {
        let Some(mut hearing) = self.hearing.take() else { return };
        hearing.homeless.retain(|number| {
            let slot = &mut self.slots[usize::from(*number)];
            if !slot.under_way || slot.link != NO_LINK {
                // Another copy was answered meanwhile; the slot may be another request's.
                return false;
            }
            let bytes = body_record_bytes(usize::from(slot.body_bytes));
            let Some(index) = way_of(slot, &self.links, self.flows.as_ref(), self.local.as_ref()) else { return true };
            let state = &mut self.links[index];
            if bytes > state.link.capacity_bytes() {
                // It came from a place in this process, whose ring is larger than any server's.
                slot.under_way = false;
                self.lost.push(*number);
                return false;
            }
            if !has_room(&mut state.link, bytes) {
                return true;
            }
            slot.link = index as u16;
            slot.at_servers |= state.place != Place::Client;
            let body = &mut self.body[..usize::from(slot.body_bytes)];
            load_words(&hearing.bodies[usize::from(*number)], body);
            state.send(*number, slot, body);
            false
        });
        self.hearing = Some(hearing);
    }

    /// Gives up the node: everything under way comes to its end as uncertain.
    pub(crate) fn lose_all(&mut self, broken: Broken) {
        self.hearing = None;
        for state in &mut self.links {
            state.broken.get_or_insert(broken);
        }
        for (number, slot) in (0..).zip(&mut self.slots) {
            if std::mem::replace(&mut slot.under_way, false) {
                self.lost.push(number);
            }
        }
    }
}
