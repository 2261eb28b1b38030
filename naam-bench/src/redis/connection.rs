//! The load generator's connection to Redis: MICA's requests as commands, replies as MICA's answers.
//!
//! | request | commands |
//! | --- | --- |
//! | `get` | `GET` |
//! | `put`, `insert` | `SET` |
//! | `read_modify_write` | `GET` and, once its reply is there, `SET` of the value that the request brought: one request, two round trips |
//!
//! Commands are pipelined: all that are under way lie in one stream, and replies come in their order. A batch is one `send` and one
//! `recv`; nothing is allocated, locked or asked of the system for a single request.

use super::resp::{self, BULK_OVERHEAD_BYTES_MAX, LINE_BYTES_MAX, Reply};
use crate::application::Handler;
use crate::load::{Answer, Connection, Fault};
use crate::mica::{self, ITEM_HEADER_BYTES};
use runtime::message::Place;
use runtime::waiting::{Lookout, Waiting};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a client waits before it looks whether the run has ended.
const WAIT: Duration = Duration::from_millis(50);
/// Bytes of a command beside its key and value at most: three bulk strings, one of them `GET` or `SET`, after the number of them.
const COMMAND_OVERHEAD_BYTES_MAX: usize = 4 + 3 * BULK_OVERHEAD_BYTES_MAX + 3;

/// Why there are no more replies, if the server is gone.
const CLOSED: &str = "the server closed the connection";

/// A request under way: what its next reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The reply to `GET` is the answer.
    Read,
    /// The reply to `GET` is followed by a `SET`.
    ReadThenWrite,
    /// The reply to `SET` is the answer; nothing was read.
    Write,
    /// The reply to `SET` is the answer, after what was read.
    WriteAfterRead,
}

/// A connection to a server, with a window of requests.
pub struct RedisConnection {
    stream: UnixStream,
    lookout: Lookout,
    key_bytes: usize,
    value_bytes: usize,
    /// Commands that are to be sent; those before `sent_bytes` are.
    out: Vec<u8>,
    sent_bytes: usize,
    /// What arrived: replies that nobody took lie from `taken_bytes` to `arrived_bytes`.
    input: Box<[u8]>,
    taken_bytes: usize,
    arrived_bytes: usize,
    /// The request of each command under way, in their order.
    under_way: VecDeque<u32>,
    /// Replies that one poll takes at most: half of the window. A server sends the replies of a whole batch at once; a client that
    /// took them all before it sent anything again would leave it idle, and itself afterwards.
    batch_max: usize,
    /// Whether the last poll may have left replies.
    has_more: bool,
    /// By tag.
    stages: Vec<Stage>,
    /// By tag: the record that a request is about, as a message of MICA.
    records: Vec<u8>,
    /// By tag: the record that a request read.
    found: Vec<u8>,
}

impl RedisConnection {
    /// Requests through `stream`, at most `window` at a time with tags below that, of records with so many bytes.
    ///
    /// # Errors
    /// If the stream cannot be used without blocking.
    pub fn new(
        stream: UnixStream,
        window: usize,
        key_bytes: usize,
        value_bytes: usize,
        waiting: Waiting,
    ) -> std::io::Result<RedisConnection> {
        stream.set_nonblocking(true)?;
        let record_bytes = mica::value_offset(key_bytes) + value_bytes;
        let command_bytes_max = COMMAND_OVERHEAD_BYTES_MAX + key_bytes + value_bytes;
        let reply_bytes_max = (BULK_OVERHEAD_BYTES_MAX + value_bytes).max(1 + LINE_BYTES_MAX + 2);
        Ok(RedisConnection {
            stream,
            lookout: Lookout::new(waiting),
            key_bytes,
            value_bytes,
            out: Vec::with_capacity(window * command_bytes_max),
            sent_bytes: 0,
            // One reply that is not whole, and as many whole ones.
            input: vec![0; (window + 1) * reply_bytes_max].into(),
            taken_bytes: 0,
            arrived_bytes: 0,
            under_way: VecDeque::with_capacity(window),
            batch_max: window.div_ceil(2),
            has_more: false,
            stages: vec![Stage::Read; window],
            records: vec![0; window * record_bytes],
            found: vec![0; window * record_bytes],
        })
    }

    fn record_bytes(&self) -> usize {
        mica::value_offset(self.key_bytes) + self.value_bytes
    }

    /// Appends the command for the request's stage.
    #[inline]
    fn write_command(&mut self, tag: u32) {
        let start = tag as usize * self.record_bytes();
        let record = &self.records[start..start + self.record_bytes()];
        let key = &record[ITEM_HEADER_BYTES..ITEM_HEADER_BYTES + self.key_bytes];
        match self.stages[tag as usize] {
            Stage::Read | Stage::ReadThenWrite => resp::write_command(&mut self.out, &[b"GET", key]),
            Stage::Write | Stage::WriteAfterRead => {
                let value = &record[mica::value_offset(self.key_bytes)..];
                resp::write_command(&mut self.out, &[b"SET", key, value]);
            }
        }
        self.under_way.push_back(tag);
    }

