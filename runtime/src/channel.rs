//! Packets of JSON with descriptors, over `SOCK_SEQPACKET` Unix sockets: how a supervisor talks to its places and hands sessions to
//! clients. What the packets mean is their users' business.
//!
//! One packet is one value and at most [`DESCRIPTORS_MAX`] descriptors. What arrives is an allegation: it is bounded by
//! [`PACKET_BYTES_MAX`] and parsed into a type before anybody acts on it; descriptors beyond the limit are closed by the kernel.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};
use rustix::process::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Bytes of a packet at most: less than the kernel's default socket buffer, so that one always fits. Bundles travel as descriptors.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Descriptors of a packet at most; the kernel takes up to 253.
pub const DESCRIPTORS_MAX: usize = 200;

/// What ended or spoiled a channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is gone.
    #[error("the other end closed the channel")]
    Closed,
    /// A system call failed; `WouldBlock` on a channel that does not block.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A packet that is too long, carries too many descriptors, or is not the JSON that was expected.
    #[error("malformed packet: {0}")]
    Malformed(String),
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> ChannelError {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => ChannelError::Closed,
            errno => ChannelError::Io(errno.into()),
        }
    }
}

/// Two connected ends. Both block, and are closed in programs that are executed later.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Lets this process hold as many descriptors as the administrator allows: each session takes some.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, later sessions are refused.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// Sends one value with descriptors, which stay open here. A peer that is gone is [`ChannelError::Closed`], never a signal.
pub fn send(socket: impl AsFd, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
    let bytes = serde_json::to_vec(value).map_err(|error| ChannelError::Malformed(error.to_string()))?;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(ChannelError::Malformed(format!("{} bytes; a packet takes at most {PACKET_BYTES_MAX}", bytes.len())));
    }
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(ChannelError::Malformed(format!(
            "{} descriptors; a packet takes at most {DESCRIPTORS_MAX}",
            descriptors.len()
        )));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ChannelError::Malformed("descriptors do not fit".into()));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one value with its descriptors, which are closed in programs that are executed later.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<(T, Vec<OwnedFd>), ChannelError> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [io::IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.bytes == 0 {
        return Err(ChannelError::Closed);
    }
    let cut_short = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if message.flags.intersects(cut_short) {
        return Err(ChannelError::Malformed("longer than a packet may be".into()));
    }
    let value = serde_json::from_slice(&bytes[..message.bytes]).map_err(|error| ChannelError::Malformed(error.to_string()))?;
    Ok((value, descriptors))
}

/// An end on an event loop.
#[derive(Debug)]
pub struct AsyncChannel {
    /// Any socket that the event loop can watch; nothing of a datagram socket is used but that.
    socket: UnixDatagram,
}

impl AsyncChannel {
    /// Puts an end on the event loop that runs this. It does not block from here on, which others that share it notice.
    pub fn new(socket: OwnedFd) -> io::Result<AsyncChannel> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(AsyncChannel { socket: UnixDatagram::from_std(socket.into())? })
    }

    /// [`send`], after waiting until the other end has room.
    pub async fn send(&self, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        loop {
            self.socket.writable().await?;
            match self.attempt(Interest::WRITABLE, || send(&self.socket, value, descriptors)) {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }

    /// [`receive`], after waiting for a packet.
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        loop {
            self.socket.readable().await?;
            match self.attempt(Interest::READABLE, || receive(&self.socket)) {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }

    /// Waits until there is something to receive, of which the other end's absence is one case.
    pub async fn readable(&self) {
        let peek = || {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            rustix::net::recv(&self.socket, &mut [0u8; 1], flags).map_err(|errno| ChannelError::Io(errno.into()))
        };
        // The event loop only remembers that there was something: asking again is what makes it forget.
        while self.socket.readable().await.is_ok() {
            match self.attempt(Interest::READABLE, peek) {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Ends both directions: the other end finds it closed, whoever else holds this one.
    pub fn shut(&self) {
        // It fails if there is no other end any more.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// The user at the other end, by the kernel's word.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.socket)?.uid.as_raw())
    }

    /// One system call, whose `WouldBlock` makes the event loop wait again.
    fn attempt<T>(&self, interest: Interest, call: impl FnOnce() -> Result<T, ChannelError>) -> Result<T, ChannelError> {
        let mut outcome = None;
        let tried = self.socket.try_io(interest, || match call() {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            result => {
                outcome = Some(result);
                Ok(())
            }
        });
        outcome.unwrap_or_else(|| Err(ChannelError::Io(tried.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn carries_values_and_descriptors() {
        let (left, right) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"shared").unwrap();
        file.rewind().unwrap();
        send(&left, &("hello", 7), &[file.as_fd()]).unwrap();
        let ((text, number), descriptors): ((String, u32), _) = receive(&right).unwrap();
        assert_eq!((text.as_str(), number, descriptors.len()), ("hello", 7, 1));
        let mut read = String::new();
        File::from(descriptors.into_iter().next().unwrap()).read_to_string(&mut read).unwrap();
        assert_eq!(read, "shared");
    }

    #[test]
    fn refuses_what_is_not_a_packet() {
        let (left, right) = pair().unwrap();
        let raw = |bytes: &[u8]| rustix::net::send(&left, bytes, SendFlags::NOSIGNAL).unwrap();
        for bytes in [&b"{"[..], &[0xff; 100], b"[1, 2", &[b'['; 10_000]] {
            raw(bytes);
            assert!(matches!(receive::<Vec<u32>>(&right), Err(ChannelError::Malformed(_))), "{bytes:?}");
        }
        raw(&vec![b' '; PACKET_BYTES_MAX + 1]);
        assert!(matches!(receive::<Vec<u32>>(&right), Err(ChannelError::Malformed(_))));
        assert!(matches!(send(&left, &"x".repeat(PACKET_BYTES_MAX), &[]), Err(ChannelError::Malformed(_))));
        send(&left, &[1, 2], &[]).unwrap();
        assert_eq!(receive::<Vec<u32>>(&right).unwrap().0, [1, 2]);
        drop(left);
        assert!(matches!(receive::<Vec<u32>>(&right), Err(ChannelError::Closed)));
        assert!(matches!(send(&right, &1, &[]), Err(ChannelError::Closed)));
    }
}