    /// Sends as much as the socket takes.
    fn flush(&mut self) -> Result<(), String> {
        while self.sent_bytes < self.out.len() {
            match send(&self.stream, &self.out[self.sent_bytes..], SendFlags::NOSIGNAL) {
                Ok(bytes) => self.sent_bytes += bytes,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(CLOSED.to_owned()),
                Err(error) => return Err(format!("sending to the server: {error}")),
            }
        }
        self.out.clear();
        self.sent_bytes = 0;
        Ok(())
    }

    /// Takes what has arrived off the socket, and returns how much that was.
    fn receive(&mut self) -> Result<usize, String> {
        if self.taken_bytes > 0 {
            self.input.copy_within(self.taken_bytes..self.arrived_bytes, 0);
            self.arrived_bytes -= self.taken_bytes;
            self.taken_bytes = 0;
        }
        if self.arrived_bytes == self.input.len() {
            // More than all replies that are due: parsing finds what is wrong.
            return Ok(0);
        }
        match recv(&self.stream, &mut self.input[self.arrived_bytes..], RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Err(CLOSED.to_owned()),
            Ok((bytes, _)) => {
                self.arrived_bytes += bytes;
                Ok(bytes)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(format!("receiving from the server: {error}")),
        }
    }

    /// Takes the next whole reply: true if that answers its request, which is handed over.
    #[inline]
    fn take_reply(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<Option<bool>, String> {
        let arrived = &self.input[self.taken_bytes..self.arrived_bytes];
        let Some((reply, bytes)) = resp::parse(arrived, self.value_bytes).map_err(|error| format!("the server sent {error}"))?
        else {
            return Ok(None);
        };
        let tag = self.under_way.pop_front().ok_or("the server sent a reply to no command")?;
        self.taken_bytes += bytes;
        let stage = &mut self.stages[tag as usize];
        let record_bytes = mica::value_offset(self.key_bytes) + self.value_bytes;
        let start = tag as usize * record_bytes;
        let found = &mut self.found[start..start + record_bytes];
        let (outcome, body): (_, &[u8]) = match (*stage, reply) {
            (Stage::Read | Stage::ReadThenWrite, Reply::Bulk(value)) => {
                // Redis does not repeat the key; that the value is this record's, it says itself.
                let value_start = mica::value_offset(self.key_bytes);
                mica::write_item_header(found, self.key_bytes, value.len());
                found[ITEM_HEADER_BYTES..value_start]
                    .copy_from_slice(&self.records[start + ITEM_HEADER_BYTES..start + value_start]);
                found[value_start..value_start + value.len()].copy_from_slice(value);
                if *stage == Stage::ReadThenWrite {
                    *stage = Stage::WriteAfterRead;
                    self.write_command(tag);
                    return Ok(Some(false));
                }
                (Ok(mica::OK), &found[..value_start + value.len()])
            }
            (Stage::Read | Stage::ReadThenWrite, Reply::Nil) => (Ok(mica::ABSENT), &[]),
            (Stage::Write, Reply::Status(b"OK")) => (Ok(mica::OK), &[]),
            (Stage::WriteAfterRead, Reply::Status(b"OK")) => {
                let read = mica::item_bytes(found, self.key_bytes);
                (Ok(mica::OK), &found[..read])
            }
            (_, Reply::Error(text)) => (Err(Fault::Ended(format!("Redis: {}", String::from_utf8_lossy(text)))), &[]),
            (stage, reply) => return Err(format!("the server sent {reply:?} where the reply to a {stage:?} was expected")),
        };
        take(tag, Answer { outcome, body, suspensions: 0, udma_operations: 0, place: Place::None });
        Ok(Some(true))
    }
}

impl Connection for RedisConnection {
    #[inline]
    fn submit(&mut self, handler: Handler, _: u64, tag: u32, body: &[u8]) -> Result<bool, String> {
        let start = tag as usize * self.record_bytes();
        self.records[start..start + body.len()].copy_from_slice(body);
        self.stages[tag as usize] = match handler {
            Handler::Get => Stage::Read,
            Handler::Put | Handler::Insert => Stage::Write,
            Handler::ReadModifyWrite => Stage::ReadThenWrite,
            Handler::Scan => return Err("Redis's strings have no scans".to_owned()),
        };
        self.write_command(tag);
        Ok(true)
    }

    fn poll(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<usize, String> {
        self.flush()?;
        self.receive()?;
        let (mut taken, mut answered) = (0, 0);
        while taken < self.batch_max
            && let Some(is_answer) = self.take_reply(take)?
        {
            taken += 1;
            answered += usize::from(is_answer);
        }
        self.has_more = taken == self.batch_max;
        // What was read and must now be written does not wait for the next batch of requests.
        self.flush()?;
        Ok(answered)
    }

    fn wait(&mut self) -> Result<(), String> {
        if self.has_more {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            self.flush()?;
            if self.receive()? > 0 {
                return Ok(());
            }
            let waited = started.elapsed();
            if self.lookout.is_over(waited) {
                break;
            }
            self.lookout.pause(waited);
        }
        let unsent = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let timeout = WAIT.try_into().map_err(|_| "the time to wait is out of range")?;
        match poll(&mut [PollFd::new(&self.stream, PollFlags::IN | unsent)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(format!("waiting for the server: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
